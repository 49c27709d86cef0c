"""What the server does with a volume and its clicks (models/deepgrow_3d/config_aiaa.json).

Arrays are (Z, X, Y), the order AsChannelFirstd gives: the crop is in plane, the depth is kept whole, and the network
sees it squeezed or stretched to its own depth.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from common.clicks import guidance
from common.data import z_score

SIZE = (96, 96, 96)
"""Network grid, (Z, X, Y)."""
WINDOW = 144
"""In-plane crop in voxels of 1 mm."""
MARGIN = 20
Click = tuple[int, ...]


def window(clicks: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """SpatialCropGuidanced with a spatial_size of two: full depth, WINDOW square in plane, or the clicks' box if larger."""
    low = np.maximum(clicks.min(0) - MARGIN, 0)
    high = np.minimum(clicks.max(0) + MARGIN + 1, shape)
    if (high[1:] - low[1:] < WINDOW).all():
        low = np.maximum((low + high) // 2 - WINDOW // 2, 0)
        high = np.minimum(low + WINDOW, shape)
        low[0], high[0] = 0, shape[0]
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def resize(volume: np.ndarray, shape: tuple[int, ...], nearest: bool = False) -> np.ndarray:
    """torch's interpolate on a plain array."""
    tensor = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None, None]
    kind = {"mode": "nearest"} if nearest else {"mode": "trilinear", "align_corners": False}
    return F.interpolate(tensor, size=tuple(shape), **kind)[0, 0].numpy()


class Case3D:
    """A volume (Z, X, Y) resampled in plane to 1 mm once, as a session's cache keeps it."""

    def __init__(self, image: np.ndarray, spacing: tuple[float, float, float]) -> None:
        self.original = image.shape
        shape = (image.shape[0], *(max(1, round(n * s)) for n, s in zip(image.shape[1:], spacing[1:], strict=True)))
        self.fine = ndimage.zoom(image.astype(np.float32), np.array(shape) / image.shape, order=1, grid_mode=True, mode="nearest")

    def predict(self, network: Callable[[np.ndarray], np.ndarray], foreground: list[Click], background: list[Click]) -> np.ndarray:
        """The mask (Z, X, Y) of what is clicked. `network` maps (1, 3, *SIZE) to logits."""
        shape = self.fine.shape
        ratio = np.array(shape) / np.array(self.original)
        scaled = [[(np.array(c) * ratio).astype(int) for c in clicks] for clicks in (foreground, background)]
        where = window(np.array(scaled[0] + scaled[1]), shape)
        crop = self.fine[where]
        start, zoom = np.array([w.start for w in where]), np.array(SIZE) / np.array(crop.shape)
        inside = [[tuple(((c - start) * zoom).astype(int)) for c in clicks] for clicks in scaled]
        x = np.stack([z_score(resize(crop, SIZE)), *(guidance(SIZE, clicks) for clicks in inside)])
        mask = network(x[None].astype(np.float32))[0, 0] > 0
        fine = np.zeros(shape, np.float32)
        fine[where] = resize(mask, crop.shape, nearest=True)
        result = resize(fine, self.original, nearest=True) > 0.5
        for clicks, value in ((foreground, True), (background, False)):
            for click in clicks:
                result[click] = value
        return result
