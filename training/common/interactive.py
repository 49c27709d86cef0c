"""What the networks of deepgrow_2d and deepgrow_3d see beside the picture and the clicks: what can be computed from both.

Everything here is part of the exported graph, so the served model still takes image, foreground and background only.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FAR = 20.0
"""A geodesic cost that no real path reaches."""
BINS = 24
BIN_RANGE = 4.5
BIN_SCALE = 0.1
"""Intensity bins are even in asinh(difference / BIN_SCALE), from -BIN_RANGE to BIN_RANGE; differences in standard deviations."""
ROUNDS = 3
"""How often the first guess is made again from the histograms that the last one gives."""
STEEP = 8.0
"""How much the most similar place counts before the others."""


def click_mean(values: Tensor, clicks: Tensor) -> Tensor:
    """Mean of `values` (N, C, *S) weighted by `clicks` (N, 1, *S): (N, C, 1...). Zero without clicks."""
    axes = tuple(range(2, values.ndim))
    return (values * clicks).sum(axes, keepdim=True) / (clicks.sum(axes, keepdim=True) + 1e-4)


def intensity_bins(image: Tensor, centre: Tensor) -> Tensor:
    """Soft histogram bins (N, BINS, *S) of an image (N, 1, *S): narrow around `centre` (N, 1, 1...), wide far from it.

    A CT's soft tissues differ by a twentieth of the deviation that air and bone give the picture.
    """
    places = torch.linspace(-BIN_RANGE, BIN_RANGE, BINS, device=image.device).view(1, BINS, *[1] * (image.ndim - 2))
    off = (image - centre) / BIN_SCALE
    scaled = off.sign() * (off.abs() + (off.square() + 1).sqrt()).log()  # asinh, which the exporter does not know
    bins = torch.exp(-0.5 * ((scaled - places) * ((BINS - 1) / (2 * BIN_RANGE))).square()) + 1e-6
    return bins / bins.sum(1, keepdim=True)


def likelihood_ratio(bins: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    """(N, 1, *S): the logarithm of how much likelier each voxel's intensity is under the weights `inside` than `outside`."""
    flat = bins.flatten(2)

    def shares(weight: Tensor) -> Tensor:
        total = weight.flatten(2)
        return (total @ flat.transpose(1, 2) + 0.5) / (total.sum(2, keepdim=True) + 0.5 * BINS)

    ratio = shares(inside).log() - shares(outside).log()
    return smoothed((ratio @ flat).view(inside.shape), 3)


def smoothed(x: Tensor, width: int) -> Tensor:
    """The mean of the `width` voxels an axis around each one, an odd number; at the border of those there are."""
    layer = F.avg_pool3d if x.ndim == 5 else F.avg_pool2d
    return layer(x, width, 1, width // 2, count_include_pad=False)


def grown(bins: Tensor, guess: Tensor, around: Tensor, around_of: Callable[[Tensor], Tensor], pull: Tensor,
          within: Tensor | float = 1.0) -> list[Tensor]:
    """The likelihood ratio, squeezed to -1..1, and the structure it gives, (N, 1, *S) each.

    guess and around: the structure and its surroundings to begin with; around_of: the surroundings of a later guess; pull:
    what is added to a voxel's evidence for its place; within: where the structure may be. Guess and histograms take turns:
    GrabCut's idea (doi 10.1145/1015706.1015720), smoothing in place of the cut.
    """
    for _ in range(ROUNDS):
        likely = likelihood_ratio(bins, guess, around)
        guess = torch.sigmoid(2 * likely + 4 * (smoothed(guess, 5) - 0.5) + pull) * within
        around = around_of(guess)
    return [torch.tanh(likely), guess]


def resemblance(key: Tensor, inside: Tensor, outside: Tensor) -> list[Tensor]:
    """How much each place of `key` (N, K, *Q), of length 1 along K, resembles what is surely inside and surely outside, (N, 1, *Q)
    each: in the mean over those, (N, 1, *Q) each, and to the one place it resembles most, (N, 2, *Q), softly and at half of that
    resolution.
    """
    seeds = torch.cat([inside, outside], 1)
    mean = [(key * click_mean(key, each)).sum(1, keepdim=True) for each in seeds.split(1, 1)]
    halve, mode = (F.avg_pool3d, "trilinear") if key.ndim == 5 else (F.avg_pool2d, "bilinear")
    flat = F.normalize(halve(key, 2), dim=1).flatten(2)
    alike = torch.exp(STEEP * (flat.transpose(1, 2) @ flat) - STEEP)
    coarse = halve(seeds, 2)
    weights = coarse.flatten(2)
    best = (weights @ alike + 1e-6).log() / STEEP - (weights.sum(2, keepdim=True) + 1e-2).log() / STEEP
    best = best.clamp(min=-1).view(coarse.shape)
    return [*mean, F.interpolate(best, scale_factor=2.0, mode=mode, align_corners=False)]


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

    def likelihood(self, x: Tensor, near: Tensor) -> list[Tensor]:
        """At half resolution, (N, 1, *S / 2) each: how much likelier the intensity is in the clicked structure than around it,
        and a first guess of the structure: grown from what is near the foreground clicks. near: the geodesic maps."""
        mean = self.mean
        image, near = mean(x[:, :1], 2), mean(near, 2)
        towards, away, alike = near[:, :1], near[:, 1:2], near[:, 2:]
        bins = intensity_bins(image, click_mean(image, mean(x[:, 1:2], 2)))
        pull = torch.maximum(towards, alike) - away
        guess = torch.sigmoid(10 * (pull - 0.5))
        around = (1 - torch.maximum(guess, towards)).clamp(min=0) + 4 * away.square()
        return grown(bins, guess, around, lambda g: 1 - g + 4 * away.square(), 5 * (pull - 0.3))
