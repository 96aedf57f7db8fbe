"""Checkpoints of a training run: each metric along tokens or steps, the gate's verdicts, and from where on a fault stays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from statistics import fmean
from typing import Any

from spt_fast.analysis.cells import OverSeeds, over_seeds
from spt_fast.analysis.faults import Told
from spt_fast.report.cells import SeedGroup, distinct
from spt_fast.report.early import as_measured, asked, is_early, standing
from spt_fast.report.grid import Grid, is_control
from spt_fast.report.parts import GLYPHS, Cell, Figure, Figures, Group, Key, Linked, Part, Prose, Section, Table, colour
from spt_fast.report.parts import samples_link as link
from spt_fast.report.recorded import Recorded
from spt_fast.report.words import ABSENT, Number, share, visible
from spt_fast.scoring.metrics import ANSWER, HEADLINE, STEPS_TO_FORMAT, MetricSpec, is_further, spec

MOST_FIGURES = 60
"""Of a series on a page."""
MOST_TASKS = 12
"""Tasks that have a thin line of their own in a figure."""
MARKS = {"fail": "cross", "undecided": "triangle-left"}
"""Verdicts that figures mark."""
_MARK_COLOURS = {"fail": 0, "undecided": 8}
READING = (
    "Means over tasks with 95% intervals; thin lines are tasks; in the figure of what fell, a dashed line is where it did. A "
    "checkpoint is held against the last healthy one, on the same rows: healthy is where a fall of two points is ruled out (of "
    "five in the form, which comes and goes), fallen what is significantly lower by at least a point (five). The level, 0.05 "
    "for all that is followed here, holds over all looks, however long the series becomes. Knowledge is followed behind a soft "
    "prompt, or by likelihood, where the form of an answer does not hide it."
)


def section(recorded: Recorded) -> Section | None:
    """None where the run has no series of three checkpoints."""
    parts: list[Part] = []
    for told in recorded.series:
        parts += _parts(recorded, told)
    return Section(id="series", title="Series", parts=parts) if parts else None


def _parts(recorded: Recorded, told: Told) -> Iterator[Part]:
    grid, verdicts = recorded.by_place, _verdicts(recorded, told)
    yield Prose(text=f"{visible(told.series.short_name)}: {visible(told.sentence, 2000)}")
    yield Prose(text=READING)
    early = _early_models(grid, told)
    if early:
        names = ", ".join(map(visible, early[:MOST_NAMED])) + f" and {len(early) - MOST_NAMED} more" * (len(early) > MOST_NAMED)
        yield Prose(text=f"Stopped early (stop): {names}. {EARLY}")
    marked = {verdict for verdict, _ in verdicts.values()} & MARKS.keys()
    places = [(protocol, metric) for protocol in _protocols(grid, told) for metric in _metrics(grid, told, protocol)]
    keys = [Key(glyph=GLYPHS[MARKS[each]], colour=_MARK_COLOURS[each], text=_SAID[each]) for each in sorted(marked)]
    keys += [Key(glyph=HOLLOW, colour=1, text="stopped early")] * bool(early)
    for protocol, some in groupby(
        places[:MOST_FIGURES], key=itemgetter(0)
    ):  # a row each, so that metrics stand below each other
        figures = [_figure(grid, told, protocol, metric, verdicts) for _, metric in some]
        yield Figures(figures=figures, legend=keys if protocol == places[0][0] else ())
    if verdicts:
        yield _verdict_table(told, verdicts)
    yield _means(grid, told)
    for task in grid.tasks:
        table = _numbers(grid, told, task)
        if table is not None:
            yield table


MOST_NAMED = 12
"""Checkpoints that a sentence names."""
PAPER = "var(--paper)"
HOLLOW = "\u25cb"
"""The point of a checkpoint that was stopped early, as a character."""
EARLY = (
    "Their points are hollow: each stands where the nearest earlier checkpoint does that was asked all rows, and as far above "
    "or below it as the rows say that both were asked, with an interval that holds at every look. Metrics that cannot be "
    "looked at again and again are left out."
)


def _early_models(grid: Grid, told: Told) -> list[str]:
    """Checkpoints of the series of which some cells were asked no further than was needed."""
    of = {each["id"] for each in grid.resolved.get("models", ()) if each.get("series") == told.series.name}
    return distinct(cell.model for cell in grid.cells if cell.status == "stopped" and cell.model in of)


_SAID = {"fail": "failed the gate", "undecided": "undecided"}


def _verdicts(recorded: Recorded, told: Told) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Checkpoint -> what `watch` has said of it last; also of those that could not be evaluated."""
    found = [each for each in recorded.verdicts if each.get("series") == told.series.name]
    return {str(each["checkpoint"]): (str(each["verdict"]), each) for each in found}


