"""The click-driven network of deepgrow_2d and deepgrow_3d: a U-Net that also sees what can be computed from the clicks.

Everything here is part of the exported graph, so the served model still takes image, foreground and background only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.nets import HalfUNet, conv

FAR = 20.0
"""A geodesic cost that no real path reaches."""


def click_mean(values: Tensor, clicks: Tensor) -> Tensor:
    """Mean of `values` (N, C, *S) weighted by `clicks` (N, 1, *S): (N, C, 1...). Zero without clicks."""
    axes = tuple(range(2, values.ndim))
    return (values * clicks).sum(axes, keepdim=True) / (clicks.sum(axes, keepdim=True) + 1e-4)


class ClickFeatures(nn.Module):
    """(N, 3, *S) image, foreground, background -> (N, 11, *S).

    Adds the image windowed around the intensity under the clicks (three widths for the foreground, two for the
    background) and geodesic nearness to the clicks. The geodesic distance is found on a grid `shrink` times coarser
    by `reach` rounds of dilation, each step costing a little plus the local contrast.
    """

    CHANNELS = 11

    def __init__(self, nd: int, shrink: int, reach: int) -> None:
        super().__init__()
        self.nd, self.shrink, self.reach = nd, shrink, reach

    def pool(self, x: Tensor, kernel: int, stride: int) -> Tensor:
        layer = F.max_pool3d if self.nd == 3 else F.max_pool2d
        return layer(x, kernel, stride, padding=(kernel - 1) // 2 if stride == 1 else 0)

    def forward(self, x: Tensor) -> Tensor:
        image, foreground, background = x[:, :1], x[:, 1:2], x[:, 2:3]
        parts = [x]
        costs = []
        for clicks, widths in ((foreground, (1.0, 4.0)), (background, (4.0,))):
            clicked = self.any_click(clicks)
            off = image - click_mean(image, clicks)
            spread = click_mean(off.square(), clicks).sqrt()
            near = off / (2 * spread + 0.05)
            parts += [torch.tanh(off * w) * clicked for w in widths] + [torch.tanh(near) * clicked]
            costs.append(near.abs().clamp(max=4.0))
        parts.append(self.geodesic(image, foreground, background, costs[0]))
        return torch.cat(parts, 1)

    def any_click(self, clicks: Tensor) -> Tensor:
        """(N, 1, 1...): 1 where there is a click, else 0."""
        return clicks.amax(tuple(range(2, clicks.ndim)), keepdim=True).clamp(0, 1)

    def geodesic(self, image: Tensor, foreground: Tensor, background: Tensor, unlike: Tensor) -> Tensor:
        """Three nearness maps in 0..1: to foreground by contrast, to background by contrast, to foreground by unlikeness."""
        k = self.shrink
        contrast = (self.pool(image, k, k) + self.pool(-image, k, k)).clamp(max=2.0)
        contrast = self.pool(contrast, 3, 1)
        step = torch.cat([contrast * 0.5, contrast * 0.5, self.mean(unlike, k) * 0.25], 1) + 0.03
        seeds = torch.cat([foreground, background, foreground], 1)
        score = (self.pool(seeds, k, k) > 0.5).to(image.dtype) * FAR - FAR
        for _ in range(self.reach):
            score = torch.maximum(score, self.pool(score, 3, 1) - step)
        near = torch.exp(score * 0.7)
        mode = "trilinear" if self.nd == 3 else "bilinear"
        return F.interpolate(near, scale_factor=float(k), mode=mode, align_corners=False)

    def mean(self, x: Tensor, k: int) -> Tensor:
        return F.avg_pool3d(x, k) if self.nd == 3 else F.avg_pool2d(x, k)


class ClickNet(HalfUNet):
    """Half-resolution U-Net on ClickFeatures; at a quarter of the resolution it also sees which features resemble
    those under the clicks.

    (N, 3, *S) image (z-scored), foreground, background -> (N, 1, *S) logits.
    """

    def __init__(self, nd: int, widths: Sequence[int], thin: int = 12, shrink: int = 4, reach: int = 40) -> None:
        super().__init__(nd, ClickFeatures.CHANNELS, 1, widths, thin)
        self.features = ClickFeatures(nd, shrink, reach)
        self.key = conv(nd, widths[1], 32, kernel=1)
        self.resemblance = conv(nd, 2, widths[1], kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            inputs = self.features(x)
            clicks = self.features.mean(x[:, 1:3], 4)
        trunk = self.trunk
        fine = trunk.down[0](self.begin(inputs))
        y = trunk.down[1](trunk.halve(fine))
        key = self.key(y)
        alike = [(key * click_mean(key, clicks[:, i : i + 1])).mean(1, keepdim=True) for i in range(2)]
        levels = [fine, y + self.resemblance(torch.tanh(torch.cat(alike, 1)))]
        for block in trunk.down[2:]:
            levels.append(block(trunk.halve(levels[-1])))
        return self.finish(inputs, trunk.head(trunk.decode(levels)))
