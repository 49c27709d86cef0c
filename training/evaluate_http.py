"""Measures the bundled models through a running server: configs and transforms as well as weights.

    python evaluate_http.py [--url http://127.0.0.1:5000] [--models hippocampus_mri,deepgrow_2d] [--each 20]

Prints Dice (or accuracy) on held-out data and the median seconds of a request, upload included. Deepgrow runs in a
session, as clients do, one click more per request.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np

from common.clicks import centre_click, correction
from common.data import DATA
from common.metrics import dice


class Server:
    """The few requests that the evaluation needs."""

    def __init__(self, url: str) -> None:
        self.url, self.seconds = url.rstrip("/"), []

    def send(self, method: str, path: str, params: dict | None = None, file: Path | None = None) -> bytes:
        """One multipart request; the reply's body. Its duration is added to `seconds`."""
        boundary = uuid.uuid4().hex
        parts = []
        if params is not None:
            parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="params"\r\n\r\n{json.dumps(params)}\r\n'.encode())
        if file is not None:
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{file.name}"\r\n'
            parts.append(head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + file.read_bytes() + b"\r\n")
        body = b"".join(parts) + f"--{boundary}--\r\n".encode()
        request = urllib.request.Request(self.url + path, body if parts else None, method=method)
        request.add_header("Content-Type", f"multipart/form-data; boundary={boundary}")
        begun = time.perf_counter()
        with urllib.request.urlopen(request, timeout=300) as reply:
            content = reply.read()
        self.seconds.append(time.perf_counter() - begun)
        return content

    def mask(self, kind: str, model: str, params: dict, file: Path | None = None, session: str | None = None) -> np.ndarray:
        """The label map that a request gives, in the axis order of the file sent; pictures give (W, H, 1)."""
        where = f"&session_id={session}" if session else ""
        content = self.send("POST", f"/v1/{kind}?model={model}&output=image{where}", params, file)
        if content[:4] == b"\x89PNG":
            return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED).T[..., None]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / ("mask.nii.gz" if content[:2] == b"\x1f\x8b" else "mask.nii")
            path.write_bytes(content)
            return np.asarray(nib.load(str(path)).dataobj)

    def session(self, file: Path) -> str:
        """A new session that holds `file`."""
        return str(json.loads(self.send("PUT", "/session/?expiry=600", {}, file))["session_id"])

    def median(self) -> str:
        """Median duration of the requests since the last call, as text."""
        text = f"{statistics.median(self.seconds):.2f} s a request (median of {len(self.seconds)})"
        self.seconds = []
        return text


def hippocampus(server: Server, each: int) -> None:
    from hippocampus.data import LABELS, cases, label_file

    scores = []
    for file in cases(held_out=True)[:each]:
        guess = server.mask("segmentation", "hippocampus_mri", {}, file)
        truth = np.asarray(nib.load(str(label_file(file))).dataobj)
        scores.append([dice(guess == k, truth == k) for k in (1, 2)])
    means = dict(zip(LABELS, np.mean(scores, 0).round(4).tolist(), strict=True))
    print("hippocampus_mri:", means, len(scores), "cases;", server.median())


