"""What a Python user does instead of mask2polygon: nibabel, cv2.findContours, json. Prints seconds, best of `runs`."""

import json
import sys
import time

import cv2
import nibabel
import numpy as np

path, more_points, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
seconds = []
for _ in range(runs):
    started = time.perf_counter()
    mask = np.asanyarray(nibabel.load(path).dataobj)
    slices = []
    for k in range(mask.shape[2]):
        binary = np.ascontiguousarray(mask[:, :, k] != 0, dtype=np.uint8)
        contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
        slices.append(
            [(c if len(c) <= 5 else c[:: more_points + 1]).reshape(-1, 2).tolist() for c in contours]
        )
    text = json.dumps(slices, separators=(",", ":"))
    seconds.append(time.perf_counter() - started)
with open(sys.argv[4], "w") as out:
    out.write(text)
print(json.dumps({"cv2": cv2.__version__, "seconds": seconds}))