def _protocols(grid: Grid, told: Told) -> list[str]:
    """Those that anything was measured under, controls last."""
    models = {each.model for each in told.series.checkpoints}
    measured = {cell.protocol for cell in grid.cells if cell.status in ("done", "stopped") and cell.model in models}
    return sorted((label for label in grid.protocols if label in measured), key=is_control)


def _metrics(grid: Grid, told: Told, protocol: str) -> list[MetricSpec]:
    """What is drawn and listed: the headline, the likelihood of answers, and what is the run's own."""
    models = {each.model for each in told.series.checkpoints}
    cells = (cell for cell in grid.cells if cell.protocol == protocol and cell.model in models)
    there = distinct(name for cell in cells for name in as_measured(cell).last_metrics)
    own = [name for name in there if is_further(name) and name not in (*ANSWER, STEPS_TO_FORMAT)]
    known = [
        name
        for name in (*HEADLINE, *ANSWER, STEPS_TO_FORMAT)
        if name in there or (name == "knowledge_best" and "knowledge" in there)
    ]
    return [spec(name) for name in (*known, *own)]


def _figure(
    grid: Grid, told: Told, protocol: str, metric: MetricSpec, verdicts: Mapping[str, tuple[str, Mapping[str, Any]]]
) -> Figure:
    what = f"{metric.words}, {visible(protocol)}"
    rows = list(_rows(grid, told, protocol, metric, verdicts))
    note = ""
    onset = told.onset_of(metric.name, protocol)
    if onset is not None:
        note = f"from {visible(told.series.checkpoints[onset].name)} on"
        rows.append({"x": told.series.positions[onset], "line": None, "onset": f"the fault begins: {note}"})
    return Figure(
        drawing="series",
        rows=rows,
        label=f"{what} along {told.series.unit}{f'; {note}' if note else ''}",
        x={"axis": {"title": told.series.unit}},
        caption=f"{metric.words} \u00b7 {visible(protocol)}",
        note=note,
    )


def _rows(
    grid: Grid, told: Told, protocol: str, metric: MetricSpec, verdicts: Mapping[str, tuple[str, Mapping[str, Any]]]
) -> Iterator[dict[str, Any]]:
    look = {
        "colour": colour(metric.colour),
        "shape": metric.shape,
        "size": 30,
        "dot": colour(metric.colour),
        "fill": colour(metric.colour),
        "mean": False,
        "onset": None,
    }
    tasks = _tasks(grid, told, protocol, metric)
    for checkpoint, x in zip(told.series.checkpoints, told.series.positions, strict=True):
        found = {task: _at(grid, told, checkpoint.model, task, protocol, metric) for task in tasks}
        for task, each in found.items() if 1 < len(tasks) <= MOST_TASKS else ():
            if each is not None:
                yield {**look, "x": x, "line": task, "value": each.value}
        mean = _mean(list(found.values()))
        if mean is not None:
            verdict = verdicts.get(checkpoint.model, ("", {}))[0]
            number = _number(mean, tasks, f"{visible(checkpoint.name)}: {metric.words}", metric)
            early = _rows_asked(grid, checkpoint.model, tasks, protocol)
            dot = colour(_MARK_COLOURS[verdict] if verdict in MARKS else metric.colour)
            marked = {"shape": MARKS[verdict], "size": 70} if verdict in MARKS else {}
            filled = {"dot": dot, "fill": PAPER if early else dot}
            said = "".join(f"; {each}" for each in (early and f"stopped after {early} rows", verdict) if each)
            at = {"x": x, "line": "", "mean": True, "value": mean.value, "low": mean.low, "high": mean.high}
            yield {**look, **marked, **filled, **at, "tip": f"{number.tip}{said}"}


def _tasks(grid: Grid, told: Told, protocol: str, metric: MetricSpec) -> list[str]:
    """Those that have the metric at some checkpoint."""
    models = [each.model for each in told.series.checkpoints]
    return [task for task in grid.tasks if any(_at(grid, told, model, task, protocol, metric) is not None for model in models)]


def _at(grid: Grid, told: Told, model: str, task: str, protocol: str, metric: MetricSpec) -> OverSeeds | None:
    place = SeedGroup(model, task, protocol)
    cells = grid.at.get(place, ())
    return standing(grid, told.levels, place, metric.name) if is_early(cells) else over_seeds(cells, metric.name)


def _mean(found: Sequence[OverSeeds | None]) -> OverSeeds | None:
    """The mean over tasks; None where one lacks. Its interval from theirs: Zou and Donner (2008), Statistics in Medicine 27,
    1693-1702."""
    there = [each for each in found if each is not None]
    if not there or len(there) < len(found):
        return None
    value, n = fmean(each.value for each in there), len(there)
    return OverSeeds(
        value=value,
        low=value - math.sqrt(sum((each.value - each.low) ** 2 for each in there)) / n,
        high=value + math.sqrt(sum((each.high - each.value) ** 2 for each in there)) / n,
        seeds=1,
        between=math.nan,
        sampling=math.sqrt(sum(each.sampling**2 for each in there)) / n,
    )


