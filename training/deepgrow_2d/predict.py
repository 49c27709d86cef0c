"""What the server does with a slice and its clicks (models/deepgrow_2d/config_aiaa.json), in a few lines of NumPy."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from scipy.special import expit

from common.clicks import guidance
from common.data import spaced, unspaced, z_score

SIZE = 256
MARGIN = 20
Click = tuple[int, ...]


def resize(image: np.ndarray, shape: tuple[int, int], interpolation: int) -> np.ndarray:
    """cv2.resize in array order: `shape` is (A, B)."""
    return cv2.resize(image, (shape[1], shape[0]), interpolation=interpolation)


def window(clicks: np.ndarray, shape: tuple[int, int]) -> tuple[slice, slice]:
    """SpatialCropGuidanced: SIZE square around the middle of the clicks, or their box with MARGIN if that is larger.

    clicks (n, 2) in the slice of `shape` (A, B). A window that would begin before the slice is moved inside; one that
    would end after it is cut.
    """
    low = np.maximum(clicks.min(0) - MARGIN, 0)
    high = np.minimum(clicks.max(0) + MARGIN + 1, shape)
    if (high - low < SIZE).all():
        low = np.maximum((low + high) // 2 - SIZE // 2, 0)
        high = np.minimum(low + SIZE, shape)
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))


def network_input(image: np.ndarray, spacing: tuple[float, float], foreground: list[Click],
                  background: list[Click]) -> tuple[np.ndarray, tuple[slice, slice], tuple[int, int]]:
    """Input (3, SIZE, SIZE), the window it shows, and the shape of the 1 mm slice the window is cut from."""
    fine = spaced(image, spacing, 1.0)
    shape = fine.shape
    ratio = np.array(shape) / np.array(image.shape)
    scaled = [[(np.array(c) * ratio).astype(int) for c in clicks] for clicks in (foreground, background)]
    where = window(np.array(scaled[0] + scaled[1]), shape)
    crop = fine[where]
    zoom = SIZE / np.array(crop.shape)
    start = np.array([w.start for w in where])
    inside = [[tuple(((c - start) * zoom).astype(int)) for c in clicks] for clicks in scaled]
    square = z_score(resize(crop, (SIZE, SIZE), cv2.INTER_LINEAR))
    return np.stack([square, *(guidance((SIZE, SIZE), clicks) for clicks in inside)]), where, shape


def predict(network: Callable[[np.ndarray], np.ndarray], image: np.ndarray, spacing: tuple[float, float],
            foreground: list[Click], background: list[Click]) -> np.ndarray:
    """The mask (A, B) of the structure clicked in `image` (A, B). `network` maps (1, 3, SIZE, SIZE) to logits."""
    x, where, shape = network_input(image, spacing, foreground, background)
    score = expit(network(x[None].astype(np.float32))[0, 0])
    fine = np.zeros(shape, np.float32)
    fine[where] = resize(score, tuple(w.stop - w.start for w in where), cv2.INTER_LINEAR)
    result = unspaced(fine, image.shape, spacing, 1.0) > 0.5
    for clicks, value in ((foreground, True), (background, False)):
        for click in clicks:
            result[click] = value
    return result
