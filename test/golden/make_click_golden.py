"""Known answers of MONAI 1.6 for the click transforms of NuClick and DeepEdit: test/golden/clicks.json.

    python test/golden/make_click_golden.py

needs monai, nibabel, numpy and torch. Of each result its shape, its sum and every STRIDE-th value (in C order) are kept.
"""

import json
from pathlib import Path

import numpy as np
import torch
import monai.transforms as mt
from monai.apps.deepedit.transforms import (
    AddGuidanceFromPointsDeepEditd,
    AddGuidanceSignalDeepEditd,
    ResizeGuidanceMultipleLabelDeepEditd,
)
from monai.apps.nuclick.transforms import AddClickSignalsd

HERE = Path(__file__).parent
STRIDE = 37
LABELS = {"spleen": 1, "liver": 2, "background": 0}

# a picture of 40 x 30 pixels, two channels: value = 3 x + 5 y + 100 c
PICTURE = [[[3 * x + 5 * y + 100 * c for y in range(30)] for x in range(40)] for c in range(2)]

NUCLICK = [
    ("one click", {"bb_size": 16}, [[20, 12]]),
    ("clicks near each other and at the edge", {"bb_size": 16}, [[20, 12], [23, 15], [0, 29], [39, 0]]),
    ("blobs", {"bb_size": 12, "gaussian": True, "sigma": 1.5, "truncated": 3.0}, [[20, 12], [22, 15]]),
    ("no exclusion map, odd", {"bb_size": 15, "add_exclusion_map": False}, [[5, 5]]),
]
DEEPEDIT = [
    ("clicks for two labels", {}, {"spleen": [[3, 4, 5], [30, 20, 21]], "background": [[10, 20, 7]]}),
    ("narrow blobs", {"sigma": 1}, {"liver": [[33, 27, 25]]}),
    ("no click", {}, {}),
]


def summary(array):
    flat = np.asarray(array, dtype=np.float64).reshape(-1)
    return {"shape": list(array.shape), "sum": float(flat.sum()), "samples": [float(f"{v:.7g}") for v in flat[::STRIDE]]}


def main():
    golden = {"stride": STRIDE, "nuclick": [], "deepedit": []}
    for name, args, clicks in NUCLICK:
        out = AddClickSignalsd(**args)({"image": torch.tensor(PICTURE, dtype=torch.float32), "foreground": clicks})
        golden["nuclick"].append({"name": name, "args": args, "clicks": clicks, **summary(out["image"])})
    for name, args, clicks in DEEPEDIT:
        item = {"image": str(HERE / "transform-ct.nii.gz"), **clicks}
        chain = mt.Compose([
            mt.LoadImaged("image"),
            mt.EnsureChannelFirstd("image"),
            AddGuidanceFromPointsDeepEditd(ref_image="image", guidance="guidance", label_names=LABELS),
            mt.Resized("image", spatial_size=[24, 20, 22], mode="area"),
            ResizeGuidanceMultipleLabelDeepEditd(guidance="guidance", ref_image="image"),
            AddGuidanceSignalDeepEditd(keys="image", guidance="guidance", **args),
        ])
        golden["deepedit"].append({"name": name, "args": args, "clicks": clicks, **summary(chain(item)["image"])})
    (HERE / "clicks.json").write_text(json.dumps(golden))


main()