def _number(mean: OverSeeds, tasks: Sequence[str], what: str, metric: MetricSpec) -> Number:
    over = f", mean of {len(tasks)} tasks" if len(tasks) > 1 else ""
    found = share(mean, [len(tasks)], what, metric)
    tip = f"{found.tip.rpartition(', n = ')[0]}{over}"
    return Number(text=found.text, interval=found.interval, tip=tip, tint=found.tint)


def _verdict_table(told: Told, verdicts: Mapping[str, tuple[str, Mapping[str, Any]]]) -> Table:
    rows: list[list[Cell]] = []
    for model, (verdict, about) in verdicts.items():
        against = visible(str(about.get("baseline") or ABSENT))
        accepted = "yes" if about.get("accepted") else "no"
        rows.append([visible(model), verdict, against, accepted, visible(str(about.get("why") or ""), 600)])
    head = ["checkpoint", "verdict", "against", "accepted", "why"]
    return Table(caption="Verdicts, as they were reached", head=head, groups=[Group(title="", rows=rows)], headers=len(head))


def _means(grid: Grid, told: Told) -> Table:
    """A line a checkpoint, means over tasks."""
    protocols = _protocols(grid, told)
    metrics = {each.name: each for label in protocols for each in _metrics(grid, told, label)}
    is_any_early = bool(_early_models(grid, told))
    groups = []
    for label in protocols:
        tasks = {name: _tasks(grid, told, label, metric) for name, metric in metrics.items()}
        rows: list[list[Cell]] = []
        for checkpoint, at in _named(told):
            early = _rows_asked(grid, checkpoint.model, grid.tasks, label)
            row: list[Cell] = [visible(checkpoint.name), at, *[early or "all"] * is_any_early]
            for name, metric in metrics.items():
                mean = _mean([_at(grid, told, checkpoint.model, task, label, metric) for task in tasks[name]])
                what = f"{visible(checkpoint.name)}: {metric.words}"
                row.append(ABSENT if mean is None else _number(mean, tasks[name], what, metric))
            rows.append(row)
        groups.append(Group(title=visible(label), rows=rows))
    head = ["checkpoint", told.series.unit, *["rows"] * is_any_early, *(metric.head for metric in metrics.values())]
    return Table(caption="Means over tasks by checkpoint", head=head, groups=groups, headers=2, folded=True, grouped="protocol")


def _numbers(grid: Grid, told: Told, task: str) -> Table | None:
    """A line a checkpoint, of one task; None where there is nothing, or nothing but what the means say."""
    if len(grid.tasks) < 2:
        return None
    protocols = _protocols(grid, told)
    metrics = {each.name: each for label in protocols for each in _metrics(grid, told, label)}
    is_any_early = bool(_early_models(grid, told))
    groups = []
    for label in protocols:
        rows: list[list[Cell]] = []
        for checkpoint, at in _named(told):
            place = SeedGroup(checkpoint.model, task, label)
            cells = [_linked(grid, told, place, metric) for metric in metrics.values()]
            early = _rows_asked(grid, checkpoint.model, [task], label)
            row: list[Cell] = [visible(checkpoint.name), at, *[early or "all"] * is_any_early, *cells]
            rows += [row] * any(cell != ABSENT for cell in cells)
        groups += [Group(title=visible(label), rows=rows)] * bool(rows)
    head = ["checkpoint", told.series.unit, *["rows"] * is_any_early, *(metric.head for metric in metrics.values())]
    caption = f"{visible(task)} by checkpoint"
    return Table(caption=caption, head=head, groups=groups, headers=2, folded=True, grouped="protocol") if groups else None


def _linked(grid: Grid, told: Told, place: SeedGroup, metric: MetricSpec) -> Cell:
    if is_early(grid.at.get(place, ())):
        found = standing(grid, told.levels, place, metric.name)
        rows, what = [asked(grid.at[place])[0]], f"{grid.said(place)}: {metric.words}"
        return ABSENT if found is None else share(found, rows, what, metric)
    number = grid.number(place, metric.name)
    return Linked(number=number, href=link(**place._asdict())) if isinstance(number, Number) else number


def _rows_asked(grid: Grid, model: str, tasks: Sequence[str], protocol: str) -> str:
    """ "240 of 1,000", over those of some tasks that were stopped early; empty: none was."""
    places = (grid.at.get(SeedGroup(model, task, protocol), ()) for task in tasks)
    early = [asked(cells) for cells in places if is_early(cells)]
    return f"{sum(n for n, _ in early):,} of {sum(of for _, of in early):,}" if early else ""


def _named(told: Told) -> Iterator[tuple[Any, str]]:
    """Checkpoints, and where they are."""
    for checkpoint, at in zip(told.series.checkpoints, told.series.positions, strict=True):
        yield checkpoint, f"{at:,}"
