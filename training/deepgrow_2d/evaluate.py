"""Dice of deepgrow_2d after 1, 2, 3, 5 and 10 simulated clicks on held-out structures.

    python -m deepgrow_2d.evaluate [--each 60] [--components] [--model ../models/deepgrow_2d/model.onnx]

Each click is at the centre of the largest error. Prints one line per source. A structure is all of a label in a slice, or with
--components its largest connected part (a label like a cerebral cortex or a speckled lesion has many parts in a slice).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.bank import Scan, held_out_scans
from common.clicks import centre_click, correction, largest
from common.data import MODELS
from common.export import session
from common.metrics import dice
from common.synthesis import paint
from deepgrow_2d.predict import predict

CLICKS = (1, 2, 3, 5, 10)
SMALLEST = 100
"""Structures of fewer pixels in the slice are not evaluated."""


@dataclass(frozen=True)
class Case:
    """One structure in one slice: picture and mask (A, B), spacing (A, B) in mm."""

    source: str
    image: np.ndarray
    mask: np.ndarray
    spacing: tuple[float, float]


def cases_of(scans: tuple[Scan, ...], each: int, seed: int = 5, components: bool = False) -> list[Case]:
    """Up to `each` random structures per source, drawn evenly over its scans."""
    by_source: dict[str, list[Scan]] = {}
    for scan in scans:
        by_source.setdefault(scan.source, []).append(scan)
    found = []
    for number, (source, group) in enumerate(by_source.items()):
        rng = np.random.default_rng([seed, number])
        places = []
        for which, scan in enumerate(group):
            for axis in scan.axes:
                for index in range(scan.labels.shape[axis]):
                    counts = np.bincount(np.take(scan.labels, index, axis).ravel())
                    places += [(which, axis, index, label) for label in np.flatnonzero(counts >= SMALLEST) if label]
        for at in rng.permutation(len(places))[:each]:
            which, axis, index, label = places[at]
            scan, labels = group[which], np.take(group[which].labels, index, axis)
            image = paint(rng, labels)[0, 0].numpy() if scan.image is None else np.take(scan.image, index, axis)
            spacing = tuple(s for i, s in enumerate(scan.spacing) if i != axis)
            mask = largest(labels == label) if components else labels == label
            if mask.sum() >= SMALLEST:
                found.append(Case(source, np.ascontiguousarray(image), mask, spacing))
    return found


def curve(network: Callable[[np.ndarray], np.ndarray], case: Case, clicks: int) -> list[float]:
    """Dice after 1 ... `clicks` clicks."""
    foreground, background, scores = [centre_click(case.mask)], [], []
    while True:
        guess = predict(network, case.image, case.spacing, foreground, background)
        scores.append(dice(guess, case.mask))
        error = correction(guess, case.mask)
        if len(scores) == clicks:
            return scores
        if error is None:
            return scores + [1.0] * (clicks - len(scores))
        (foreground if error[1] else background).append(error[0])


def evaluate(network: Callable[[np.ndarray], np.ndarray], cases: list[Case],
             clicks: tuple[int, ...] = CLICKS) -> dict[str, list[float]]:
    """Mean Dice after each of `clicks`, per source and over the structures of all sources ("all")."""
    scores: dict[str, list[list[float]]] = {}
    for case in cases:
        full = curve(network, case, max(clicks))
        for name in (case.source, "all"):
            scores.setdefault(name, []).append([full[c - 1] for c in clicks])
    return {name: [round(float(v), 4) for v in np.mean(rows, 0)] + [len(rows)] for name, rows in scores.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=60)
    parser.add_argument("--components", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", type=Path, default=MODELS / "deepgrow_2d" / "model.onnx")
    args = parser.parse_args()
    run = session(args.model, args.threads)
    table = evaluate(lambda x: run.run(None, {"input": x})[0], cases_of(held_out_scans(), args.each, components=args.components))
    print("source", *(f"{c} clicks" for c in CLICKS), "structures", sep="\t")
    for source, row in table.items():
        print(source, *row, sep="\t")


if __name__ == "__main__":
    main()
