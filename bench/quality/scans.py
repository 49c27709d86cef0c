"""Held-out cases as files that a client would send."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
from scipy.ndimage import affine_transform

from common.data import read_volume
from common.held_out_3d import Case


@dataclass(frozen=True)
class Options:
    """How much is evaluated. Without a seed each evaluation draws the structures that its Python counterpart draws."""

    each: int
    seed: int | None
    folder: Path
    odd: bool = False
    """Every scan lies at ODD mm instead of its own spacing, and its truth with it."""

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


ODD = (0.9, 0.86, 0.86)
"""Voxels in mm that no model works at, so that every label map has to find its way back."""


def on_odd_grid(data: np.ndarray, spacing: tuple[float, ...], labels: bool = False) -> np.ndarray:
    """The same field of view at ODD mm, from the first voxel's centre on: linear, labels by nearest voxel."""
    steps = [odd / own for odd, own in zip(ODD, spacing, strict=True)]
    shape = tuple(int((n - 1) / step) + 1 for n, step in zip(data.shape, steps, strict=True))
    source = data if labels else data.astype(np.float32)
    if labels and data.dtype == bool:
        return on_odd_grid(data.astype(np.uint8), spacing, labels=True) > 0
    return affine_transform(source, steps, output_shape=shape, order=0 if labels else 1, mode="nearest")


def scan_of(file: Path, options: Options) -> tuple[Path, Callable[[np.ndarray], np.ndarray]]:
    """The file to send, and how a truth on the grid of `file` gets onto that of the file sent."""
    if not options.odd:
        return file, lambda truth: truth
    volume = read_volume(file)
    odd = volume_file(options.folder, on_odd_grid(volume.data, volume.spacing), ODD)
    return odd, lambda truth: on_odd_grid(truth, volume.spacing, labels=True)


def gridded(cases: Iterable[Case], options: Options) -> list[Case]:
    """The cases on the grid that the options ask for; those of one scan still share its image."""
    if not options.odd:
        return list(cases)
    images: dict[int, np.ndarray] = {}
    found = []
    for case in cases:
        if id(case.image) not in images:
            images[id(case.image)] = on_odd_grid(case.image, case.spacing)
        mask = on_odd_grid(case.mask, case.spacing, labels=True)
        if mask.any():
            found.append(replace(case, image=images[id(case.image)], mask=mask, spacing=ODD))
    return found
