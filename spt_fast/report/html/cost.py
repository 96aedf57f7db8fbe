"""The section on cost: seconds by phase, and GPU-seconds where the run tells how many GPUs a worker had."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spt_fast.report.cells import CellReport
from spt_fast.report.html.figures import draw
from spt_fast.report.html.grid import Grid
from spt_fast.report.html.parts import Cell, Figure, Figures, Group, Key, Part, Prose, Section, Table
from spt_fast.report.html.words import ABSENT, Number, counted, seconds, visible

PHASES = (
    ("load_s", "load", 6),
    ("train_s", "tune", 5),
    ("engine_start_s", "engine start", 4),
    ("answer_s", "answer", 1),
    ("score_s", "score", 3),
    ("judge_engine_start_s", "start of the judge", 7),
    ("judge_s", "judge", 2),
)
"""Cost of a cell -> how it is called, and its colour."""
OF_A_JUDGE = frozenset({"judge_engine_start_s", "judge_s"})
"""What a judge took stands on a line of its own."""
_OF_A_WORKER = frozenset({"load_s", "engine_start_s"})
"""Every cell of a worker has these alike: they are counted once."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What the done cells of a model took."""

    phases: Mapping[str, float]
    """Cost -> seconds."""
    cells: int
    rows: int
    memory: float
    """Peak, in bytes; 0 where it is not known."""
    gpus: float
    """Of a worker; NaN where it is not known."""

    @property
    def total(self) -> float:
        """Seconds."""
        return sum(self.phases.values())


def spent(cells: Iterable[CellReport], gpus: float = math.nan) -> Spent:
    """Put the costs of a model's cells together.

    Args:
        cells: of one model.
        gpus: that its workers had.
    """
    done = [cell for cell in cells if cell.status == "done"]
    phases = {}
    for name, _, _ in PHASES:
        values = [value for cell in done if (value := cell.costs.get(name)) is not None and math.isfinite(value)]
        phases[name] = 0.0 if name in OF_A_JUDGE else math.fsum(set(values) if name in _OF_A_WORKER else values)
    sizes = [metric.n * len(cell.metrics) for cell in done if (metric := cell.metric("format_following")) is not None]
    peaks = [value for cell in done for name, value in cell.costs.items() if name.startswith("peak_")]
    return Spent(phases=phases, cells=len(done), rows=sum(sizes), memory=max(peaks, default=0.0), gpus=gpus)


def spent_judging(cells: Iterable[CellReport]) -> Spent:
    """What judges took. One counts its seconds from its start, so those of its last cell are those of all."""
    judged = [cell for cell in cells if cell.status == "done" and "judge_s" in cell.costs]
    engines: dict[float, float] = {}
    for cell in judged:
        start = cell.costs.get("judge_engine_start_s", 0.0)  # tells one engine from the next
        engines[start] = max(cell.costs["judge_s"], engines.get(start, 0.0))
    phases = dict.fromkeys((name for name, _, _ in PHASES), 0.0)
    phases |= {"judge_engine_start_s": sum(engines), "judge_s": sum(engines.values())}
    sizes = [metric.n * len(cell.metrics) for cell in judged if (metric := cell.metric("format_following")) is not None]
    return Spent(phases=phases, cells=len(judged), rows=sum(sizes), memory=0, gpus=math.nan)


def cost(grid: Grid, gpus: Mapping[str, float]) -> Section | None:
    """Where the time went; None where nothing is done.

    Args:
        grid: of the run.
        gpus: model -> how many a worker of it had.
    """
    of_model: dict[str, list[CellReport]] = {}
    for cell in grid.cells:
        of_model.setdefault(cell.model, []).append(cell)
    by_model = {model: spent(of_model[model], gpus.get(model, math.nan)) for model in grid.models}
    judging = spent_judging(grid.cells)
    lines = [(grid.short[model], each) for model, each in by_model.items() if each.cells]
    lines += [("the judge", judging)] if judging.cells else []
    if not lines:
        return None
    used = [phase for phase in PHASES if any(each.phases[phase[0]] for _, each in lines)]
    parts: list[Part] = [
        Prose(text="Seconds of the workers. A model is loaded and its engine started once for all of its cells."),
        _figure(lines, used),
        _by_model(lines, used),
        _by_task(grid, gpus),
    ]
    return Section(id="cost", title="Cost", parts=parts)


