"""Random geometry and intensity changes, batched, on torch tensors (N, C, *S) of two or three spatial axes."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor


def random_affine(rng: np.random.Generator, n: int, nd: int, rotate: float, scale: tuple[float, float],
                  anisotropy: float = 0.0, shift: float = 0.0, flip: tuple[int, ...] = (), shear: float = 0.0) -> Tensor:
    """n affine matrices (n, nd, nd + 1) for affine_grid; output -> input, in torch's reversed axis order.

    rotate: largest angle in radians per plane; scale: range of the common log-uniform zoom (above 1 magnifies);
    anisotropy: largest log-scale difference per axis; shift: in units of half the image; flip: spatial axes
    (in array order) that are mirrored half of the time.
    """
    out = np.zeros((n, nd, nd + 1), np.float32)
    for i in range(n):
        m = np.eye(nd)
        for a in range(nd):
            for b in range(a + 1, nd):
                angle = rng.uniform(-rotate, rotate)
                r = np.eye(nd)
                r[a, a] = r[b, b] = math.cos(angle)
                r[a, b], r[b, a] = -math.sin(angle), math.sin(angle)
                m = m @ r
        zoom = math.exp(rng.uniform(math.log(scale[0]), math.log(scale[1])))
        m = m @ np.diag([math.exp(rng.uniform(-anisotropy, anisotropy)) / zoom for _ in range(nd)])
        m = m @ (np.eye(nd) + rng.uniform(-shear, shear, (nd, nd)) * (1 - np.eye(nd)))
        for axis in flip:
            if rng.random() < 0.5:
                m[:, nd - 1 - axis] *= -1
        out[i, :, :nd] = m
        out[i, :, nd] = rng.uniform(-shift, shift, nd)
    return torch.from_numpy(out)


def elastic_field(rng: np.random.Generator, n: int, size: tuple[int, ...], coarse: int, strength: float) -> Tensor:
    """Smooth random displacements (n, *size, nd) in grid units: `coarse` nodes an axis, of deviation `strength`."""
    nd = len(size)
    nodes = torch.from_numpy(rng.normal(0, strength, (n, nd, *[coarse] * nd)).astype(np.float32))
    field = F.interpolate(nodes, size=size, mode="trilinear" if nd == 3 else "bilinear", align_corners=True)
    return field.movedim(1, -1)


def warp(image: Tensor, grid: Tensor, mode: str = "bilinear", padding: str = "zeros") -> Tensor:
    """grid_sample that also takes integer tensors (as nearest neighbour)."""
    if image.dtype.is_floating_point:
        return F.grid_sample(image, grid, mode=mode, padding_mode=padding, align_corners=False)
    return F.grid_sample(image.float(), grid, mode="nearest", padding_mode=padding, align_corners=False).to(image.dtype)


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of every channel, the border held; zero sigma gives the image itself."""
    if sigma < 0.05:
        return image
    spatial = [0.0, 0.0] + [sigma] * (image.ndim - 2)
    return torch.from_numpy(ndimage.gaussian_filter(image.numpy(), spatial, mode="nearest", truncate=3.0))


def bias_field(rng: np.random.Generator, n: int, size: tuple[int, ...], strength: float, coarse: int = 4) -> Tensor:
    """Smooth multiplicative fields (n, 1, *size) around 1: exp of low-resolution normal noise."""
    nodes = torch.from_numpy(rng.normal(0, strength, (n, 1, *[coarse] * len(size))).astype(np.float32))
    mode = "trilinear" if len(size) == 3 else "bilinear"
    return F.interpolate(nodes, size=size, mode=mode, align_corners=True).exp()


def random_intensity(rng: np.random.Generator, image: Tensor, noise: float = 0.15, blur: float = 1.0,
                     bias: float = 0.25, gamma: float = 0.35, invert: float = 0.0,
                     remap: float = 0.0) -> Tensor:
    """Each image (1, *S) of the batch (N, 1, *S) gets its own gamma, inversion, contrast, bias, blur and noise."""
    out = []
    for x in image.split(1):
        if rng.random() < 0.5 and gamma:
            low, high = x.amin(), x.amax()
            unit = (x - low) / (high - low + 1e-6)
            x = unit ** math.exp(rng.normal(0, gamma)) * (high - low) + low
        if rng.random() < invert:
            x = -x
        if rng.random() < remap:
            x = remapped(rng, x)
        if rng.random() < 0.4 and bias:
            low = x.amin()
            x = (x - low) * bias_field(rng, 1, tuple(x.shape[2:]), bias) + low
        if rng.random() < 0.25 and blur:
            x = gaussian_blur(x, rng.uniform(0.3, blur))
        if rng.random() < 0.5 and noise:
            x = x + torch.randn_like(x) * float(x.std()) * rng.uniform(0, noise)
        out.append(x)
    return torch.cat(out)


def remapped(rng: np.random.Generator, image: Tensor) -> Tensor:
    """Another modality's contrast on the same anatomy: intensities through a random broken line of 4 to 7 corners."""
    low, high = float(image.amin()), float(image.amax())
    corners = int(rng.integers(4, 8))
    places = np.concatenate([[0], np.sort(rng.random(corners - 2)), [1]]) * (high - low) + low
    values = rng.random(corners) if rng.random() < 0.5 else np.sort(rng.random(corners))
    bent = np.interp(image.numpy(), places, values * (high - low) + low)
    return torch.from_numpy(bent.astype(np.float32))


def z_score_batch(image: Tensor) -> Tensor:
    """Zero mean and unit deviation for every image and channel of (N, C, *S)."""
    axes = tuple(range(2, image.ndim))
    return (image - image.mean(axes, keepdim=True)) / image.std(axes, keepdim=True).clamp_min(1e-6)
