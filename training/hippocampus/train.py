"""Trains models/hippocampus_mri/model.onnx.

    python -m hippocampus.train              from random weights, or where it was interrupted
    python -m hippocampus.train --onnx       from the committed weights
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.augment import elastic_field, random_affine, random_intensity, warp, z_score_batch
from common.command import Learn, Recipe, train
from common.data import MODELS
from common.export import export_onnx, load_onnx_weights
from common.loop import Run
from common.metrics import dice, softmax_dice_ce
from hippocampus.data import LABELS, load
from hippocampus.network import Served, build

EXAMPLE = (64, 80, 64)
"""Size of the scan that the export is traced and checked with."""
CROP = (40, 56, 40)
"""Training sees random crops of ROI of this size: nearly all of a case, at 0.6 of the cost of its padding."""


def augment(rng: np.random.Generator, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Random geometry, crop and intensity. Takes image (N, 1, *ROI) and labels (N, 1, *ROI);
    gives (N, 1, *CROP) and (N, *CROP).
    """
    n, size = len(image), tuple(image.shape[2:])
    matrix = random_affine(rng, n, 3, rotate=0.3, scale=(0.85, 1.2), anisotropy=0.08, shift=0.06, flip=(0,))
    grid = F.affine_grid(matrix, [n, 1, *size], align_corners=False)
    grid = grid + elastic_field(rng, n, size, coarse=6, strength=0.025)
    corner = [int(rng.integers(0, whole - part + 1)) for whole, part in zip(size, CROP, strict=True)]
    grid = grid[:, *(slice(at, at + part) for at, part in zip(corner, CROP, strict=True))]
    image = random_intensity(rng, warp(image, grid), noise=0.2, blur=0.8, bias=0.2, gamma=0.3)
    inside = (image != 0).float()
    scale = torch.from_numpy(rng.uniform(0.8, 1.25, (n, 1, 1, 1, 1)).astype(np.float32))
    shift = torch.from_numpy(rng.normal(0, 0.15, (n, 1, 1, 1, 1)).astype(np.float32))
    return z_score_batch(image) * scale + shift * inside, warp(labels, grid)[:, 0]


@torch.no_grad()
def evaluate(net: torch.nn.Module, held_out: list[tuple[Tensor, Tensor]]) -> list[float]:
    """Mean Dice of each label over (image (1, 1, *ROI), labels (1, 1, *ROI)) pairs."""
    scores = []
    for image, labels in held_out:
        guess = net(image).argmax(1)[0].numpy()
        truth = labels[0, 0].numpy()
        scores.append([dice(guess == k, truth == k) for k in range(1, 1 + len(LABELS))])
    return [round(float(m), 4) for m in np.mean(scores, axis=0)]


def prepare(count: int) -> Learn:
    training = pairs(False)

    def learn(rng: np.random.Generator, run: Run) -> None:
        pick = rng.choice(len(training), count, replace=False)
        image, labels = augment(rng, torch.cat([training[i][0] for i in pick]), torch.cat([training[i][1] for i in pick]))
        with torch.autocast("cpu", torch.bfloat16):
            logits = run.net(image.contiguous(memory_format=torch.channels_last_3d))
        run.learn(softmax_dice_ce(logits, labels.long()))

    return learn


def pairs(held_out: bool) -> list[tuple[Tensor, Tensor]]:
    """Images and labels (1, 1, *ROI) of one side of the split."""
    return [(torch.from_numpy(image)[None, None], torch.from_numpy(labels)[None, None]) for _, image, labels in load(held_out)]


def watch() -> Callable[[torch.nn.Module], dict[str, object]]:
    testing = pairs(True)
    return lambda net: {"dice": evaluate(net, testing)}


def save_graph(net: torch.nn.Module, path: Path) -> float:
    """Exports the served graph, with the place as models/brain_mri finds it."""
    served = Served()
    served.fine.load_state_dict(net.state_dict())
    load_onnx_weights(served.place, MODELS / "brain_mri" / "model.onnx")
    torch.manual_seed(0)
    return export_onnx(served, torch.randn(1, 1, *EXAMPLE), path, {2: "x", 3: "y", 4: "z"})


RECIPE = Recipe("hippocampus_mri", __doc__, build, prepare, save_graph, steps=2600, batch=4, peak=2e-3, seed=20, watch=watch,
                prefix="fine.")

if __name__ == "__main__":
    train(RECIPE)
