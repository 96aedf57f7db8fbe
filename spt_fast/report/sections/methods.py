"""Scoring methods of closed-ended tasks: knowledge by each, which of them a model can do, and the letters it chooses."""

from __future__ import annotations

import json

from spt_fast.analysis.cells import RunCell
from spt_fast.report.cells import SeedGroup
from spt_fast.report.grid import Grid
from spt_fast.report.parts import Cell, Part, Prose, Section, Table
from spt_fast.report.recorded import Recorded
from spt_fast.report.words import ABSENT, measured, visible
from spt_fast.scoring.methods import METHODS
from spt_fast.scoring.metrics import spec

_METRICS = (*METHODS.values(), "letter_binding")
_HEADS = (*(method.replace("_", " ") for method in METHODS), spec("letter_binding").head)


def section(recorded: Recorded) -> Section | None:
    """None where no closed-ended task is done."""
    grid = recorded.by_place
    tables = [table for task in grid.tasks if (table := _table(grid, task)) is not None]
    if not tables:
        return None
    said = (
        "Knowledge of closed-ended tasks by each scoring method, which chooses one of the options. Listed: the likeliest one "
        "as the prompt lists it. Debiased: the same, less the prior of each place in the list. Cloze: the likeliest text "
        "behind the question alone; per byte, or less its likelihood behind the bare cue (PMI). The best method is chosen on "
        "tuning rows. Letter binding: of the completions in form, the share whose text is that of the letter in front of it. "
        "Above chance: the methods that are better than guessing, both, listed only, cloze only (the model does not bind "
        "letters to texts yet), or neither."
    )
    parts: list[Part] = [Prose(text=said), *tables]
    return Section(id="methods", title="Scoring methods", parts=parts)


def _table(grid: Grid, task: str) -> Table | None:
    groups = grid.groups(
        lambda model: [_row(grid, place, told) for place in grid.places(task=task, model=model) if (told := _told(grid, place))]
    )
    if not groups:
        return None
    head = ["protocol", *_HEADS, "best on tuning rows", "above chance", "chance", "chosen (right), by letter"]
    return Table(caption=f"{visible(task)}: knowledge by each method", head=head, groups=groups, folded=True)


def _told(grid: Grid, place: SeedGroup) -> list[RunCell]:
    return [cell for cell in grid.at[place] if cell.status == "done" and "knowledge_by" in cell.provenance]


def _row(grid: Grid, place: SeedGroup, told: list[RunCell]) -> list[Cell]:
    numbers: list[Cell] = [measured(told, name, grid.said(place)) or ABSENT for name in _METRICS]
    best = dict.fromkeys(cell.provenance.get("knowledge_best", "").replace("_", " ") for cell in told)
    can = dict.fromkeys(cell.provenance["knowledge_by"] for cell in told)
    guesses = dict.fromkeys(cell.provenance.get("knowledge_guess", "") for cell in told)
    return [
        visible(place.protocol),
        *numbers,
        visible(" / ".join(best)),
        visible(" / ".join(can)),
        visible(" / ".join(guesses)),
        visible(_letters(told[0])),
    ]


def _letters(cell: RunCell) -> str:
    shares = json.loads(cell.provenance.get("letters", "{}"))
    return ", ".join(f"{letter} {mine:.0%} ({right:.0%})" for letter, (mine, right) in shares.items())
