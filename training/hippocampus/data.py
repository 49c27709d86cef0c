"""The hippocampus crops and their split: of the 216 images that have labels, sorted by name, 4, 9, 14, ... are held out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common.data import DATA, pad_to, read_volume, z_score

ROI = (48, 64, 48)
"""Network input in voxels of 1 mm, (X, Y, Z) in RAS+."""

LABELS = ["anterior hippocampus", "posterior hippocampus"]


def cases(held_out: bool) -> list[Path]:
    """Image files of one side of the split."""
    files = sorted((DATA / "nifti" / "msd_hippocampus" / "imagesTr").glob("*.nii.gz"))
    files = [f for f in files if label_file(f).exists()]
    return [f for i, f in enumerate(files) if (i % 5 == 4) == held_out]


def label_file(image: Path) -> Path:
    """Where the label map of an image lies."""
    return image.parents[1] / "labelsTr" / image.name


def load(held_out: bool) -> Iterator[tuple[Path, np.ndarray, np.ndarray]]:
    """Yields (file, image, label map): z-scored and zero-padded to ROI, float32 and int32, both (X, Y, Z)."""
    for file in cases(held_out):
        image = read_volume(file).data
        labels = read_volume(label_file(file), labels=True).data
        yield file, pad_to(z_score(image), ROI), pad_to(labels, ROI)
