"""The network of deepgrow_3d, and its served graph of two looks."""

from __future__ import annotations

import torch
from torch import Tensor

from common.interactive import ClickFeatures, click_mean
from common.looks import two_looks
from common.nets import FoldedUNet, conv, fold, unfold
from common.slices import Resemblance, SliceFeatures

WIDTHS = (32, 64, 128, 160)
SIZE = 64
"""Edge of the closer look in voxels, and of the cubes it is trained on."""
WHOLE = 48
"""Edge of the first look, which finds the place."""


class ClickNet(FoldedUNet):
    """Half-resolution U-Net on ClickFeatures, on the likelihood that they give and on the previous mask; at a quarter of the
    resolution it also sees the slices' features, and which of them, and of its own, resemble those under the clicks.

    (N, 3, *S) image (z-scored), foreground, background; (N, FEATURES, *S / 4) of the slices; (N, 1, *S) previous mask in 0..1,
    zero where there is none -> (N, 1, *S) logits.
    """

    def __init__(self) -> None:
        super().__init__(3, ClickFeatures.CHANNELS, WIDTHS, extra=2)
        self.features = ClickFeatures(3, 4, 24)
        self.previous = conv(3, 8, WIDTHS[0], kernel=1)
        torch.nn.init.zeros_(self.previous.weight)
        self.key = conv(3, WIDTHS[1], 32, kernel=1)
        self.resemblance = conv(3, 2, WIDTHS[1], kernel=1)
        self.seen = Resemblance(WIDTHS[1])

    def forward(self, x: Tensor, slices: Tensor, previous: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.features(x)
            inputs = torch.cat([fold(features), *self.features.likelihood(x, features[:, -3:])], 1)
            clicks = self.features.mean(x[:, 1:3], 4)
        fine = self.down[0](inputs) + self.previous(fold(previous))
        y = self.down[1](self.halve(fine)) + self.seen(slices, clicks[:, :1], clicks[:, 1:])
        key = self.key(y)
        alike = [(key * click_mean(key, clicks[:, i : i + 1])).mean(1, keepdim=True) for i in range(2)]
        y = y + self.resemblance(torch.tanh(torch.cat(alike, 1)))
        return unfold(self.head(self.decode(self.deepen([fine, y]))))


class Looking(torch.nn.Module):
    """The frozen features of slices, and the network that sees them."""

    def __init__(self) -> None:
        super().__init__()
        self.slices = SliceFeatures()
        self.net = ClickNet()


class Served(Looking):
    """(N, 3, *S) a cube with its clicks -> (N, 1, *S) logits.

    Two looks: at the cube, coarsely, and at the part around what the first look found and what was clicked, zoomed, with what was
    found as the previous mask. Outside that part the first look's answer stands.
    """

    def forward(self, x: Tensor) -> Tensor:
        def answer(image: Tensor, clicks: Tensor, previous: Tensor) -> Tensor:
            return self.net(torch.cat([image, clicks], 1), self.slices(image), previous)

        return two_looks(x[:, :1], x[:, 1:], (WHOLE, SIZE), answer)
