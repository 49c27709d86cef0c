"""What an evaluation gives, how it is printed, and the goals it is compared with."""

from __future__ import annotations

from dataclasses import dataclass, field

Cell = float | int | str | None


@dataclass(frozen=True)
class Table:
    """Rows of numbers by name."""

    title: str
    columns: tuple[str, ...]
    rows: dict[str, list[Cell]]

    def text(self) -> str:
        """Tab-separated lines under the title, padded so that a terminal shows columns."""
        grid = [["", *self.columns], *([name, *map(cell_text, row)] for name, row in self.rows.items())]
        widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
        lines = ["\t".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in grid]
        return "\n".join([f"{self.title}:", *lines])


def cell_text(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)


@dataclass(frozen=True)
class Result:
    """Tables of one model, and the measures that have a goal."""

    tables: list[Table]
    measures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Goal:
    """A limit for one measure of one model; `least` says whether the measure must reach it or must not cross it."""

    model: str
    measure: str
    limit: float
    least: bool = True

    def met(self, value: float) -> bool:
        return value >= self.limit if self.least else value <= self.limit


KINDS = ("label", "part")
"""A structure is everything that has the label, or the label's largest connected part."""
RISE = "least gain of the mean between 1, 2, 3, 5 and 10 clicks"
VESSELS = "label: mean Dice of the vessels after 5 clicks, mean over sources"
OBEYED = "share of clicks obeyed"
SECONDS = "median seconds of a request"
MEMORY = "peak memory of server and runners, GB"


def after(clicks: int) -> str:
    """The name of the measure that is the mean over the sources of each one's mean Dice after so many clicks."""
    return f"mean Dice after {clicks} click{'s' * (clicks > 1)}, mean over sources"


GOALS = (
    *(Goal("deepgrow_2d", f"{kind}: {after(clicks)}", limit)
      for kind in KINDS for clicks, limit in ((1, 0.62), (3, 0.76), (5, 0.84))),
    Goal("deepgrow_2d", VESSELS, 0.35),
    *(Goal("deepgrow_3d", f"{kind}: {after(clicks)}", limit)
      for kind in KINDS for clicks, limit in ((1, 0.60), (5, 0.78), (10, 0.84))),
    *(Goal(model, f"{kind}: {RISE}", 0.0) for model in ("deepgrow_2d", "deepgrow_3d") for kind in KINDS),
    Goal("deepgrow_2d", OBEYED, 0.98),
    Goal("deepgrow_3d", OBEYED, 0.98),
    Goal("deepgrow_2d", SECONDS, 0.250, least=False),
    Goal("deepgrow_3d", SECONDS, 0.6, least=False),
    *(Goal("dextr3d", f"{kind}: mean Dice", 0.80) for kind in KINDS),
    Goal("dextr3d", "mean Dice of whole organs", 0.87),
    Goal("dextr3d", SECONDS, 2.0, least=False),
    Goal("modality_2d", "accuracy", 0.99),
    *(Goal("brain_mri", f"whole brain Dice, stroke {contrast}", 0.95) for contrast in ("T1", "T2", "FLAIR")),
    Goal("brain_mri", "mean Dice of subcortical structures", 0.80),
    Goal("brain_mri", SECONDS, 10.0, least=False),
    *(Goal(model, MEMORY, 2.0, least=False)
      for model in ("hippocampus_mri", "modality_2d", "deepgrow_2d", "deepgrow_3d", "dextr3d", "brain_mri")),
)


def verdicts(results: dict[str, Result]) -> list[dict[str, object]]:
    """Every goal of the models measured, in GOALS' order, with what was measured and whether the goal is met."""
    found = []
    for goal in GOALS:
        value = results[goal.model].measures.get(goal.measure) if goal.model in results else None
        if value is not None:
            found.append({"model": goal.model, "measure": goal.measure, "value": round(value, 4), "limit": goal.limit,
                          "wanted": "at least" if goal.least else "at most", "met": goal.met(value)})
    return found


def verdict_table(found: list[dict[str, object]]) -> Table:
    """The verdicts as a table."""
    rows: dict[str, list[Cell]] = {}
    for v in found:
        verdict = "met" if v["met"] else "missed"
        rows[f"{v['model']}, {v['measure']}"] = [float(v["value"]), f"{v['wanted']} {v['limit']:g}", verdict]
    return Table("goals", ("measured", "goal", "verdict"), rows)
