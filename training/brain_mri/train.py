"""Trains models/brain_mri/model.onnx.

    python -m brain_mri.train              from random weights, or where it was interrupted
    python -m brain_mri.train --onnx       from the committed weights
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from brain_mri.data import Painter, head_maps
from brain_mri.network import DIVISOR, BrainNet, Served
from common.command import Learn, Recipe, train
from common.export import export_onnx
from common.loop import Run

AXES = {0: "batch", 2: "x", 3: "y", 4: "z"}


def loss_of(logits: Tensor, share: Tensor, side: Tensor) -> Tensor:
    """Cross-entropy and soft Dice of the classes against their shares of each voxel, and the side where there is one.

    logits (N, K + 1, *S); share (N, K, *S); side (N, 1, *S) of -1, 0, 1.
    """
    logits = logits.float()
    logs = logits[:, :-1].log_softmax(1)
    entropy = -(share * logs).sum(1).mean()
    guess, truth = logs.exp()[:, 1:], share[:, 1:]
    axes = (0, 2, 3, 4)
    there = truth.sum(axes) > 1
    overlap = (2 * (guess * truth).sum(axes) + 1) / (guess.square().sum(axes) + truth.square().sum(axes) + 1)
    sided = (side != 0).float()
    which = F.binary_cross_entropy_with_logits(logits[:, -1:], (side > 0).float(), reduction="none")
    return entropy + (1 - overlap)[there].mean() + 0.3 * (which * sided).sum() / (sided.sum() + 1)


def save_graph(average: torch.nn.Module, path: Path) -> float:
    """Exports the served graph of a trained BrainNet; returns the largest difference of labels to onnxruntime."""
    served = Served()
    served.load_state_dict(average.state_dict())
    torch.manual_seed(0)
    return export_onnx(served, torch.randn(1, 1, *(2 * DIVISOR,) * 3), path, AXES)


def prepare(count: int) -> Learn:
    painter = Painter(head_maps(False))

    def learn(rng: np.random.Generator, run: Run) -> None:
        x, share, side = (torch.cat(parts) for parts in zip(*(painter.sample(rng) for _ in range(count)), strict=True))
        with torch.autocast("cpu", torch.bfloat16):
            logits = run.net(x.contiguous(memory_format=torch.channels_last_3d))
        # neighbours tell the same: every second slice halves what the loss costs, a third of a step
        odd = slice(int(rng.integers(2)), None, 2)
        run.learn(loss_of(logits[:, :, odd], share[:, :, odd], side[:, :, odd]))

    return learn


RECIPE = Recipe("brain_mri", __doc__, BrainNet, prepare, save_graph, steps=6400, batch=2, peak=2.5e-3, seed=25,
                decay=0.99, log=25)

if __name__ == "__main__":
    train(RECIPE)
