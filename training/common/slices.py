"""What the encoder of deepgrow_2d sees in the slices of a volume: strong features, which few volumes cannot teach."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.data import MODELS
from common.encoder import FEATURES, Encoder
from common.export import load_onnx_weights
from common.interactive import resemblance
from common.looks import standard
from common.nets import Residual, conv

ENCODER = MODELS / "deepgrow_2d" / "model.onnx"
KEYS = 32


class SliceFeatures(nn.Module):
    """(N, 1, Z, X, Y) -> (N, FEATURES, Z / 4, X / 4, Y / 4), Z divisible by 4, X and Y by 16.

    Pairs of slices along Z are averaged and seen at twice their resolution, since the encoder knows structures of many pixels.
    Its weights stay as they are: it never trains.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> SliceFeatures:
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        z, x, y = (int(n) for n in image.shape[2:])
        slices = F.avg_pool3d(image, (2, 1, 1)).reshape(-1, 1, x, y)
        slices = F.interpolate(slices, size=(2 * x, 2 * y), mode="bilinear", align_corners=False)
        seen = F.avg_pool2d(self.encoder(standard(torch.cat([slices] * 3, 1))), 2)
        seen = seen.reshape(-1, z // 4, 2, FEATURES, x // 4, y // 4).mean(2)
        return seen.transpose(1, 2)

    def load(self, path: Path = ENCODER) -> None:
        """The encoder of a deepgrow_2d."""
        missing = load_onnx_weights(self.encoder, path, strict=False, prefix="encoder.")
        if missing:
            raise ValueError(f"{path} lacks {missing[0]} of the encoder")


class Resemblance(nn.Module):
    """(N, FEATURES, *Q), and what is surely inside and surely outside, (N, 1, *Q) each -> (N, width, *Q): the features, and how
    much each place resembles what is inside and outside, in the mean and to the one place it resembles most.

    The last layer begins with zeros, so that a trained network which this is added to begins as it was.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.key = conv(3, FEATURES, KEYS, kernel=1)
        self.mix = Residual(3, FEATURES + 4, FEATURES)
        self.out = conv(3, FEATURES, width, kernel=1)
        nn.init.zeros_(self.out.weight)

    def forward(self, features: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
        key = F.normalize(self.key(features), dim=1)
        return self.out(self.mix(torch.cat([features, *resemblance(key, inside, outside)], 1)))


def load_trunk(net: nn.Module, path: Path) -> None:
    """What a committed model of volumes has of `net`, if there is one; one that sees no slices yet names it without `net.`."""
    if path.exists():
        for prefix in ("", "net."):
            load_onnx_weights(net, path, strict=False, prefix=prefix)
