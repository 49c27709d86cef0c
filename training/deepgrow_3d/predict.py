"""What the server does with a volume and its clicks (models/deepgrow_3d/config_aiaa.json).

Arrays are (Z, X, Y), the order AsChannelFirstd gives.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import expit

from common.clicks import guidance
from common.data import spaced, unspaced, z_score

SIZE = (96, 96, 96)
"""Network grid, (Z, X, Y)."""
PIXDIM = 1.2
WINDOW = 120
"""Grid that the crop is taken from in mm, and the crop's edge on it: 144 mm."""
MARGIN = 20
Click = tuple[int, ...]


def window(clicks: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """SpatialCropGuidanced: WINDOW cubed around the middle of the clicks, or their box with MARGIN if that is larger."""
    low = np.maximum(clicks.min(0) - MARGIN, 0)
    high = np.minimum(clicks.max(0) + MARGIN + 1, shape)
    if (high - low < WINDOW).all():
        low = np.maximum((low + high) // 2 - WINDOW // 2, 0)
        high = np.minimum(low + WINDOW, shape)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def resize(volume: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """torch's interpolate on a plain array."""
    tensor = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None, None]
    return F.interpolate(tensor, size=tuple(shape), mode="trilinear", align_corners=False)[0, 0].numpy()


class Case3D:
    """A volume (Z, X, Y) resampled to PIXDIM once, as a session's cache keeps it."""

    def __init__(self, image: np.ndarray, spacing: tuple[float, float, float]) -> None:
        self.original, self.spacing = image.shape, spacing
        self.fine = spaced(image, spacing, PIXDIM)

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
        score = expit(network(x[None].astype(np.float32))[0, 0])
        fine = np.zeros(shape, bool)
        fine[where] = resize(score, crop.shape) > 0.5
        result = unspaced(fine, self.original, self.spacing, PIXDIM)
        for clicks, value in ((foreground, True), (background, False)):
            for click in clicks:
                result[click] = value
        return result
