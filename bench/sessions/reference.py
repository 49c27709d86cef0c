"""Reads a NIfTI file RUNS times as a script of the field would, or with `write` writes its voxels above 100 as a label map.

Usage: python reference.py read|write FILE RUNS     (needs nibabel); prints a JSON list of seconds
"""
import json
import os
import sys
import time

import nibabel as nib
import numpy as np

what, file, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
image = nib.load(file)
labels = (np.asanyarray(image.dataobj) > 100).astype(np.uint8) if what == "write" else None
seconds = []
for _ in range(runs):
    begun = time.perf_counter()
    if labels is None:
        np.asanyarray(nib.load(file).dataobj)[..., -1].sum()
    else:
        nib.save(nib.Nifti1Image(labels, image.affine), f"{file}.labels.nii.gz")
    seconds.append(time.perf_counter() - begun)
if labels is not None:
    os.remove(f"{file}.labels.nii.gz")
print(json.dumps(seconds))
