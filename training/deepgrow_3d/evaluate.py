"""Dice of deepgrow_3d after 1, 2, 3, 5 and 10 simulated clicks on held-out structures.

    python -m deepgrow_3d.evaluate [--each 8] [--components] [--model ../models/deepgrow_3d/model.onnx]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from common.clicks import centre_click, correction
from common.data import MODELS
from common.export import session
from common.held_out_3d import cases_3d, table
from common.metrics import dice
from deepgrow_3d.predict import Case3D

CLICKS = (1, 2, 3, 5, 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=8)
    parser.add_argument("--components", action="store_true", help="the largest connected part of each label")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", type=Path, default=MODELS / "deepgrow_3d" / "model.onnx")
    args = parser.parse_args()
    run = session(args.model, args.threads)
    scores: dict[str, list[list[float]]] = {}
    for case in cases_3d(args.each, components=args.components):
        image, truth = (np.ascontiguousarray(a.transpose(2, 0, 1)) for a in (case.image, case.mask))
        volume = Case3D(image, tuple(case.spacing[i] for i in (2, 0, 1)))
        foreground, background, curve = [centre_click(truth)], [], []
        while len(curve) < max(CLICKS):
            guess = volume.predict(lambda x: run.run(None, {"input": x})[0], foreground, background)
            curve.append(dice(guess, truth))
            error = correction(guess, truth)
            if error is None:
                curve += [1.0] * (max(CLICKS) - len(curve))
                break
            (foreground if error[1] else background).append(error[0])
        scores.setdefault(case.source, []).append([curve[c - 1] for c in CLICKS])
    print("source", *(f"{c} clicks" for c in CLICKS), "structures", sep="\t")
    for source, row in table(scores).items():
        print(source, *row, sep="\t")


if __name__ == "__main__":
    main()
