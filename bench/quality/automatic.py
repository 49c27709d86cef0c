"""The models that ask nothing of the user: hippocampus_mri, modality_2d and brain_mri."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from common.data import DATA, read_volume
from common.metrics import dice
from report import Cell, Result, Table
from scans import Options, scan_of
from server import Server


def hippocampus_mri(server: Server, options: Options) -> Result:
    """Dice of both labels on held-out crops."""
    from hippocampus.data import LABELS, cases, label_file

    scores = []
    for file in cases(held_out=True)[: options.each]:
        sent, placed = scan_of(file, options)
        guess = server.labels("segmentation", "hippocampus_mri", {}, sent)
        truth = placed(read_volume(label_file(file), labels=True).data)
        scores.append([dice(guess == k, truth == k) for k in range(1, 1 + len(LABELS))])
    columns = np.array(scores).T
    rows = {label: [float(s.mean()), float(s.min()), len(s)] for label, s in zip(LABELS, columns, strict=True)}
    return Result([Table("hippocampus_mri, Dice", ("mean", "worst", "cases"), rows)])


def modality_2d(server: Server, options: Options) -> Result:
    """Share of held-out pictures that are called what they are; all of them from --each 20 on."""
    from modality.data import LABELS, held_out, load

    images, classes = load()
    files = [f for label in LABELS for f in sorted((DATA / "png" / "mednist" / label).iterdir())]
    right: dict[str, list[bool]] = {label: [] for label in LABELS}
    for i in np.flatnonzero(held_out(images, classes))[:: max(1, 20 // options.each)]:
        reply = json.loads(server.ask("/v1/inference?model=modality_2d&output=results", {}, files[i]))
        said = reply["prediction"] if "prediction" in reply else reply["params"]["prediction"]
        right[LABELS[classes[i]]].append(LABELS[classes[i]] in said)
    right["all"] = [r for answers in right.values() for r in answers]
    rows = {label: [float(np.mean(answers)), sum(answers), len(answers)] for label, answers in right.items() if answers}
    return Result([Table("modality_2d", ("accuracy", "right", "pictures"), rows)], {"accuracy": float(np.mean(right["all"]))})


def brain_mri(server: Server, options: Options) -> Result:
    """The whole brain of five scans, with and without the fluid around it, and the structures of the one that has them."""
    from brain_mri.data import FIRST, OUTER_CSF

    brain, stroke = DATA / "nifti" / "brain", DATA / "nifti" / "stroke"

    def asked(file: Path) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        sent, placed = scan_of(file, options)
        return server.labels("segmentation", "brain_mri", {}, sent), placed

    def whole(guess: np.ndarray, truth: np.ndarray, dry: np.ndarray | None = None) -> list[Cell]:
        return [dice(guess > 0, truth), dice((guess > 0) & (guess != FIRST[OUTER_CSF]), truth if dry is None else dry)]

    rows: dict[str, list[Cell]] = {}
    for contrast in ("T1", "T2", "FLAIR"):
        file = stroke / f"{contrast}.nii.gz"
        guess, placed = asked(file)
        rows[f"stroke {contrast}"] = whole(guess, placed(read_volume(file).data != 0))
    mask = read_volume(brain / "t1_crop_ref_mindgrab.nii.gz", labels=True).data > 0
    guess, placed = asked(brain / "t1_crop_brainchop.nii.gz")
    rows["t1_crop"] = whole(guess, placed(mask))
    guess, placed = asked(brain / "fs_norm.nii.gz")
    truth, known = map(placed, brain_labels(read_volume(brain / "fs_aparc_a2009s_aseg.nii.gz", labels=True).data))
    rows["fs_norm"] = whole(guess, truth > 0, (truth > 0) & (truth != FIRST[OUTER_CSF]))
    structures = structure_rows(np.where(known, guess, 0), np.where(known, truth, 0))
    measures = {f"whole brain Dice, {name}": float(row[0]) for name, row in rows.items()}
    measures["mean Dice of subcortical structures"] = float(structures["subcortical, mean"][2])
    return Result([Table("brain_mri, whole brain, Dice", ("with outer CSF", "without"), rows),
                   Table("brain_mri, fs_norm, Dice", ("left", "right", "mean"), structures)], measures)


def brain_labels(free_surfer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """FreeSurfer numbers to the numbers that brain_mri gives, and where those are certain: the corpus callosum has no side
    in FreeSurfer, but its white matter has one in brain_mri."""
    from brain_mri.data import FIRST, SIDED, classes_of, sides_of

    classes, sides = classes_of(free_surfer), sides_of(free_surfer)
    sided = np.array(SIDED)[classes]
    return np.array(FIRST)[classes] + (sided & (sides > 0)), ~sided | (sides != 0)


def structure_rows(guess: np.ndarray, truth: np.ndarray) -> dict[str, list[Cell]]:
    """Dice of every structure, left, right and their mean; on the midline the mean alone. Then the means of several."""
    from brain_mri.data import CLASSES, FIRST, SIDED, SUBCORTICAL

    rows: dict[str, list[Cell]] = {}
    for number, (name, _, _) in enumerate(CLASSES, start=1):
        sides = [dice(guess == k, truth == k) for k in range(FIRST[number], FIRST[number] + 1 + SIDED[number])]
        rows[name] = [*(sides if SIDED[number] else (None, None)), float(np.mean(sides))]
    rows["subcortical, mean"] = [float(np.mean([rows[name][i] for name in SUBCORTICAL])) for i in range(3)]
    rows["all, mean"] = [None, None, float(np.mean([rows[name][2] for name, _, _ in CLASSES]))]
    return rows
