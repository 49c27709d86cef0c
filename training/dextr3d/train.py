"""Trains models/dextr3d/model.onnx.

    python -m dextr3d.train              from scratch
    python -m dextr3d.train --resume     from the checkpoint of an interrupted run
    python -m dextr3d.train --onnx       from the committed weights
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import Tensor

from common.bank import training_scans
from common.data import MODELS, RUNS
from common.export import export_onnx, load_onnx_weights
from common.loop import Run, seed_everything
from common.metrics import sigmoid_dice_bce
from common.nets import channels_last
from common.volumes import SMALLEST, Structures3D, finish, sample_box, shapes
from dextr3d.network import ExtremePointNet
from dextr3d.points import PADDING, ROI, extreme_points, points_channel

WIDTHS = (32, 64, 128, 160)
MODEL = MODELS / "dextr3d" / "model.onnx"
SLABS = 0.3
"""How often the scan is cut across the structure, as volumes of few slices do."""


def build() -> ExtremePointNet:
    """(N, 2, 64, 64, 64) z-scored image and points -> (N, 1, 64, 64, 64) logits."""
    return ExtremePointNet(WIDTHS)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--peak", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=23)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--onnx", action="store_true")
    args = parser.parse_args()
    rng = seed_everything(args.seed, args.threads)
    net = channels_last(build(), 3)
    if args.onnx:
        load_onnx_weights(net, MODEL)
    source = Structures3D(training_scans())
    run = Run(RUNS / "dextr3d", net, args.steps, args.peak, resume=args.resume)
    while run.going:
        x, target = batch(rng, source, args.batch)
        net.train()
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(x.contiguous(memory_format=torch.channels_last_3d))
        run.learn(sigmoid_dice_bce(logits, target, smooth=50.0))
        if run.due(50):
            run.log()
        if run.due(250):
            run.save()
            export_onnx(plain_copy(run.average.net), example(), RUNS / "dextr3d" / "model.onnx")
    difference = export_onnx(plain_copy(run.average.net), example(), MODEL)
    print(f"exported {MODEL}, {MODEL.stat().st_size / 1e6:.2f} MB, onnxruntime differs by {difference:.1e}")


def plain_copy(net: torch.nn.Module) -> ExtremePointNet:
    """The same weights in the default memory format, ready to export."""
    plain = build()
    plain.load_state_dict(net.state_dict())
    return plain.eval()


if __name__ == "__main__":
    main()
