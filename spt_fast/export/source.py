"""What exporters read of a run folder: its done cells, one after the other, and what is known of the tasks they are of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spt_fast import tasks
from spt_fast.analysis.cells import RunCell
from spt_fast.analysis.runs import Run
from spt_fast.errors import DamagedError, SptError
from spt_fast.tasks.base import HubSource, Task


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a format's module says when it is done."""

    count: int
    what: str
    """Of what so many were written, in the plural: "cells", "adapters"."""
    not_carried: tuple[str, ...]
    """What the format cannot say, a sentence each."""


def done_cells(run: Run, model: str | None = None) -> Iterator[RunCell]:
    """Done cells, of one model or of all, in the grid's order; one is read at a time.

    Raises:
        DamagedError: a cell's files are not what was written.
    """
    for cell in run.cells(model=model, only_done=True, reruns=False):
        if cell.status != "done":
            raise DamagedError(cell.reason)
        yield cell


def done_models(run: Run) -> list[str]:
    """Models that have done cells, in the grid's order."""
    return list(dict.fromkeys(place.model for place in run.done))


def definition(cell: RunCell) -> Task | None:
    """The task of a cell where it can be found by its name and is of the same version."""
    try:
        task = tasks.get(cell.task)
    except SptError:
        return None
    return task if task.version == cell.task_version else None


def on_hub(run: Run, cell: RunCell) -> HubSource | None:
    """The data set on the Hub that a cell's test rows are from; None where they are others, or nobody knows."""
    task = definition(cell)
    if task is None or not isinstance(task.source, HubSource) or run.task(cell.task).get("data_files"):
        return None
    return task.source.of("test")
