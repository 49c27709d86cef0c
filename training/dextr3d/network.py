"""The extreme-point network: a U-Net that also sees what follows from the points' box and the intensities in it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.interactive import click_mean, grown, intensity_bins
from common.nets import FoldedUNet, fold, unfold
from common.slices import Resemblance, SliceFeatures

PEAK = 0.45
"""Share of the points channel's range above which a voxel counts as near a point."""
REACH = 3.8
"""How far, in voxels, a Gaussian of sigma 3 stays above PEAK: the box found is too wide by this on every side."""


class ExtremePointNet(FoldedUNet):
    """(N, 2, X, Y, Z) z-scored image and extreme points channel in -1..1; (N, FEATURES, X / 4, Y / 4, Z / 4) of the slices ->
    (N, 1, X, Y, Z) logits."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__(3, 7, widths, extra=2)
        self.seen = Resemblance(widths[1])

    def forward(self, x: Tensor, slices: Tensor) -> Tensor:
        with torch.no_grad():
            features, ellipsoid, box = self.features(x)
            inputs = torch.cat([fold(features), *self.likelihood(x[:, :1], ellipsoid, box)], 1)
            inside, outside = (F.avg_pool3d(v, 4) for v in (ellipsoid.clamp(min=0.0), 1 - box))
        fine = self.down[0](inputs)
        y = self.down[1](self.halve(fine)) + self.seen(slices, inside, outside)
        return unfold(self.head(self.decode(self.deepen([fine, y]))))

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 7, X, Y, Z): the input, an ellipsoid in the points' box, the box, and the image windowed around the intensity in
        the ellipsoid's middle; with the ellipsoid and the box alone."""
        image, points = x[:, :1], x[:, 1:]
        near = ((points + 1) / 2 > PEAK).to(x.dtype)
        radius, outside = torch.zeros_like(points), torch.zeros_like(points)
        for axis in (2, 3, 4):
            line = near.amax([a for a in (2, 3, 4) if a != axis], keepdim=True)
            place = torch.cumsum(torch.ones_like(line), axis)
            length = float(x.shape[axis] + 1)
            high = (line * place).amax(axis, keepdim=True) - REACH
            low = length - (line * (length - place)).amax(axis, keepdim=True) + REACH
            half = ((high - low) / 2).clamp(min=1.0) + 0.5
            offset = ((place - (high + low) / 2) / half).abs()
            radius = radius + offset.square()
            outside = torch.maximum(outside, offset.expand_as(outside))
        ellipsoid = (1 - radius.clamp(max=16.0).sqrt()).clamp(min=-1.0)
        box = torch.sigmoid((1.05 - outside) * 20)
        core = ellipsoid.clamp(min=0.0)
        off = image - click_mean(image, core)
        spread = click_mean(off.square(), core).sqrt()
        windows = [torch.tanh(off), torch.tanh(4 * off), torch.tanh(off / (2 * spread + 0.05))]
        return torch.cat([image, points, ellipsoid, box, *windows], 1), ellipsoid, box

    def likelihood(self, image: Tensor, ellipsoid: Tensor, box: Tensor) -> list[Tensor]:
        """At half resolution, (N, 1, X/2, Y/2, Z/2) each: how much likelier the intensity is inside the structure than around
        it, and a first guess of the structure: grown from the ellipsoid, and nowhere outside the box."""
        image, ellipsoid, box = (F.avg_pool3d(v, 2) for v in (image, ellipsoid, box))
        bins = intensity_bins(image, click_mean(image, ellipsoid.clamp(min=0.0)))
        close = (ellipsoid > -0.99).to(image.dtype)
        guess = torch.sigmoid((ellipsoid - 0.2) * 6) * box
        return grown(bins, guess, close * (1 - box), lambda g: close * (1 - g), 3 * ellipsoid.clamp(max=0.7), within=box)


class Served(nn.Module):
    """(N, 2, X, Y, Z) -> (N, 1, X, Y, Z) logits: the frozen features of slices along Z, and the network that sees them."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.slices = SliceFeatures()
        self.net = ExtremePointNet(widths)

    def look(self, image: Tensor) -> Tensor:
        """The features of an image (N, 1, X, Y, Z)."""
        return self.slices(image.permute(0, 1, 4, 2, 3)).permute(0, 1, 3, 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x, self.look(x[:, :1]))