def _figure(lines: Sequence[tuple[str, Spent]], used: Sequence[tuple[str, str, int]]) -> Figures:
    rows: list[dict[str, Any]] = []
    for name, each in lines:
        for i, (phase, called, colour) in enumerate(used):
            value = each.phases[phase]
            tip = f"{name}: {called} {seconds(value)} of {seconds(each.total)}, n = {counted(each.cells, 'cell')}"
            rows.append({"model": name, "value": value, "rank": i, "colour": f"var(--c{colour})", "tip": tip})
    svg = draw("cost", rows, "Seconds by model and phase")
    legend = [Key(glyph="\u25a0", colour=colour, text=called) for _, called, colour in used]
    return Figures(title="Where the time went", figures=[Figure(svg=svg, note="seconds")], legend=legend)


def _by_model(lines: Sequence[tuple[str, Spent]], used: Sequence[tuple[str, str, int]]) -> Table:
    rows: list[list[Cell]] = []
    for name, each in lines:
        times: list[Cell] = [_time(each.phases[phase], called, each.cells) for phase, called, _ in used]
        on_gpus = _gpu_seconds(each.total, each.gpus, each.cells)
        memory = f"{each.memory / 2**30:.1f} GiB" if each.memory else ABSENT
        total = _time(each.total, "all phases", each.cells)
        rows.append([name, f"{each.cells:,}", f"{each.rows:,}", *times, total, *on_gpus, memory])
    return Table(
        caption="By model",
        head=["model", "cells", "rows", *(called for _, called, _ in used), "all", "GPU-seconds", "a cell", "peak memory"],
        groups=[Group(title="", rows=rows)],
    )


def _by_task(grid: Grid, gpus: Mapping[str, float]) -> Table:
    """Means over models and seeds."""
    groups = []
    for task in grid.tasks:
        rows: list[list[Cell]] = []
        for protocol in grid.protocols:
            cells = [
                cell
                for place in grid.places(task=task)
                if place.protocol == protocol
                for cell in grid.at[place]
                if cell.status == "done"
            ]
            if cells:
                means = [_mean(cells, name) for name in ("train_s", "answer_s", "score_s")]
                own = [
                    gpus.get(cell.model, math.nan) * (cell.costs.get("train_s", 0.0) + cell.costs.get("answer_s", 0.0))
                    for cell in cells
                ]
                mean_own = sum(own) / len(own)
                on_gpus = f"{mean_own:,.1f}" if mean_own > 0 else ABSENT
                rows.append(
                    [visible(protocol), f"{len(cells):,}", *(_time(m, "a cell on average", len(cells)) for m in means), on_gpus]
                )
        if rows:
            groups.append(Group(title=visible(task), rows=rows))
    head = ["protocol", "cells", "tune", "answer", "score", "GPU-seconds"]
    return Table(caption="A cell on average, by task and protocol", head=head, groups=groups)


def _mean(cells: Sequence[CellReport], name: str) -> float:
    values = [cell.costs.get(name, 0.0) for cell in cells]
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else 0.0


def _time(value: float, called: str, cells: int) -> Number:
    return Number(text=seconds(value) if value else ABSENT, tip=f"{called}: {value:.3f} s, n = {counted(cells, 'cell')}")


def _gpu_seconds(total: float, gpus: float, cells: int) -> list[Cell]:
    """Of a model, and a cell of it on average."""
    if math.isnan(gpus) or gpus == 0:
        return [ABSENT, ABSENT]
    return [f"{total * gpus:,.0f}", f"{total * gpus / cells:,.1f}"]
