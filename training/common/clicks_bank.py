"""The pictures of clicks2d and the volumes of clicks3d, with the split by source.

Held out as whole sources: HELD_OUT, and ms_t1, whose patients are those of ms_flair. Of each other source of pictures the last
twelfth (at least one) is kept aside to choose between checkpoints, so that choosing sees nothing of the held-out sources;
of the volumes every twelfth.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np

from common.bank import Scan, pair
from common.data import DATA

PICTURES, VOLUMES = DATA / "clicks2d", DATA / "clicks3d"
HELD_OUT = ("usgra_nerves_us", "bus_uc_us", "msd_spleen_ct", "tnbc_nuclei", "brain_mets_mr", "ms_flair", "ms_t1")
ASIDE = 12


def picture_scans(held_out: bool, aside: bool = False) -> list[Scan]:
    """Pictures as `Scan`s whose arrays are (A, B) or (A, B, 3): those to train on, held out, or kept aside."""
    found = []
    for folder in sorted(p for p in PICTURES.iterdir() if p.is_dir()):
        if (folder.name in HELD_OUT) != held_out:
            continue
        files = sorted(folder.glob("*_img.jpg"))
        last = max(1, len(files) // ASIDE)
        if not held_out:
            files = files[-last:] if aside else files[:-last]
        found += [picture_scan(folder.name, file) for file in files]
    return found


def picture_scan(source: str, file: Path) -> Scan:
    """One picture, grey (A, B) float32 or red, green, blue (A, B, 3) uint8, with its labels (A, B)."""
    stored = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    image = stored.astype(np.float32) if stored.ndim == 2 else np.ascontiguousarray(stored[..., 2::-1])
    labels = cv2.imread(str(file).replace("_img.jpg", "_seg.png"), cv2.IMREAD_UNCHANGED)
    return Scan(source, image, labels, (1, 1, 1), (2,))


@cache
def volume_scans(held_out: bool) -> tuple[Scan, ...]:
    """The volumes of clicks3d; every twelfth of a source is held out."""
    found = []
    for folder in sorted(p for p in VOLUMES.iterdir() if p.is_dir()):
        for number, file in enumerate(sorted(folder.glob("*_image.nii.gz"))):
            if (number % ASIDE == ASIDE - 1) == held_out:
                found.append(pair(folder.name, file, file.with_name(file.name.replace("_image", "_labels"))))
    return tuple(found)
