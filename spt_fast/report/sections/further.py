"""Further metrics: those of packages, and the scores that only some tasks have (F1, or a library's own)."""

from __future__ import annotations

from spt_fast.report.grid import Grid
from spt_fast.report.parts import Prose, Section, Table
from spt_fast.report.recorded import Recorded
from spt_fast.report.words import visible
from spt_fast.scoring.metrics import is_further, spec


def section(recorded: Recorded) -> Section | None:
    """None where no cell has any."""
    grid = recorded.by_place
    tables = [table for task in grid.tasks if (table := _table(grid, task)) is not None]
    if not tables:
        return None
    intro = "Metrics of installed packages, and scores that a task has of its own, as at the last step."
    return Section(id="further", title="Further metrics", parts=[Prose(text=intro), *tables])


def _table(grid: Grid, task: str) -> Table | None:
    return grid.table(task, {name: visible(spec(name).head) for name in _names(grid, task)}, "further metrics")


def _names(grid: Grid, task: str) -> list[str]:
    """In the order of results.csv."""
    cells = (cell for place in grid.places(task=task) for cell in grid.at[place])
    return [name for name in dict.fromkeys(name for cell in cells for name in cell.last_metrics) if is_further(name)]
