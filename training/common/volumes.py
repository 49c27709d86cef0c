"""Three-dimensional training samples for dextr3d and deepgrow_3d, and held-out structures to evaluate them on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from common.augment import elastic_field, random_intensity, z_score_batch
from common.bank import Scan
from common.synthesis import paint, random_shapes_3d

REAL = {"ct": 0.34, "aorta": 0.06, "hippocampus": 0.14, "gbm": 0.03, "mni152": 0.03, "openkbp_ct": 0.28, "sts_ct": 0.04,
        "sts_mr_t1": 0.05, "sts_pet": 0.03}
"""How often each source is drawn when the sample is a real scan."""
CT = ("ct", "aorta", "openkbp_ct", "sts_ct")
SMALLEST = 120
"""Structures of fewer voxels than this, in the scan or in the sample, are drawn again."""


@dataclass(frozen=True)
class Structure:
    """One label of one scan with its bounding box: inclusive low and high voxel indices, (3,) each."""

    scan: Scan
    label: int
    low: np.ndarray
    high: np.ndarray
    voxels: int


def structures_of(scan: Scan, smallest: int = SMALLEST) -> list[Structure]:
    """Every label of the scan that has at least `smallest` voxels and is not flat."""
    counts = np.bincount(scan.labels.ravel())
    found = []
    for label, box in enumerate(ndimage.find_objects(scan.labels), start=1):
        if box is None or counts[label] < smallest or min(b.stop - b.start for b in box) < 3:
            continue
        low, high = np.array([b.start for b in box]), np.array([b.stop - 1 for b in box])
        found.append(Structure(scan, label, low, high, int(counts[label])))
    return found


class Structures3D:
    """Draws (scan, structure) pairs: real scans, label maps to be painted, or none (random shapes)."""

    def __init__(self, scans: tuple[Scan, ...]) -> None:
        self.real: dict[str, list[list[Structure]]] = {}
        self.maps: list[list[Structure]] = []
        for scan in scans:
            if scan.labels.shape[2] == 1:
                continue
            found = structures_of(scan)
            if found and scan.source in REAL:
                self.real.setdefault(scan.source, []).append(found)
            if found and scan.source in ("synthseg", "ct"):
                self.maps.append(found)

    def draw(self, rng: np.random.Generator) -> tuple[Structure, bool]:
        """A structure, and whether its picture must be painted."""
        if rng.random() < 0.4:
            group = self.maps[rng.integers(len(self.maps))]
            return group[rng.integers(len(group))], True
        names = list(self.real)
        p = np.array([REAL[n] for n in names])
        groups = self.real[names[rng.choice(len(names), p=p / p.sum())]]
        group = groups[rng.integers(len(groups))]
        return group[rng.integers(len(group))], False


def sample_box(rng: np.random.Generator, structure: Structure, painted: bool, low: np.ndarray, high: np.ndarray,
               size: int, order: np.ndarray | None = None) -> tuple[Tensor, np.ndarray]:
    """The box from `low` to `high` (voxel coordinates, (3,)), resampled to size^3 with random turns, flips and bends.

    order: which output axis runs along each voxel axis; random when not told.
    Returns a picture (1, 1, size, size, size), not normalised, and the structure's boolean mask of the same size.
    """
    scan = structure.scan
    spacing = np.array(scan.spacing)
    centre, half = (low + high) / 2, (high - low) / 2
    turn = np.eye(3)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        angle = rng.normal(0, 0.15)
        r = np.eye(3)
        r[a, a] = r[b, b] = math.cos(angle)
        r[a, b], r[b, a] = -math.sin(angle), math.sin(angle)
        turn = turn @ r
    order = rng.permutation(3) if order is None else order
    flips = rng.choice([-1.0, 1.0], 3)
    # from the output's -1..1 along its axes to voxels of the scan
    matrix = np.diag(1 / spacing) @ turn @ (np.diag(half * spacing * flips) @ np.eye(3)[order])
    reach = np.abs(matrix).sum(1) * 1.15 + 3
    start = np.maximum(np.floor(centre - reach).astype(int), 0)
    stop = np.maximum(np.minimum(np.ceil(centre + reach).astype(int) + 1, scan.labels.shape), start + 1)
    part = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    shape = np.array([p.stop - p.start for p in part])
    # to grid_sample's -1..1 over that part, its axes in reverse
    matrix = (matrix * 2 / shape[:, None])[::-1]
    offset = ((centre - start + 0.5) * 2 / shape - 1)[::-1]
    grid = identity_grid(size) + elastic_field(rng, 1, (size,) * 3, 4, 0.04)[0]
    where = torch.addmm(torch.from_numpy(offset.astype(np.float32)), grid.reshape(-1, 3),
                        torch.from_numpy(np.ascontiguousarray(matrix.T, dtype=np.float32))).view(1, size, size, size, 3)
    labels = torch.from_numpy(scan.labels[part].astype(np.float32))[None, None]
    if painted:
        there = F.grid_sample(labels, where, mode="nearest", padding_mode="zeros", align_corners=False)
        there = there[0, 0].numpy().astype(np.uint8)
        if scan.image is None:
            return paint(rng, there), there == structure.label
        picture = F.grid_sample(torch.from_numpy(np.ascontiguousarray(scan.image[part]))[None, None], where,
                                padding_mode="border", align_corners=False)[0, 0].numpy()
        return paint(rng, with_unlabelled(rng, there, picture)), there == structure.label
    image = torch.from_numpy(np.ascontiguousarray(scan.image[part]))[None, None]
    floor = float(image.min())
    picture = F.grid_sample(image - floor, where, padding_mode="zeros", align_corners=False) + floor
    if scan.source in CT and rng.random() < 0.6:
        middle, width = rng.normal(40, 60), math.exp(rng.uniform(math.log(200), math.log(1500)))
        picture = picture.clip(middle - width / 2, middle + width / 2)
    mask = F.grid_sample((labels == structure.label).float(), where, padding_mode="zeros", align_corners=False)
    return picture, mask[0, 0].numpy() > 0.5


@cache
def identity_grid(size: int) -> Tensor:
    """(size, size, size, 3): each voxel's own place in -1..1 along the array's axes."""
    line = torch.linspace(-1, 1, size)
    return torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1)


def with_unlabelled(rng: np.random.Generator, labels: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """The label map with its zeros split by the scan's own intensity into 3 to 6 tissues that nobody labelled.

    So a painted picture has more around its structures than one even background.
    """
    rest = labels == 0
    if not rest.any():
        return labels
    cuts = np.unique(np.quantile(picture[rest], np.sort(rng.random(int(rng.integers(2, 6))))))
    tissue = np.digitize(picture, cuts)
    return np.where(rest, np.where(tissue > 0, int(labels.max()) + tissue, 0), labels)


def shapes(rng: np.random.Generator, size: int) -> tuple[Tensor, np.ndarray]:
    """A painted picture of random shapes and the mask of one of them (possibly too small a one)."""
    labels = random_shapes_3d(rng, (size,) * 3)
    counts = np.bincount(labels.ravel())
    counts[0] = 0
    there = np.flatnonzero(counts >= SMALLEST)
    return paint(rng, labels), labels == (int(rng.choice(there)) if len(there) else 255)


def finish(rng: np.random.Generator, pictures: list[Tensor]) -> Tensor:
    """One z-scored batch (N, 1, *S) of pictures (1, 1, *S), with random intensity changes."""
    image = z_score_batch(torch.cat(pictures))
    return z_score_batch(random_intensity(rng, image, noise=0.2, blur=0.8, bias=0.25, gamma=0.35, invert=0.1, remap=0.3))
