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
from common.nets import Residual, fold
from modality.data import LABELS, SIZE, abdominal_slices, groups, held_out, load

MODEL = MODELS / "modality_2d" / "model.onnx"
MEMBERS = 3
EXTRA = 3
"""Pictures of a batch that are slices of the abdominal CT."""


class Member(nn.Module):
    """(N, 1, 64, 64) in 0..1 -> (N, 6) logits.

    It sees the picture, the picture with its dark parts raised, and the local contrast, so that neither a wide window nor a
    nearly black picture hides what is in it.
    """

    def __init__(self, widths: tuple[int, ...] = (32, 64, 96, 128)) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Residual(2, a, b) for a, b in zip((12, *widths[:-1]), widths, strict=True))
        self.head = nn.Linear(widths[-1], len(LABELS))

    def forward(self, x: Tensor) -> Tensor:
        mean = F.avg_pool2d(x, 9, 1, 4, count_include_pad=False)
        spread = F.avg_pool2d((x - mean).square(), 9, 1, 4, count_include_pad=False).clamp(min=0).sqrt()
        raised = (x.clamp(min=0) + 1e-4).pow(0.4)
        y = fold(torch.cat([4 * x - 2, 4 * raised - 2, (x - mean) / (spread + 0.03)], 1))
        for index, block in enumerate(self.blocks):
            y = block(F.max_pool2d(y, 2) if index else y)
        return self.head(y.mean((2, 3)))


class Classifier(nn.Module):
    """(N, C, 64, 64) in 0..1 -> (N, 6) logits: the mean of MEMBERS networks, each on the picture, its mirror image,
    and the same with rows and columns exchanged.

    Colour channels are averaged in the graph. Intensities are not standardised any further: the grey of the background
    tells MedNIST's two body CTs apart.
    """

    def __init__(self) -> None:
        super().__init__()
        self.members = nn.ModuleList(Member() for _ in range(MEMBERS))

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean(1, keepdim=True)
        turned = x.transpose(2, 3)
        views = (x, x.flip(3), turned, turned.flip(3))
        return torch.stack([member(view) for member in self.members for view in views]).mean(0)

    def each(self, pictures: list[Tensor]) -> Tensor:
        """Logits of every member for pictures of its own, one batch after the other: how they are trained."""
        return torch.cat([member(x) for member, x in zip(self.members, pictures, strict=True)])


def augment(rng: np.random.Generator, image: Tensor, classes: Tensor) -> Tensor:
    """Random flips, transposition, affine, window (around the background's grey), gamma, blur and noise; some head CTs empty.
    (N, 1, 64, 64) both ways."""
    n = len(image)
    matrix = random_affine(rng, n, 2, rotate=0.35, scale=(0.75, 1.3), anisotropy=0.12, shift=0.15, flip=(0, 1))
    image = warp(image, F.affine_grid(matrix, [n, 1, SIZE, SIZE], align_corners=False), padding="border")
    turn = torch.from_numpy(rng.random(n) < 0.5)
    image = torch.where(turn[:, None, None, None], image.transpose(2, 3), image)
    edge = torch.cat([image[..., 0], image[..., -1], image[:, :, 0], image[:, :, -1]], -1)
    background = edge.median(-1, keepdim=True).values[..., None]
    contrast = np.where(rng.random((n, 1, 1, 1)) < 0.6, np.exp(rng.uniform(-0.6, 1.0, (n, 1, 1, 1))), 1)
    image = background + (image - background) * torch.from_numpy(contrast.astype(np.float32))
    image = image.clamp(0, 1) ** torch.from_numpy(np.exp(rng.normal(0, 0.04, (n, 1, 1, 1))).astype(np.float32))
    if rng.random() < 0.3:
        image = gaussian_blur(image, rng.uniform(0.3, 1.2))
    # a head CT begins above the head: MedNIST has empty slices, and they are head CTs
    empty = (classes == LABELS.index("HeadCT")) & torch.from_numpy(rng.random(n) < 0.05)
    image = torch.where(empty[:, None, None, None], torch.zeros_like(image), image)
    return image + torch.randn_like(image) * torch.from_numpy(rng.uniform(0, 0.06, (n, 1, 1, 1)).astype(np.float32))


def mixed(rng: np.random.Generator, image: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Half of the batches as they are, half mixed with themselves in another order (mixup, arXiv 1710.09412).

    Returns the pictures and the share of each class (N, 6).
    """
    share = F.one_hot(classes, len(LABELS)).float()
    if rng.random() < 0.5:
        return image, share
    other = torch.from_numpy(rng.permutation(len(image)))
    weight = float(rng.beta(0.4, 0.4))
    return weight * image + (1 - weight) * image[other], weight * share + (1 - weight) * share[other]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=32)
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
    more = abdominal_slices(rng)
    x = torch.from_numpy(np.concatenate([images, more]))[:, None]
    y = torch.from_numpy(np.concatenate([classes, np.zeros(len(more), classes.dtype)]))
    train, extra, test = np.flatnonzero(~test), np.arange(len(images), len(x)), np.flatnonzero(test)
    run = Run(RUNS / "modality", net, args.steps, peak=2e-3, weight_decay=1e-3)
    while run.going:
        picks = [np.concatenate([rng.choice(train, args.batch - EXTRA, replace=False), rng.choice(extra, EXTRA, replace=False)])
                 for _ in range(MEMBERS)]
        pictures, targets = zip(*(mixed(rng, augment(rng, x[p], y[p]), y[p]) for p in picks), strict=True)
        net.train()
        run.learn(F.cross_entropy(net.each(list(pictures)), torch.cat(targets), label_smoothing=0.05))
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
