"""Pictures from label maps, and label maps from nothing: random contrast, texture, blur, bias and noise.

The idea is SynthSeg's (arXiv 2107.09559): a network that has seen every contrast does not depend on any.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.augment import bias_field, gaussian_blur


def smooth_noise(rng: np.random.Generator, size: tuple[int, ...], grain: float) -> Tensor:
    """Normal noise (1, 1, *size) of unit deviation whose features are about `grain` voxels wide."""
    coarse = tuple(max(2, math.ceil(s / max(1.0, grain))) for s in size)
    noise = torch.from_numpy(rng.standard_normal((1, 1, *coarse), dtype=np.float32))
    if grain > 1:
        mode = "trilinear" if len(size) == 3 else "bicubic"
        noise = F.interpolate(noise, size=size, mode=mode, align_corners=False)
    return noise / (noise.std() + 1e-6)


def paint(rng: np.random.Generator, labels: np.ndarray, blur: float = 1.2) -> Tensor:
    """A picture (1, 1, *S) of the label map (*S): every label its own random mean, spread and texture."""
    size = labels.shape
    count = int(labels.max()) + 1
    means = rng.random(count).astype(np.float32)
    if rng.random() < 0.6:
        means[0] = rng.uniform(0, 0.1)
    if rng.random() < 0.3:
        twins = rng.integers(0, count, (2, max(1, count // 6)))
        means[twins[0]] = means[twins[1]] + rng.normal(0, 0.04, twins.shape[1])
    spread = (rng.random(count) ** 2 * 0.16).astype(np.float32)
    index = torch.from_numpy(labels.astype(np.int64))
    image = torch.from_numpy(means)[index][None, None]
    image = gaussian_blur(image, rng.uniform(0.0, blur)) if blur else image
    texture = smooth_noise(rng, size, 1.0)
    if rng.random() < 0.6:
        texture = 0.6 * texture + smooth_noise(rng, size, math.exp(rng.uniform(0.3, 2.7)))
    image = image + torch.from_numpy(spread)[index][None, None] * texture
    if rng.random() < 0.4:
        image = gaussian_blur(image, rng.uniform(0.2, blur)) if blur else image
    if rng.random() < 0.6:
        image = image * bias_field(rng, 1, size, rng.uniform(0, 0.4))
    return image + torch.randn_like(image) * rng.uniform(0, 0.05)


def random_shapes_2d(rng: np.random.Generator, size: int) -> np.ndarray:
    """A label map (size, size) of overlapping blobs, ellipses, rings, polygons and tubes, up to about 16 labels."""
    labels = np.zeros((size, size), np.uint8)
    if rng.random() < 0.5:
        seeds = rng.uniform(0, size, (int(rng.integers(2, 7)), 2))
        a, b = np.mgrid[0:size, 0:size].astype(np.float32)
        wave = [smooth_noise(rng, (size, size), size / rng.uniform(2, 6))[0, 0].numpy() * rng.uniform(2, 0.12 * size)
                for _ in range(2)]
        distance = np.stack([(a + wave[0] - s[0]) ** 2 + (b + wave[1] - s[1]) ** 2 for s in seeds])
        labels = distance.argmin(0).astype(np.uint8)
    for _ in range(int(rng.integers(2, 11))):
        value = int(labels.max()) + 1
        kind = rng.integers(0, 5)
        centre = rng.uniform(0.05, 0.95, 2) * size
        radius = math.exp(rng.uniform(math.log(0.02), math.log(0.35))) * size
        if kind <= 1:
            angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
            wobble = sum(rng.normal(0, 0.35 / k) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in range(1, 7))
            r = radius * np.exp(np.clip(wobble, -1.0, 1.0))
            stretch = math.exp(rng.uniform(-0.6, 0.6))
            turn = rng.uniform(0, np.pi)
            x, y = r * np.cos(angle) * stretch, r * np.sin(angle) / stretch
            points = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1) + centre
            cv2.fillPoly(labels, [points.astype(np.int32)], value)
        elif kind == 2:
            axes = (max(2, int(radius)), max(2, int(radius * rng.uniform(0.3, 1))))
            thickness = -1 if rng.random() < 0.5 else max(2, int(axes[1] * rng.uniform(0.15, 0.6)))
            cv2.ellipse(labels, (int(centre[0]), int(centre[1])), axes, rng.uniform(0, 180), 0, 360, value, thickness)
        elif kind == 3:
            steps = np.cumsum(rng.normal(0, radius / 2, (8, 2)), 0) + centre
            cv2.polylines(labels, [steps.astype(np.int32)], False, value, int(rng.integers(3, 3 + max(1, int(radius / 3) + 1))))
        else:
            noise = smooth_noise(rng, (size, size), radius * 1.5)[0, 0].numpy()
            labels[noise > rng.uniform(0.8, 1.8)] = value
    return labels


def random_tree_2d(rng: np.random.Generator, size: int) -> np.ndarray:
    """A mask (size, size) of one to four winding, branching vessels that grow thinner from branch to branch."""
    mask = np.zeros((size, size), np.uint8)
    origin = rng.uniform(0.1, 0.9, 2) * size
    tips = [(origin, rng.uniform(0, 2 * np.pi), rng.uniform(2, 6)) for _ in range(int(rng.integers(1, 5)))]
    bend, fork, stride = rng.uniform(0.1, 0.45), rng.uniform(0.06, 0.25), size / rng.uniform(15, 40)
    for _ in range(400):
        if not tips:
            break
        at, angle, width = tips.pop(0)
        angle += rng.normal(0, bend)
        to = at + stride * np.array([np.cos(angle), np.sin(angle)])
        cv2.line(mask, tuple(int(v) for v in at), tuple(int(v) for v in to), 1, max(1, round(width)))
        if not (0 <= to[0] < size and 0 <= to[1] < size):
            continue
        tips.append((to, angle, width * 0.985))
        if rng.random() < fork and width > 1.2:
            tips.append((to, angle + rng.choice([-1, 1]) * rng.uniform(0.4, 1.2), width * rng.uniform(0.5, 0.8)))
    return mask > 0


def random_shapes_3d(rng: np.random.Generator, size: tuple[int, int, int]) -> np.ndarray:
    """A label map (*size) of noise blobs and warped ellipsoids on a partition of the background."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, s, dtype=np.float32) for s in size], indexing="ij"))
    wave = np.stack([smooth_noise(rng, size, min(size) / 3)[0, 0].numpy() for _ in range(3)]) * rng.uniform(0.0, 0.12)
    warped = grid + wave
    labels = np.zeros(size, np.uint8)
    if rng.random() < 0.6:
        seeds = rng.uniform(-1, 1, (int(rng.integers(2, 6)), 3)).astype(np.float32)
        labels = np.stack([((warped - s[:, None, None, None]) ** 2).sum(0) for s in seeds]).argmin(0).astype(np.uint8)
    for _ in range(int(rng.integers(3, 9))):
        value = int(labels.max()) + 1
        if rng.random() < 0.25:
            labels[smooth_noise(rng, size, min(size) / rng.uniform(3, 8))[0, 0].numpy() > rng.uniform(1.0, 1.8)] = value
            continue
        radius = np.exp(rng.uniform(math.log(0.08), math.log(0.6), 1)) * np.exp(rng.uniform(-0.5, 0.5, 3))
        turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
        local = np.tensordot(turn.astype(np.float32), warped - rng.uniform(-0.8, 0.8, 3).astype(np.float32)[:, None, None, None], 1)
        labels[((local / radius.astype(np.float32)[:, None, None, None]) ** 2).sum(0) < 1] = value
    return labels
