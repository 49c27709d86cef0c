"""dextr3d: a user who sets six extreme points, exactly or a little beside."""

from __future__ import annotations

import numpy as np

from common.bank import Scan, held_out_scans
from common.held_out_3d import SMALLEST, Case, cases_3d, table
from common.metrics import dice
from dextr3d.points import extreme_points
from report import Result, Table
from scans import Options, by_image, gridded, volume_file
from server import Server

COLUMNS = ("exact points", "jittered by 2 voxels", "structures")
Points = list[tuple[int, ...]]

ORGANS: dict[str, dict[str, tuple[tuple[int, ...], ...]]] = {
    "ts_ct20": {"kidney": ((2,), (3,)), "spleen": ((1,),), "liver": ((5,),), "bladder": ((21,),), "aorta": ((52,),)},
    "mr": {"kidney": ((2,), (3,)), "spleen": ((1,),), "liver": ((5,),), "bladder": ((16,),), "aorta": ((23,),)},
    "fs_norm": {"hippocampus": ((17,), (53,))},
    "hippocampus": {"hippocampus": ((1, 2),)},
}
"""Per source the organs that a user would outline whole, each a group of the file's own label numbers: TotalSegmentator's
tasks "total" (CT) and "total_mr", FreeSurfer's, and the two halves of the hippocampus in its crops together."""


def organ_cases(each: int) -> list[Case]:
    """Every organ of ORGANS that is in a held-out scan; of the hippocampus crops the first `each`. `source` is the organ."""
    found: list[Case] = []
    crops = 0
    for scan in held_out_scans():
        crops += scan.source == "hippocampus"
        if scan.source != "hippocampus" or crops <= each:
            found += [case for organ, groups in ORGANS.get(scan.source, {}).items() for group in groups
                      if (case := organ_case(scan, organ, group)).mask.sum() >= SMALLEST]
    return found


def organ_case(scan: Scan, organ: str, numbers: tuple[int, ...]) -> Case:
    """The voxels of a scan whose label in its file is one of `numbers`."""
    mask = np.isin(np.array(scan.numbers)[scan.labels], numbers)
    return Case(organ, numbers[0], scan.image, mask, scan.spacing)


def scores_of(server: Server, options: Options, cases: list[Case]) -> dict[str, list[list[float]]]:
    """Dice with exact and with jittered points, by source; one session a scan."""
    cases = gridded(cases, options)
    rng = np.random.default_rng(options.seeded(8))
    pointed = [(case, (extreme_points(case.mask), extreme_points(case.mask, rng, jitter=2))) for case in cases]
    scores: dict[str, list[list[float]]] = {case.source: [] for case in cases}
    for group in by_image(pointed):
        file = volume_file(options.folder, group[0][0].image, group[0][0].spacing)
        with server.session(file) as session:
            for case, both in group:
                scores[case.source].append([score(server, session, case, points) for points in both])
        file.unlink()
    return scores


def score(server: Server, session: str, case: Case, points: Points) -> float:
    """Dice of what the server makes of six points."""
    return dice(server.labels("dextr3d", "dextr3d", {"points": [list(p) for p in points]}, session=session) > 0, case.mask)


def dextr3d(server: Server, options: Options) -> Result:
    """Structures of every source, as everything that has the label and as its largest connected part; then whole organs,
    where each organ counts the same in the mean."""
    tables, measures = [], {}
    for kind, components in (("label", False), ("part", True)):
        sources = table(scores_of(server, options, cases_3d(options.each, options.seeded(6), components)))
        tables.append(Table(f"dextr3d, {kind}, mean Dice", COLUMNS, sources))
        measures[f"{kind}: mean Dice"] = sources["all"][0]
    organs = table(scores_of(server, options, organ_cases(options.each)))
    count = organs.pop("all")[-1]
    organs["whole organs"] = [round(float(v), 4) for v in np.mean([row[:-1] for row in organs.values()], 0)] + [count]
    tables.append(Table("dextr3d, whole organs, mean Dice", COLUMNS, organs))
    return Result(tables, {**measures, "mean Dice of whole organs": organs["whole organs"][0]})
