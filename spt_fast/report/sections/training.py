"""What each protocol learns and stores, and what early stops have saved."""

from __future__ import annotations

from collections.abc import Iterator

from spt_fast.analysis.cells import RunCell
from spt_fast.report.parts import Cell, Part, Section, table
from spt_fast.report.recorded import Recorded
from spt_fast.report.words import visible

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
    return Section(id="training", title="Training", parts=parts) if parts else None


def _sizes(done: list[RunCell]) -> Iterator[tuple[tuple[str, str], tuple[float, ...]]]:
    """(model, protocol) -> its sizes: those of its first cell, for they are the same for all tasks."""
    seen = set()
    for cell in done:
        place = (cell.model, cell.protocol)
        if place not in seen and all(name in cell.costs for name in SIZES):
            seen.add(place)
            yield place, tuple(cell.costs[name] for name in SIZES)


def _stops(done: list[RunCell]) -> Iterator[list[Cell]]:
    for cell in done:
        if "steps_saved" in cell.costs:
            taken, saved = cell.costs["steps_taken"], cell.costs["steps_saved"]
            names: list[Cell] = [visible(name) for name in (cell.model, cell.task, cell.protocol)]
            seed = "" if cell.seed is None else str(cell.seed)
            yield [*names, seed, f"{taken:.0f}", f"{saved:.0f} ({saved / (taken + saved):.0%})"]
