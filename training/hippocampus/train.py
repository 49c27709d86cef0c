"""Trains models/hippocampus_mri/model.onnx.

    python -m hippocampus.train              from scratch
    python -m hippocampus.train --resume     from the checkpoint of an interrupted run
    python -m hippocampus.train --onnx       from the committed weights
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.augment import elastic_field, random_affine, random_intensity, warp, z_score_batch
from common.data import MODELS, RUNS
from common.export import export_onnx, load_onnx_weights
from common.loop import Run, seed_everything
from common.metrics import dice, softmax_dice_ce
from common.nets import UNet, channels_last
from hippocampus.data import LABELS, ROI, load

WIDTHS = (16, 32, 64, 128)
CROP = (40, 56, 40)
"""Training sees random crops of ROI of this size: nearly all of a case, at 0.6 of the cost of its padding."""

MODEL = MODELS / "hippocampus_mri" / "model.onnx"


def build() -> UNet:
    """(N, 1, *ROI) z-scored -> (N, 3, *ROI) logits: background, anterior, posterior."""
    return UNet(3, 1, 1 + len(LABELS), WIDTHS)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--peak", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--onnx", action="store_true")
    args = parser.parse_args()
    rng = seed_everything(20, args.threads)
    net = channels_last(build(), 3)
    if args.onnx:
        load_onnx_weights(net, MODEL)
    training, testing = ([(torch.from_numpy(image)[None, None], torch.from_numpy(labels)[None, None])
                          for _, image, labels in load(held_out)] for held_out in (False, True))
    run = Run(RUNS / "hippocampus", net, args.steps, args.peak, resume=args.resume)
    while run.going:
        pick = rng.choice(len(training), args.batch, replace=False)
        image, labels = augment(rng, torch.cat([training[i][0] for i in pick]),
                                torch.cat([training[i][1] for i in pick]))
        net.train()
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(image.contiguous(memory_format=torch.channels_last_3d))
        run.learn(softmax_dice_ce(logits, labels.long()))
        if run.due(50):
            scores = evaluate(run.average.net, testing) if run.due(250) else None
            run.log(**({"dice": scores} if scores else {}))
        if run.due(100):
            run.save()
    difference = export_onnx(build_from(run.average.net), torch.randn(2, 1, *ROI), MODEL)
    print(f"exported {MODEL}, {MODEL.stat().st_size / 1e6:.2f} MB, onnxruntime differs by {difference:.1e}")


def build_from(net: torch.nn.Module) -> UNet:
    """A plain copy of a trained network, in the default memory format."""
    plain = build()
    plain.load_state_dict(net.state_dict())
    return plain


if __name__ == "__main__":
    main()
