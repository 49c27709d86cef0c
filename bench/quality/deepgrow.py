"""deepgrow_2d and deepgrow_3d: a user who clicks in a session, each click but the first at the largest error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.clicks import centre_click, correction
from common.held_out_3d import Case, cases_3d, table
from common.metrics import dice
from deepgrow_2d.evaluate import CLICKS, held_out_cases, vessels
from deepgrow_2d.evaluate import Case as Slice
from report import OBEYED, RISE, VESSELS, Result, Table, after
from scans import Options, by_image, gridded, picture_file, volume_file
from server import Server

Click = tuple[int, ...]


@dataclass(frozen=True)
class Target:
    """A structure to click: its mask, the file's voxel of one of the mask's, and the mask's part of a whole label map."""

    source: str
    truth: np.ndarray
    voxel: Callable[[Click], list[int]]
    part: Callable[[np.ndarray], np.ndarray]


@dataclass
class Tally:
    """What was measured so far: Dice after each of CLICKS by source, and clicks sent and obeyed in all requests."""

    scores: dict[str, list[list[float]]] = field(default_factory=dict)
    sent: int = 0
    obeyed: int = 0

    def table(self, title: str) -> Table:
        rows = {**table(self.scores), "mean over sources": [*self.source_means().values(), len(self.scores)]}
        return Table(title, (*(f"{c} click{'s' * (c > 1)}" for c in CLICKS), "structures"), rows)

    def means(self) -> dict[int, float]:
        """Mean Dice over all structures, by number of clicks."""
        return dict(zip(CLICKS, table(self.scores)["all"], strict=False))

    def source_means(self, chosen: Callable[[str], bool] = lambda source: True) -> dict[int, float]:
        """The mean over the chosen sources of each one's mean Dice, by number of clicks."""
        rows = [np.mean(rows, 0) for source, rows in self.scores.items() if chosen(source)]
        return dict(zip(CLICKS, np.mean(rows, 0).tolist(), strict=True))

    def rise(self) -> float:
        """The least gain of the mean from one of CLICKS to the next."""
        return float(np.diff([*self.means().values()]).min())


def click_through(server: Server, model: str, session: str, target: Target, tally: Tally) -> None:
    """Clicks one structure until it is right or CLICKS are spent; what is right stays right."""
    foreground, background, curve = [centre_click(target.truth)], [], []
    while len(curve) < max(CLICKS):
        params = {"foreground": [target.voxel(c) for c in foreground], "background": [target.voxel(c) for c in background]}
        guess = target.part(server.labels("deepgrow", model, params, session=session)) > 0
        curve.append(dice(guess, target.truth))
        tally.sent += len(foreground) + len(background)
        tally.obeyed += sum(bool(guess[c]) for c in foreground) + sum(not guess[c] for c in background)
        error = correction(guess, target.truth)
        if error is None:
            curve += [1.0] * (max(CLICKS) - len(curve))
        else:
            (foreground if error[1] else background).append(error[0])
    tally.scores.setdefault(target.source, []).append([curve[c - 1] for c in CLICKS])


def run_clicks(server: Server, model: str, groups: Iterator[tuple[Path, list[Target]]]) -> Tally:
    """Clicks every structure, one session a file; the file is deleted afterwards."""
    tally = Tally()
    for file, targets in groups:
        with server.session(file) as session:
            for target in targets:
                click_through(server, model, session, target, tally)
        file.unlink()
    return tally


def slices(cases: list[Slice], folder: Path) -> Iterator[tuple[Path, list[Target]]]:
    """Pictures as PNG; the slices of a source that share a grid are stacked, so that the server has to find the one meant."""
    stacks: dict[tuple[object, ...], list[Slice]] = {}
    for case in cases:
        if case.picture:
            target = Target(case.source, case.mask, lambda c: [c[1], c[0], 0], lambda labels: labels)
            yield picture_file(folder, case.image), [target]
        else:
            stacks.setdefault((case.source, case.image.shape, case.spacing), []).append(case)
    for stack in stacks.values():
        file = volume_file(folder, np.stack([case.image for case in stack], -1), (*stack[0].spacing, 1.0))
        yield file, [Target(case.source, case.mask, lambda c, k=k: [*c, k], lambda labels, k=k: labels[..., k])
                     for k, case in enumerate(stack)]


def volumes(cases: list[Case], options: Options) -> Iterator[tuple[Path, list[Target]]]:
    """The three-dimensional cases, those of one scan together."""
    for group in by_image((case, None) for case in gridded(cases, options)):
        first = group[0][0]
        yield (volume_file(options.folder, first.image, first.spacing),
               [Target(case.source, case.mask, list, lambda labels: labels) for case, _ in group])


def deepgrow_2d(server: Server, options: Options) -> Result:
    return clicked("deepgrow_2d", (1, 3, 5), lambda components: run_clicks(
        server, "deepgrow_2d", slices(held_out_cases(options.each, options.seeded(5), components), options.folder)))


def deepgrow_3d(server: Server, options: Options) -> Result:
    return clicked("deepgrow_3d", (1, 5, 10), lambda components: run_clicks(
        server, "deepgrow_3d", volumes(cases_3d(options.each, options.seeded(6), components), options)))


def clicked(model: str, at: tuple[int, ...], tally_of: Callable[[bool], Tally]) -> Result:
    """Everything that has the label, and only its largest connected part; `at`: the numbers of clicks with a goal."""
    tables, measures, tallies = [], {}, []
    for kind, components in (("label", False), ("part", True)):
        tally = tally_of(components)
        tables.append(tally.table(f"{model}, {kind}, mean Dice"))
        means = tally.source_means()
        measures |= {f"{kind}: {after(clicks)}": means[clicks] for clicks in at} | {f"{kind}: {RISE}": tally.rise()}
        if model == "deepgrow_2d" and not components and any(map(vessels, tally.scores)):
            measures[VESSELS] = tally.source_means(vessels)[5]
        tallies.append(tally)
    return obeyed(tables, measures, tallies)


def obeyed(tables: list[Table], measures: dict[str, float], tallies: list[Tally]) -> Result:
    """The result, with how many of the clicks were obeyed: those of a request count each time they are sent."""
    kept, sent = sum(t.obeyed for t in tallies), sum(t.sent for t in tallies)
    rows = {"all": [kept, sent, kept / sent]}
    return Result([*tables, Table("clicks obeyed", ("obeyed", "sent", "share"), rows)], {**measures, OBEYED: kept / sent})
