"""deepgrow_2d's encoder: it looks at a picture once, without clicks. The networks of volumes see their slices through it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.backbone import CHANNELS, Backbone
from common.interactive import click_mean
from common.nets import norm

FEATURES = 64
"""Channels of the encoder's output, at a quarter of the picture's resolution."""


class Encoder(nn.Module):
    """(N, 3, A, B) z-scored picture, three equal channels where it is grey -> (N, FEATURES, A / 4, B / 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.lateral = nn.ModuleList(nn.Conv2d(c, FEATURES, 1) for c in CHANNELS[1:])
        self.smooth = nn.ModuleList(Smooth(FEATURES) for _ in CHANNELS[1:])

    def forward(self, image: Tensor) -> Tensor:
        levels = self.backbone(windows(image))[1:]
        x: Tensor | None = None
        for level, lateral, smooth in reversed(list(zip(levels, self.lateral, self.smooth, strict=True))):
            y = lateral(level)
            x = smooth(y if x is None else y + F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x


class Smooth(nn.Module):
    """A residual 3 x 3 filter of each channel by itself and a 1 x 1 mixture."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm = norm(2, channels)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(F.relu(self.norm(self.depthwise(x))))


def windows(image: Tensor) -> Tensor:
    """What the backbone sees of a z-scored picture (N, 3, A, B): its colours where there are any; else the grey values in
    three windows, all of them, the brighter part, and the middle of that.

    Of a CT that is air to bone, the body, and soft tissue, without knowing that it is a CT.
    """
    grey = image.mean(1, keepdim=True)
    coloured = ((image - grey).abs().amax((1, 2, 3), keepdim=True) > 0.02).to(image.dtype)
    bright = rescaled(grey, (grey > 0).to(image.dtype))
    middle = rescaled(bright, (bright.abs() < 1).to(image.dtype) * (grey > 0).to(image.dtype))
    seen = coloured * image + (1 - coloured) * torch.cat([grey, bright, middle], 1)
    return 2 * torch.tanh(seen / 2)


def rescaled(x: Tensor, weight: Tensor) -> Tensor:
    """x (N, 1, A, B) with zero mean and unit deviation over `weight`."""
    off = x - click_mean(x, weight)
    return off / (click_mean(off.square(), weight) + 1e-4).sqrt()
