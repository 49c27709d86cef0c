"""Trains models/modality_2d/model.onnx.

    python -m modality.train            from random weights, or where it was interrupted
    python -m modality.train --onnx     from the committed weights
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.augment import gaussian_blur, random_affine, warp
from common.command import Learn, Recipe, plain_copy, train
from common.export import export_onnx
from common.loop import Run
from common.nets import Residual, fold
from modality.data import LABELS, SIZE, abdominal_slices, groups, held_out, load

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


def prepare(count: int) -> Learn:
    images, classes = load()
    group, test = groups(images, classes), held_out(images, classes)
    assert not set(group[test]) & set(group[~test])
    more = abdominal_slices(np.random.default_rng(RECIPE.seed))
    x = torch.from_numpy(np.concatenate([images, more]))[:, None]
    y = torch.from_numpy(np.concatenate([classes, np.zeros(len(more), classes.dtype)]))
    known, extra = np.flatnonzero(~test), np.arange(len(images), len(x))

    def learn(rng: np.random.Generator, run: Run) -> None:
        picks = [np.concatenate([rng.choice(known, count - EXTRA, replace=False), rng.choice(extra, EXTRA, replace=False)])
                 for _ in range(MEMBERS)]
        pictures, targets = zip(*(mixed(rng, augment(rng, x[p], y[p]), y[p]) for p in picks), strict=True)
        run.learn(F.cross_entropy(run.net.each(list(pictures)), torch.cat(targets), label_smoothing=0.05))

    return learn


def watch() -> Callable[[nn.Module], dict[str, object]]:
    """Accuracy on the held-out pictures, as they are and with rows and columns exchanged, and right ones of each class."""
    images, classes = load()
    test = held_out(images, classes)
    x, y = torch.from_numpy(images[test])[:, None], torch.from_numpy(classes[test])

    @torch.no_grad()
    def numbers(net: nn.Module) -> dict[str, object]:
        right = net(x).argmax(1) == y
        turned = net(x.transpose(2, 3)).argmax(1) == y
        return {"accuracy": round(float(right.float().mean()), 4), "transposed": round(float(turned.float().mean()), 4),
                "right": {label: f"{int(right[y == k].sum())}/{int((y == k).sum())}" for k, label in enumerate(LABELS)}}

    return numbers


def save_graph(net: nn.Module, path: Path) -> float:
    return export_onnx(plain_copy(Classifier, net), torch.rand(2, 1, SIZE, SIZE), path, axes={0: "batch", 1: "channels"})


RECIPE = Recipe("modality_2d", __doc__, Classifier, prepare, save_graph, steps=800, batch=32, peak=2e-3, seed=21, watch=watch,
                weight_decay=1e-3, every=200)

if __name__ == "__main__":
    train(RECIPE)
