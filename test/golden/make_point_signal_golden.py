"""Known answers of MONAI's extreme_points_to_image and AddGuidanceSignald: test/golden/point-signals.json.

    python test/golden/make_point_signal_golden.py

needs monai and torch. Every 29th value of each channel is kept, C order of (x, y, z).
"""

import json
from pathlib import Path

import numpy as np
from monai.apps.deepgrow.transforms import AddGuidanceSignald
from monai.transforms.utils import extreme_points_to_image

STRIDE = 29
SHAPE = (24, 20, 16)


def sampled(array):
    return [float(f"{v:.6g}") for v in np.asarray(array, dtype=np.float32).ravel()[::STRIDE]]


def main():
    cases = []
    extremes = [(2, 9, 8), (20, 10, 8), (11, 1, 7), (12, 18, 9), (11, 10, 1), (10, 9, 14)]
    for name, points in [("six extreme points", extremes), ("two on one voxel", [(3, 3, 3), (3, 3, 3)]), ("a corner", [(0, 0, 0)])]:
        for sigma in (1.0, 3.0):
            image = extreme_points_to_image(points, np.zeros((1, *SHAPE), np.float32), sigma=sigma)
            case = {"name": f"{name}, sigma {sigma}", "points": points, "sigma": sigma, "low": -1, "samples": sampled(image[0])}
            cases.append(case)
    for points in (extremes, [(5, 5, 5)]):
        guidance = [[list(p) for p in points], []]
        data = {"image": np.zeros((1, *SHAPE), np.float32), "guidance": guidance}
        signal = AddGuidanceSignald(image="image", guidance="guidance", sigma=2)(data)["image"][1]
        cases.append({"name": f"{len(points)} clicks", "points": points, "sigma": 2, "low": 0, "samples": sampled(signal)})
    path = Path(__file__).parent / "point-signals.json"
    path.write_text(json.dumps({"shape": SHAPE, "stride": STRIDE, "cases": cases}, separators=(",", ":")))


main()
