"""The held-out structures that dextr3d and deepgrow_3d are measured on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.bank import Scan, held_out_scans
from common.clicks import largest
from common.clicks_bank import volume_scans
from common.synthesis import paint
from common.volumes import structures_of

SMALLEST = 500
"""Structures of fewer voxels are not evaluated."""


@dataclass(frozen=True)
class Case:
    """A picture and a mask, both (X, Y, Z) in RAS+, with the spacing in mm."""

    source: str
    label: int
    image: np.ndarray
    mask: np.ndarray
    spacing: tuple[float, float, float]


def cases_3d(each: int, seed: int = 6, components: bool = False) -> list[Case]:
    """Up to `each` random structures of every held-out source; label maps without a picture are painted.

    A structure is all of a label, or with `components` its largest connected part.
    """
    by_source: dict[str, list[Scan]] = {}
    for scan in (*held_out_scans(), *volume_scans(held_out=True)):
        if scan.labels.shape[2] > 1:
            by_source.setdefault(scan.source, []).append(scan)
    found = []
    for number, (source, scans) in enumerate(by_source.items()):
        rng = np.random.default_rng([seed, number])
        structures = [s for scan in scans for s in structures_of(scan, SMALLEST)]
        painted: dict[int, np.ndarray] = {}
        for at in rng.permutation(len(structures))[:each]:
            scan, label = structures[at].scan, structures[at].label
            if scan.image is None and id(scan) not in painted:
                painted[id(scan)] = paint(rng, scan.labels)[0, 0].numpy()
            image = painted[id(scan)] if scan.image is None else scan.image
            mask = largest(scan.labels == label) if components else scan.labels == label
            if mask.sum() >= SMALLEST:
                found.append(Case(source, label, image, mask, scan.spacing))
    return found


def table(scores: dict[str, list[list[float]]]) -> dict[str, list[float]]:
    """Mean of each column per source, rounded, and the number of structures at the end; with a row "all"."""
    rows = {**scores, "all": [row for group in scores.values() for row in group]}
    return {name: [round(float(v), 4) for v in np.mean(group, 0)] + [len(group)] for name, group in rows.items()}
