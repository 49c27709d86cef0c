"""Losses for training and Dice for evaluation."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """2 |a and b| / (|a| + |b|) of two masks; 1 when both are empty."""
    a, b = a.astype(bool), b.astype(bool)
    total = int(a.sum()) + int(b.sum())
    return 1.0 if total == 0 else 2.0 * int((a & b).sum()) / total


def softmax_dice_ce(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """Cross-entropy plus one minus the mean soft Dice of the classes above 0, over the whole batch.

    logits (N, K, *S); target (N, *S) with integers below K.
    """
    logits = logits.float()
    entropy = F.cross_entropy(logits, target)
    share = logits.softmax(1)[:, 1:]
    truth = F.one_hot(target, logits.shape[1]).movedim(-1, 1)[:, 1:].float()
    axes = (0, *range(2, logits.ndim))
    overlap = 2 * (share * truth).sum(axes) + smooth
    return entropy + 1 - (overlap / (share.sum(axes) + truth.sum(axes) + smooth)).mean()


def sigmoid_dice_bce(logits: Tensor, target: Tensor, weight: Tensor | None = None, smooth: float = 20.0) -> Tensor:
    """Binary cross-entropy plus one minus the soft Dice of each sample. logits, target, weight: (N, 1, *S)."""
    logits, target = logits.float(), target.float()
    entropy = F.binary_cross_entropy_with_logits(logits, target, weight=weight)
    share = torch.sigmoid(logits)
    axes = tuple(range(1, logits.ndim))
    overlap = 2 * (share * target).sum(axes) + smooth
    return entropy + (1 - overlap / (share.sum(axes) + target.sum(axes) + smooth)).mean()


def skeleton(share: Tensor, rounds: int = 8) -> Tensor:
    """The soft centre lines of shares in 0..1, (N, 1, A, B): what erosion takes and opening cannot give back."""
    lines = torch.zeros_like(share)
    for _ in range(rounds):
        eroded = -F.max_pool2d(-share, 3, 1, 1)
        lines = torch.maximum(lines, F.relu(share - F.max_pool2d(eroded, 3, 1, 1)))
        share = eroded
    return lines


def centre_line_dice(logits: Tensor, target: Tensor, smooth: float = 20.0) -> Tensor:
    """One minus clDice (arXiv 2003.07311) of each sample, (N,): how much of each one's centre lines lies in the other."""
    share, truth = torch.sigmoid(logits.float()), target.float()
    ours, theirs = skeleton(share), skeleton(truth)
    axes = (1, 2, 3)
    precision = ((ours * truth).sum(axes) + smooth) / (ours.sum(axes) + smooth)
    recall = ((theirs * share).sum(axes) + smooth) / (theirs.sum(axes) + smooth)
    return 1 - 2 * precision * recall / (precision + recall)
