"""Trains models/deepgrow_3d/model.onnx.

    python -m deepgrow_3d.train              from the encoder of models/deepgrow_2d, or where it was interrupted
    python -m deepgrow_3d.train --onnx       from the committed weights

Rounds of clicks as in deepgrow_2d, mostly with the last answer as the previous mask.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.bank import training_scans
from common.clicks import add_clicks, centre_click, followed, guidance_batch, loose_click
from common.clicks_bank import volume_scans
from common.command import Learn, Recipe, plain_copy, train
from common.data import MODELS
from common.export import export_onnx
from common.loop import Run
from common.metrics import sigmoid_dice_bce
from common.slices import load_trunk
from common.volumes import SMALLEST, Structures3D, finish, sample_box, shapes
from deepgrow_3d.network import SIZE, Looking, Served
from deepgrow_3d.predict import SIZE as SERVED

ROUNDS = (1, 2, 4)
"""Clicks added before each round: 1, then 3 and 7 in all."""


def sample(rng: np.random.Generator, source: Structures3D) -> tuple[Tensor, np.ndarray]:
    """Picture (1, 1, SIZE...) and mask (SIZE...) around a random voxel of a structure, the depth axis first."""
    while True:
        if rng.random() < 0.2:
            picture, mask = shapes(rng, SIZE)
        else:
            structure, painted = source.draw(rng)
            scan = structure.scan
            near = (0.35, 1.0) if scan.source == "hippocampus" else (0.7, 2.4)
            plane = math.exp(rng.uniform(math.log(near[0]), math.log(near[1])))
            # a volume of few slices is stretched along them, and cuts its structures
            deep = plane * (rng.uniform(0.25, 1.0) if rng.random() < 0.4 else math.exp(rng.normal(0, 0.2)))
            order = rng.permutation(3)
            half = np.where(order == 0, deep, plane) * SIZE / 2 / np.array(scan.spacing)
            box = tuple(slice(int(a), int(b) + 1) for a, b in zip(structure.low, structure.high, strict=True))
            inside = np.argwhere(scan.labels[box] == structure.label)
            centre = inside[rng.integers(len(inside))] + structure.low + rng.uniform(-0.4, 0.4, 3) * half
            picture, mask = sample_box(rng, structure, painted, centre - half, centre + half, SIZE, order=order)
        if SMALLEST <= mask.sum() < 0.75 * mask.size:
            return picture, mask


def example() -> Tensor:
    """An input with two clicks, to trace and check the export with."""
    torch.manual_seed(0)
    x = torch.zeros(1, 3, *SERVED)
    x[:, 0] = torch.randn(SERVED)
    x[:, 1:] = guidance_batch(SERVED, [[(40, 50, 60)]], [[(20, 30, 70)]])
    return x


def begin(net: Looking) -> None:
    """The encoder of models/deepgrow_2d, and of the trunk what is there: that of the committed weights, or of models/dextr3d."""
    net.slices.load()
    for name in ("dextr3d", "deepgrow_3d"):
        load_trunk(net.net, MODELS / name / "model.onnx")


def prepare(count: int) -> Learn:
    source = Structures3D((*training_scans(), *volume_scans(held_out=False)))

    def learn(rng: np.random.Generator, run: Run) -> None:
        drawn = [sample(rng, source) for _ in range(count)]
        image = finish(rng, [d[0] for d in drawn])
        masks = np.stack([d[1] for d in drawn])
        target = torch.from_numpy(masks)[:, None].float()
        foreground = [[centre_click(m) if rng.random() < 0.75 else loose_click(rng, m)] for m in masks]
        background: list[list[tuple[int, ...]]] = [[] for _ in masks]
        previous = torch.zeros_like(target)
        with torch.autocast("cpu", torch.bfloat16):
            features = run.net.slices(image)
        for number, many in enumerate(ROUNDS):
            if number:
                for i, truth in enumerate(masks):
                    add_clicks(rng, previous[i, 0].numpy() > 0.5, truth, many, foreground[i], background[i])
            clicks = guidance_batch((SIZE,) * 3, foreground, background)
            x = torch.cat([image, clicks], 1).contiguous(memory_format=torch.channels_last_3d)
            seen_before = followed(rng, previous)
            with torch.autocast("cpu", torch.bfloat16):
                logits = run.net.net(x, features, seen_before)
            run.learn(sigmoid_dice_bce(logits, target, 1 + 3 * clicks.sum(1, keepdim=True), smooth=50.0))
            previous = torch.sigmoid(logits.detach().float())

    return learn


def save_graph(net: torch.nn.Module, path: Path) -> float:
    return export_onnx(plain_copy(Served, net), example(), path)


RECIPE = Recipe("deepgrow_3d", __doc__, Looking, prepare, save_graph, steps=4000, batch=3, peak=1.5e-3, seed=24,
                begin=begin, every=300)

if __name__ == "__main__":
    train(RECIPE)
