"""Trains models/brain_mri/model.onnx.

    python -m brain_mri.train              from scratch
    python -m brain_mri.train --resume     from the checkpoint of an interrupted run
    python -m brain_mri.train --onnx       from the committed weights
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from brain_mri.data import Painter, head_maps
from brain_mri.network import DIVISOR, BrainNet, Served
from common.data import MODELS, RUNS
from common.export import export_onnx, load_onnx_weights
from common.loop import Run, seed_everything
from common.nets import channels_last

MODEL = MODELS / "brain_mri" / "model.onnx"
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6400)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--peak", type=float, default=2.5e-3)
    parser.add_argument("--seed", type=int, default=25)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--onnx", action="store_true")
    args = parser.parse_args()
    rng = seed_everything(args.seed, args.threads)
    net = channels_last(BrainNet(), 3)
    if args.onnx:
        load_onnx_weights(net, MODEL)
    painter = Painter(head_maps(False))
    run = Run(RUNS / "brain_mri", net, args.steps, args.peak, resume=args.resume, decay=0.99)
    while run.going:
        drawn = [painter.sample(rng) for _ in range(args.batch)]
        x, share, side = (torch.cat(parts) for parts in zip(*drawn, strict=True))
        net.train()
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(x.contiguous(memory_format=torch.channels_last_3d))
        # neighbours tell the same: every second slice halves what the loss costs, a third of a step
        odd = slice(int(rng.integers(2)), None, 2)
        run.learn(loss_of(logits[:, :, odd], share[:, :, odd], side[:, :, odd]))
        if run.due(25):
            run.log()
        if run.due(250):
            run.save()
            save_graph(run.average.net, RUNS / "brain_mri" / "model.onnx")
    print(f"exported {MODEL}, labels differ by at most {save_graph(run.average.net, MODEL):.1e} in onnxruntime")


if __name__ == "__main__":
    main()
