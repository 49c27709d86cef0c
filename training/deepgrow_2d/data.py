"""Training samples for deepgrow_2d: a square picture of three channels and the mask of one structure in it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from common.augment import bias_field, remapped
from common.clicks import largest
from common.volumes import CT
from deepgrow_2d.cards import THIN, Card

WEIGHTS = {"ct": 6.0, "painted": 6.0, "shapes": 3.0, "tree": 4.5, "openkbp_ct": 3.0, "hippocampus": 2.0, "aorta": 1.5, "gbm": 1.5,
           "nih_pancreas_ct": 3.0, "dsb2018_nuclei": 3.5, "hc18_fetal_head_us": 3.0, "chasedb1_vessels": 3.5, "hrf_vessels": 3.5,
           "idrid_lesion": 2.0}
"""How often a source is drawn, beside one time each for the others."""
SMALLEST = 40
"""Structures of fewer pixels than this, after zooming, are drawn again."""
WHOLE = 0.45
"""How often the target is everything that has the label, not one connected part of it."""
REGION = 0.06
"""How often the target is a region of even intensity that nobody labelled (as in arXiv 2312.07381)."""


@dataclass(frozen=True)
class Batch:
    """z-scored pictures (N, 3, S, S), boolean masks (N, S, S), and which of them are nets of vessels (N,)."""

    image: Tensor
    masks: np.ndarray
    thin: np.ndarray


class Samples:
    """Draws samples from the cards; what it draws depends on the generator alone."""

    def __init__(self, cards: list[Card]) -> None:
        self.by_source: dict[str, list[Card]] = {}
        for card in cards:
            self.by_source.setdefault(card.source, []).append(card)
        self.names = list(self.by_source)
        weights = np.array([WEIGHTS.get(name, 1.0) for name in self.names])
        self.weights = weights / weights.sum()

    def batch(self, rng: np.random.Generator, count: int, size: int) -> Batch:
        drawn = [self.sample(rng, size) for _ in range(count)]
        image = torch.from_numpy(np.stack([d[0] for d in drawn]))
        return Batch(image, np.stack([d[1] for d in drawn]), np.array([d[2] for d in drawn]))

    def sample(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, bool]:
        """A z-scored picture (3, size, size), a mask (size, size) of at least SMALLEST pixels, and whether it is thin."""
        while True:
            group = self.by_source[self.names[rng.choice(len(self.names), p=self.weights)]]
            card = group[rng.integers(len(group))]
            found = cut(rng, card, size)
            if found is not None and SMALLEST <= found[1].sum() < 0.85 * size * size:
                picture, mask, thin = found
                return normalised(disturbed(rng, picture, 0.35 if thin else 0.15)), mask, thin


def cut(rng: np.random.Generator, card: Card, size: int) -> tuple[np.ndarray, np.ndarray, bool] | None:
    """A turned, zoomed and bent piece of a card, (size, size) or (size, size, 3) float32, and its target."""
    thin = card.source in THIN
    whole = thin or rng.random() < WHOLE
    target = target_of(rng, card.labels, whole, thin)
    if target is None:
        return None
    a, b = sampling_grid(rng, target, size)
    image = card.image.astype(np.float32)
    if card.source in CT and rng.random() < 0.6:
        centre, width = rng.normal(40, 60), math.exp(rng.uniform(math.log(200), math.log(1500)))
        image = image.clip(centre - width / 2, centre + width / 2)
    border = cv2.BORDER_REPLICATE if rng.random() < 0.3 else cv2.BORDER_CONSTANT
    floor = float(image.min())
    picture = cv2.remap(image, b, a, cv2.INTER_LINEAR, borderMode=border, borderValue=(floor, floor, floor))
    if not thin and rng.random() < REGION:
        region = even_region(rng, picture if picture.ndim == 2 else picture.mean(2))
        return None if region is None else (picture, region, False)
    mask = cv2.remap(target.astype(np.float32), b, a, cv2.INTER_LINEAR) > 0.5
    if not whole:
        mask = mask if not mask.any() else largest(mask)
    return picture, mask, thin


def target_of(rng: np.random.Generator, labels: np.ndarray, whole: bool, thin: bool) -> np.ndarray | None:
    """The mask of one label with at least 12 pixels, each as likely, or of one connected part of it, the larger the likelier."""
    counts = np.bincount(labels.ravel())
    counts[0] = 0
    there = np.flatnonzero(counts >= 12)
    if not len(there):
        return None
    mask = labels == rng.choice(there)
    if whole:
        return mask
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA].astype(float)
    areas[areas < 12] = 0
    if not areas.any():
        return None
    share = np.sqrt(areas)
    return parts == 1 + int(rng.choice(count - 1, p=share / share.sum()))


def even_region(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray | None:
    """What grows from a random pixel of a smoothed picture (S, S) while the intensity stays near; None where that is large."""
    size = len(picture)
    smooth = cv2.GaussianBlur(picture, (0, 0), float(np.exp(rng.uniform(0.3, 1.6))))
    seed = tuple(int(v) for v in rng.integers(size // 8, size - size // 8, 2))
    reach = float(smooth.std()) * rng.uniform(0.1, 0.5)
    grown = np.zeros((size + 2, size + 2), np.uint8)
    cv2.floodFill(smooth, grown, seed, 0, reach, reach, 4 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE | (1 << 8))
    region = cv2.morphologyEx(grown[1:-1, 1:-1], cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
    return largest(region) if region.any() and region.mean() < 0.3 else None


def sampling_grid(rng: np.random.Generator, mask: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each output pixel comes from: two (size, size) float32 maps, along axes A and B of the mask.

    Half of the time the picture keeps about its own scale, as a first look has it; else the structure fills 0.15 to 0.8 of the
    edge, as in a closer look. A random pixel of the mask lands near the middle.
    """
    inside = np.argwhere(mask)
    extent = float((inside.max(0) - inside.min(0)).max() + 1)
    wide = float(max(mask.shape))
    if rng.random() < 0.5:
        scale = size / wide * math.exp(rng.uniform(math.log(0.85), math.log(1.7)))
    else:
        scale = size * math.exp(rng.uniform(math.log(0.15), math.log(0.8))) / extent
    scale = float(np.clip(scale, 0.4 * size / wide, 7.0))
    anchor = inside[rng.integers(len(inside))] if rng.random() < 0.6 else (inside.min(0) + inside.max(0)) / 2
    angle = rng.uniform(-np.pi, np.pi) if rng.random() < 0.3 else rng.normal(0, 0.15)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag(np.exp(rng.normal(0, 0.12, 2)) / scale) @ np.diag(rng.choice([-1, 1], 2))
    if rng.random() < 0.5:
        matrix = matrix[:, ::-1]
    where = size * (0.5 + rng.uniform(-0.22, 0.22, 2))
    a, b = np.mgrid[0:size, 0:size].astype(np.float32)
    a, b = a - where[0], b - where[1]
    along = matrix[0, 0] * a + matrix[0, 1] * b + anchor[0]
    across = matrix[1, 0] * a + matrix[1, 1] * b + anchor[1]
    if rng.random() < 0.4:
        wave = rng.normal(0, rng.uniform(0, 2.5) / scale, (2, 6, 6)).astype(np.float32)
        waves = [cv2.resize(w, (size, size), interpolation=cv2.INTER_CUBIC) for w in wave]
        along, across = along + waves[0], across + waves[1]
    return along.astype(np.float32), across.astype(np.float32)


