"""Simulated users: where a first click goes, where a correction goes, and what the network sees of it."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

SIGMA = 2.0
"""Width of a click in the guidance channels, in voxels of the network's grid (AddGuidanceSignald's default)."""
FOLLOWS = 0.7
"""How often a round sees the last round's answer as the previous mask."""


def depth(mask: np.ndarray) -> np.ndarray:
    """Distance of every voxel of the mask to its outside; the border of the array counts as outside."""
    if mask.ndim == 2:
        padded = np.pad(mask.astype(np.uint8), 1)
        return cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
    out = np.zeros(mask.shape, np.float32)
    for box in ndimage.find_objects(mask.astype(np.uint8)):
        out[box] = ndimage.distance_transform_edt(np.pad(mask[box], 1))[1:-1, 1:-1, 1:-1]
    return out


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected component (by faces)."""
    if mask.ndim == 2:
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
        return labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()) if count > 2 else mask
    out = np.zeros(mask.shape, bool)
    for box in ndimage.find_objects(mask.astype(np.uint8)):
        labels, count = ndimage.label(mask[box])
        out[box] = labels == 1 + int(np.bincount(labels.ravel())[1:].argmax()) if count > 1 else mask[box]
    return out


def centre_click(mask: np.ndarray) -> tuple[int, ...]:
    """The voxel deepest inside the largest component of a non-empty mask: where a careful user clicks."""
    inside = depth(largest(mask))
    return tuple(int(i) for i in np.unravel_index(int(inside.argmax()), mask.shape))


def loose_click(rng: np.random.Generator, mask: np.ndarray) -> tuple[int, ...]:
    """A random voxel of a non-empty mask, likelier the deeper inside: where a hurried user clicks."""
    inside = depth(mask).ravel()
    total = np.cumsum(np.minimum(inside, inside.max() * 0.7), dtype=np.float64)
    index = min(int(np.searchsorted(total, rng.random() * total[-1], side="right")), len(total) - 1)
    return tuple(int(i) for i in np.unravel_index(index, mask.shape))


def correction(guess: np.ndarray, truth: np.ndarray) -> tuple[tuple[int, ...], bool] | None:
    """The centre of the largest error component and whether it is a foreground click; None when nothing is wrong."""
    missed, extra = truth & ~guess, guess & ~truth
    if not missed.any() and not extra.any():
        return None
    sizes = [int(largest(m).sum()) if m.any() else 0 for m in (missed, extra)]
    return (centre_click(missed), True) if sizes[0] >= sizes[1] else (centre_click(extra), False)


def loose_correction(rng: np.random.Generator, guess: np.ndarray, truth: np.ndarray) -> tuple[tuple[int, ...], bool] | None:
    """A random voxel of the errors, likelier in the deep ones; None when nothing is wrong."""
    wrong = guess ^ truth
    if not wrong.any():
        return None
    click = loose_click(rng, wrong)
    return click, bool(truth[click])


def add_clicks(rng: np.random.Generator, guess: np.ndarray, truth: np.ndarray, count: int,
               foreground: list[tuple[int, ...]], background: list[tuple[int, ...]]) -> None:
    """Adds up to `count` corrections of one sample to its click lists, in place; guess and truth are masks (*S)."""
    for number in range(count):
        careful = number == 0 and rng.random() < 0.7
        click = correction(guess, truth) if careful else loose_correction(rng, guess, truth)
        if click is None:
            return
        (foreground if click[1] else background).append(click[0])


def guidance(size: tuple[int, ...], clicks: list[tuple[int, ...]], sigma: float = SIGMA) -> np.ndarray:
    """AddGuidanceSignald's channel (*size): Gaussians at the clicks, scaled to 0..1; zeros without clicks."""
    signal = np.zeros(size, np.float32)
    if not clicks:
        return signal
    reach = int(4 * sigma)
    x = np.arange(-reach, reach + 1, dtype=np.float32)
    line = np.exp(-0.5 * (x / sigma) ** 2)
    for click in {tuple(int(np.clip(c, 0, s - 1)) for c, s in zip(click, size, strict=True)) for click in clicks}:
        stamp = np.ones((1,) * len(size), np.float32)
        window = []
        for axis, (c, s) in enumerate(zip(click, size, strict=True)):
            low, high = max(0, c - reach), min(s, c + reach + 1)
            shape = [1] * len(size)
            shape[axis] = high - low
            stamp = stamp * line[low - c + reach:high - c + reach].reshape(shape)
            window.append(slice(low, high))
        signal[tuple(window)] += stamp
    return signal / signal.max()


def guidance_batch(size: tuple[int, ...], foreground: list[list[tuple[int, ...]]],
                   background: list[list[tuple[int, ...]]]) -> Tensor:
    """Foreground and background channels (N, 2, *size) of N lists of clicks each."""
    return torch.from_numpy(np.stack([np.stack([guidance(size, f), guidance(size, b)])
                                      for f, b in zip(foreground, background, strict=True)]))


def followed(rng: np.random.Generator, previous: Tensor) -> Tensor:
    """The previous masks (N, 1, *S) that a round of clicks sees: as often as FOLLOWS says, else zeros."""
    seen = (rng.random(len(previous)) < FOLLOWS).astype(np.float32)
    return previous * torch.from_numpy(seen).view(-1, *[1] * (previous.ndim - 1))
