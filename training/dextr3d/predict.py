"""What the server does with a volume and six points (models/dextr3d/config_aiaa.json)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from common.data import z_score
from dextr3d.points import ROI, padded_box, points_channel


def predict(network: Callable[[np.ndarray], np.ndarray], image: np.ndarray, spacing: tuple[float, ...],
            points: list[tuple[int, ...]]) -> np.ndarray:
    """The mask (X, Y, Z) of the structure between the points. `network` maps (1, 2, ROI...) to logits."""
    where = padded_box(points, image.shape, spacing)
    crop = np.ascontiguousarray(image[where], dtype=np.float32)
    size = (ROI,) * 3
    square = F.interpolate(torch.from_numpy(crop)[None, None], size=size, mode="trilinear", align_corners=False)
    start, zoom = np.array([w.start for w in where]), ROI / np.array(crop.shape)
    inside = [tuple(int(v) for v in np.clip(((np.array(p) - start) * zoom).astype(int), 0, ROI - 1)) for p in points]
    x = np.concatenate([z_score(square.numpy()), points_channel(inside, size).numpy()], 1)
    score = torch.sigmoid(torch.from_numpy(network(x.astype(np.float32))))
    result = np.zeros(image.shape, bool)
    result[where] = F.interpolate(score, size=crop.shape, mode="trilinear", align_corners=False)[0, 0].numpy() > 0.5
    return result
