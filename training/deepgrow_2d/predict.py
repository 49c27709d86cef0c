"""What the server does with a slice and its clicks (models/deepgrow_2d/config_aiaa.json), in a few lines of NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from common.clicks import guidance

LARGEST = 1024
"""Edge of the window that is cut out of a larger slice, around the clicks."""
MARGIN = 20
Click = tuple[int, ...]


def window(clicks: np.ndarray, shape: tuple[int, int]) -> tuple[slice, slice]:
    """SpatialCropGuidanced: LARGEST square around the middle of the clicks, or their box with MARGIN if that is larger.

    clicks (n, 2) in the slice of `shape` (A, B). A window that would begin before the slice is moved inside; one that
    would end after it is cut.
    """
    low = np.maximum(clicks.min(0) - MARGIN, 0)
    high = np.minimum(clicks.max(0) + MARGIN + 1, shape)
    if (high - low < LARGEST).all():
        low = np.maximum((low + high) // 2 - LARGEST // 2, 0)
        high = np.minimum(low + LARGEST, shape)
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))


def predict(network: Callable[[np.ndarray], np.ndarray], image: np.ndarray, foreground: list[Click],
            background: list[Click]) -> np.ndarray:
    """The mask (A, B) of the structure clicked in `image` (A, B) or (A, B, 3). `network` maps (1, C + 2, A, B) to logits."""
    shape = image.shape[:2]
    where = window(np.array(foreground + background), shape)
    part = image[where].astype(np.float32)
    start = np.array([w.start for w in where])
    inside = [[tuple(np.array(c) - start) for c in clicks] for clicks in (foreground, background)]
    channels = part[None] if part.ndim == 2 else part.transpose(2, 0, 1)
    x = np.concatenate([channels, [guidance(part.shape[:2], clicks) for clicks in inside]])
    result = np.zeros(shape, bool)
    result[where] = network(x[None].astype(np.float32))[0, 0] > 0
    for clicks, value in ((foreground, True), (background, False)):
        for click in clicks:
            result[click] = value
    return result
