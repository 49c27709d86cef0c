"""The extreme-point network: a U-Net that also sees an ellipsoid fitted to the points' bounding box."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from common.interactive import click_mean
from common.nets import HalfUNet

PEAK = 0.45
"""Share of the points channel's range above which a voxel counts as near a point."""
REACH = 3.8
"""How far, in voxels, a Gaussian of sigma 3 stays above PEAK: the box found is too wide by this on every side."""


class ExtremePointNet(HalfUNet):
    """(N, 2, X, Y, Z) z-scored image and extreme points channel in -1..1 -> (N, 1, X, Y, Z) logits."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__(3, 6, 1, widths)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            inputs = self.features(x)
        return super().forward(inputs)

    def features(self, x: Tensor) -> Tensor:
        """(N, 6, X, Y, Z): the input, the ellipsoid, and the image windowed around the intensity in its middle."""
        image, points = x[:, :1], x[:, 1:]
        near = ((points + 1) / 2 > PEAK).to(x.dtype)
        radius = torch.zeros_like(points)
        for axis in (2, 3, 4):
            line = near.amax([a for a in (2, 3, 4) if a != axis], keepdim=True)
            place = torch.cumsum(torch.ones_like(line), axis)
            length = float(x.shape[axis] + 1)
            high = (line * place).amax(axis, keepdim=True) - REACH
            low = length - (line * (length - place)).amax(axis, keepdim=True) + REACH
            half = ((high - low) / 2).clamp(min=1.0) + 0.5
            radius = radius + ((place - (high + low) / 2) / half).square()
        ellipsoid = (1 - radius.clamp(max=16.0).sqrt()).clamp(min=-1.0)
        core = ellipsoid.clamp(min=0.0)
        off = image - click_mean(image, core)
        spread = click_mean(off.square(), core).sqrt()
        windows = [torch.tanh(off), torch.tanh(4 * off), torch.tanh(off / (2 * spread + 0.05))]
        return torch.cat([image, points, ellipsoid, *windows], 1)
