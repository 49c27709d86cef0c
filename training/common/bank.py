"""The labelled volumes and pictures for the interactive models, with the split by subject and source.

Held out, never seen in training: the CT series ts_ct20, the abdominal MR (whole source), the stroke case (whole
source), fs_norm (whole source), glioblastoma PGBM-003, label maps 17 to 20 of synthseg_labels, every fifth hippocampus
(as in models/hippocampus_mri), and of png/medscribble the data sets SCD and OCTA500 as a whole and the last two pictures
of each other set.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pydicom

from common.data import DATA, Volume, read_volume
from hippocampus.data import cases, label_file

NIFTI = DATA / "nifti"
SCRIBBLE_UNSEEN = ("SCD", "OCTA500")


@dataclass(frozen=True)
class Scan:
    """A volume (X, Y, Z) in RAS+, or a picture (A, B, 1), with its labels of the same shape.

    image is None for label maps that have no picture: it is painted when needed. `axes`: the axes along which it
    may be sliced (those whose slices are close to isotropic). `numbers`: what label 0, 1, 2, ... was called in the
    file, where the labels were renumbered.
    """

    source: str
    image: np.ndarray | None
    labels: np.ndarray
    spacing: tuple[float, float, float]
    axes: tuple[int, ...] = (0, 1, 2)
    numbers: tuple[int, ...] = ()


def numbers_in(labels: np.ndarray) -> tuple[int, ...]:
    """The values that a label map has, ascending: `compact` makes 0, 1, 2, ... of them."""
    return tuple(int(v) for v in np.flatnonzero(np.bincount(labels.ravel())))


def compact(labels: np.ndarray) -> np.ndarray:
    """The same map with its labels numbered 0, 1, 2, ... without gaps, uint8."""
    values = numbers_in(labels)
    if len(values) > 256:
        raise ValueError(f"{len(values)} labels do not fit in uint8")
    table = np.zeros(values[-1] + 1, np.uint8)
    table[list(values)] = np.arange(len(values))
    return table[labels]


def pair(source: str, image: Path, labels: Path, axes: tuple[int, ...] = (0, 1, 2)) -> Scan:
    """A scan from two NIfTI files on one grid."""
    picture: Volume = read_volume(image)
    data = read_volume(labels, labels=True).data
    return Scan(source, picture.data, compact(data), picture.spacing, axes, numbers_in(data))


def mni152() -> Scan:
    """The MNI152 T1 with grey and white matter above one half as its labels."""
    image = read_volume(NIFTI / "brain" / "mni152_t1.nii.gz")
    grey, white = (read_volume(NIFTI / "brain" / f"mni152_{t}_prob.nii.gz").data for t in ("gm", "wm"))
    return Scan("mni152", image.data, (1 * (grey > 127) + 2 * (white > 127)).clip(0, 2).astype(np.uint8), image.spacing)


def ct_series() -> Scan:
    """The held-out CT series of 20 slices; its DICOM rows and columns are put on the label map's grid."""
    labels = read_volume(DATA / "dicom" / "ts_ct20_seg117.nii.gz", labels=True)
    slices = sorted((pydicom.dcmread(f) for f in (DATA / "dicom" / "ts_ct20_raw").iterdir()),
                    key=lambda d: float(d.ImagePositionPatient[2]))
    pixels = np.stack([d.pixel_array.T * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in slices], -1)
    return Scan("ts_ct20", pixels[::-1, ::-1].astype(np.float32), compact(labels.data), labels.spacing, (2,),
                numbers_in(labels.data))


def free_surfer() -> Scan:
    """fs_norm with its FreeSurfer labels; the parcels of each hemisphere's cortex are one label, as no picture shows them."""
    scan = read_volume(NIFTI / "brain" / "fs_norm.nii.gz")
    labels = read_volume(NIFTI / "brain" / "fs_aparc_a2009s_aseg.nii.gz", labels=True).data
    labels = np.where(labels >= 12000, 42, np.where(labels >= 11000, 3, labels))
    return Scan("fs_norm", scan.data, compact(labels), scan.spacing, numbers=numbers_in(labels))


def pictures(held_out: bool) -> list[Scan]:
    """png/medscribble; `source` is the data set's name."""
    found: dict[str, list[Path]] = {}
    for file in sorted((DATA / "png" / "medscribble").glob("*_img.png")):
        found.setdefault(file.name.split("_")[0], []).append(file)
    scans = []
    for name, files in found.items():
        tested = files if name in SCRIBBLE_UNSEEN else files[-2:]
        for file in tested if held_out else [f for f in files if f not in tested]:
            image = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE).astype(np.float32)
            mask = cv2.imread(str(file).replace("_img.png", "_seg.png"), cv2.IMREAD_GRAYSCALE) > 127
            scans.append(Scan(name, image[..., None], mask[..., None].astype(np.uint8), (1, 1, 1), (2,)))
    return scans


def hippocampi(held_out: bool, every: int = 1) -> list[Scan]:
    """The hippocampus crops of one side of the split."""
    return [pair("hippocampus", f, label_file(f)) for f in cases(held_out)[::every]]


def head_maps(held_out: bool) -> list[Scan]:
    """The whole-head label maps, without pictures; 17 to 20 are held out."""
    numbers = range(17, 21) if held_out else range(1, 17)
    maps = (read_volume(NIFTI / "synthseg_labels" / f"training_seg_{n:02d}.nii.gz", labels=True) for n in numbers)
    return [Scan("synthseg", None, compact(m.data), m.spacing, numbers=numbers_in(m.data)) for m in maps]


def tumour(number: str, contrast: str) -> Scan:
    """One contrast of a glioblastoma study, sliced along its thick axis only."""
    folder = NIFTI / "qin_gbm"
    return pair("gbm", folder / f"PGBM-{number}_t0_{contrast}.nii.gz", folder / f"PGBM-{number}_t0_MaskTumor.nii.gz", (2,))


@cache
def training_scans() -> tuple[Scan, ...]:
    """Everything that training may see."""
    total = NIFTI / "totalsegmentator"
    return (pair("ct", total / "example_ct.nii.gz", total / "example_ct_seg117.nii.gz"),
            pair("aorta", total / "aorta_ct.nii.gz", total / "aorta_ct_aorta.nii.gz"),
            mni152(), *(tumour("001", c) for c in ("T1post", "T2reg", "FLAIRreg")),
            *head_maps(False), *hippocampi(False), *pictures(False))


@cache
def held_out_scans() -> tuple[Scan, ...]:
    """Everything that only evaluation may see."""
    total, stroke = NIFTI / "totalsegmentator", NIFTI / "stroke"
    return (ct_series(), pair("mr", total / "example_mr_sm.nii.gz", total / "example_mr_sm_seg50.nii.gz", (2,)),
            *(pair("stroke", stroke / f"{c}.nii.gz", stroke / "lesion.nii.gz") for c in ("T1", "T2", "FLAIR")),
            free_surfer(),
            *(tumour("003", c) for c in ("T1post", "T2reg", "FLAIRreg")),
            *head_maps(True), *hippocampi(True), *pictures(True))
