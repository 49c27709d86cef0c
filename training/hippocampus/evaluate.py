"""Dice of models/hippocampus_mri on the held-out cases, per label.

    python -m hippocampus.evaluate [--model ../models/hippocampus_mri/model.onnx]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from common.data import MODELS
from common.export import session
from common.metrics import dice
from hippocampus.data import LABELS, load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", type=Path, default=MODELS / "hippocampus_mri" / "model.onnx")
    args = parser.parse_args()
    run = session(args.model, args.threads)
    scores, seconds = [], []
    for _, image, labels in load(held_out=True):
        begun = time.perf_counter()
        guess = run.run(None, {"input": image[None, None]})[0][0, 0]
        seconds.append(time.perf_counter() - begun)
        scores.append([dice(guess == k, labels == k) for k in range(1, 1 + len(LABELS))])
    table = np.array(scores)
    for k, label in enumerate(LABELS):
        print(f"{label}: mean {table[:, k].mean():.4f}, worst {table[:, k].min():.4f}, {len(table)} cases")
    print(f"network: {1000 * np.median(seconds):.0f} ms a case (median, {args.threads} threads)")


if __name__ == "__main__":
    main()
