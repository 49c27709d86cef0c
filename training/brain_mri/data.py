"""Classes of brain_mri and its training samples, painted from the whole-head label maps (SynthSeg, arXiv 2107.09559)."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.augment import bias_field, elastic_field, gaussian_blur, random_affine
from common.data import DATA, read_volume
from common.synthesis import smooth_noise

SPACING = 2.0
"""Grid of the network's inside in mm; the served graph takes and gives 1 mm."""
PATCH = 64
BELOW = 12
"""Millimetres under the cerebellum where the brain ends: brainstem and fluid below are cord and canal, and not labelled."""
CORD, CANAL = 520, 521
"""Numbers for those in the label maps, which no FreeSurfer label has; they look like brainstem and fluid."""
HELD_OUT = (17, 18, 19, 20)

CLASSES: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = [
    ("cerebral white matter", (2, 25, 30, 77, 78), (41, 57, 62, 79)),
    ("cerebral cortex", (3,), (42,)),
    ("lateral ventricle", (4, 5, 31, 72, 136, 137), (43, 44, 63, 163, 164)),
    ("cerebellar white matter", (7,), (46,)),
    ("cerebellar cortex", (8,), (47,)),
    ("thalamus", (10, 9), (49, 48)),
    ("caudate", (11,), (50,)),
    ("putamen", (12,), (51,)),
    ("pallidum", (13,), (52,)),
    ("hippocampus", (17,), (53,)),
    ("amygdala", (18,), (54,)),
    ("accumbens", (26,), (58,)),
    ("ventral diencephalon", (28,), (60,)),
    ("third ventricle", (14,), ()),
    ("fourth ventricle", (15,), ()),
    ("brainstem", (16,), ()),
    ("outer CSF", (24,), ()),
]
"""Name, FreeSurfer numbers on the left and on the right of class 1, 2, ...; on the midline there is one list only.
The network tells classes and, with one more channel, the side. Everything else is background."""

SUBCORTICAL = ("thalamus", "caudate", "putamen", "pallidum", "hippocampus", "amygdala", "accumbens")
OUTER_CSF = len(CLASSES)
ELSEWHERE = 0.3
"""How often a patch is drawn around any part of the head or neck, not around the brain."""
LESIONS = 0.25
WHITE = (1, 4)
GREY = (2, 5, 6, 7, 8, 9, 10, 11, 12)
"""Classes of white and of grey matter."""

LABELS = [name for title, _, right in CLASSES for name in ((f"left {title}", f"right {title}") if right else (title,))]
"""Names of label 1, 2, ... of the served model."""
FIRST = [0, *(1 + sum(2 if right else 1 for _, _, right in CLASSES[:n]) for n in range(len(CLASSES)))]
"""The label of class 0, 1, 2, ..., on the left where there are two."""
SIDED = [False, *(bool(right) for _, _, right in CLASSES)]

CONTRASTS = {
    "T1": {2: 0.85, 3: 0.55, 4: 0.12, 7: 0.82, 8: 0.56, 10: 0.7, 11: 0.57, 12: 0.62, 13: 0.74, 17: 0.56, 18: 0.55, 26: 0.58,
           28: 0.74, 14: 0.14, 15: 0.14, 16: 0.76, 24: 0.12, 5: 0.13, 25: 0.6, 77: 0.6, 31: 0.3},
    "T2": {2: 0.33, 3: 0.5, 4: 0.95, 7: 0.33, 8: 0.48, 10: 0.4, 11: 0.46, 12: 0.42, 13: 0.3, 17: 0.52, 18: 0.5, 26: 0.46,
           28: 0.36, 14: 0.9, 15: 0.9, 16: 0.37, 24: 0.92, 5: 0.9, 25: 0.6, 77: 0.6, 31: 0.7},
    "FLAIR": {2: 0.5, 3: 0.65, 4: 0.15, 7: 0.52, 8: 0.62, 10: 0.56, 11: 0.62, 12: 0.58, 13: 0.45, 17: 0.68, 18: 0.68,
              26: 0.62, 28: 0.52, 14: 0.2, 15: 0.2, 16: 0.54, 24: 0.15, 5: 0.2, 25: 0.85, 77: 0.85, 31: 0.5},
}
"""Typical intensities of three contrasts by FreeSurfer number; a part of the samples is painted near them."""


