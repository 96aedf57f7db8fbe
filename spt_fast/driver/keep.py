"""Keeping what workers say: events in, files of the run folder out. Nobody else writes results there."""

from __future__ import annotations

from dataclasses import replace

from spt_fast.errors import DamagedError, SptError, StoreError, UnstorableError, first_line
from spt_fast.plan import Stage
from spt_fast.scoring.rerun import COLUMNS, Rerun, rerun_of
from spt_fast.store import Store
from spt_fast.types import CellResult
from spt_fast.worker.events import (
    CellDone,
    CellFailed,
    CellTrained,
    Event,
    Noticed,
    PhaseStarted,
    RowsRead,
    WorkerEnded,
    WorkerStarted,
)


def keep(stage: Stage, event: Event, store: Store) -> Event:
    """Write an event to the run folder, and return it; of a cell whose result cannot be kept, return that it failed.

    Raises:
        StoreError: nothing can be written.
    """
    try:
        _write(stage, event, store)
    except Exception as e:
        # Other damage than that of a cell is a matter of the folder, and not of what was said.
        if isinstance(e, StoreError) and not isinstance(e, DamagedError):
            raise
        key = getattr(event, "key", None)
        reason = str(e) if isinstance(e, SptError) else f"what came of it cannot be kept: {type(e).__name__}: {first_line(e)}"
        if key is None:
            store.event("not_kept", told=type(event).__name__, reason=reason)
            return event
        kind = type(e).__name__ if isinstance(e, SptError) else UnstorableError.__name__
        event = CellFailed(key=key, kind=kind, reason=reason)
        _write(stage, event, store)
    return event


def _write(stage: Stage, event: Event, store: Store) -> None:
    """Write what an event brings to the run folder."""
    cells = stage.by_key
    match event:
        case RowsRead(task=name):
            (rows, *_) = (rows for cell in stage.cells for rows in (cell.task, cell.source) if rows.name == name)
            store.rows.put(rows, event.report)
        case PhaseStarted(phase=phase):
            note = {"note": event.note} if event.note else {}
            store.event("phase", model=stage.model.name, worker=stage.worker, phase=phase, **note)
        case WorkerStarted(where=where, gpus=gpus):
            store.event("worker", model=stage.model.name, worker=stage.worker, where=where, gpus=gpus)
        case WorkerEnded(reason=reason):
            store.event("ended", model=stage.model.name, worker=stage.worker, **({"reason": reason} if reason else {}))
        case Noticed(key=key):
            store.event("noticed", key=key, cell=cells[key].title, said=event.said)
        case CellTrained(key=key):
            store.threads.add([cells[key]])
            store.learnt.put(cells[key], event.prompts, event.curve, event.meaning)
            store.event("trained", key=key, cell=cells[key].title)
        case CellDone(key=key) if stage.rerun:
            store.reruns.put(cells[key], _held_against(store, key, event.result, stage.rerun))
            store.event("again", key=key, cell=cells[key].title)
        case CellFailed(key=key) if stage.rerun:
            store.event("not_again", key=key, cell=cells[key].title, kind=event.kind, reason=event.reason)
        case CellDone(key=key, result=result) if result.stopped is not None:
            store.put_stopped(cells[key], result)
            told = {"n": result.stopped.n, "of": result.stopped.of, "why": result.stopped.why}
            store.event("stopped", key=key, cell=cells[key].title, **told)
        case CellDone(key=key):
            if cells[key].judge is not None:
                store.learnt.share(cells[key].unjudged, cells[key])
            store.put_result(cells[key], event.result)
            store.event("done", key=key, cell=cells[key].title)
        case CellFailed(key=key):
            store.put_failure(cells[key], event.kind, event.reason)
            store.event("failed", key=key, cell=cells[key].title, kind=event.kind, reason=event.reason)


def _held_against(store: Store, key: str, again: CellResult, share: float) -> Rerun:
    """What rows came to when they were asked again, against what the cell has for them."""
    before = store.samples(key, COLUMNS, last=True)
    return replace(rerun_of(before, again.samples, share=share), costs=again.costs, provenance=again.provenance)
