"""The network of deepgrow_3d, and its served graph of two looks."""

from __future__ import annotations

import torch
from torch import Tensor

from common.interactive import ClickFeatures, click_mean, grown, intensity_bins
from common.looks import closer_look, whole_look
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
            inputs = torch.cat([fold(features), *self.likelihood(x, features[:, -3:])], 1)
            clicks = self.features.mean(x[:, 1:3], 4)
        fine = self.down[0](inputs) + self.previous(fold(previous))
        y = self.down[1](self.halve(fine)) + self.seen(slices, clicks[:, :1], clicks[:, 1:])
        key = self.key(y)
        alike = [(key * click_mean(key, clicks[:, i : i + 1])).mean(1, keepdim=True) for i in range(2)]
        levels = [fine, y + self.resemblance(torch.tanh(torch.cat(alike, 1)))]
        for block in self.down[2:]:
            levels.append(block(self.halve(levels[-1])))
        return unfold(self.head(self.decode(levels)))

    def likelihood(self, x: Tensor, near: Tensor) -> list[Tensor]:
        """At half resolution, (N, 1, *S / 2) each: how much likelier the intensity is in the clicked structure than around it,
        and a first guess of the structure: grown from what is near the foreground clicks. near: the geodesic maps."""
        mean = self.features.mean
        image, near = mean(x[:, :1], 2), mean(near, 2)
        towards, away, alike = near[:, :1], near[:, 1:2], near[:, 2:]
        bins = intensity_bins(image, click_mean(image, mean(x[:, 1:2], 2)))
        pull = torch.maximum(towards, alike) - away
        guess = torch.sigmoid(10 * (pull - 0.5))
        around = (1 - torch.maximum(guess, towards)).clamp(min=0) + 4 * away.square()
        return grown(bins, guess, around, lambda g: 1 - g + 4 * away.square(), 5 * (pull - 0.3))


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
        image, clicks = x[:, :1], x[:, 1:]
        whole = whole_look(x, WHOLE)
        coarse, seen = zero_mean(whole.image(image)), whole.clicks(clicks)
        first = self.net(torch.cat([coarse, seen], 1), self.slices(coarse), torch.zeros_like(coarse))
        close = closer_look(whole, torch.maximum(first, seen.amax(1, keepdim=True) - 0.5), SIZE)
        fine = zero_mean(close.image(image))
        previous = close.image(whole.put(torch.sigmoid(first), image))
        second = self.net(torch.cat([fine, close.clicks(clicks)], 1), self.slices(fine), previous)
        return close.put(second, image, whole.put(first, image))


def zero_mean(image: Tensor) -> Tensor:
    """Zero mean and unit deviation of each volume (N, 1, *S)."""
    off = image - image.mean((1, 2, 3, 4), keepdim=True)
    return off / (off.square().mean((1, 2, 3, 4), keepdim=True) + 1e-12).sqrt()
