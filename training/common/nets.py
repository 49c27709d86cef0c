"""Convolutional networks, two- and three-dimensional by one argument."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(nd: int, cin: int, cout: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    """A same-padded convolution over `nd` spatial axes, without bias since a batch norm follows."""
    layer = nn.Conv3d if nd == 3 else nn.Conv2d
    return layer(cin, cout, kernel, stride=stride, padding=kernel // 2, bias=False)


def norm(nd: int, channels: int) -> nn.Module:
    """Batch norm: onnxruntime folds it into the convolution before it, so it costs nothing when served."""
    return nn.BatchNorm3d(channels) if nd == 3 else nn.BatchNorm2d(channels)


class Residual(nn.Module):
    """conv-norm-relu-conv-norm plus the input (through a 1-convolution where the width changes), then relu."""

    def __init__(self, nd: int, cin: int, cout: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = conv(nd, cin, cout), norm(nd, cout)
        self.conv2, self.norm2 = conv(nd, cout, cout), norm(nd, cout)
        self.skip = conv(nd, cin, cout, kernel=1) if cin != cout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.skip(x))


class UNet(nn.Module):
    """Residual U-Net. (N, cin, *S) -> (N, cout, *S) logits; every S divisible by 2 ** (len(widths) - 1).

    Down: max pooling. Up: transposed convolution of kernel and stride 2, added to the skip connection.
    """

    def __init__(self, nd: int, cin: int, cout: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.nd = nd
        wide = list(widths)
        self.down = nn.ModuleList(Residual(nd, a, b) for a, b in zip([cin, *wide[:-1]], wide, strict=True))
        transposed = nn.ConvTranspose3d if nd == 3 else nn.ConvTranspose2d
        self.up = nn.ModuleList(transposed(b, a, 2, stride=2) for a, b in pairwise(wide))
        self.merge = nn.ModuleList(Residual(nd, a, a) for a in wide[:-1])
        head = nn.Conv3d if nd == 3 else nn.Conv2d
        self.head = head(wide[0], cout, 1)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Features of every level, finest first."""
        return self.deepen([self.down[0](x)])

    def deepen(self, levels: list[Tensor]) -> list[Tensor]:
        """Features of every level, of which the finest are there."""
        for block in self.down[len(levels):]:
            levels = [*levels, block(self.halve(levels[-1]))]
        return levels

    def halve(self, x: Tensor) -> Tensor:
        """Max pooling to half the size."""
        return F.max_pool3d(x, 2) if self.nd == 3 else F.max_pool2d(x, 2)

    def decode(self, levels: list[Tensor]) -> Tensor:
        """The finest decoder features, of width widths[0]."""
        x = levels[-1]
        for index in range(len(self.up) - 1, -1, -1):
            x = self.merge[index](self.up[index](x) + levels[index])
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.decode(self.encode(x)))


class FoldedUNet(UNet):
    """A U-Net at half resolution that sees and tells every full-resolution voxel: each block of 2 voxels an axis is folded
    into channels on the way in, and unfolded on the way out (pixel unshuffle and shuffle).

    (N, cin * 2 ** nd + extra, *S / 2), which is `fold` of `cin` channels and `extra` ones of half resolution, -> (N, 1, *S)
    logits; every S divisible by 2 ** len(widths).
    On a CPU full-resolution layers of few channels cost more than everything below them; here there are none.
    """

    def __init__(self, nd: int, cin: int, widths: Sequence[int], extra: int = 0) -> None:
        super().__init__(nd, cin * 2**nd + extra, 2**nd, widths)

    def forward(self, x: Tensor) -> Tensor:
        return unfold(super().forward(x))


def fold(x: Tensor) -> Tensor:
    """(N, C, *S) -> (N, C * 2 ** nd, *S / 2): the voxels of each block as channels."""
    half = [n // 2 for n in x.shape[2:]]
    nd = len(half)
    x = x.reshape(-1, x.shape[1], *[v for n in half for v in (n, 2)])
    return x.permute(0, 1, *range(3, 2 * nd + 2, 2), *range(2, 2 * nd + 2, 2)).reshape(-1, x.shape[1] * 2**nd, *half)


def unfold(x: Tensor) -> Tensor:
    """The inverse of `fold` for one channel: (N, 2 ** nd, *S) -> (N, 1, *2 S)."""
    size = list(x.shape[2:])
    nd = len(size)
    x = x.reshape(-1, *[2] * nd, *size)
    order = [0, *[axis for i in range(nd) for axis in (1 + nd + i, 1 + i)]]
    return x.permute(*order).reshape(-1, 1, *[2 * n for n in size])


def parameters_of(net: nn.Module) -> int:
    """Number of trainable weights."""
    return sum(p.numel() for p in net.parameters())


def channels_last(net: nn.Module) -> nn.Module:
    """The memory format in which oneDNN's bfloat16 convolutions are fastest, for those of two and of three axes."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for weight in net.parameters():
        if weight.ndim in formats:
            weight.data = weight.data.contiguous(memory_format=formats[weight.ndim])
    return net