def classes_of(labels: np.ndarray) -> np.ndarray:
    """FreeSurfer numbers (any shape) to class numbers, uint8; cortical parcels (1000 and up) count as cortex, the five
    parts of the corpus callosum as white matter."""
    table = np.zeros(max(256, int(labels.max()) + 1), np.uint8)
    for number, (_, left, right) in enumerate(CLASSES, start=1):
        table[list(left + right)] = number
    table[251:256] = 1
    table[1000:] = 2
    return table[labels]


def sides_of(labels: np.ndarray) -> np.ndarray:
    """FreeSurfer numbers to the side, int8: -1 left, 1 right, 0 neither (midline structures, background)."""
    table = np.zeros(max(256, int(labels.max()) + 1), np.int8)
    for _, left, right in CLASSES:
        if right:
            table[list(left)], table[list(right)] = -1, 1
    table[1000:2000], table[2000:3000] = -1, 1
    table[11000:12000], table[12000:13000] = -1, 1
    return table[labels]


def head_maps(held_out: bool) -> list[np.ndarray]:
    """The label maps of one side of the split, FreeSurfer numbers, int16 (X, Y, Z) at 1 mm in RAS."""
    numbers = [n for n in range(1, 21) if (n in HELD_OUT) == held_out]
    files = (DATA / "nifti" / "synthseg_labels" / f"training_seg_{n:02d}.nii.gz" for n in numbers)
    return [without_cord(read_volume(f, labels=True).data.astype(np.int16)) for f in files]


def without_cord(labels: np.ndarray) -> np.ndarray:
    """The map (X, Y, Z in RAS, 1 mm) with what is more than BELOW under the cerebellum renamed to CORD and CANAL, in place."""
    cerebellum = np.isin(labels, (7, 8, 46, 47)).any((0, 1))
    neck = labels[:, :, : max(0, int(np.flatnonzero(cerebellum)[0]) - BELOW)]
    neck[neck == 16] = CORD
    neck[neck == 24] = CANAL
    return labels


def partners(values: np.ndarray) -> np.ndarray:
    """For each FreeSurfer number the place in `values` of the number whose look it shares: its left counterpart."""
    place = {int(v): i for i, v in enumerate(values)}
    twin = {r: left[0] for _, left, right in CLASSES for r in right[:1]}
    twin |= {CORD: 16, CANAL: 24, 44: 5, 57: 25, 62: 30, 63: 31, 163: 136, 164: 137}
    return np.array([place.get(twin.get(int(v), int(v)), i) for i, v in enumerate(values)])