def disturbed(rng: np.random.Generator, picture: np.ndarray, invert: float) -> np.ndarray:
    """Random grey, inversion, contrast, bias, blur, noise, compression and occlusion of (S, S) or (S, S, 3), scaled to 0..1;
    `invert`: how often it is inverted."""
    if picture.ndim == 3 and rng.random() < 0.3:
        picture = picture @ rng.dirichlet((2, 3, 1)).astype(np.float32)
    x = (picture - picture.min()) / (float(np.ptp(picture)) + 1e-6)
    if rng.random() < 0.5:
        x = x ** math.exp(rng.normal(0, 0.35))
    if rng.random() < invert:
        x = 1 - x
    if x.ndim == 3 and rng.random() < 0.5:
        x = x * np.exp(rng.normal(0, 0.12, 3)).astype(np.float32) + rng.normal(0, 0.04, 3).astype(np.float32)
    if x.ndim == 3 and rng.random() < 0.2:
        x = x[..., rng.permutation(3)]
    if x.ndim == 2 and rng.random() < 0.2:
        x = remapped(rng, torch.from_numpy(np.ascontiguousarray(x))).numpy()
    if rng.random() < 0.3:
        field = bias_field(rng, 1, x.shape[:2], 0.25)[0, 0].numpy()
        x = x * (field if x.ndim == 2 else field[..., None])
    if rng.random() < 0.3:
        x = cv2.GaussianBlur(x.astype(np.float32), (0, 0), rng.uniform(0.3, 1.3))
    if rng.random() < 0.45:
        x = x + rng.standard_normal(x.shape, dtype=np.float32) * float(x.std()) * rng.uniform(0, 0.25)
    if rng.random() < 0.12:
        flat = np.clip(x * 255, 0, 255).astype(np.uint8)
        coded = cv2.imencode(".jpg", flat, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 70))])[1]
        x = cv2.imdecode(coded, cv2.IMREAD_UNCHANGED).astype(np.float32) / 255
    if rng.random() < 0.08:
        x = np.ascontiguousarray(x)
        low = (rng.random(2) * len(x)).astype(int)
        high = low + (rng.uniform(0.04, 0.2, 2) * len(x)).astype(int)
        x[low[0]:high[0], low[1]:high[1]] = rng.random()
    return x.astype(np.float32)


def normalised(picture: np.ndarray) -> np.ndarray:
    """(S, S) or (S, S, 3) as (3, S, S), zero mean and unit deviation over everything."""
    x = (picture - picture.mean()) / max(float(picture.std()), 1e-6)
    return np.ascontiguousarray(np.broadcast_to(x, (3, *x.shape)) if x.ndim == 2 else x.transpose(2, 0, 1), dtype=np.float32)
