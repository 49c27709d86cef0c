"""The pictures that deepgrow_2d learns from, prepared once: slices of the training scans, the pictures of clicks2d, painted ones.

What is held out: common/bank.py and common/clicks_bank.py.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.bank import Scan, compact, training_scans
from common.clicks_bank import picture_scans, volume_scans
from common.data import RUNS, linear
from common.synthesis import paint, random_shapes_2d, random_tree_2d
from common.volumes import with_unlabelled

THIN = ("chasedb1_vessels", "hrf_vessels", "idrid_lesion", "STARE", "tree")
"""Sources whose structures are nets of vessels (whatever their name says): whole labels are asked for, and the loss looks at
centre lines."""
SLICES = {"ct": 220, "aorta": 40, "mni152": 60, "gbm": 90, "hippocampus": 260, "synthseg": 0,
          "openkbp_ct": 420, "sts_ct": 50, "sts_mr_t1": 70, "sts_pet": 70}
"""Slices drawn from the scans of a source."""
PAINTED, SHAPES, TREES = 420, 160, 200
"""Painted slices of label maps, pictures of random shapes, pictures of random vessels."""
LARGEST = 320
SIZE_OF_SHAPES = 224


@dataclass(frozen=True)
class Card:
    """A picture (A, B) float16, or (A, B, 3) uint8 in red, green, blue, with labels (A, B) uint8; pixels are square."""

    source: str
    image: np.ndarray
    labels: np.ndarray


def square(image: np.ndarray | None, labels: np.ndarray, spacing: tuple[float, float]) -> tuple[np.ndarray | None, np.ndarray]:
    """The slice with square pixels of its finer spacing, at most LARGEST a side."""
    finest = max(min(spacing), max(n * s for n, s in zip(labels.shape, spacing, strict=True)) / LARGEST)
    shape = [max(1, round(n * s / finest)) for n, s in zip(labels.shape, spacing, strict=True)]
    steps = [finest / s for s in spacing]
    rows, columns = (np.minimum(np.rint(np.arange(n) * step), m - 1).astype(int)
                     for n, step, m in zip(shape, steps, labels.shape, strict=True))
    return None if image is None else linear(image, steps, shape), labels[np.ix_(rows, columns)]


def slices(rng: np.random.Generator, scans: list[Scan], count: int) -> Iterator[tuple[str, np.ndarray | None, np.ndarray]]:
    """`count` random slices with a label of at least 30 pixels, the scans in turn."""
    given = tries = 0
    while given < count and tries < 30 * count:
        scan = scans[tries % len(scans)]
        tries += 1
        axis = int(rng.choice(scan.axes))
        there = np.flatnonzero(scan.labels.any(tuple(a for a in range(3) if a != axis)))
        index = int(rng.choice(there))
        labels = np.take(scan.labels, index, axis)
        if np.bincount(labels.ravel())[1:].max(initial=0) < 30:
            continue
        image = None if scan.image is None else np.take(scan.image, index, axis)
        spacing = tuple(s for i, s in enumerate(scan.spacing) if i != axis)
        given += 1
        yield scan.source, *square(image, labels, spacing)


def half(image: np.ndarray) -> np.ndarray:
    """float16, shifted and scaled only where the values do not fit."""
    top = float(np.abs(image).max())
    return (image / top * 1000 if top > 30000 else image).astype(np.float16)


def make_cards(seed: int = 1) -> list[Card]:
    """All cards, in a fixed order."""
    rng = np.random.default_rng(seed)
    cards = [Card(s.source, s.image if s.image.ndim == 3 else half(s.image), s.labels) for s in picture_scans(held_out=False)]
    scans = (*training_scans(), *volume_scans(held_out=False))
    by_source: dict[str, list[Scan]] = {}
    for scan in scans:
        if scan.labels.shape[2] == 1:
            cards.append(Card(scan.source, half(scan.image[..., 0]), scan.labels[..., 0]))
        else:
            by_source.setdefault(scan.source, []).append(scan)
    for source, group in by_source.items():
        cards += [Card(source, half(image), labels) for _, image, labels in slices(rng, group, SLICES[source])]
    painted = [*by_source["synthseg"] * 3, *by_source["ct"] * 16]
    for _, image, labels in slices(rng, painted, PAINTED):
        rich = labels if image is None else with_unlabelled(rng, labels, image)
        cards.append(Card("painted", half(paint(rng, rich)[0, 0].numpy()), labels))
    for _ in range(SHAPES):
        labels = random_shapes_2d(rng, SIZE_OF_SHAPES)
        cards.append(Card("shapes", half(paint(rng, labels)[0, 0].numpy()), compact(labels.astype(np.int32))))
    for _ in range(TREES):
        labels = random_shapes_2d(rng, SIZE_OF_SHAPES)
        tree = random_tree_2d(rng, SIZE_OF_SHAPES)
        labels[tree] = labels.max() + 1
        cards.append(Card("tree", half(paint(rng, labels, blur=0.7)[0, 0].numpy()), tree.astype(np.uint8)))
    return cards


def load_cards(folder: Path = RUNS / "deepgrow_2d") -> list[Card]:
    """The cards; made at first and kept in `folder`."""
    file = folder / "cards.pkl"
    if file.exists():
        return pickle.loads(file.read_bytes())
    cards = make_cards()
    folder.mkdir(parents=True, exist_ok=True)
    file.with_suffix(".tmp").write_bytes(pickle.dumps(cards, protocol=5))
    file.with_suffix(".tmp").replace(file)
    return cards
