"""What NVIDIA's client_api.py does over https: any certificate is believed, the path of the address goes before every
other, and nothing else of the address is sent. Usage: https_client.py URL MODEL SCAN. Prints as JSON what every call gave.
"""
import cgi
import http.client
import json
import ssl
import sys
from urllib.parse import urlparse

URL, MODEL, SCAN = sys.argv[1:]
BOUNDARY = "----------lImIt_of_THE_fIle_eW_$"


def call(method, selector, body=None, headers={}):
    parsed = urlparse(URL)
    context = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection(parsed.hostname, parsed.port, context=context)
    connection.request(method, parsed.path.rstrip("/") + "/" + selector.lstrip("/"), body, headers)
    return connection.getresponse()


def send(method, selector, files):
    lines = ["--" + BOUNDARY, 'Content-Disposition: form-data; name="params"', "", "{}"]
    for name, path in files.items():
        head = 'Content-Disposition: form-data; name="%s"; filename="%s"' % (name, path)
        lines += ["--" + BOUNDARY, head, "Content-Type: application/octet-stream", "", open(path, "rb").read()]
    lines += ["--" + BOUNDARY + "--", "", ""]
    body = b"\r\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    headers = {"content-type": "multipart/form-data; boundary=" + BOUNDARY, "content-length": str(len(body))}
    return call(method, selector, body, headers)


models = [model["name"] for model in json.loads(call("GET", "/v1/models?label=").read())]
opened = send("PUT", "/session/?expiry=0", {"image": SCAN})
path = "/session/" + json.loads(opened.read())["session_id"]
reply = send("POST", "/v1/segmentation?model=" + MODEL + "&session_id=" + path.split("/")[-1], {})
# The body is parsed from the bare socket, which here is the one inside TLS.
form = cgi.FieldStorage(fp=reply.fp, environ={"REQUEST_METHOD": "POST"}, headers=reply.msg, keep_blank_values=True)
parts = [form[key] for key in form]
file = next(part for part in parts if part.filename)
print(
    json.dumps(
        {
            "models": models,
            "session": opened.status,
            "status": reply.status,
            "fields": [part.name for part in parts if not part.filename],
            "filename": file.filename,
            "bytes": len(file.value),
            "closed": call("DELETE", path).status,
        }
    )
)
