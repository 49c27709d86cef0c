"""The network of deepgrow_3d, and its served graph of two looks."""

from __future__ import annotations

import torch
from torch import Tensor

from common.interactive import ClickNet
from common.looks import closer_look, whole_look

WIDTHS = (32, 64, 128, 160)
CLOSE = 64
"""Edge of the closer look in voxels: that of the cubes the network is trained on."""


def build() -> ClickNet:
    """(N, 3, Z, X, Y) z-scored image, foreground, background -> (N, 1, Z, X, Y) logits."""
    return ClickNet(3, WIDTHS, reach=24)


class Served(ClickNet):
    """The same of a cube, with a second look at the part around what the first look found and what was clicked, zoomed.

    Outside that part the first look's answer stands.
    """

    def __init__(self) -> None:
        super().__init__(3, WIDTHS, reach=24)

    def forward(self, x: Tensor) -> Tensor:
        first = super().forward(x)
        clicks = x[:, 1:]
        found = torch.maximum(first, clicks.amax(1, keepdim=True) - 0.5)
        close = closer_look(whole_look(x, x.shape[-1]), found, CLOSE)
        image = close.image(x[:, :1])
        off = image - image.mean((1, 2, 3, 4), keepdim=True)
        image = off / (off.square().mean((1, 2, 3, 4), keepdim=True) + 1e-12).sqrt()
        second = super().forward(torch.cat([image, close.clicks(clicks)], 1))
        return close.put(second, first, first)
