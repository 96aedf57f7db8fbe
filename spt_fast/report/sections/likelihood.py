"""The likelihood of the gold answer: bits per byte, and the margin over the other options."""

from __future__ import annotations

from spt_fast.report.grid import Grid
from spt_fast.report.parts import Part, Prose, Section, Table
from spt_fast.report.recorded import Recorded
from spt_fast.scoring.metrics import ANSWER, spec


def section(recorded: Recorded) -> Section | None:
    """None where no cell has it: runs of earlier versions."""
    grid = recorded.by_place
    tables = [table for task in grid.tasks if (table := _table(grid, task)) is not None]
    if not tables:
        return None
    said = (
        "How likely the gold answer is, whatever was written: minus the binary logarithm of its likelihood, per UTF-8 byte. "
        "Lower is better. It has no chance level, so it tells apart models whose knowledge is at chance (small models, early "
        "checkpoints). Closed-ended: the right option's text behind the question alone, and by how many nats it is likelier "
        "than the likeliest other option. Open-ended: the likeliest gold answer behind the task's prompt; a working is part of "
        "it. Compare models within a task and a protocol, not between them."
    )
    parts: list[Part] = [Prose(text=said), *tables]
    return Section(id="likelihood", title="Bits per byte", parts=parts)


def _table(grid: Grid, task: str) -> Table | None:
    there = {name for place in grid.places(task=task) for cell in grid.at[place] for name in cell.last_metrics}
    names = [name for name in ANSWER if name in there]
    return grid.table(task, {name: spec(name).head for name in names}, "likelihood of the gold answer")
