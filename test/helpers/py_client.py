"""What NVIDIA's client_api.py does on the wire and with replies: same form, same reader. Usage: py_client.py PORT FOLDER.

Prints as JSON what every call gave; result files lie in FOLDER as <call>.out.
"""
import cgi
import http.client
import json
import mimetypes
import os
import sys
from urllib.parse import quote_plus

PORT, FOLDER = int(sys.argv[1]), sys.argv[2]
SCAN, SLICE = os.path.join(FOLDER, "scan.nii.gz"), os.path.join(FOLDER, "slice.png")
BOUNDARY = "----------lImIt_of_THE_fIle_eW_$"


def encode(fields, files):
    lines = []
    for key, value in fields.items():
        lines += ["--" + BOUNDARY, 'Content-Disposition: form-data; name="%s"' % key, "", value]
    for key, path in files.items():
        lines += [
            "--" + BOUNDARY,
            'Content-Disposition: form-data; name="%s"; filename="%s"' % (key, path),
            "Content-Type: %s" % (mimetypes.guess_type(path)[0] or "application/octet-stream"),
            "",
            open(path, "rb").read(),
        ]
    lines += ["--" + BOUNDARY + "--", "", ""]
    return b"\r\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)


def call(method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    connection.request(method, path, body=body, headers=headers or {})
    return connection.getresponse()


def send(method, path, params, files):
    """`params` None: no field at all. Gives the status and the form, or the body where it is none."""
    body = encode({} if params is None else {"params": json.dumps(params)}, files)
    headers = {"content-type": "multipart/form-data; boundary=" + BOUNDARY, "content-length": str(len(body))}
    response = call(method, path, body, headers)
    if "multipart" not in response.getheader("content-type", "") or response.status != 200:
        return response.status, response.read()
    # The body is parsed from the bare socket, under any transfer encoding.
    form = cgi.FieldStorage(
        fp=response.fp, environ={"REQUEST_METHOD": "POST"}, headers=response.msg, keep_blank_values=True
    )
    return response.status, form


def infer(name, path, params, file=SCAN):
    status, form = send("POST", path, params, {"datapoint": file} if file else {})
    if status != 200:
        return {"status": status, "body": form.decode()}
    fields, filename = {}, None
    for key in form:
        part = form[key]
        if part.filename:
            filename = filename or part.filename
            with open(os.path.join(FOLDER, name + ".out"), "wb") as out:
                out.write(part.value)
        else:
            fields[key] = part.value
    return {"params": json.loads(fields["params"]), "filename": filename}


def session():
    status, body = send("PUT", "/session/?expiry=0", None, {"image": SCAN})
    assert status == 200, body
    path = "/session/" + json.loads(body)["session_id"]
    inference = "/v1/segmentation?model=seg&session_id=" + path.split("/")[-1]
    told = {"alive": call("GET", path).status, "used": send("POST", inference, {}, {})[0]}
    told["closed"] = call("DELETE", path).status
    told["expired"] = send("POST", inference, {}, {})[0]
    return told


def polygons():
    status, body = send("POST", "/v1/mask2polygon", {"more_points": 10}, {"datapoint": SCAN})
    assert status == 200, body
    return json.loads(body)


POINTS = [[6, 10, 5], [17, 10, 5], [12, 5, 5], [12, 14, 5], [12, 10, 2], [12, 10, 7]]
CLICKS = {"foreground": [[12, 10, 5]], "background": [], "current_point": [12, 10, 5]}
CORNER = {
    "dimension": 2,
    "poly": [[[5, 5], [20, 5], [20, 20], [5, 20]]],
    "polygon_index": 0,
    "vertex_index": 1,
    "vertex_offset": [2, 1],
    "propagate_neighbor": 0,
}
told = {
    "models": [model["name"] for model in json.loads(call("GET", "/v1/models?label=" + quote_plus("")).read())],
    "segmentation": infer("segmentation", "/v1/segmentation?model=seg", {}),
    "dextr3d": infer("dextr3d", "/v1/dextr3d?model=points", {"points": json.dumps(POINTS)}),
    "deepgrow": infer("deepgrow", "/v1/deepgrow?model=clicks", CLICKS),
    "inference": infer("inference", "/v1/inference?model=seg", {}),
    "classification": infer("classification", "/v1/inference?model=kinds", {}, SLICE),
    "mask2polygon": len(polygons()),
    "fixpolygon": infer("fixpolygon", "/v1/fixpolygon", CORNER, SLICE),
    "session": session(),
}
print(json.dumps(told))