def modality(server: Server, each: int) -> None:
    from modality.data import LABELS, held_out, load

    images, classes = load()
    files = [f for label in LABELS for f in sorted((DATA / "png" / "mednist" / label).iterdir())]
    tested = np.flatnonzero(held_out(images, classes))[:: max(1, 140 // (each * 7))]
    right = 0
    for i in tested:
        reply = json.loads(server.send("POST", "/v1/inference?model=modality_2d&output=results", {}, files[i]))
        said = reply["prediction"] if "prediction" in reply else reply["params"]["prediction"]
        right += LABELS[classes[i]] in said
    print(f"modality_2d: {right}/{len(tested)} right;", server.median())


def clicked(server: Server, model: str, file: Path, truth: np.ndarray, at: Callable[[tuple[int, ...]], list[int]], clicks: int,
            plane: Callable[[np.ndarray], np.ndarray]) -> tuple[list[float], bool]:
    """Dice after 1 ... `clicks` clicks of one structure, and whether every click was obeyed."""
    session = server.session(file)
    server.seconds.pop()
    foreground, background, scores, obeyed = [centre_click(truth)], [], [], True
    while len(scores) < clicks:
        params = {"foreground": [at(c) for c in foreground], "background": [at(c) for c in background]}
        guess = plane(server.mask("deepgrow", model, params, session=session)) > 0
        obeyed &= all(guess[c] for c in foreground) and not any(guess[c] for c in background)
        scores.append(dice(guess, truth))
        error = correction(guess, truth)
        if error is None:
            scores += [1.0] * (clicks - len(scores))
        else:
            (foreground if error[1] else background).append(error[0])
    server.send("DELETE", f"/session/{session}")
    server.seconds.pop()
    return scores, obeyed


def deepgrow_2d(server: Server, each: int) -> None:
    pictures = sorted((DATA / "png" / "medscribble").glob("*_img.png"))
    names = {f.name.split("_")[0] for f in pictures}
    tested = [f for n in sorted(names) for f in [p for p in pictures if p.name.startswith(n)][-2:]][:each]
    rows, obeyed = [], 0
    for file in tested:
        mask = cv2.imread(str(file).replace("_img.png", "_seg.png"), cv2.IMREAD_GRAYSCALE).T > 127
        scores, obeys = clicked(server, "deepgrow_2d", file, mask, lambda c: [*c, 0], 5, lambda m: m[..., 0])
        rows.append(scores)
        obeyed += obeys
    print_curve("deepgrow_2d (png/medscribble)", rows, obeyed, server)
    image = DATA / "nifti" / "totalsegmentator" / "example_mr_sm.nii.gz"
    labels = np.asarray(nib.load(str(image).replace(".nii.gz", "_seg50.nii.gz")).dataobj)
    places = [(k, v) for k in range(labels.shape[2]) for v in np.flatnonzero(np.bincount(labels[..., k].ravel()) >= 100) if v]
    rows, obeyed = [], 0
    for at in np.random.default_rng(9).permutation(len(places))[:each]:
        k, value = places[at]
        scores, obeys = clicked(server, "deepgrow_2d", image, labels[..., k] == value, lambda c, k=k: [*c, int(k)], 5,
                                lambda m, k=k: m[..., k])
        rows.append(scores)
        obeyed += obeys
    print_curve("deepgrow_2d (abdominal MR)", rows, obeyed, server)


def deepgrow_3d(server: Server, each: int) -> None:
    image = DATA / "nifti" / "totalsegmentator" / "example_mr_sm.nii.gz"
    labels = np.asarray(nib.load(str(image).replace(".nii.gz", "_seg50.nii.gz")).dataobj)
    rows, obeyed = [], 0
    for value in [v for v in np.flatnonzero(np.bincount(labels.ravel()) >= 500) if v][:each]:
        scores, obeys = clicked(server, "deepgrow_3d", image, labels == value, list, 5, lambda m: m)
        rows.append(scores)
        obeyed += obeys
    print_curve("deepgrow_3d (abdominal MR)", rows, obeyed, server)


def print_curve(title: str, rows: list[list[float]], obeyed: int, server: Server) -> None:
    means = np.mean(rows, 0).round(4).tolist()
    print(f"{title}: Dice by click {means}, {len(rows)} structures, clicks obeyed in {obeyed};", server.median())


def dextr3d(server: Server, each: int) -> None:
    from dextr3d.points import extreme_points

    image = DATA / "nifti" / "totalsegmentator" / "example_mr_sm.nii.gz"
    labels = np.asarray(nib.load(str(image).replace(".nii.gz", "_seg50.nii.gz")).dataobj)
    scores = {}
    for value in [v for v in np.flatnonzero(np.bincount(labels.ravel()) >= 500) if v][:each]:
        points = [list(p) for p in extreme_points(labels == value)]
        scores[int(value)] = round(dice(server.mask("dextr3d", "dextr3d", {"points": points}, image) > 0, labels == value), 3)
    print(f"dextr3d (abdominal MR): mean Dice {np.mean(list(scores.values())):.4f} {scores};", server.median())


def brain_mri(server: Server, each: int) -> None:
    from brain_mri.data import CLASSES, classes_of

    folder = DATA / "nifti" / "brain"
    guess = server.mask("segmentation", "brain_mri", {}, folder / "fs_norm.nii.gz")
    truth = classes_of(np.asarray(nib.load(str(folder / "fs_aparc_a2009s_aseg.nii.gz")).dataobj).astype(int))
    scores = {name: round(dice(guess == k, truth == k), 3) for k, (name, _) in enumerate(CLASSES, start=1)}
    print(f"brain_mri (fs_norm): mean {np.mean(list(scores.values())):.4f} {scores};", server.median())


EVALUATIONS = {"hippocampus_mri": hippocampus, "modality_2d": modality, "deepgrow_2d": deepgrow_2d, "dextr3d": dextr3d,
               "deepgrow_3d": deepgrow_3d, "brain_mri": brain_mri}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:5000")
    parser.add_argument("--models", default=",".join(EVALUATIONS))
    parser.add_argument("--each", type=int, default=20)
    args = parser.parse_args()
    server = Server(args.url)
    for name in args.models.split(","):
        EVALUATIONS[name](server, args.each)


if __name__ == "__main__":
    main()