class Painter:
    """Random patches of randomly painted heads."""

    def __init__(self, maps: list[np.ndarray]) -> None:
        self.values = np.unique(np.concatenate([np.flatnonzero(np.bincount(m.ravel())) for m in maps]))
        compact = np.zeros(int(self.values[-1]) + 1, np.uint8)
        compact[self.values] = np.arange(len(self.values))
        self.maps = [compact[m] for m in maps]
        self.counts = [np.bincount(m.ravel(), minlength=len(self.values)).astype(np.float64) for m in self.maps]
        self.classes = torch.from_numpy(classes_of(self.values).astype(np.int64))
        self.sides = torch.from_numpy(sides_of(self.values))
        self.boxes = [np.argwhere(classes_of(m[::4, ::4, ::4]) % OUTER_CSF > 0) * 4 for m in maps]
        self.heads = [np.argwhere(m[::4, ::4, ::4] > 0) * 4 for m in maps]
        self.partner = partners(self.values)
        self.skull = np.isin(self.values, self.values[(self.classes.numpy() == 0) & (self.values != 85)])
        self.csf, self.grey, self.white = (int(np.flatnonzero(self.values == v)[0]) for v in (24, 3, 2))

    def sample(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """A picture (1, 1, PATCH...) scaled about as a z-scored head, the share of each class (1, K, PATCH...) and the
        side (1, 1, PATCH...; -1 left, 1 right, 0 neither), on the SPACING grid."""
        which = rng.integers(len(self.maps))
        far = rng.random() < ELSEWHERE
        drawn = self.draw(rng, self.maps[which], self.heads[which] if far else self.boxes[which], pull=0.0 if far else 0.25)
        counts = self.counts[which].copy()
        drawn = self.strip(rng, drawn, counts)
        means, spreads = self.look(rng)
        eighths = drawn.view(PATCH, 2, PATCH, 2, PATCH, 2).permute(1, 3, 5, 0, 2, 4).reshape(8, -1)
        share = torch.zeros(1 + len(CLASSES), eighths.shape[1])
        for part in self.classes[eighths]:
            share.scatter_add_(0, part[None], torch.full((1, part.numel()), 0.125))
        side = self.sides[eighths[7]].view(1, 1, *(PATCH,) * 3)
        image = means[drawn] + spreads[drawn] * torch.randn(drawn.shape)
        image = self.surroundings(rng, self.lesions(rng, image, drawn), drawn)
        share = share.view(1, -1, *(PATCH,) * 3)
        image = F.avg_pool3d(image[None, None], 2) + self.greying(rng, share, means)
        return self.scan(rng, image, counts, means), share, side

    def greying(self, rng: np.random.Generator, share: Tensor, means: Tensor) -> Tensor:
        """What to add so that white matter looks a little like grey where grey is near, as in thin folds of real brains;
        a network that knows even white matter only takes those for grey."""
        grey, white = means[self.grey], means[self.white]
        near = F.avg_pool3d(share[:, list(GREY)].sum(1, keepdim=True), 5, 1, 2, count_include_pad=False)
        return rng.uniform(-0.1, 0.8) * near * share[:, list(WHITE)].sum(1, keepdim=True) * (grey - white)

    def lesions(self, rng: np.random.Generator, image: Tensor, drawn: Tensor) -> Tensor:
        """Sometimes a blob of another intensity in the brain, whose labels stay: a tumour, a bleed, a stroke."""
        if rng.random() > LESIONS:
            return image
        inside = np.argwhere((self.classes[drawn] > 0).numpy()[::4, ::4, ::4]) * 4
        if not len(inside):
            return image
        centre = torch.from_numpy(inside[rng.integers(len(inside))].astype(np.float32))
        line = torch.arange(2 * PATCH, dtype=torch.float32)
        radius = math.exp(rng.uniform(math.log(5), math.log(28)))
        squares = [((line - c) / (radius * math.exp(rng.normal(0, 0.25)))).square() for c in centre]
        distance = squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :]
        noise = smooth_noise(rng, tuple(drawn.shape), radius)[0, 0]
        blob = (torch.sigmoid((1 - distance + 0.5 * noise) * 6) * (self.classes[drawn] > 0)).to(image.dtype)
        return image * (1 - blob) + blob * (rng.random() + rng.uniform(0, 0.15) * torch.randn(drawn.shape))

    def surroundings(self, rng: np.random.Generator, image: Tensor, drawn: Tensor) -> Tensor:
        """What is not brain, varied: tissues that the maps do not tell apart (muscles, glands, fat, cartilage), flesh where they
        have air, and heads that were defaced or cut off beside the brain."""
        outside = torch.from_numpy(self.skull)[drawn]
        if rng.random() < 0.6:
            noise = smooth_noise(rng, tuple(drawn.shape), math.exp(rng.uniform(1.4, 3.4)))[0, 0]
            cuts = torch.from_numpy(np.sort(rng.normal(0, 0.8, int(rng.integers(2, 6)))).astype(np.float32))
            tissue = torch.from_numpy(rng.random(len(cuts) + 1).astype(np.float32))[torch.bucketize(noise, cuts)]
            weight = rng.uniform(0.3, 1.0)
            image = torch.where(outside, image * (1 - weight) + weight * tissue, image)
            if rng.random() < 0.4:
                flesh = (drawn == 0) & (smooth_noise(rng, tuple(drawn.shape), rng.uniform(12, 40))[0, 0] > rng.uniform(-0.5, 1.2))
                image = torch.where(flesh, tissue + 0.05 * torch.randn(drawn.shape), image)
        if rng.random() < 0.2:
            line = torch.arange(2 * PATCH, dtype=torch.float32)
            way = torch.from_numpy(rng.normal(0, 1, 3).astype(np.float32))
            place = way[0] * line[:, None, None] + way[1] * line[None, :, None] + way[2] * line[None, None, :]
            brain = self.classes[drawn] > 0
            edge = float(place[brain].amax()) if bool(brain.any()) else float(place.median())
            image = torch.where((place > edge + 3 * float(way.norm())) & ~brain, 0.0, image)
        return image

    def draw(self, rng: np.random.Generator, labels: np.ndarray, inside: np.ndarray, pull: float) -> Tensor:
        """A warped piece of the label map, (2 PATCH, ...) at half the SPACING, compact numbers; its middle is one of the voxels
        `inside`, pulled by that share towards the middle of those."""
        centre = inside[rng.integers(len(inside))] * (1 - pull) + inside.mean(0) * pull
        size = (2 * PATCH,) * 3
        matrix = random_affine(rng, 1, 3, rotate=0.22, scale=(0.8, 1.22), anisotropy=0.09, shear=0.08)
        grid = F.affine_grid(matrix, [1, 1, *size], align_corners=False) + elastic_field(rng, 1, size, 6, 0.03)
        half = PATCH * SPACING / 2
        reach = int(half * 1.9)
        low = np.maximum(centre.astype(int) - reach, 0)
        high = np.minimum(centre.astype(int) + reach + 1, labels.shape)
        part = labels[tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))]
        shape = torch.tensor(part.shape[::-1])
        offset = torch.from_numpy((centre - low + 0.5).astype(np.float32)).flip(0)
        where = (grid * half + offset) / shape * 2 - 1
        drawn = F.grid_sample(torch.from_numpy(part)[None, None].float(), where, mode="nearest", align_corners=False)
        return drawn.long()[0, 0]

    def strip(self, rng: np.random.Generator, drawn: Tensor, counts: np.ndarray) -> Tensor:
        """Sometimes takes the skull away, and all, some or none of the fluid outside the brain; `counts` follow."""
        if rng.random() > 0.42:
            counts[0] *= rng.uniform(0.5, 1.2)
            return drawn
        counts[self.skull] = 0
        counts[0] = counts.sum() * rng.uniform(0.6, 1.6)
        gone = torch.from_numpy(self.skull)[drawn]
        fluid = rng.random()
        if fluid < 0.4:
            gone |= drawn == self.csf
            counts[self.csf] = 0
        elif fluid < 0.8:
            noise = smooth_noise(rng, tuple(drawn.shape), rng.uniform(6, 30))[0, 0]
            gone |= (drawn == self.csf) & (noise > rng.normal(0, 0.8))
            counts[self.csf] *= 0.5
        return torch.where(gone, 0, drawn)

    def look(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Mean and spread of the intensity of every compact number; left and right look alike."""
        count = len(self.values)
        means = rng.random(count)
        if rng.random() < 0.7:
            typical = list(CONTRASTS.values())[rng.integers(len(CONTRASTS))]
            shift = rng.normal(0, 0.05, count)
            for i, value in enumerate(self.values):
                if int(value) in typical:
                    means[i] = typical[int(value)] + shift[i]
        means = means[self.partner]
        spreads = (rng.random(count) ** 2 * 0.2)[self.partner]
        means[0], spreads[0] = (0.0, 0.0) if rng.random() < 0.5 else (rng.uniform(0, 0.12), rng.uniform(0, 0.05))
        return torch.from_numpy(means.astype(np.float32)), torch.from_numpy(spreads.astype(np.float32))

    def scan(self, rng: np.random.Generator, image: Tensor, counts: np.ndarray, means: Tensor) -> Tensor:
        """Blur, bias, thick slices, gamma, noise; then the scaling that a z-score of the whole head would give."""
        size = (PATCH,) * 3
        image = gaussian_blur(image, rng.uniform(0.0, 0.7))
        if rng.random() < 0.6:
            image = image * bias_field(rng, 1, size, rng.uniform(0, 0.35))
        if rng.random() < 0.2:
            thick = rng.uniform(1.2, 3.5)
            coarse = list(size)
            coarse[int(rng.integers(3))] = max(8, int(PATCH / thick))
            image = F.interpolate(F.adaptive_avg_pool3d(image, coarse), size=size, mode="trilinear")
        gamma = math.exp(rng.normal(0, 0.2))
        image = image.clamp(min=0) ** gamma
        image = image + torch.randn_like(image) * rng.uniform(0, 0.04)
        if rng.random() < 0.25:  # a scan of a part of the head is scaled by that part
            image = (image - image.mean()) / image.std().clamp_min(0.02)
            return (image * rng.uniform(0.85, 1.15) + rng.normal(0, 0.1)).clamp(-3, 6)
        share = counts / counts.sum()
        whole = means.numpy().astype(np.float64).clip(0) ** gamma
        mean = float((share * whole).sum())
        deviation = math.sqrt(float((share * (whole - mean) ** 2).sum()) + 1e-4)
        image = (image - mean) / deviation
        return (image * rng.uniform(0.75, 1.3) + rng.normal(0, 0.2)).clamp(-3, 6)
