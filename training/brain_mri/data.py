"""Classes of brain_mri and its training samples, painted from the whole-head label maps (SynthSeg, arXiv 2107.09559)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.augment import elastic_field, gaussian_blur, random_affine
from common.data import DATA, read_volume
from common.synthesis import paint

SPACING = 2.0
"""Network grid in mm."""
PATCH = 64
HELD_OUT = (17, 18, 19, 20)

CLASSES: list[tuple[str, tuple[int, ...]]] = [
    ("cerebral white matter", (2, 41, 25, 57, 77)),
    ("cerebral cortex", (3, 42)),
    ("lateral ventricle", (4, 5, 43, 44, 31, 63, 136, 137, 163, 164)),
    ("cerebellar white matter", (7, 46)),
    ("cerebellar cortex", (8, 47)),
    ("thalamus", (10, 49)),
    ("caudate", (11, 50)),
    ("putamen", (12, 51)),
    ("pallidum", (13, 52)),
    ("third ventricle", (14,)),
    ("fourth ventricle", (15,)),
    ("brainstem", (16,)),
    ("hippocampus", (17, 53)),
    ("amygdala", (18, 54)),
    ("accumbens", (26, 58)),
    ("ventral diencephalon", (28, 60)),
]
"""Name and FreeSurfer numbers of class 1, 2, ...; left and right are one class. Everything else is background."""

SUBCORTICAL = ("thalamus", "caudate", "putamen", "pallidum", "hippocampus", "amygdala", "accumbens")


def classes_of(labels: np.ndarray) -> np.ndarray:
    """FreeSurfer numbers (any shape) to class numbers, uint8; cortical parcels (1000 and up) count as cortex."""
    table = np.zeros(int(labels.max()) + 1, np.uint8)
    for number, (_, members) in enumerate(CLASSES, start=1):
        for member in members:
            if member < len(table):
                table[member] = number
    table[1000:] = 2
    return table[labels]


def head_maps(held_out: bool) -> list[np.ndarray]:
    """The label maps of one side of the split, FreeSurfer numbers, int16 (X, Y, Z) at 1 mm in RAS."""
    numbers = [n for n in range(1, 21) if (n in HELD_OUT) == held_out]
    files = (DATA / "nifti" / "synthseg_labels" / f"training_seg_{n:02d}.nii.gz" for n in numbers)
    return [read_volume(f, labels=True).data.astype(np.int16) for f in files]


class Painter:
    """Random patches of randomly painted heads."""

    def __init__(self, maps: list[np.ndarray]) -> None:
        present = np.unique(np.concatenate([np.flatnonzero(np.bincount(m.ravel())) for m in maps]))
        self.values = present
        compact = np.zeros(int(present[-1]) + 1, np.uint8)
        compact[present] = np.arange(len(present))
        self.maps = [compact[m] for m in maps]
        self.classes = torch.from_numpy(classes_of(present).astype(np.int64))
        self.boxes = [np.argwhere(classes_of(m[::4, ::4, ::4]) > 0) * 4 for m in maps]
        self.outside = np.flatnonzero((self.classes.numpy() == 0) & (present != 24) & (present != 85))

    def sample(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """A z-scored picture (1, 1, PATCH...) and its classes (1, PATCH...) on the SPACING grid."""
        which = rng.integers(len(self.maps))
        labels, inside = self.maps[which], self.boxes[which]
        centre = inside[rng.integers(len(inside))] * 0.7 + inside.mean(0) * 0.3
        size = (PATCH,) * 3
        matrix = random_affine(rng, 1, 3, rotate=0.3, scale=(0.85, 1.2), anisotropy=0.08, flip=(0,), shear=0.08)
        grid = F.affine_grid(matrix, [1, 1, *size], align_corners=False) + elastic_field(rng, 1, size, 5, 0.035)
        half = PATCH * SPACING / 2
        reach = int(half * 1.9)
        low = np.maximum(centre.astype(int) - reach, 0)
        high = np.minimum(centre.astype(int) + reach + 1, labels.shape)
        part = labels[tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))]
        shape = torch.tensor(part.shape[::-1])
        offset = torch.from_numpy((centre - low + 0.5).astype(np.float32)).flip(0)
        where = (grid * half + offset) / shape * 2 - 1
        drawn = F.grid_sample(torch.from_numpy(part)[None, None].float(), where, mode="nearest", align_corners=False)
        drawn = drawn.long()[0, 0]
        painted = drawn.numpy().astype(np.uint8)
        if rng.random() < 0.35:
            painted = np.where(np.isin(painted, self.outside), 0, painted)
        image = paint(rng, painted, blur=0.9)
        if rng.random() < 0.3:
            thick = rng.uniform(1.2, 3.0)
            axis = int(rng.integers(3))
            coarse = list(size)
            coarse[axis] = max(8, int(PATCH / thick))
            image = F.interpolate(gaussian_blur(image, 0.4), size=coarse, mode="trilinear")
            image = F.interpolate(image, size=size, mode="trilinear")
        image = image.clamp(min=0) ** float(np.exp(rng.normal(0, 0.25)))
        image = (image - image.mean()) / (image.std() + 1e-6)
        return image * rng.uniform(0.8, 1.25) + rng.normal(0, 0.15), self.classes[drawn][None]
