"""Trains models/modality_2d/model.onnx.

    python -m modality.train            from scratch
    python -m modality.train --onnx     from the committed weights
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.augment import gaussian_blur, random_affine, warp
from common.data import MODELS, RUNS
from common.export import export_onnx, load_onnx_weights
from common.loop import Run, seed_everything
from common.nets import Residual
from modality.data import LABELS, SIZE, groups, held_out, load

MODEL = MODELS / "modality_2d" / "model.onnx"


class Classifier(nn.Module):
    """(N, C, 64, 64) in 0..1 -> (N, 6) logits. Colour channels are averaged in the graph.

    Intensities are not standardised any further: the grey of the background tells MedNIST's two body CTs apart.
    """

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 96)) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Residual(2, a, b) for a, b in zip((1, *widths[:-1]), widths, strict=True))
        self.head = nn.Linear(widths[-1], len(LABELS))

    def forward(self, x: Tensor) -> Tensor:
        x = 4 * x.mean(1, keepdim=True) - 2
        for block in self.blocks:
            x = F.max_pool2d(block(x), 2)
        return self.head(x.mean((2, 3)))


def augment(rng: np.random.Generator, image: Tensor) -> Tensor:
    """Random flips, transposition, affine, gamma, blur and noise. (N, 1, 64, 64) both ways."""
    n = len(image)
    matrix = random_affine(rng, n, 2, rotate=0.35, scale=(0.75, 1.3), anisotropy=0.12, shift=0.15, flip=(0, 1))
    image = warp(image, F.affine_grid(matrix, [n, 1, SIZE, SIZE], align_corners=False), padding="border")
    turn = torch.from_numpy(rng.random(n) < 0.5)
    image = torch.where(turn[:, None, None, None], image.transpose(2, 3), image)
    image = image.clamp(0, 1) ** torch.from_numpy(np.exp(rng.normal(0, 0.04, (n, 1, 1, 1))).astype(np.float32))
    if rng.random() < 0.3:
        image = gaussian_blur(image, rng.uniform(0.3, 1.2))
    return image + torch.randn_like(image) * torch.from_numpy(rng.uniform(0, 0.06, (n, 1, 1, 1)).astype(np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--onnx", action="store_true")
    args = parser.parse_args()
    rng = seed_everything(21, args.threads)
    images, classes = load()
    test = held_out(images, classes)
    group = groups(images, classes)
    print(f"{len(images)} pictures in {len(np.unique(group))} groups, {test.sum()} held out:",
          {label: int((test & (classes == k)).sum()) for k, label in enumerate(LABELS)})
    assert not set(group[test]) & set(group[~test])
    net = Classifier()
    if args.onnx:
        load_onnx_weights(net, MODEL)
    x, y = torch.from_numpy(images)[:, None], torch.from_numpy(classes)
    train = np.flatnonzero(~test)
    run = Run(RUNS / "modality", net, args.steps, peak=2e-3, weight_decay=1e-3)
    while run.going:
        pick = rng.choice(train, args.batch, replace=False)
        net.train()
        run.learn(F.cross_entropy(net(augment(rng, x[pick])), y[pick], label_smoothing=0.05))
        if run.due(100):
            run.log(accuracy=accuracy(run.average.net, x[test], y[test]))
    plain = Classifier()
    plain.load_state_dict(run.average.net.state_dict())
    difference = export_onnx(plain, torch.rand(2, 1, SIZE, SIZE), MODEL, axes={0: "batch", 1: "channels"})
    guess = plain(x[test]).argmax(1)
    print("held out:", {label: f"{int(((guess == k) & (y[test] == k)).sum())}/{int((y[test] == k).sum())}"
                        for k, label in enumerate(LABELS)})
    turned = accuracy(plain, x[test].transpose(2, 3), y[test])
    print(f"accuracy {accuracy(plain, x[test], y[test])}, transposed {turned}; exported {MODEL}, "
          f"{MODEL.stat().st_size / 1e6:.2f} MB, onnxruntime differs by {difference:.1e}")


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of right answers."""
    return round(float((net.eval()(x).argmax(1) == y).float().mean()), 4)


if __name__ == "__main__":
    main()
