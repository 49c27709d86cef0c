"""Looking at a part of a picture, zoomed to the size that a network likes, and the way back. Part of the exported graphs.

Pictures have any size: a look is places along each axis, and every resampling is a product with a matrix for each axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from common.clicks import SIGMA, guidance

GROW = 1.6
MARGIN = 8.0
"""A closer look is this many times as wide as what was found, and so many of 256 voxels of the first look more on each side."""
LEAST = 20.0
"""Half its edge at least, of 256 voxels of the first look."""


def counted(x: Tensor, axis: int) -> Tensor:
    """0, 1, 2, ... along an axis of x, (S,); unlike arange it keeps to the size in an exported graph."""
    return torch.ones_like(x.transpose(axis, -1).flatten(0, -2)[0]).cumsum(0) - 1


@dataclass(frozen=True)
class Look:
    """A square or cube of each of N pictures: `middle` (N, axes) and half edge (N, 1) in voxels of the picture, counted from the
    outer border of the first; `shown` voxels wide."""

    middle: Tensor
    half: Tensor
    shown: int

    @property
    def step(self) -> Tensor:
        """(N, 1): voxels of the picture for one shown."""
        return 2 * self.half / self.shown

    def places(self, axis: int) -> Tensor:
        """(N, shown): where the shown voxels' centres lie, in voxels of the picture."""
        line = (torch.arange(self.shown, dtype=torch.float32) + 0.5) / self.shown * 2 - 1
        return self.middle[:, axis : axis + 1] + line * self.half - 0.5

    def image(self, x: Tensor) -> Tensor:
        """x (N, C, *S) as (N, C, *shown): linear, averaged where it shrinks, the least value outside."""
        floor = x.amin(tuple(range(1, x.ndim)), keepdim=True)
        width = self.step.clamp(min=1.0)[..., None]
        y = x - floor
        for axis in range(x.ndim - 2):
            weights = F.relu(1 - (self.places(axis)[..., None] - counted(x, axis + 2)).abs() / width) / width
            y = along(y, weights, axis)
        return y + floor

    def clicks(self, maps: Tensor) -> Tensor:
        """Channels of clicks (N, C, *S), Gaussians with their peaks at the clicks, as such channels of the look (N, C, *shown)."""
        pool = F.max_pool3d if maps.ndim == 5 else F.max_pool2d
        peaks = ((maps >= pool(maps, 3, 1, 1)) & (maps > 0.25)).to(maps.dtype)
        for axis in range(maps.ndim - 2):
            away = (self.places(axis)[..., None] - counted(maps, axis + 2)).abs() / self.step[..., None]
            peaks = along(peaks, F.relu(1 - away), axis)
        reach = int(4 * SIGMA)
        line = torch.from_numpy(guidance((2 * reach + 1,), [(reach,)]))
        for axis in range(2, maps.ndim):
            shape = [1] * maps.ndim
            shape[axis] = len(line)
            layer = F.conv3d if maps.ndim == 5 else F.conv2d
            padding = [reach if a == axis else 0 for a in range(2, maps.ndim)]
            peaks = torch.cat([layer(part, line.view(shape), padding=padding) for part in peaks.split(1, 1)], 1)
        return peaks.clamp(max=1.0)

    def put(self, found: Tensor, like: Tensor, around: Tensor | None = None) -> Tensor:
        """`found` (N, 1, *shown) on the grid of `like`, linear; outside the look `around` of that grid, where there is one."""
        y, inside = found, torch.ones_like(like)
        for axis in range(like.ndim - 2):
            line = counted(like, axis + 2) + 0.5
            place = (line - self.middle[:, axis : axis + 1] + self.half) / self.step - 0.5
            steps = torch.arange(self.shown, dtype=torch.float32)
            y = along(y, F.relu(1 - (place.clamp(0, self.shown - 1)[..., None] - steps).abs()), axis)
            there = ((place > -0.5) & (place < self.shown - 0.5)).to(like.dtype).unsqueeze(1)
            for other in range(like.ndim - 2):
                there = there if other == axis else there.unsqueeze(2 if other < axis else -1)
            inside = inside * there
        return y if around is None else inside * y + (1 - inside) * around


def along(x: Tensor, weights: Tensor, axis: int) -> Tensor:
    """x (N, C, *S) with weights (N, M, S) applied along a spatial axis."""
    for _ in range(x.ndim - 3):
        weights = weights.unsqueeze(1)
    last = x.ndim - 2
    return (weights @ x.transpose(axis + 2, last)).transpose(axis + 2, last)


def whole_look(x: Tensor, shown: int) -> Look:
    """All of the pictures (N, C, *S)."""
    sizes = torch.stack([counted(x, axis).amax() + 1 for axis in range(2, x.ndim)])[None]
    sizes = sizes.expand(x.shape[0], -1)
    return Look(sizes / 2, sizes.amax(1, keepdim=True) / 2, shown)


def closer_look(first: Look, found: Tensor, wanted: int) -> Look:
    """All around where `found` (N, 1, *shown of the first look) is above zero, inside the first look, `wanted` voxels wide."""
    shown = first.shown
    there = (found > 0).to(found.dtype)
    count = torch.arange(1, shown + 1, dtype=torch.float32)
    lows, highs = [], []
    for axis in range(2, found.ndim):
        line = there.amax([a for a in range(2, found.ndim) if a != axis])[:, 0]
        highs.append((line * count).amax(1))
        lows.append(shown - (line * (shown + 1 - count)).amax(1))
    low, high = torch.stack(lows, 1), torch.stack(highs, 1)
    half = ((high - low) / 2 * GROW + MARGIN * shown / 256).amax(1, keepdim=True).clamp(LEAST * shown / 256, shown / 2)
    middle = torch.minimum(torch.maximum((low + high) / 2, half), shown - half)
    return Look(first.middle - first.half + middle * first.step, half * first.step, wanted)


def standard(image: Tensor) -> Tensor:
    """Zero mean and unit deviation over all channels of each picture or volume (N, C, *S)."""
    axes = tuple(range(1, image.ndim))
    off = image - image.mean(axes, keepdim=True)
    return off / (off.square().mean(axes, keepdim=True) + 1e-12).sqrt()


def two_looks(image: Tensor, clicks: Tensor, shown: tuple[int, int], answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """Logits (N, 1, *S) of an image (N, C, *S) with its clicks (N, 2, *S): a look at the whole, then a closer one at the part
    around what was found and clicked, with what was found as the previous mask. Outside that part the first answer stands.

    shown: the edges of both looks in voxels. answer: the network, of a look's standardised image, its clicks and a previous mask.
    """
    like = clicks[:, :1]
    whole = whole_look(like, shown[0])
    seen = whole.clicks(clicks)
    first = answer(standard(whole.image(image)), seen, torch.zeros_like(seen[:, :1]))
    close = closer_look(whole, torch.maximum(first, seen.amax(1, keepdim=True) - 0.5), shown[1])
    previous = close.image(whole.put(torch.sigmoid(first), like))
    second = answer(standard(close.image(image)), close.clicks(clicks), previous)
    return close.put(second, like, whole.put(first, like))
