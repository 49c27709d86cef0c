"""Dice of brain_mri on scans and label maps that training never saw.

    python -m brain_mri.evaluate [--model ../models/brain_mri/model.onnx]

fs_norm against its FreeSurfer labels; a T1 head and the stroke case's three contrasts (which are skull-stripped, so every
non-zero voxel is brain or CSF) for the whole brain; label maps 17 to 20, painted.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from brain_mri.data import CLASSES, FIRST, OUTER_CSF, SUBCORTICAL, classes_of, head_maps
from brain_mri.network import DIVISOR
from common.bank import compact
from common.data import DATA, MODELS, read_volume, spaced, unspaced, z_score
from common.export import session
from common.metrics import dice
from common.synthesis import paint

MARGIN = 4
CLASS_OF = np.array([0, *(number for number, (_, _, right) in enumerate(CLASSES, start=1) for _ in range(2 if right else 1))])
"""The class of each label."""


def segment(run: onnxruntime.InferenceSession, image: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Label numbers (X, Y, Z) for an image in RAS, as models/brain_mri/config_aiaa.json does it."""
    fine = spaced(image, spacing, 1.0)
    inside = np.argwhere(fine > 0)
    box = tuple(slice(max(0, int(a) - MARGIN), min(n, int(b) + 1 + MARGIN))
                for a, b, n in zip(inside.min(0), inside.max(0), fine.shape, strict=True))
    part = z_score(fine[box])
    pads = [(-n % DIVISOR) for n in part.shape]
    padded = np.pad(part, [(p // 2, p - p // 2) for p in pads])
    guess = run.run(None, {"input": padded[None, None]})[0][0, 0]
    labels = np.zeros(fine.shape, np.uint8)
    labels[box] = guess[tuple(slice(p // 2, p // 2 + n) for p, n in zip(pads, part.shape, strict=True))]
    return unspaced(labels, image.shape, spacing, 1.0)


def report(title: str, labels: np.ndarray, truth: np.ndarray) -> None:
    """One line: Dice per class of the classes `truth`, the means, and the whole brain's with and without outer CSF."""
    guess = CLASS_OF[labels]
    scores = {name: round(dice(guess == k, truth == k), 3) for k, (name, _, _) in enumerate(CLASSES, start=1)}
    deep = np.mean([scores[n] for n in SUBCORTICAL])
    dry = dice((guess > 0) & (guess != OUTER_CSF), (truth > 0) & (truth != OUTER_CSF))
    print(f"{title}: whole brain {dice(guess > 0, truth > 0):.4f}, {dry:.4f} without outer CSF, subcortical {deep:.4f}, "
          f"all {np.mean(list(scores.values())):.4f} {scores}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--painted", type=int, default=4, help="how many held-out label maps to paint")
    parser.add_argument("--model", type=Path, default=MODELS / "brain_mri" / "model.onnx")
    args = parser.parse_args()
    run = session(args.model, args.threads)
    brain, stroke = DATA / "nifti" / "brain", DATA / "nifti" / "stroke"
    scan = read_volume(brain / "fs_norm.nii.gz")
    begun = time.perf_counter()
    guess = segment(run, scan.data, scan.spacing)
    print(f"fs_norm took {time.perf_counter() - begun:.1f} s")
    report("fs_norm", guess, classes_of(read_volume(brain / "fs_aparc_a2009s_aseg.nii.gz", labels=True).data))
    wholes = {"t1_crop (another network's mask)": (brain / "t1_crop_brainchop.nii.gz", brain / "t1_crop_ref_mindgrab.nii.gz")}
    wholes |= {f"stroke {c}": (stroke / f"{c}.nii.gz", stroke / f"{c}.nii.gz") for c in ("T1", "T2", "FLAIR")}
    for name, (image, mask) in wholes.items():
        scan, truth = read_volume(image), read_volume(mask).data > 0
        guess = segment(run, scan.data, scan.spacing)
        dry = (guess > 0) & (guess != FIRST[OUTER_CSF])
        print(f"{name}: whole brain {dice(guess > 0, truth):.4f}, {dice(dry, truth):.4f} without outer CSF", flush=True)
    rng = np.random.default_rng(31)
    for number, labels in enumerate(head_maps(True)[: args.painted], start=17):
        image = paint(rng, compact(labels), blur=0.9)[0, 0].numpy()
        report(f"painted {number}", segment(run, image - image.min() + 1e-3, (1, 1, 1)), classes_of(labels))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
