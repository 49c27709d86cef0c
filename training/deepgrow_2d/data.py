"""Training samples for deepgrow_2d: a square picture and the mask of one structure in it."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from torch import Tensor

from common.augment import random_intensity, z_score_batch
from common.bank import Scan
from common.synthesis import paint, random_shapes_2d, random_tree_2d
from common.volumes import with_unlabelled

REAL = {"ct": 0.40, "aorta": 0.06, "mni152": 0.07, "gbm": 0.08, "hippocampus": 0.12}
PICTURES = 0.27
"""How often each source is drawn when the sample is a real picture; PICTURES is shared by png/medscribble's sets."""

SMALLEST = 60
"""Structures of fewer pixels than this, after zooming, are drawn again."""


class Samples:
    """Draws samples from the training scans; what it draws depends on the generator alone."""

    def __init__(self, scans: tuple[Scan, ...]) -> None:
        self.real: dict[str, list[Scan]] = {}
        for scan in scans:
            if scan.image is not None:
                self.real.setdefault(scan.source if scan.source in REAL else "picture", []).append(scan)
        self.weights = {name: REAL.get(name, PICTURES) for name in self.real}
        self.maps = [s for s in scans if s.source in ("synthseg", "ct")]

    def scan(self, rng: np.random.Generator) -> Scan:
        """A scan with a picture."""
        names = list(self.weights)
        p = np.array([self.weights[n] for n in names])
        scans = self.real[names[rng.choice(len(names), p=p / p.sum())]]
        return scans[rng.integers(len(scans))]

    def slice_of(self, rng: np.random.Generator, scan: Scan) -> tuple[np.ndarray | None, np.ndarray, tuple[float, float]] | None:
        """A slice's picture and labels (A, B), and its spacing; None when the slice has no structure."""
        axis = int(rng.choice(scan.axes))
        index = int(rng.integers(scan.labels.shape[axis]))
        labels = np.take(scan.labels, index, axis)
        if not labels.any():
            return None
        image = None if scan.image is None else np.take(scan.image, index, axis)
        return image, labels, tuple(s for i, s in enumerate(scan.spacing) if i != axis)

    def sample(self, rng: np.random.Generator, size: int) -> tuple[Tensor, np.ndarray]:
        """A picture (1, 1, size, size), not yet normalised, and a boolean mask (size, size) of at least SMALLEST pixels."""
        while True:
            kind = rng.random()
            if kind < 0.5:
                found = self.real_sample(rng, size)
            elif kind < 0.74:
                found = self.painted_sample(rng, size)
            elif kind < 0.82:
                found = self.region_sample(rng, size)
            else:
                found = shapes_sample(rng, size)
            if found is not None and found[1].sum() >= SMALLEST and found[1].mean() < 0.8:
                return found

    def real_sample(self, rng: np.random.Generator, size: int) -> tuple[Tensor, np.ndarray] | None:
        scan = self.scan(rng)
        drawn = self.slice_of(rng, scan)
        if drawn is None:
            return None
        image, labels, spacing = drawn
        target = pick_label(rng, labels, smallest=12 if min(spacing) > 2 else 30)
        if target is None:
            return None
        mask = labels == target
        zoom = (2.5, 7.0) if scan.source == "hippocampus" else (0.7, 1.9)
        a, b = sampling_grid(rng, mask, spacing, size, zoom)
        if scan.source in ("ct", "aorta") and rng.random() < 0.5:
            centre, width = rng.normal(40, 60), math.exp(rng.uniform(math.log(200), math.log(1500)))
            image = image.clip(centre - width / 2, centre + width / 2)
        border = cv2.BORDER_REPLICATE if rng.random() < 0.5 else cv2.BORDER_CONSTANT
        picture = cv2.remap(image, b, a, cv2.INTER_LINEAR, borderMode=border, borderValue=float(image.min()))
        mask = cv2.remap(mask.astype(np.float32), b, a, cv2.INTER_LINEAR) > 0.5
        return torch.from_numpy(picture)[None, None], mask

    def painted_sample(self, rng: np.random.Generator, size: int) -> tuple[Tensor, np.ndarray] | None:
        scan = self.maps[rng.integers(len(self.maps))]
        drawn = self.slice_of(rng, scan)
        if drawn is None:
            return None
        _, labels, spacing = drawn
        target = pick_label(rng, labels, smallest=30)
        if target is None:
            return None
        a, b = sampling_grid(rng, labels == target, spacing, size, (0.7, 2.2))
        mask = cv2.remap(labels, b, a, cv2.INTER_NEAREST)
        if drawn[0] is None:
            return paint(rng, mask), mask == target
        picture = cv2.remap(drawn[0], b, a, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return paint(rng, with_unlabelled(rng, mask, picture)), mask == target

    def region_sample(self, rng: np.random.Generator, size: int) -> tuple[Tensor, np.ndarray] | None:
        """A real picture and a region of even intensity in it that nobody labelled: what grows from a random pixel.

        Regions of this kind made ScribblePrompt (arXiv 2312.07381) general.
        """
        found = self.real_sample(rng, size)
        if found is None:
            return None
        picture = found[0][0, 0].numpy()
        smooth = cv2.GaussianBlur(picture, (0, 0), float(np.exp(rng.uniform(0.3, 1.6))))
        seed = tuple(int(v) for v in rng.integers(size // 8, size - size // 8, 2))
        reach = float(smooth.std()) * rng.uniform(0.1, 0.5)
        grown = np.zeros((size + 2, size + 2), np.uint8)
        flags = 4 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE | (1 << 8)
        cv2.floodFill(smooth, grown, seed, 0, reach, reach, flags)
        region = cv2.morphologyEx(grown[1:-1, 1:-1], cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
        return (found[0], region) if region.mean() < 0.3 else None

    def batch(self, rng: np.random.Generator, count: int, size: int) -> tuple[Tensor, np.ndarray]:
        """z-scored pictures (count, 1, size, size) and boolean masks (count, size, size)."""
        drawn = [self.sample(rng, size) for _ in range(count)]
        image = z_score_batch(torch.cat([d[0] for d in drawn]))
        image = random_intensity(rng, image, noise=0.2, blur=1.0, bias=0.25, gamma=0.4, invert=0.1, remap=0.2)
        return z_score_batch(image), np.stack([d[1] for d in drawn])


def shapes_sample(rng: np.random.Generator, size: int) -> tuple[Tensor, np.ndarray] | None:
    """A painted picture of random shapes and the mask of one; in a quarter of them that is a tree of vessels."""
    labels = random_shapes_2d(rng, size)
    if rng.random() < 0.25:
        tree = random_tree_2d(rng, size)
        labels[tree] = labels.max() + 1
        return paint(rng, labels, blur=0.7), tree
    target = pick_label(rng, labels)
    return None if target is None else (paint(rng, labels), labels == target)


def pick_label(rng: np.random.Generator, labels: np.ndarray, smallest: int = SMALLEST) -> int | None:
    """One of the labels above 0 that has at least `smallest` pixels, each as likely."""
    counts = np.bincount(labels.ravel())
    counts[0] = 0
    there = np.flatnonzero(counts >= smallest)
    return int(rng.choice(there)) if len(there) else None


def sampling_grid(rng: np.random.Generator, mask: np.ndarray, spacing: tuple[float, float], size: int,
                  zoom: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Where each output pixel comes from: two (size, size) float32 maps, along axes A and B of the mask.

    A random pixel of the mask lands near the middle; `zoom` is the range of pixels per millimetre.
    """
    inside = np.argwhere(mask)
    anchor = inside[rng.integers(len(inside))]
    scale = math.exp(rng.uniform(math.log(zoom[0]), math.log(zoom[1])))
    angle = rng.uniform(-np.pi, np.pi) if rng.random() < 0.3 else rng.uniform(-0.3, 0.3)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag(np.exp(rng.normal(0, 0.15, 2)) / scale) @ np.diag(rng.choice([-1, 1], 2))
    if rng.random() < 0.5:
        matrix = matrix[:, ::-1]
    where = size * (0.5 + rng.uniform(-0.25, 0.25, 2))
    a, b = np.mgrid[0:size, 0:size].astype(np.float32)
    a, b = a - where[0], b - where[1]
    wave = rng.normal(0, rng.uniform(0, 2.5) / scale, (2, 6, 6)).astype(np.float32)
    waves = [cv2.resize(w, (size, size), interpolation=cv2.INTER_CUBIC) for w in wave]
    along = (matrix[0, 0] * a + matrix[0, 1] * b + waves[0]) / spacing[0] + anchor[0]
    across = (matrix[1, 0] * a + matrix[1, 1] * b + waves[1]) / spacing[1] + anchor[1]
    return along.astype(np.float32), across.astype(np.float32)
