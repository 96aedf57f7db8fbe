"""How long a run takes: from cells that are done and rows that are at hand, before it begins and while it goes on."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress

from spt_fast.errors import DamagedError, SptError
from spt_fast.executors.base import Executor
from spt_fast.executors.scheduled import runs_on
from spt_fast.plan import Stage
from spt_fast.plan.cell import Cell
from spt_fast.scheduling import outlook
from spt_fast.scheduling.estimates import Estimates, Measured
from spt_fast.scheduling.foresight import Foresight
from spt_fast.store import Store
from spt_fast.tasks.base import FileSource, GeneratedSource
from spt_fast.tasks.lengths import MOST_ROWS, lengths
from spt_fast.tasks.rows import load_rows
from spt_fast.worker.events import Event, Outlook

MOST_MEASURED = 1000
"""Done cells that are read to guess from how long others take."""


def measured(cells: Sequence[Cell], done: Mapping[Store, Collection[str]], most: int = MOST_MEASURED) -> list[Measured]:
    """What cells that are done have cost, to guess from how long others take.

    Args:
        cells: of the grid.
        done: by run folder, the keys of cells that are done there.
        most: a sample of so many, spread over the grid, says as much as all.
    """
    found = []
    for store, keys in done.items():
        # An ensemble's seconds are those of several trainings.
        there = [cell for cell in cells if cell.key in keys and not cell.unjudged.members]
        some = there[:: max(1, len(there) * len(done) // most)]
        for cell, result in zip(some, store.results_or_damage([cell.key for cell in some]), strict=True):
            if isinstance(result, DamagedError):
                continue  # which the tables will tell
            rows = max((metric.n for metrics in result.metrics.values() for metric in metrics), default=None)
            found.append(Measured(cell=cell, costs=result.costs, rows=rows))
    return found


def stopped_share(cells: Iterable[Cell], store: Store, most: int = MOST_MEASURED) -> tuple[float, int] | None:
    """The share of their rows that cells were asked that were stopped, and how many such cells there are; None: none.

    Args:
        cells: of the grid.
        store: the run folder.
        most: cells that are looked at.
    """
    there = store.stopped.among(store.done())
    asked, of, count = 0, 0, 0
    for key in [cell.key for cell in cells if cell.key in there][:most]:
        with suppress(DamagedError):  # which the tables will tell
            found = store.stopped.read(key).stopped
            asked, of, count = asked + found.n, of + found.of, count + 1
    return (asked / of, count) if of else None


def lengths_of(cells: Iterable[Cell], store: Store) -> dict[str, Mapping[str, float]]:
    """How long the texts of tasks are whose rows are at hand: an earlier run has described them, or they are local files."""
    found = {rows["task"]: rows["lengths"] for rows in store.rows.read() if rows.get("lengths")}
    for rows in {cell.task.name: cell.task for cell in cells if cell.task.name not in found}.values():
        if rows.data_files is not None or isinstance(rows.task.source, FileSource | GeneratedSource):
            with suppress(SptError):  # the cells will tell what is wrong with the rows
                test = load_rows(rows.task, data_files=rows.data_files, limit=MOST_ROWS, need={"test"}).test
                found[rows.name] = lengths(rows.task, test)
    return {name: known for name, known in found.items() if known}


def expect(ahead: Sequence[Stage], executor: Executor, store: Store, known: Sequence[Measured]) -> None:
    """Keep how long a run is expected to take, as `--dry-run` tells it, to be held against what it becomes.

    Args:
        ahead: all that is to be done.
        executor: where.
        store: whose events.jsonl is told.
        known: what cells that are done have cost.
    """
    nodes, gpu = runs_on(executor)
    read = lengths_of((cell for stage in ahead for cell in stage.cells), store)
    estimates = Estimates(known, gpu=gpu, lengths=read)
    expected = outlook.expected(ahead, estimates, nodes, gpu=gpu)
    hours = expected.gpu_hours if gpu else expected.worker_hours
    seconds = {"seconds": round(expected.seconds, 1), "gpu_seconds": round(3600 * hours, 1)}
    store.event("expected", **seconds, basis=estimates.basis)


class TimeLeft:
    """How long the rest of some stages takes, told now and then while they run."""

    def __init__(self, stages: Sequence[Stage], executor: Executor, store: Store, known: Sequence[Measured]) -> None:
        """
        Args:
            stages: that are run, one after the other.
            executor: where; one that has an idea of its own tells that itself.
            store: that may have described the rows.
            known: what cells that are done have cost.
        """
        self._foresight: Foresight | None = None
        nodes, gpu = runs_on(executor)
        if nodes is None:
            lengths = lengths_of((cell for stage in stages for cell in stage.cells), store)
            self._foresight = Foresight(stages, known, gpu=gpu, lengths=lengths)

    def after(self, stage: Stage, event: Event) -> list[Event]:
        """What there is to tell after an event: an `Outlook`, or nothing."""
        if self._foresight is None:
            return []
        now = time.monotonic()
        self._foresight.take(stage, event, now)
        left = self._foresight.seconds_left(now) if self._foresight.is_due(now) else None
        return [] if left is None else [Outlook(seconds_left=left)]
