"""Dice of dextr3d on held-out structures, with the extreme points of the mask itself and with jittered ones.

    python -m dextr3d.evaluate [--each 24] [--components] [--model ../models/dextr3d/model.onnx]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from common.data import MODELS
from common.export import session
from common.held_out_3d import cases_3d, table
from common.metrics import dice
from dextr3d.points import extreme_points
from dextr3d.predict import predict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=24)
    parser.add_argument("--components", action="store_true", help="the largest connected part of each label")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", type=Path, default=MODELS / "dextr3d" / "model.onnx")
    args = parser.parse_args()
    run = session(args.model, args.threads)
    rng = np.random.default_rng(8)
    scores: dict[str, list[list[float]]] = {}
    for case in cases_3d(args.each, components=args.components):
        row = [dice(predict(lambda x: run.run(None, {"input": x})[0], case.image, case.spacing, points), case.mask)
               for points in (extreme_points(case.mask), extreme_points(case.mask, rng, jitter=2))]
        scores.setdefault(case.source, []).append(row)
    print("source", "exact points", "jittered by 2 voxels", "structures", sep="\t")
    for source, row in table(scores).items():
        print(source, *row, sep="\t")


if __name__ == "__main__":
    main()
