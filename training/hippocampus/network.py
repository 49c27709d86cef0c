"""The served graph of hippocampus_mri: it finds the place on a whole head, and labels there what a crop would show."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from brain_mri.data import CLASSES
from brain_mri.network import BrainNet
from common.nets import UNet
from hippocampus.data import LABELS, ROI

WIDTHS = (16, 32, 64, 128)
SEEN = (40, 56, 40)
"""Voxels of 1 mm around a hippocampus that the labelling network is shown; the rest of ROI is nothing, as around the crops that it
has learnt from."""
REACH = 18.0
"""Millimetres around a first estimate that count for the second."""
CLASS = 1 + [name for name, _, _ in CLASSES].index("hippocampus")
FAINT = 20.0
"""A hippocampus of fewer sure voxels of the coarse grid than this is not there."""


def build() -> UNet:
    """(N, 1, *ROI) z-scored -> (N, 3, *ROI) logits: background, anterior, posterior."""
    return UNet(3, 1, 1 + len(LABELS), WIDTHS)


class Served(nn.Module):
    """(1, 1, X, Y, Z) z-scored, 1 mm, RAS, zero where padded, each size divisible by 16 and at least ROI's -> label numbers of the
    same shape, uint8.

    What fits into ROI is labelled as it is. On more, brain_mri's network says at 2 mm where each hippocampus is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fine = build()
        self.place = BrainNet()

    def forward(self, x: Tensor) -> Tensor:
        logits = self.place(F.avg_pool3d(x, 2))
        sure = (logits[:, :-1].softmax(1)[:, CLASS : CLASS + 1] * 2 - 1).clamp(min=0)
        right = torch.sigmoid(2 * logits[:, -1:])
        centres = self.centres(sure, right)
        found = torch.zeros_like(x)
        for centre in centres:
            found = torch.where(found > 0, found, self.label(x, centre))
        return found.to(torch.uint8)

    def centres(self, sure: Tensor, right: Tensor) -> list[list[Tensor]]:
        """Voxels (three numbers each) of the middle of the left and of the right hippocampus; where one is not there the other's,
        and the middle of everything where none is."""
        middle = [torch.ones_like(sure).cumsum(axis).amax() / 2 + 0.5 for axis in (2, 3, 4)]
        both = self.centre(sure, middle)
        sides = []
        for weight in (sure * (1 - right), sure * right):
            there = (weight.sum() > FAINT).to(sure.dtype)
            once = [there * a + (1 - there) * b for a, b in zip(self.centre(weight, both), both, strict=True)]
            near = weight * self.nearness(weight, once)
            again = self.centre(near, once)
            sides.append([2 * (there * a + (1 - there) * b) - 1 for a, b in zip(again, once, strict=True)])
        shares = [(w.sum() > FAINT).to(sure.dtype) for w in (sure * (1 - right), sure * right)]
        left, other = ([s * a + (1 - s) * b for a, b in zip(mine, theirs, strict=True)]
                       for s, mine, theirs in ((shares[0], sides[0], sides[1]), (shares[1], sides[1], sides[0])))
        return [left, other]

    def centre(self, weight: Tensor, otherwise: list[Tensor]) -> list[Tensor]:
        """The weighted mean place, counted from 1; `otherwise` where there is hardly any weight."""
        total = weight.sum()
        share = total / (total + 1.0)
        return [share * (weight * torch.ones_like(weight).cumsum(axis)).sum() / (total + 1e-6) + (1 - share) * place
                for axis, place in zip((2, 3, 4), otherwise, strict=True)]

    def nearness(self, like: Tensor, centre: list[Tensor]) -> Tensor:
        """1 at the centre, falling off over REACH."""
        squares = sum((torch.ones_like(like).cumsum(axis) - place).square() for axis, place in zip((2, 3, 4), centre, strict=True))
        return torch.exp(-squares / (2 * (REACH / 2) ** 2))

    def label(self, x: Tensor, centre: list[Tensor]) -> Tensor:
        """Labels (1, 1, X, Y, Z) of what lies in the window around `centre`; zero elsewhere."""
        places, inside = [], torch.ones_like(x)
        part = x
        for axis, middle, size, seen in zip((2, 3, 4), centre, ROI, SEEN, strict=True):
            line = torch.ones_like(x).amax([a for a in (2, 3, 4) if a != axis]).flatten().cumsum(0) - 1
            length = line.amax() + 1
            start = torch.minimum((middle - size / 2).round().clamp(min=0), length - size)
            window = torch.arange(size, dtype=torch.float32)
            part = part.index_select(axis, (window + start).long())
            shape = [-1 if a == axis else 1 for a in range(5)]
            # a window that is all there is of the scan is shown whole
            close = ((window + start - middle).abs() <= seen / 2).float()
            close = torch.where(length > size, close, torch.ones_like(close))
            part = part * close.view(shape)
            place = line - start
            places.append(place.clamp(0, size - 1).long())
            inside = inside * ((place >= 0) & (place < size)).to(x.dtype).view(shape)
        shown = (part != 0).to(x.dtype)
        mean = (part * shown).sum() / shown.sum().clamp(min=1)
        off = (part - mean) * shown
        logits = self.fine(off / ((off.square().sum() / shown.sum().clamp(min=1)).sqrt() + 1e-6))
        labels = logits.argmax(1, keepdim=True).to(x.dtype) * shown
        for axis, place in zip((2, 3, 4), places, strict=True):
            labels = labels.index_select(axis, place)
        return labels * inside
