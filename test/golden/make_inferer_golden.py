"""Known answers of MONAI 1.6's inferers: test/golden/inferers.json, over the crop transform-ct.nii.gz beside it.

    python test/golden/make_inferer_golden.py

needs monai, nibabel, torch and numpy. The network depends on the voxel and on its place in the window, so that padding,
steps and blending all show. Of each result its shape, its sum, every STRIDE-th value (in C order) and the voxels of each
label are kept.
"""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.inferers import SliceInferer, SlidingWindowInferer, SlidingWindowInfererAdapt

HERE = Path(__file__).parent
STRIDE = 509

# class, arguments; the image has 34 x 28 x 26 voxels
CASES = [
    *[(SlidingWindowInferer, {"roi_size": [40, 33, 20], "padding_mode": mode}) for mode in ["constant", "replicate", "reflect", "circular"]],
    *[(SlidingWindowInferer, {"roi_size": [40, 33, 28], "padding_mode": mode, "mode": "gaussian"}) for mode in ["replicate", "reflect"]],
    (SlidingWindowInferer, {"roi_size": [40, 20, 30], "cval": -3.5}),
    (SlidingWindowInferer, {"roi_size": [40, 40, 40], "cval": 7, "sw_batch_size": 4}),
    (SlidingWindowInferer, {"roi_size": [16, 16, 16], "mode": "gaussian", "sigma_scale": 0.3}),
    (SlidingWindowInferer, {"roi_size": [16, 12, 16], "mode": "gaussian", "sigma_scale": [0.3, 0.1, 0.125]}),
    (SlidingWindowInferer, {"roi_size": [16, 16, 16], "overlap": [0.5, 0.1, 0.75], "sw_batch_size": 3}),
    (SlidingWindowInferer, {"roi_size": 24, "overlap": 0.6}),
    (SlidingWindowInferer, {"roi_size": [16, -1, 0], "mode": "gaussian"}),
    (SlidingWindowInfererAdapt, {"roi_size": [20, 20, 20], "overlap": 0.625, "mode": "gaussian", "cache_roi_weight_map": True}),
    *[(SliceInferer, {"roi_size": [16, 20], "spatial_dim": dim, "sw_batch_size": 5}) for dim in [0, 1, 2]],
    (SliceInferer, {"roi_size": [40, 40], "spatial_dim": 2, "padding_mode": "reflect"}),
    (SliceInferer, {"roi_size": [16, 20], "spatial_dim": 1, "overlap": [0.5, 0.0, 0.25], "mode": "gaussian"}),
]


def network(x):
    """Three channels that depend on the voxel and on its place in the window; for volumes and for slices."""
    ramp = torch.zeros(x.shape[2:])
    for axis, (length, step) in enumerate(zip(x.shape[2:], [3, 2, -1])):
        shape = [1] * ramp.ndim
        shape[axis] = length
        ramp = ramp + torch.arange(length, dtype=torch.float32).reshape(shape) * step
    return torch.cat([x * 0.5 + ramp, -x * 0.25 + 40 - ramp, x * 0.1 + ramp * 0.5], dim=1)


def main():
    image = np.asarray(nib.load(HERE / "transform-ct.nii.gz").dataobj).astype(np.float32)
    cases = []
    for cls, args in CASES:
        out = cls(**args)(torch.from_numpy(image)[None, None], network)[0].numpy()
        values, counts = np.unique(out.argmax(0), return_counts=True)
        cases.append(
            {
                "name": f"{cls.__name__} {json.dumps(args)}",
                "inferer": {"_target_": cls.__name__, **args},
                "shape": list(out.shape),
                "sum": float(out.astype(np.float64).sum()),
                "samples": [float(f"{v:.7g}") for v in out.reshape(-1)[::STRIDE]],
                "counts": {str(int(v)): int(c) for v, c in zip(values, counts)},
            }
        )
    (HERE / "inferers.json").write_text(json.dumps({"stride": STRIDE, "cases": cases}) + "\n")


main()
