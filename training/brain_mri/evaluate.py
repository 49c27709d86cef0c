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
import torch.nn.functional as F
from scipy import ndimage

from brain_mri.data import CLASSES, SPACING, SUBCORTICAL, classes_of, head_maps
from common.data import DATA, MODELS, read_volume, z_score
from common.export import session
from common.metrics import dice
from common.synthesis import paint

MARGIN = 4


def segment(run: onnxruntime.InferenceSession, image: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Class numbers (X, Y, Z) for an image in RAS, as models/brain_mri/config_aiaa.json does it."""
    shape = tuple(round((n - 1) * s / SPACING) + 1 for n, s in zip(image.shape, spacing, strict=True))
    axes = [np.minimum(np.arange(n) * SPACING / s, m - 1) for n, s, m in zip(shape, spacing, image.shape, strict=True)]
    coarse = ndimage.map_coordinates(image, np.meshgrid(*axes, indexing="ij"), order=1, mode="nearest")
    box = ndimage.find_objects((coarse > 0).astype(np.uint8))[0]
    box = tuple(slice(max(0, b.start - MARGIN), min(n, b.stop + MARGIN)) for b, n in zip(box, shape, strict=True))
    part = z_score(coarse[box])
    pads = [(-n % 8) for n in part.shape]
    padded = np.pad(part, [(p // 2, p - p // 2) for p in pads])
    guess = run.run(None, {"input": padded[None, None]})[0][0].argmax(0)
    guess = guess[tuple(slice(p // 2, p // 2 + n) for p, n in zip(pads, part.shape, strict=True))]
    labels = np.zeros(shape, np.float32)
    labels[box] = guess
    axes = [np.minimum(np.rint(np.arange(m) * s / SPACING), n - 1).astype(int)
            for n, s, m in zip(shape, spacing, image.shape, strict=True)]
    return labels[np.ix_(*axes)].astype(np.uint8)


def report(title: str, guess: np.ndarray, truth: np.ndarray) -> None:
    """One line: Dice per class, the means, and the whole brain's."""
    scores = {name: round(dice(guess == k, truth == k), 3) for k, (name, _) in enumerate(CLASSES, start=1)}
    deep = np.mean([scores[n] for n in SUBCORTICAL])
    every = np.mean(list(scores.values()))
    print(f"{title}: whole brain {dice(guess > 0, truth > 0):.4f}, subcortical {deep:.4f}, all {every:.4f} {scores}")


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
    head = read_volume(brain / "t1_crop_brainchop.nii.gz")
    mask = read_volume(brain / "t1_crop_ref_mindgrab.nii.gz", labels=True).data > 0
    print(f"t1_crop whole brain {dice(segment(run, head.data, head.spacing) > 0, mask):.4f} (against another network's mask)")
    for contrast in ("T1", "T2", "FLAIR"):
        scan = read_volume(stroke / f"{contrast}.nii.gz")
        print(f"stroke {contrast} whole brain {dice(segment(run, scan.data, scan.spacing) > 0, scan.data > 0):.4f}")
    rng = np.random.default_rng(31)
    for number, labels in enumerate(head_maps(True)[: args.painted]):
        values = np.flatnonzero(np.bincount(labels.ravel()))
        table = np.zeros(int(values[-1]) + 1, np.uint8)
        table[values] = np.arange(len(values))
        coarse = F.interpolate(torch.from_numpy(table[labels].astype(np.float32))[None, None], scale_factor=0.5)[0, 0]
        image = paint(rng, coarse.numpy().astype(np.uint8), blur=0.9)[0, 0].numpy()
        truth = classes_of(values)[coarse.numpy().astype(int)]
        report(f"painted {17 + number}", segment(run, image - image.min() + 1e-3, (SPACING,) * 3), truth)


if __name__ == "__main__":
    main()
