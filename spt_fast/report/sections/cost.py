"""Cost: seconds by phase, GPU-seconds, tokens, memory, price, and the estimate beside what it became."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from spt_fast.analysis.cells import RunCell
from spt_fast.config import PriceConfig
from spt_fast.report.checkpoint_costs import ITS_PHASES, checkpoint_costs
from spt_fast.report.costs import (
    PHASES,
    TOKENS,
    Session,
    Spent,
    by_model,
    gpus_of,
    money,
    price_of,
    sessions,
    spent_judging,
    spent_on,
    tokens,
    unit,
)
from spt_fast.report.grid import Grid
from spt_fast.report.parts import Cell, Figure, Figures, Group, Key, Part, Prose, Section, Table, colour, table
from spt_fast.report.recorded import Recorded
from spt_fast.report.words import ABSENT, Number, counted, seconds, visible

COLOURS = dict(zip(PHASES, (6, 5, 4, 1, 3, 7, 2), strict=True))


def section(recorded: Recorded) -> Section | None:
    """Where the time went; None where nothing is done."""
    grid, gpus, price = recorded.by_place, gpus_of(recorded.events), price_of(recorded.grid)
    of_model = by_model(grid.cells, gpus)
    judging = spent_judging(grid.cells, max(gpus.values(), default=0.0))
    lines = [(grid.short[model], of_model[model]) for model in grid.models if model in of_model]
    lines += [("the judge", judging)] if judging.cells else []
    if not lines:
        return None
    used = [phase for phase in PHASES if any(each.phases[phase] for _, each in lines)]
    on_gpus = bool(gpus)
    parts: list[Part] = [
        Prose(text=_intro(on_gpus)),
        *_expected(list(sessions(recorded.events)), price, on_gpus),
        _figure(lines, used),
        _by_model(lines, used, price, on_gpus),
        *_by_checkpoint(recorded),
        *_tokens(lines),
        _by_task(grid, of_model, price, on_gpus),
    ]
    return Section(id="cost", title="Cost", parts=parts)


def _intro(on_gpus: bool) -> str:
    said = "Seconds of the workers. A model is loaded and its engine started once for all of its cells"
    if on_gpus:
        return f"{said}. GPU-seconds are these times the GPUs that a worker holds."
    return f"{said}. There was no GPU: where others count GPU-seconds, these are worker-seconds, and priced as such."


def _expected(runs: Sequence[Session], price: PriceConfig | None, on_gpus: bool) -> list[Part]:
    """The estimate of each run of the grid beside what it became."""
    rows: list[list[Cell]] = []
    for each in runs:
        foreseen = each.expected
        row: list[Cell] = [f"{datetime.fromtimestamp(each.began, UTC):%Y-%m-%d %H:%M} UTC", f"{each.to_do:,}"]
        row += [ABSENT if foreseen is None else seconds(foreseen.seconds), seconds(each.seconds)]
        row += [ABSENT if foreseen is None else f"{foreseen.gpu_seconds:,.0f}", f"{each.gpu_seconds:,.0f}"]
        if price is not None:
            row += [ABSENT if foreseen is None else money(price, foreseen.gpu_seconds), money(price, each.gpu_seconds)]
        ended = "" if each.finished else "did not finish"
        basis = "" if foreseen is None else foreseen.basis
        rows.append([*row, visible("; ".join(each for each in (basis, ended) if each))])
    if not rows:
        return []
    head = [
        "started",
        "cells to do",
        "time, estimated",
        "time",
        f"{unit(on_gpus)}-seconds, estimated",
        f"{unit(on_gpus)}-seconds",
    ]
    head += ["price, estimated", "price"] if price is not None else []
    return [table("Estimated and actual, by run", [*head, "remarks"], rows)]


def _figure(lines: Sequence[tuple[str, Spent]], used: Sequence[str]) -> Figures:
    rows: list[dict[str, Any]] = []
    for name, each in lines:
        for i, phase in enumerate(used):
            value = each.phases[phase]
            tip = f"{name}: {PHASES[phase]} {seconds(value)} of {seconds(each.total)}, n = {counted(each.cells, 'cell')}"
            rows.append({"model": name, "value": value, "rank": i, "colour": colour(COLOURS[phase]), "tip": tip})
    figure = Figure(drawing="cost", rows=rows, label="Seconds by model and phase", note="seconds")
    legend = [Key(glyph="\u25a0", colour=COLOURS[phase], text=PHASES[phase]) for phase in used]
    return Figures(title="Where the time went", figures=[figure], legend=legend)


def _by_model(lines: Sequence[tuple[str, Spent]], used: Sequence[str], price: PriceConfig | None, on_gpus: bool) -> Table:
    rows: list[list[Cell]] = []
    for name, each in lines:
        times: list[Cell] = [_time(each.phases[phase], PHASES[phase], each.cells) for phase in used]
        total = _time(each.total, "all phases", each.cells)
        machines = [f"{each.gpu_seconds:,.0f}", f"{each.gpu_seconds / each.cells:,.1f}"]
        paid = [] if price is None else [money(price, each.gpu_seconds)]
        memory = [_gib(each.host_bytes), *([_gib(each.gpu_bytes)] if on_gpus else [])]
        rows.append([name, f"{each.cells:,}", f"{each.rows:,}", *times, total, *machines, *paid, *memory])
    head = ["model", "cells", "rows", *(PHASES[phase] for phase in used), "all", f"{unit(on_gpus)}-seconds", "a cell"]
    head += [*(["price"] if price is not None else []), "peak memory", *(["of the GPU"] if on_gpus else [])]
    return table("By model", head, rows)


def _by_checkpoint(recorded: Recorded) -> list[Part]:
    """What a checkpoint of a series has cost; nothing where there is no series."""
    found = checkpoint_costs(recorded.cells, recorded.grid.get("models", ()))
    if not found:
        return []
    used = [phase for phase in ITS_PHASES if any(line.phases[phase] for line in found)]
    rows: list[list[Cell]] = []
    for line in found:
        times: list[Cell] = [
            Number(text=seconds(line.phases[phase]) if line.phases[phase] else ABSENT, tip=f"{line.phases[phase]:.3f} s")
            for phase in used
        ]
        how = " and ".join(each for each in (line.how, "stopped" if line.stopped else "") if each)
        of = f" of {line.of:,.0f}" if line.stopped else ""
        what: list[Cell] = [visible(line.series), visible(line.protocol), how or ABSENT]
        rows.append([*what, f"{line.checkpoints:,}", f"{line.rows:,.0f}{of}", *times, seconds(line.total)])
    head = ["series", "protocol", "how", "checkpoints", "rows", *(PHASES[phase] for phase in used), "all"]
    note = (
        "Means of the checkpoints of a series, all tasks and seeds, as if each protocol were the only one. Cold: the soft "
        "prompts are learnt on the checkpoint itself; carried: they start from those of the checkpoint before; stopped: rows "
        "were asked until what was to be known was known."
    )
    return [table("A checkpoint, by phase", head, rows), Prose(text=note)]


def _tokens(lines: Sequence[tuple[str, Spent]]) -> list[Part]:
    """What was read and written; nothing where no cell tells."""
    told = [name for name in TOKENS if any(name in each.tokens for _, each in lines)]
    if not told:
        return []
    rows: list[list[Cell]] = [
        [name, *(f"{each.tokens[what]:,.0f}" if what in each.tokens else ABSENT for what in told)]
        for name, each in lines
        if each.tokens
    ]
    note = (
        "Prompt tokens and soft positions are what the engine was given; those from its cache, soft positions among them, it "
        "did not have to read again. Scored: of options, whose log-likelihood is computed."
    )
    return [table("Tokens by model", ["model", *(TOKENS[what] for what in told)], rows), Prose(text=note)]


def _by_task(grid: Grid, of_model: Mapping[str, Spent], price: PriceConfig | None, on_gpus: bool) -> Table:
    """Means over models and seeds."""
    groups = []
    for task in grid.tasks:
        rows: list[list[Cell]] = []
        for protocol in grid.protocols:
            places = [place for place in grid.places(task=task) if place.protocol == protocol]
            cells = [cell for place in places for cell in grid.at[place] if cell.status == "done"]
            if cells:  # none of those that were stopped, which are asked less
                means = [_mean(cells, name) for name in ("train_s", "answer_s", "score_s")]
                times = [_time(mean, "a cell on average", len(cells)) for mean in means]
                machines = sum(spent_on(cell, of_model[cell.model]) for cell in cells) / len(cells)
                counts = tokens(cells)
                read, written = (_count(counts, names, len(cells)) for names in (READ, ("generated_tokens",)))
                paid = [] if price is None else [money(price, machines)]
                rows.append([visible(protocol), f"{len(cells):,}", *times, read, written, f"{machines:,.1f}", *paid])
        if rows:
            groups.append(Group(title=visible(task), rows=rows))
    head = ["protocol", "cells", "train", "answer", "score", "tokens read", "written", f"{unit(on_gpus)}-seconds"]
    head += ["price"] if price is not None else []
    caption = "Mean of a cell, by task and protocol; the last columns include its share of model loading and engine start"
    return Table(caption=caption, head=head, groups=groups, grouped="task")


READ = ("prompt_tokens", "soft_positions")


def _count(counts: Mapping[str, float], names: Sequence[str], cells: int) -> str:
    """Tokens of a cell on average."""
    found = [counts[name] for name in names if name in counts]
    return f"{sum(found) / cells:,.0f}" if found else ABSENT


def _mean(cells: Sequence[RunCell], name: str) -> float:
    values = [cell.costs.get(name, 0.0) for cell in cells]
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else 0.0


def _time(value: float, called: str, cells: int) -> Number:
    return Number(text=seconds(value) if value else ABSENT, tip=f"{called}: {value:.3f} s, n = {counted(cells, 'cell')}")


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size else ABSENT
