"""Reading the shared data folder: volumes in RAS+ as (X, Y, Z) float32 or integer label arrays with their spacing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("AIDANT_DATA", REPOSITORY.parent / "shared" / "data"))
"""The data folder described by its own README.md; another place is given by AIDANT_DATA."""

MODELS = REPOSITORY / "models"
RUNS = Path(os.environ.get("TRAIN_RUNS", REPOSITORY / "training" / "runs"))
"""Checkpoints and logs; never committed."""


@dataclass(frozen=True)
class Volume:
    """A volume in RAS+: `data` (X, Y, Z), `spacing` in mm along those axes."""

    data: np.ndarray
    spacing: tuple[float, float, float]


def read_volume(path: Path, labels: bool = False) -> Volume:
    """Reads a NIfTI file and reorders its axes to the closest RAS+; intensities float32, label maps int32."""
    image = nib.as_closest_canonical(nib.load(str(path)))
    data = np.asarray(image.dataobj)
    data = np.rint(data).astype(np.int32) if labels else np.nan_to_num(data.astype(np.float32))
    return Volume(np.ascontiguousarray(data), tuple(float(z) for z in image.header.get_zooms()[:3]))


def z_score(data: np.ndarray) -> np.ndarray:
    """(v - mean) / standard deviation over all voxels, as NormalizeIntensityd does without constants."""
    data = data.astype(np.float32)
    deviation = float(data.std())
    return (data - data.mean()) / (deviation if deviation > 0 else 1.0)


def spaced(data: np.ndarray, spacing: tuple[float, ...], pixdim: float) -> np.ndarray:
    """Linear resampling to `pixdim` mm along every axis, from the first voxel's centre on, as Spacingd does it."""
    shape = [round((n - 1) * s / pixdim) + 1 for n, s in zip(data.shape, spacing, strict=True)]
    return linear(data, [pixdim / s for s in spacing], shape)


def unspaced(data: np.ndarray, shape: tuple[int, ...], spacing: tuple[float, ...], pixdim: float) -> np.ndarray:
    """The way back from `spaced` to a grid of `shape`: linear for scores (floats), nearest for masks."""
    steps = [s / pixdim for s in spacing]
    if data.dtype.kind == "f":
        return linear(data, steps, shape)
    places = [np.rint(np.minimum(np.arange(n) * step, m - 1)).astype(int)
              for n, step, m in zip(shape, steps, data.shape, strict=True)]
    return data[np.ix_(*places)]


def linear(data: np.ndarray, steps: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    """data at 0, step, 2 step, ... along each axis, `shape` samples, the border held; float32."""
    data = data.astype(np.float32)
    for axis, (step, count) in enumerate(zip(steps, shape, strict=True)):
        at = np.minimum(np.arange(count) * step, data.shape[axis] - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, data.shape[axis] - 1)
        weight = (at - low).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(data.ndim)])
        data = np.take(data, low, axis) * (1 - weight) + np.take(data, high, axis) * weight
    return data


def pad_to(data: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Zero-pads symmetrically (the smaller half first) to at least `size`, as the sliding window does."""
    widths = [((max(0, want - have)) // 2, max(0, want - have) - max(0, want - have) // 2)
              for have, want in zip(data.shape, size, strict=True)]
    return np.pad(data, widths)
