"""The network of brain_mri: it works at 2 mm, and its served graph takes a 1 mm picture and gives 1 mm labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from brain_mri.data import CLASSES, FIRST, SIDED, SUBCORTICAL
from common.nets import UNet

WIDTHS = (16, 32, 64, 128)
DIVISOR = 16
"""The served graph takes any size divisible by this."""
HANDICAPS = [0.6] + [0.4 if name in SUBCORTICAL else 0.0 for name, _, _ in CLASSES] + [0.0]
"""Taken off each logit when served. A soft Dice makes small structures too large where the network is unsure, and on real scans
it leaves out the brain's rim; both were set on held-out data."""


class BrainNet(UNet):
    """(N, 1, X, Y, Z) scaled as a z-scored head, 2 mm, RAS -> (N, 1 + classes + 1, X, Y, Z) logits: background, the
    classes, and the side (positive: right)."""

    def __init__(self) -> None:
        super().__init__(3, 1, 2 + len(CLASSES), WIDTHS)


class Served(BrainNet):
    """(N, 1, X, Y, Z) z-scored, 1 mm, RAS -> (N, 1, X, Y, Z) label numbers, uint8 (data.LABELS counts from 1).

    The logits are upsampled before the largest is taken, so borders fall between the voxels of the 2 mm grid.
    """

    def forward(self, x: Tensor) -> Tensor:
        coarse = super().forward(F.avg_pool3d(x, 2)) - torch.tensor(HANDICAPS).view(1, -1, 1, 1, 1)
        fine = F.interpolate(coarse[:, :-1], scale_factor=2.0, mode="trilinear", align_corners=False)
        side = F.interpolate(coarse[:, -1:], scale_factor=2.0, mode="trilinear", align_corners=False)
        chosen = fine.argmax(1, keepdim=True)
        first = torch.tensor(FIRST, dtype=torch.float32)[chosen]
        sided = torch.tensor(SIDED, dtype=torch.float32)[chosen]
        return (first + sided * (side > 0).float()).to(torch.uint8)
