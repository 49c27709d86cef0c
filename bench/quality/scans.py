"""Held-out cases as files that a client would send."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np

from common.held_out_3d import Case


@dataclass(frozen=True)
class Options:
    """How much is evaluated. Without a seed each evaluation draws the structures that its Python counterpart draws."""

    each: int
    seed: int | None
    folder: Path

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
    """A PNG file in `folder` of an image (rows, columns) of values from 0 to 255."""
    path = folder / f"{next(numbers)}.png"
    cv2.imwrite(str(path), np.rint(image).astype(np.uint8))
    return path


def by_image(cases: Iterable[tuple[Case, object]]) -> list[list[tuple[Case, object]]]:
    """Cases, each with something that belongs to it, grouped by the scan they are in."""
    groups: dict[int, list[tuple[Case, object]]] = {}
    for case, extra in cases:
        groups.setdefault(id(case.image), []).append((case, extra))
    return list(groups.values())
