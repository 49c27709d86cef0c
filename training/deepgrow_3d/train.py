"""Trains models/deepgrow_3d/model.onnx.

    python -m deepgrow_3d.train              from the trunk of models/dextr3d where that exists, else from scratch
    python -m deepgrow_3d.train --resume     from the checkpoint of an interrupted run
    python -m deepgrow_3d.train --onnx       from the committed weights

Rounds of clicks as in deepgrow_2d. Training sees cubes of CUBE voxels; the served grid is larger (deepgrow_3d.predict).
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import torch
from torch import Tensor

from common.bank import training_scans
from common.clicks import centre_click, guidance_batch, loose_click
from common.data import MODELS, RUNS
from common.export import export_onnx, load_onnx_weights
from common.interactive import ClickNet
from common.loop import Run, seed_everything
from common.metrics import sigmoid_dice_bce
from common.nets import channels_last
from common.volumes import SMALLEST, Structures3D, finish, sample_box, shapes
from deepgrow_2d.train import add_clicks
from deepgrow_3d.predict import SIZE

WIDTHS = (32, 64, 128, 160)
CUBE = 64
MODEL = MODELS / "deepgrow_3d" / "model.onnx"
ROUNDS = (1, 2, 4)
"""Clicks added before each round: 1, then 3 and 7 in all."""


def build() -> ClickNet:
    """(N, 3, Z, X, Y) z-scored image, foreground, background -> (N, 1, Z, X, Y) logits."""
    return ClickNet(3, WIDTHS, reach=24)


def sample(rng: np.random.Generator, source: Structures3D) -> tuple[Tensor, np.ndarray]:
    """Picture (1, 1, CUBE...) and mask (CUBE...) around a random voxel of a structure, the depth axis first."""
    while True:
        if rng.random() < 0.2:
            picture, mask = shapes(rng, CUBE)
        else:
            structure, painted = source.draw(rng)
            scan = structure.scan
            near = (0.35, 1.0) if scan.source == "hippocampus" else (0.7, 2.0)
            plane = math.exp(rng.uniform(math.log(near[0]), math.log(near[1])))
            # a volume of few slices is stretched along them, and cuts its structures
            deep = plane * (rng.uniform(0.25, 1.0) if rng.random() < 0.4 else math.exp(rng.normal(0, 0.2)))
            order = rng.permutation(3)
            half = np.where(order == 0, deep, plane) * CUBE / 2 / np.array(scan.spacing)
            box = tuple(slice(int(a), int(b) + 1) for a, b in zip(structure.low, structure.high, strict=True))
            inside = np.argwhere(scan.labels[box] == structure.label)
            centre = inside[rng.integers(len(inside))] + structure.low + rng.uniform(-0.4, 0.4, 3) * half
            picture, mask = sample_box(rng, structure, painted, centre - half, centre + half, CUBE, order=order)
        if SMALLEST <= mask.sum() < 0.75 * mask.size:
            return picture, mask


def example() -> Tensor:
    """An input with two clicks, to trace and check the export with."""
    torch.manual_seed(0)
    x = torch.zeros(1, 3, *SIZE)
    x[:, 0] = torch.randn(SIZE)
    x[:, 1:] = guidance_batch(SIZE, [[(40, 50, 60)]], [[(20, 30, 70)]])
    return x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--peak", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--onnx", action="store_true")
    args = parser.parse_args()
    rng = seed_everything(args.seed, args.threads)
    net = channels_last(build(), 3)
    other = MODELS / "dextr3d" / "model.onnx"
    if args.onnx:
        load_onnx_weights(net, MODEL)
    elif other.exists():
        load_onnx_weights(net, other, strict=False)
    source = Structures3D(training_scans())
    run = Run(RUNS / "deepgrow_3d", net, args.steps, args.peak, resume=args.resume)
    while run.going:
        drawn = [sample(rng, source) for _ in range(args.batch)]
        image = finish(rng, [d[0] for d in drawn])
        masks = np.stack([d[1] for d in drawn])
        target = torch.from_numpy(masks)[:, None].float()
        foreground = [[centre_click(m) if rng.random() < 0.75 else loose_click(rng, m)] for m in masks]
        background: list[list[tuple[int, ...]]] = [[] for _ in masks]
        guesses = np.zeros_like(masks)
        net.train()
        for number, count in enumerate(ROUNDS):
            if number:
                for i, truth in enumerate(masks):
                    add_clicks(rng, guesses[i], truth, count, foreground[i], background[i])
            clicks = guidance_batch((CUBE,) * 3, foreground, background)
            x = torch.cat([image, clicks], 1).contiguous(memory_format=torch.channels_last_3d)
            with torch.autocast("cpu", torch.bfloat16):
                logits = net(x)
            run.learn(sigmoid_dice_bce(logits, target, 1 + 3 * clicks.sum(1, keepdim=True), smooth=50.0))
            guesses = (logits[:, 0] > 0).numpy()
            if run.due(30):
                run.log()
            if run.due(300):
                run.save()
                export_onnx(plain_copy(run.average.net), example(), RUNS / "deepgrow_3d" / "model.onnx")
    difference = export_onnx(plain_copy(run.average.net), example(), MODEL)
    print(f"exported {MODEL}, {MODEL.stat().st_size / 1e6:.2f} MB, onnxruntime differs by {difference:.1e}")


def plain_copy(net: torch.nn.Module) -> ClickNet:
    """The same weights in the default memory format, ready to export."""
    plain = build()
    plain.load_state_dict(net.state_dict())
    return plain.eval()


if __name__ == "__main__":
    main()
