"""The rows of a stage's tasks, each task read once."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace

from spt_fast.errors import DataError, SptError
from spt_fast.plan import Stage
from spt_fast.plan.cell import Cell, TaskRows
from spt_fast.scoring.rerun import sample_size
from spt_fast.tasks import overlap
from spt_fast.tasks.rows import Rows
from spt_fast.worker.backlog import Backlog
from spt_fast.worker.events import RowsRead


def rows_of(stage: Stage, wanted: TaskRows) -> Rows:
    """The rows of a task: those that the stage came with, or else from where the task has them.

    Raises:
        DataError, ConfigError: they cannot be read, or are others than those that the cells' keys name.
    """
    if wanted.name in stage.rows:
        rows: Rows = pickle.loads(stage.rows[wanted.name])
        return rows
    rows = wanted.read()
    if wanted.content not in ("", rows.content):
        raise DataError(f"{wanted.name}: its rows, or its task file, have changed since the run began; start it again")
    return rows


class StageRows:
    """The rows that the cells of a backlog need. Cells whose rows cannot be read fail."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._rows: dict[str, Rows] = {}

    def of(self, task: TaskRows) -> Rows:
        """The rows of a task that was read."""
        return self._rows[task.name]

    def read(self, cells: Sequence[Cell]) -> None:
        """Read what these cells need and is not there yet."""
        wanted = _tasks_of(cells)
        unread: dict[str, TaskRows] = {}
        for _, task in wanted:
            if task.name not in self._rows:
                unread.setdefault(task.name, task)
        for name, task in unread.items():
            try:
                self._read(task)
            except SptError as e:
                self._backlog.fail([cell for cell, task in wanted if task.name == name], e)

    def require_few_left_out(self, task: TaskRows) -> None:
        """Refuse a task of which too many test rows cannot be scored; one that is asked again was accepted before.

        Raises:
            DataError: there are more of them than `allow_left_out`.
        """
        if not self._backlog.stage.rerun:
            self.of(task).losses.require(task.name, task.allow_left_out)

    def _read(self, task: TaskRows) -> None:
        stage = self._backlog.stage
        rows = rows_of(stage, task)
        if stage.rerun:
            rows = replace(rows, test=rows.test[: sample_size(len(rows.test), stage.rerun)])
        self._rows[task.name] = rows
        if task.name in stage.describe:
            self._backlog.emit(RowsRead(task=task.name, report=overlap.report(task.task, rows)))


def _tasks_of(cells: Sequence[Cell]) -> list[tuple[Cell, TaskRows]]:
    """The tasks that cells are evaluated on, then those that they are trained on or start from, with the cell each is for.

    The latter are tasks of their own, whether or not the grid asks them too; if it does, they have the rows that it asks for.
    """
    evaluated = [(cell, cell.task) for cell in cells]
    trained = [(cell, cell.source) for cell in cells]
    return [*evaluated, *trained, *((cell, cell.starts_on) for cell in cells if cell.starts_on is not None)]
