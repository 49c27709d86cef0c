"""MedNIST pictures and a split that keeps near-duplicates on one side."""

from __future__ import annotations

import cv2
import numpy as np

from common.data import DATA, read_volume

LABELS = ["AbdomenCT", "BreastMRI", "CXR", "ChestCT", "Hand", "HeadCT"]
SIZE = 64
ALIKE = 0.95
"""Pictures of one class whose 16 x 16 thumbnails correlate by more than this count as near-duplicates."""


def load() -> tuple[np.ndarray, np.ndarray]:
    """All pictures (N, 64, 64) float32, ordered by class and file name, and their classes (N,).

    Each is stretched to 0..1, as ScaleIntensityd does.
    """
    files = [(k, f) for k, label in enumerate(LABELS) for f in sorted((DATA / "png" / "mednist" / label).iterdir())]
    images = np.stack([cv2.imread(str(f), cv2.IMREAD_GRAYSCALE) for _, f in files]).astype(np.float32)
    low, high = images.min((1, 2), keepdims=True), images.max((1, 2), keepdims=True)
    images = (images - low) / np.maximum(high - low, 1)
    return images, np.array([k for k, _ in files])


def abdominal_slices(rng: np.random.Generator) -> np.ndarray:
    """Slices (N, 64, 64) of a whole abdominal CT, each as MedNIST might show it: air dark grey, a wide or narrow window.

    MedNIST's abdomen pictures of the data folder hardly show the ends of the abdomen or a narrow window.
    """
    volume = read_volume(DATA / "nifti" / "totalsegmentator" / "example_ct.nii.gz")
    side = int(max(volume.data.shape[:2]) * 1.3)
    pictures = []
    for index in range(volume.data.shape[2]):
        low, high = rng.uniform(-1250, -1050), rng.uniform(250, 1800)
        picture = ((volume.data[:, :, index].T[::-1] - low) / (high - low)).clip(0, 1).astype(np.float32)
        edges = [(side - n) // 2 for n in picture.shape]
        around = [(e, side - n - e) for e, n in zip(edges, picture.shape, strict=True)]
        square = np.pad(picture, around, constant_values=float((-1000 - low) / (high - low)))
        pictures.append(cv2.resize(square, (SIZE, SIZE), interpolation=cv2.INTER_AREA))
    return np.stack(pictures)


def groups(images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """A group number for each picture: connected components of 'same class and alike'."""
    small = np.stack([cv2.resize(x, (16, 16), interpolation=cv2.INTER_AREA).ravel() for x in images])
    small = (small - small.mean(1, keepdims=True)) / (small.std(1, keepdims=True) + 1e-6)
    alike = (small @ small.T / small.shape[1] > ALIKE) & (classes[:, None] == classes[None])
    group = np.arange(len(images))
    for i in range(len(images)):
        for j in np.flatnonzero(alike[i]):
            if group[i] != group[j]:
                group[group == max(group[i], group[j])] = min(group[i], group[j])
    return group


def held_out(images: np.ndarray, classes: np.ndarray, share: float = 0.3) -> np.ndarray:
    """Mask of the held-out pictures: whole groups, smallest first, until `share` of each class is reached.

    Smallest first leaves the big clusters of near-duplicates to training, so the test set is the more varied part.
    """
    group = groups(images, classes)
    mask = np.zeros(len(images), bool)
    rng = np.random.default_rng(7)
    for k in range(len(LABELS)):
        names, counts = np.unique(group[classes == k], return_counts=True)
        order = np.lexsort((rng.random(len(names)), counts))
        wanted = share * (classes == k).sum()
        for name in names[order]:
            if mask[classes == k].sum() < wanted:
                mask |= group == name
    return mask
