"""A sitting with MONAI Label's own client, as it comes from PyPI. Usage: monai_client.py URL FOLDER MODEL; FOLDER holds scan.nii.gz.

Prints as JSON what every call gave. Result files lie in FOLDER as <call><suffix>.
"""
import json
import os
import sys
from pathlib import Path

from monailabel.client.client import MONAILabelClient, MONAILabelClientException

URL, FOLDER, MODEL = sys.argv[1:]
SCAN = os.path.join(FOLDER, "scan.nii.gz")
CLICKS = {"foreground": [[6, 5, 4]], "background": []}
client = MONAILabelClient(URL, tmpdir=FOLDER, client_id="tester")


def kept(name, path):
    """The result under a name of its own: the client gives every result the server's."""
    new = os.path.join(FOLDER, name + "".join(Path(path).suffixes))
    os.rename(path, new)
    return new


def infer(name, image, params, **more):
    path, reply = client.infer(MODEL, image, dict(params), **more)
    return {"file": kept(name, path), "params": reply}


def refused(call, *args):
    try:
        return call(*args)
    except MONAILabelClientException as error:
        return {"refused": error.status_code, "message": error.msg}


said = {"auth": client.auth_enabled(), "info": client.info(), "training": client.train_status(check_if_running=True)}
session = client.create_session(SCAN)["session_id"]
said["session"] = client.get_session(session)
nrrd = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False}
said["by_session"] = infer("by_session", "scan", {**CLICKS, **nrrd, "label": "cyst"}, session_id=session)
said["by_file"] = infer("by_file", "scan", CLICKS, file=SCAN)
said["removed"] = client.remove_session(session)

# As 3D Slicer does with a local volume: store it, run a model on it by its name, save what became of it.
NAME = "MR Head/1"
said["stored"] = client.upload_image(SCAN, NAME)
said["sample"] = client.next_sample("first", {})
said["by_image"] = infer("by_image", NAME, CLICKS)
info = {"label_info": [{"name": "cyst", "idx": 1}]}
said["saved"] = client.save_label(NAME, said["by_image"]["file"], tag="final", params=info)
said["datastore"] = client.datastore()
said["label"] = kept("label", client.download_label(NAME, "final"))
said["no_sample"] = client.next_sample("random", {})
said["no_strategy"] = refused(client.next_sample, "epistemic", {})
said["no_image"] = refused(client.infer, MODEL, "unknown", CLICKS)
print(json.dumps(said))
