"""What each protocol learns and stores, what early stops have saved, updates to the form, and where carried soft prompts
started."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from spt_fast.analysis.cells import RunCell
from spt_fast.prompts.carried import from_json
from spt_fast.report.grid import Grid
from spt_fast.report.parts import Cell, Part, Section, Table, table
from spt_fast.report.recorded import Recorded
from spt_fast.report.words import visible
from spt_fast.scoring.metrics import STEPS_TO_FORMAT, spec

SIZES = ("trained_parameters", "stored_parameters", "stored_bytes")


def section(recorded: Recorded) -> Section | None:
    """None where nothing is learnt."""
    done = [cell for cell in recorded.cells if cell.status == "done"]
    parts: list[Part] = []
    sizes = dict(_sizes(done))
    if any(sum(each) for each in sizes.values()):
        rows: list[list[Cell]] = [
            [visible(model), visible(label), *(f"{size:,.0f}" for size in each)] for (model, label), each in sizes.items()
        ]
        head = ["model", "protocol", "trained parameters", "stored parameters", "bytes stored"]
        parts.append(table("Trained and stored, in fp32", head, rows, headers=2))
    stops = list(_stops(done))
    if stops:
        head = ["model", "task", "protocol", "seed", "steps taken", "saved"]
        parts.append(table("Stopped early", head, stops, headers=4))
    parts += [found for task in recorded.by_place.tasks if (found := _to_the_form(recorded.by_place, task)) is not None]
    if starts := list(_starts(done)):
        head = ["model", "task", "protocol", "seed", "started from", "its soft prompt", "updates before", "on checkpoints"]
        parts.append(replace(table("Carried along the series: where each started", head, starts, headers=4), folded=True))
    return Section(id="training", title="Training", parts=parts) if parts else None


def _to_the_form(grid: Grid, task: str) -> Table | None:
    """Updates until format following has settled, of what was looked at more than once; None where nothing was."""
    groups = grid.groups(
        lambda model: [
            [visible(place.protocol), grid.linked(place, STEPS_TO_FORMAT)]
            for place in grid.places(task=task, model=model)
            if any(cell.metric(STEPS_TO_FORMAT) is not None for cell in grid.at[place])
        ]
    )
    caption, head = f"{visible(task)}: updates until format following has settled", ["protocol", spec(STEPS_TO_FORMAT).head]
    return Table(caption=caption, head=head, groups=groups) if groups else None


def _sizes(done: list[RunCell]) -> Iterator[tuple[tuple[str, str], tuple[float, ...]]]:
    """(model, protocol) -> its sizes: those of its first cell, for they are the same for all tasks."""
    seen = set()
    for cell in done:
        place = (cell.model, cell.protocol)
        if place not in seen and all(name in cell.costs for name in SIZES):
            seen.add(place)
            yield place, tuple(cell.costs[name] for name in SIZES)


def _starts(done: list[RunCell]) -> Iterator[list[Cell]]:
    for cell in done:
        start = from_json(cell.provenance.get("started_from", ""))
        if start is not None:
            names: list[Cell] = [visible(name) for name in (cell.model, cell.task, cell.protocol)]
            seed = "" if cell.seed is None else str(cell.seed)
            where = "cold, on the model itself" if start.cold else f"{visible(start.model)}, step {start.step}"
            yield [*names, seed, where, visible(start.soft_prompt), f"{start.updates:,}", f"{start.checkpoints:,}"]


def _stops(done: list[RunCell]) -> Iterator[list[Cell]]:
    for cell in done:
        if "steps_saved" in cell.costs:
            taken, saved = cell.costs["steps_taken"], cell.costs["steps_saved"]
            names: list[Cell] = [visible(name) for name in (cell.model, cell.task, cell.protocol)]
            seed = "" if cell.seed is None else str(cell.seed)
            yield [*names, seed, f"{taken:.0f}", f"{saved:.0f} ({saved / (taken + saved):.0%})"]
