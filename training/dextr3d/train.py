"""Trains models/dextr3d/model.onnx.

    python -m dextr3d.train              from the encoder of models/deepgrow_2d, or where it was interrupted
    python -m dextr3d.train --onnx       from the committed weights
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.bank import training_scans
from common.clicks_bank import volume_scans
from common.command import Learn, Recipe, plain_copy, train
from common.data import MODELS
from common.export import export_onnx
from common.loop import Run
from common.metrics import sigmoid_dice_bce
from common.slices import load_trunk
from common.volumes import SMALLEST, Structures3D, finish, sample_box, shapes
from dextr3d.network import Served
from dextr3d.points import PADDING, ROI, extreme_points, points_channel

WIDTHS = (32, 64, 128, 160)
SLABS = 0.3
"""How often the scan is cut across the structure, as volumes of few slices do."""


def build() -> Served:
    """(N, 2, 64, 64, 64) z-scored image and points -> (N, 1, 64, 64, 64) logits."""
    return Served(WIDTHS)


def begin(net: Served) -> None:
    """The encoder of models/deepgrow_2d, and the trunk of the committed weights where that exists."""
    net.slices.load()
    load_trunk(net.net, MODELS / "dextr3d" / "model.onnx")


def sample(rng: np.random.Generator, source: Structures3D) -> tuple[Tensor, np.ndarray, Tensor]:
    """Picture (1, 1, ROI...), mask (ROI...) and points channel (1, 1, ROI...) of one structure in its padded box."""
    while True:
        if rng.random() < 0.2:
            picture, mask = shapes(rng, ROI)
        else:
            structure, painted = source.draw(rng)
            pad = PADDING * np.exp(rng.normal(0, 0.2)) / np.array(structure.scan.spacing)
            shape = np.array(structure.scan.labels.shape)
            clip = rng.random() < 0.5
            low = np.maximum(structure.low - pad, 0) if clip else structure.low - pad
            high = np.minimum(structure.high + pad, shape - 1) if clip else structure.high + pad
            if rng.random() < SLABS:
                axis = int(rng.integers(3))
                length = (structure.high[axis] - structure.low[axis]) * rng.uniform(0.15, 0.85)
                low[axis] = rng.uniform(structure.low[axis], structure.high[axis] - length)
                high[axis] = low[axis] + length
            picture, mask = sample_box(rng, structure, painted, low, high, ROI)
        if SMALLEST <= mask.sum() < 0.75 * mask.size:
            points = extreme_points(mask, rng, jitter=int(rng.integers(0, 3)))
            return picture, mask, points_channel(points, mask.shape)


def batch(rng: np.random.Generator, source: Structures3D, count: int) -> tuple[Tensor, Tensor]:
    """Input (count, 2, ROI...) and target (count, 1, ROI...)."""
    drawn = [sample(rng, source) for _ in range(count)]
    image = finish(rng, [d[0] for d in drawn])
    x = torch.cat([image, torch.cat([d[2] for d in drawn])], 1)
    return x, torch.from_numpy(np.stack([d[1] for d in drawn]))[:, None].float()


def example() -> Tensor:
    """An input to trace and check the export with."""
    torch.manual_seed(0)
    points = [(20, 32, 32), (44, 32, 32), (32, 16, 32), (32, 48, 30), (32, 32, 18), (32, 30, 46)]
    return torch.cat([torch.randn(1, 1, ROI, ROI, ROI), points_channel(points, (ROI,) * 3)], 1)


def prepare(count: int) -> Learn:
    source = Structures3D((*training_scans(), *volume_scans(held_out=False)))

    def learn(rng: np.random.Generator, run: Run) -> None:
        x, target = batch(rng, source, count)
        with torch.autocast("cpu", torch.bfloat16):
            slices = run.net.look(x[:, :1])
            logits = run.net.net(x.contiguous(memory_format=torch.channels_last_3d), slices)
        run.learn(sigmoid_dice_bce(logits, target, smooth=50.0))

    return learn


def save_graph(net: torch.nn.Module, path: Path) -> float:
    return export_onnx(plain_copy(build, net), example(), path)


RECIPE = Recipe("dextr3d", __doc__, build, prepare, save_graph, steps=1600, batch=4, peak=2e-3, seed=23,
                begin=begin)

if __name__ == "__main__":
    train(RECIPE)
