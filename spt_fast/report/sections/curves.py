"""Format following and knowledge by step, and where format following settles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from spt_fast.analysis.cells import RunCell
from spt_fast.report.cells import OverSeeds, SeedGroup, over_seeds
from spt_fast.report.grid import Grid
from spt_fast.report.parts import Cell, Figure, Figures, Group, Part, Prose, Section, Table, colour, legend, samples_link
from spt_fast.report.recorded import Recorded
from spt_fast.report.sections.overview import CLAIM
from spt_fast.report.words import ABSENT, share, visible
from spt_fast.scoring.metrics import FORMAT, MetricSpec
from spt_fast.scoring.statistics import saturation_step

MOST_CURVES = 240
"""Small figures of curves on a page."""


def section(recorded: Recorded) -> Section | None:
    """None where there are no curves."""
    grid = recorded.by_place
    parts: list[Part] = []
    drawn = 0
    for task in grid.tasks:
        places = [place for place in grid.places(task=task) if _steps(grid, place)]
        shown = places[: MOST_CURVES - drawn]
        drawn += len(shown)
        if shown:
            several = len({place.protocol for place in places}) > 1
            figures = [_curve(grid, place, several=several) for place in shown]
            parts += [Figures(title=visible(task), figures=figures), _table(grid, task, places)]
    if not parts:
        return None
    intro = (
        "Share of the test rows by training step, with 95% intervals; over several seeds the mean, and the widest span of "
        "their intervals. Format following has settled where from there on it stays within its interval at the last step (the "
        "latest such step of the seeds)."
    )
    line = Prose(text="The dashed line stands where format following has settled.", of_figures=True)
    return Section(
        id="curves", title="Curves", parts=[Figures(figures=[], legend=legend(CLAIM)), Prose(text=intro), line, *parts]
    )


def _steps(grid: Grid, place: SeedGroup) -> list[int]:
    """Steps that were measured; none where there is only the last."""
    found = sorted({step for cell in grid.at[place] if cell.status == "done" for step in cell.metrics if step is not None})
    return found if len(found) > 1 else []


def _at_step(cells: Sequence[RunCell], metric: MetricSpec, step: int) -> tuple[OverSeeds, list[int]] | None:
    """A metric over seeds at a step, and n of each; None where it was not measured."""
    there = [cell for cell in cells if step in cell.metrics]
    cut = [RunCell(model=c.model, task=c.task, protocol=c.protocol, metrics={step: c.metrics[step]}) for c in there]
    found = over_seeds(cut, metric.name)
    return None if found is None else (found, [m.n for cell in cut if (m := cell.metric(metric.name)) is not None])


def _settled(cells: Iterable[RunCell]) -> list[int]:
    """The step from which each seed's format following stays within its last interval."""
    found = (saturation_step(cell.curve(FORMAT)) for cell in cells if cell.status == "done")
    return [step for step in found if step is not None]


def _curve(grid: Grid, place: SeedGroup, *, several: bool) -> Figure:
    settled = _settled(grid.at[place])
    told = f"settled by step {max(settled)}" if settled else ""
    rows: list[dict[str, Any]] = []
    for metric in CLAIM:
        for step in _steps(grid, place):
            at = _at_step(grid.at[place], metric, step)
            if at is not None:
                found, sizes = at
                tip = share(found, sizes, f"step {step}: {metric.words}").tip
                here = bool(settled) and (metric.name, step) == (FORMAT, max(settled))
                row = {"measure": metric.words, "step": step, "value": found.value, "low": found.low, "high": found.high}
                look = {"colour": colour(metric.colour), "shape": metric.shape}
                rows.append({**row, "tip": tip, **look, "settled": f"{metric.words}: {told}" if here else None})
    return Figure(
        drawing="curve",
        rows=rows,
        label=f"{grid.said(place)}: format following and knowledge by step; {told}",
        caption=grid.short[place.model] + (f" \u00b7 {visible(place.protocol)}" if several else ""),
        note=told,
        href=samples_link(**place._asdict()),
    )


def _table(grid: Grid, task: str, places: Sequence[SeedGroup]) -> Table:
    steps = sorted({step for place in places for step in _steps(grid, place)})
    groups = []
    for place in places:
        settled = ", ".join(map(str, _settled(grid.at[place])))
        rows: list[list[Cell]] = []
        for metric in CLAIM:
            row: list[Cell] = [metric.words]
            for step in steps:
                at = _at_step(grid.at[place], metric, step)
                row.append(ABSENT if at is None else share(*at, f"step {step}: {metric.words}"))
            rows.append([*row, settled if metric.name == FORMAT else ""])
        groups.append(Group(title=f"{grid.name(place.model)} \u00b7 {visible(place.protocol)}", rows=rows))
    head = ["metric", *(f"step {step}" for step in steps), "settled at, by seed"]
    return Table(caption=f"{visible(task)} by step", head=head, groups=groups, folded=True, grouped="model and protocol")
