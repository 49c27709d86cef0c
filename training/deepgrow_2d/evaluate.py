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

from common.bank import Scan, held_out_scans, pictures
from common.clicks import centre_click, correction, largest
from common.clicks_bank import picture_scans
from common.data import MODELS
from common.export import session
from common.metrics import dice
from common.synthesis import paint
from deepgrow_2d.cards import THIN
from deepgrow_2d.predict import predict

CLICKS = (1, 2, 3, 5, 10)
SMALLEST = 100
"""Structures of fewer pixels in the slice are not evaluated."""


@dataclass(frozen=True)
class Case:
    """One structure in one slice: picture (A, B) or (A, B, 3), mask (A, B), spacing (A, B) in mm."""

    source: str
    image: np.ndarray
    mask: np.ndarray
    spacing: tuple[float, float]
    picture: bool = False
    """Whether it is a picture file of its own, not a slice of a volume."""


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
                found.append(Case(source, np.ascontiguousarray(image), mask, spacing, scan.labels.shape[2] == 1))
    return found


def picture_cases(scans: list[Scan], each: int, seed: int = 5, components: bool = False) -> list[Case]:
    """Up to `each` pictures of every source of clicks2d, one structure of each: a connected part, or all of a label."""
    by_source: dict[str, list[Scan]] = {}
    for scan in scans:
        by_source.setdefault(scan.source, []).append(scan)
    found = []
    for number, (source, group) in enumerate(by_source.items()):
        rng = np.random.default_rng([seed, number])
        taken = 0
        for at in rng.permutation(len(group)):
            counts = np.bincount(group[at].labels.ravel())
            counts[0] = 0
            there = np.flatnonzero(counts >= SMALLEST)
            if not len(there) or taken == each:
                continue
            mask = group[at].labels == rng.choice(there)
            mask = largest(mask) if components else mask
            if mask.sum() >= SMALLEST:
                found.append(Case(source, group[at].image, mask, (1.0, 1.0), picture=True))
                taken += 1
    return found


def aside_cases() -> list[Case]:
    """Structures of the pictures that were kept aside of the training sources: what checkpoints are chosen by."""
    scans = picture_scans(held_out=False, aside=True)
    nets = [s for s in scans if s.source in THIN]
    return picture_cases([s for s in scans if s.source not in THIN], 3, components=True) + picture_cases(nets, 3)


def held_out_pictures(each: int, components: bool = True) -> list[Case]:
    """Structures of the held-out sources of clicks2d and of png/medscribble."""
    scribbles = [Case(s.source, s.image[..., 0], s.labels[..., 0] > 0, (1.0, 1.0)) for s in pictures(held_out=True)]
    return picture_cases(picture_scans(held_out=True), each, components=components) + scribbles


def held_out_cases(each: int, seed: int = 5, components: bool = False) -> list[Case]:
    """Everything that deepgrow_2d is measured on: slices of the held-out scans, then pictures of the held-out sources."""
    slices = cases_of(held_out_scans(), each, seed, components)
    return slices + picture_cases(picture_scans(held_out=True), each, seed, components)


def vessels(source: str) -> bool:
    """Whether a held-out source is one of vessels."""
    return source in ("OCTA500", "STARE")


def curve(network: Callable[[np.ndarray], np.ndarray], case: Case, clicks: int) -> list[float]:
    """Dice after 1 ... `clicks` clicks."""
    foreground, background, scores = [centre_click(case.mask)], [], []
    while True:
        guess = predict(network, case.image, foreground, background)
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
    table = evaluate(lambda x: run.run(None, {"input": x})[0], held_out_cases(args.each, components=args.components))
    print("source", *(f"{c} clicks" for c in CLICKS), "structures", sep="\t")
    for source, row in table.items():
        print(source, *row, sep="\t")


if __name__ == "__main__":
    main()
