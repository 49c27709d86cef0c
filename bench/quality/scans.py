"""Held-out cases as files that a client would send."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
from scipy.ndimage import affine_transform, uniform_filter

from common.data import read_volume
from common.held_out_3d import Case

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Options:
    """How much is evaluated. Without a seed each evaluation draws the structures that its Python counterpart draws."""

    each: int
    seed: int | None
    folder: Path
    grid: Spacing | None = None
    """Every scan lies at this spacing in mm instead of its own, and its truth with it."""

    def seeded(self, usual: int) -> int:
        """The seed to draw with, where the training scripts use `usual`."""
        return usual if self.seed is None else self.seed


numbers = itertools.count()


def volume_file(folder: Path, image: np.ndarray, spacing: tuple[float, ...]) -> Path:
    """A NIfTI file in `folder` of an image (X, Y, Z) in RAS+."""
    path = folder / f"{next(numbers)}.nii"
    nib.save(nib.Nifti1Image(image.astype(np.float32), np.diag([*spacing, 1.0])), path)
    return path


def picture_file(folder: Path, image: np.ndarray) -> Path:
    """A PNG file in `folder` of an image (rows, columns), or (rows, columns, 3) in red, green, blue, of values from 0 to 255."""
    path = folder / f"{next(numbers)}.png"
    cv2.imwrite(str(path), np.rint(image[..., ::-1] if image.ndim == 3 else image).astype(np.uint8))
    return path


def by_image(cases: Iterable[tuple[Case, object]]) -> list[list[tuple[Case, object]]]:
    """Cases, each with something that belongs to it, grouped by the scan they are in."""
    groups: dict[int, list[tuple[Case, object]]] = {}
    for case, extra in cases:
        groups.setdefault(id(case.image), []).append((case, extra))
    return list(groups.values())


def on_grid(data: np.ndarray, spacing: tuple[float, ...], grid: Spacing, labels: bool = False) -> np.ndarray:
    """The same field of view at `grid` mm, from the first voxel's centre on: linear, labels by nearest voxel. Along an axis that
    becomes coarser a picture is first smoothed as thick slices are."""
    steps = [new / own for new, own in zip(grid, spacing, strict=True)]
    shape = tuple(int((n - 1) / step) + 1 for n, step in zip(data.shape, steps, strict=True))
    if labels and data.dtype == bool:
        return on_grid(data.astype(np.uint8), spacing, grid, labels=True) > 0
    source = data if labels else thick(data.astype(np.float32), steps)
    return affine_transform(source, steps, output_shape=shape, order=0 if labels else 1, mode="nearest")


def thick(image: np.ndarray, steps: list[float]) -> np.ndarray:
    """The image averaged over `step` voxels along each axis whose voxels become at least twice as long."""
    return uniform_filter(image, [round(step) if step >= 2 else 1 for step in steps], mode="nearest")


def scan_of(file: Path, options: Options) -> tuple[Path, Callable[[np.ndarray], np.ndarray]]:
    """The file to send, and how a truth on the grid of `file` gets onto that of the file sent."""
    grid = options.grid
    if grid is None:
        return file, lambda truth: truth
    volume = read_volume(file)
    sent = volume_file(options.folder, on_grid(volume.data, volume.spacing, grid), grid)
    return sent, lambda truth: on_grid(truth, volume.spacing, grid, labels=True)


def gridded(cases: Iterable[Case], options: Options) -> list[Case]:
    """The cases on the grid that the options ask for; those of one scan still share its image."""
    grid = options.grid
    if grid is None:
        return list(cases)
    images: dict[int, np.ndarray] = {}
    found = []
    for case in cases:
        if id(case.image) not in images:
            images[id(case.image)] = on_grid(case.image, case.spacing, grid)
        mask = on_grid(case.mask, case.spacing, grid, labels=True)
        if mask.any():
            found.append(replace(case, image=images[id(case.image)], mask=mask, spacing=grid))
    return found
