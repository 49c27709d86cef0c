"""Extreme points: how a user sets them, the box they span, and the channel the network sees."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from common.clicks import guidance

ROI = 64
SIGMA = 3.0
PADDING = 20.0
"""Millimetres around the points that the crop keeps."""


def extreme_points(mask: np.ndarray, rng: np.random.Generator | None = None, jitter: int = 0) -> list[tuple[int, ...]]:
    """Six voxels of a non-empty mask (X, Y, Z): lowest and highest along each axis in turn.

    With a generator, a random one of those that share the extreme, moved by up to `jitter` voxels along every axis;
    without, the one nearest the middle of those.
    """
    voxels = np.argwhere(mask)
    found = []
    for axis in range(3):
        for extreme in (voxels[:, axis].min(), voxels[:, axis].max()):
            tied = voxels[voxels[:, axis] == extreme]
            if rng is None:
                point = tied[np.abs(tied - tied.mean(0)).sum(1).argmin()]
            else:
                point = tied[rng.integers(len(tied))] + rng.integers(-jitter, jitter + 1, 3)
            found.append(tuple(int(i) for i in np.clip(point, 0, np.array(mask.shape) - 1)))
    return found


def padded_box(points: list[tuple[int, ...]], shape: tuple[int, ...], spacing: tuple[float, ...]) -> tuple[slice, ...]:
    """The points' box with PADDING around it, inside the volume; the far border is left out, as the clients do."""
    coordinates = np.array(points)
    pad = np.array([int(PADDING / s) for s in spacing])
    low = np.maximum(coordinates.min(0) - pad, 0)
    high = np.minimum(coordinates.max(0) + pad, np.array(shape) - 1)
    return tuple(slice(int(a), int(max(b, a + 1))) for a, b in zip(low, high, strict=True))


def points_channel(points: list[tuple[int, ...]], size: tuple[int, ...]) -> Tensor:
    """(1, 1, *size): Gaussians at the points, stretched to -1..1 (MONAI's extreme_points_to_image)."""
    return torch.from_numpy(guidance(size, points, SIGMA))[None, None] * 2 - 1
