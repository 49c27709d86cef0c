"""Measures the bundled models through a server, on held-out data: configs and transforms as well as weights.

    npm run build && python bench/quality/run.py [--models deepgrow_2d,dextr3d] [--each 20] [--seed 5] [--json FILE]

Without --url it starts a server of its own from dist/ for each model, on a free port and in an empty workspace, and also says
how much memory it took; `npm run build` comes first, or dist/ may be stale. The data folder is ../shared/data or AIDANT_DATA.
Structures, clicks and metrics are those of training/, whose requirements this needs. A run is the same again with the same
--each and --seed; without --seed it draws the structures that `python -m <model>.evaluate` draws.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "training"))

from automatic import brain_mri, hippocampus_mri, modality_2d
from deepgrow import deepgrow_2d, deepgrow_3d
from extreme_points import dextr3d
from report import MEMORY, SECONDS, Result, Table, verdict_table, verdicts
from scans import Options, Spacing
from server import Server, serving

EVALUATIONS: dict[str, Callable[[Server, Options], Result]] = {
    "hippocampus_mri": hippocampus_mri, "modality_2d": modality_2d, "deepgrow_2d": deepgrow_2d, "deepgrow_3d": deepgrow_3d,
    "dextr3d": dextr3d, "brain_mri": brain_mri,
}

FINE: Spacing = (0.9, 0.86, 0.86)
"""Voxels in mm that no model works at, so that every label map has to find its way back."""
THICK: Spacing = (1.0, 1.0, 3.0)
"""Thick slices, as clinical heads have them."""
GRIDS: dict[str, tuple[Spacing, ...]] = {"modality_2d": (), "deepgrow_2d": (), "brain_mri": (FINE, THICK)}
"""The spacings that a model's scans are sent at besides their own, where that is not FINE alone: pictures and single slices lie
on no grid."""


def measure(name: str, server: Server, options: Options) -> Result:
    """One model's result, on the scans as they are and on GRIDS (the goals are for the former), with what it cost: seconds of its
    requests, memory where the server was started here."""
    evaluate = EVALUATIONS[name]
    result = evaluate(server, options)
    more = []
    for grid in GRIDS.get(name, (FINE,)):
        spacing = " x ".join(f"{mm:g}" for mm in grid)
        tables = evaluate(server, replace(options, grid=grid)).tables
        more += [replace(table, title=f"{table.title}, scans at {spacing} mm") for table in tables]
    median, memory = statistics.median(server.seconds), server.peak_memory()
    held = [None, None] if memory is None else [peak / 1e9 for peak in memory]
    cost = Table(f"{name}, requests", ("median s", "slowest s", "requests", "server GB", "runners GB"),
                 {name: [median, max(server.seconds), len(server.seconds), *held]})
    measures = {**result.measures, SECONDS: median}
    if memory is not None:
        measures[MEMORY] = sum(memory) / 1e9
    return Result([*result.tables, *more, cost], measures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a running server; without it one is started from dist/")
    parser.add_argument("--models", default=",".join(EVALUATIONS), help="names, by comma")
    parser.add_argument("--each", type=int, default=20, help="most structures of each source, or cases")
    parser.add_argument("--seed", type=int, help="draws other structures")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    args = parser.parse_args()
    if args.each < 1:
        parser.error("--each must be 1 or more")
    names = args.models.split(",")
    if unknown := [name for name in names if name not in EVALUATIONS]:
        parser.error(f"no evaluation for {', '.join(unknown)}; there are {', '.join(EVALUATIONS)}")
    results: dict[str, Result] = {}
    with tempfile.TemporaryDirectory(prefix="aidant-quality-") as folder:
        for name in names:
            with serving(args.url) as server:
                if name not in server.models():
                    print(f"{name}: skipped, the server does not list it\n", flush=True)
                    continue
                results[name] = measure(name, server, Options(args.each, args.seed, Path(folder)))
            print(*(table.text() for table in results[name].tables), sep="\n\n", end="\n\n", flush=True)
    found = verdicts(results)
    print(verdict_table(found).text())
    if args.json:
        models = {name: asdict(result) for name, result in results.items()}
        args.json.write_text(json.dumps({"each": args.each, "seed": args.seed, "models": models, "goals": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
