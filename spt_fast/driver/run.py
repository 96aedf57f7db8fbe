"""The main job: a grid from its file to its tables. Plans, runs what is left, keeps what comes, tells what it came to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from spt_fast import plan
from spt_fast.analysis.frames import Library, Table
from spt_fast.analysis.runs import Run, open_run
from spt_fast.config import GridConfig
from spt_fast.config.output import Location
from spt_fast.config.reader import load_grid
from spt_fast.driver.ensembles import examples_of, voted
from spt_fast.errors import (
    ConfigError,
    DamagedError,
    DataError,
    LostError,
    ScoringError,
    SptError,
    StoreError,
    UnstorableError,
    first_line,
)
from spt_fast.executors import LOCAL, open_executor
from spt_fast.executors.base import Executor
from spt_fast.plan import Stage
from spt_fast.plan.cell import Cell
from spt_fast.scheduling import outlook
from spt_fast.scheduling.estimates import Estimates, Measured
from spt_fast.scheduling.foresight import Foresight
from spt_fast.scoring.rerun import COLUMNS, Rerun, rerun_of
from spt_fast.store import Failure, Results, Store, StoredResult
from spt_fast.store.reuse import look_no_more, reuse
from spt_fast.tasks import means
from spt_fast.tasks.base import FileSource, GeneratedSource
from spt_fast.tasks.lengths import MOST_ROWS, lengths
from spt_fast.tasks.rows import load_rows
from spt_fast.types import CellResult, Example
from spt_fast.version import version
from spt_fast.worker.events import (
    CellDone,
    CellFailed,
    CellStarted,
    CellTrained,
    Event,
    Noticed,
    Outlook,
    PhaseStarted,
    RowsRead,
    WorkerEnded,
    WorkerStarted,
)
from spt_fast.worker.lease import Given
from spt_fast.worker.throughput import Throughput

MOST_MEASURED = 1000
"""Done cells that are read to guess from how long others take."""


class Shows(Protocol):
    """What `run_cells` tells events to: `progress.Watcher` is one."""

    def show(self, stage: Stage, event: Event) -> None:
        """Show one event."""


Watch = Callable[[Mapping[str, Cell], int], AbstractContextManager[Shows]]
"""Cells that are to be done, and how many of the grid were done before -> something that shows events."""


@dataclass(frozen=True, kw_only=True)
class GridResult:
    """Where a grid stands. A notebook shows it as a table; `frame()` is all of its numbers."""

    config: GridConfig
    folder: Location
    """The run folder: a `Path`, or where the grid's `output` is a URL, that URL as text. `f"{folder}/results.csv"` names a file
    either way."""
    cells: tuple[Cell, ...]
    results: Mapping[str, StoredResult]
    """Cell key -> result, of the cells that are done; read from the run folder when it is asked for."""
    failures: Mapping[str, Failure]
    """Cell key -> why, of the cells that failed."""

    not_rerun: Mapping[str, str] = field(default_factory=dict)
    """Cell key -> why its rows could not be asked again, of the cells of this call where they could not."""

    @property
    def complete(self) -> bool:
        """Whether every cell is done."""
        return len(self.results) == len(self.cells)

    @property
    def left(self) -> int:
        """Cells that are neither done nor failed."""
        return len(self.cells) - len(self.results) - len(self.failures)

    @property
    def run(self) -> Run:
        """The run folder, opened: its cells and their rows."""
        return open_run(self.folder)

    def frame(self, table: Table = "results", *, library: Library | None = None, **only: str) -> Any:
        """The results or the samples as a data frame of pandas or polars: `Run.frame`.

        Raises:
            ConfigError: there is no such table, or neither library.
            StoreError: a file is damaged.
        """
        return self.run.frame(table, library=library, **only)

    def _repr_html_(self) -> str:
        """The first cells as a table, for a notebook."""
        return self.run._repr_html_()


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run: the workers have ended, and what was done is kept."""

    def __init__(self, result: GridResult, why: str = "") -> None:
        """`why`: what has ended it, where nobody asked for that."""
        super().__init__()
        self.result = result
        self.why = why


def run_grid(
    grid: GridConfig | str | os.PathLike[str],
    *,
    only: Mapping[str, str] | None = None,
    fresh: bool = False,
    watch: Watch | None = None,
    say: Callable[[str], None] | None = None,
    executor: Executor | None = None,
    address: str = LOCAL,
) -> GridResult:
    """Do what a grid asks for and its run folder does not hold yet, and write results.csv, results.json, report.md and
    report.html, as `spt-fast run` does.

    Args:
        grid: a `GridConfig`, or the file it is in.
        only: patterns for `model`, `task`, `protocol`, `seed`: the other cells are left alone.
        fresh: forget what the folder holds of these cells, and do them again; reuse nothing of earlier folders.
        watch: shows what happens; None: silence.
        say: is told in a sentence which completed cells of earlier folders are reused; None: silence.
        executor: where stages run; None: at `address`.
        address: `local` (this machine), or a Ray cluster: `auto`, or HOST:PORT of its head node.

    Returns:
        Where the grid stands. Failed cells are part of it; they raise nothing.

    Raises:
        ConfigError: the request is wrong.
        StoreError: the run folder cannot be used, or another driver has taken it.
        Interrupted: Ctrl-C, or the cluster is gone; the same call continues.
    """
    from spt_fast.report.folder import refresh

    try:
        result = run_cells(grid, only=only, fresh=fresh, watch=watch, say=say, executor=executor, address=address)
    except Interrupted as e:
        refresh(e.result.folder)
        raise
    refresh(result.folder)
    return result


def run_cells(
    grid: GridConfig | str | os.PathLike[str],
    *,
    only: Mapping[str, str] | None = None,
    fresh: bool = False,
    watch: Watch | None = None,
    say: Callable[[str], None] | None = None,
    executor: Executor | None = None,
    address: str = LOCAL,
) -> GridResult:
    """`run_grid` without its tables: for who shows them too, and so writes them with what is shown.

    Raises:
        ConfigError: the request is wrong.
        StoreError: the run folder cannot be used, or another driver has taken it.
        Interrupted: Ctrl-C, or the cluster is gone; the same call continues.
    """
    config = grid if isinstance(grid, GridConfig) else load_grid(grid)
    cells = plan.expand(config)
    chosen = plan.select(cells, only) if only else cells
    plan.require_usable(chosen)
    store = Store(config.folder)
    store.lock()
    try:
        if fresh:
            for key in sorted({key for cell in chosen for key in cell.keys}):
                store.discard(key)
            look_no_more(config, store, chosen)
        else:
            for reused in reuse(config, store, cells):
                if say is not None:
                    say(str(reused))
        done = store.done()
        stages = _describing(plan.stages(chosen, done), store)
        to_judge = {cell.key: cell for cell in chosen if cell.judge is not None and cell.key not in done}
        asked = {cell.key: cell for cell in chosen if cell.key not in done}.values()
        to_vote = {cell.unjudged.key: cell.unjudged for cell in asked if cell.unjudged.members}
        store.grid_file.put(resolved(config, cells, folder=store.root))
        if not (stages or to_vote or to_judge or to_rerun(config, chosen, store, done)):
            return standing(config, cells, store)
        todo = {cell.key: cell for stage in stages for cell in stage.cells} | to_vote | to_judge
        before = sum(cell.key in done for cell in cells)
        store.event("run", cells=len(cells), todo=len(todo), pid=os.getpid())
        not_rerun: dict[str, str] = {}
        where = closing(open_executor(address, store.log, store.log_name)) if executor is None else nullcontext(executor)
        try:
            with where as stage_executor:
                known = measured(cells, {store: done})
                _foresee(ahead_of(config, chosen, store, done), stage_executor, store, known, cluster=address != LOCAL)
                with watch(todo, before) if watch and todo else nullcontext() as watcher:
                    _do(stages, stage_executor, store, watcher, known, say)
                    _vote(plan.voting(chosen, store.done()), {cell.key for cell in cells}, store, watcher)
                    # Only now is it known whose completions are there.
                    _do(plan.judging(chosen, store.done()), stage_executor, store, watcher, known, say)
                again = to_rerun(config, chosen, store, store.done())
                once_more = {cell.key: cell for stage in again for cell in stage.cells}
                # In engines that are started for it: with other rows in a batch than before, which is what makes answers flip.
                with watch(once_more, 0) if watch and again else nullcontext() as watcher:
                    not_rerun = _do(again, stage_executor, store, watcher, known, say)
        except (KeyboardInterrupt, LostError) as e:
            store.event("interrupted")
            raise Interrupted(standing(config, cells, store), str(e)) from None
        store.event("end")
        return replace(standing(config, cells, store), not_rerun=not_rerun)
    finally:
        store.close()


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


def _do(
    stages: Sequence[Stage],
    executor: Executor,
    store: Store,
    watcher: Shows | None,
    known: Sequence[Measured],
    say: Callable[[str], None] | None = None,
) -> dict[str, str]:
    """Run stages, keep what comes, show it; why cells failed, by key. What is said of a cell that has ended counts no more."""
    failed = _refused(stages, store, watcher)
    ended: set[str] = set()
    stages = [stage for stage in stages if stage.model.unresolved is None]
    if not stages:
        return failed
    pulse = _Pulse(store)
    foresight = None if executor.foresees else _foresight(stages, executor, store, known)
    with closing(executor.run(stages, lambda stage: _given(stage, store, say), known)) as events:
        for stage, told in events:
            key = getattr(told, "key", None)
            if key is not None and (key in ended or key not in stage.by_key):
                continue
            event = _kept(stage, told, store)
            for each in (event, *_foreseen(foresight, stage, event)):
                if watcher is not None:
                    watcher.show(stage, each)
                pulse.take(stage, each)
            if isinstance(event, CellDone | CellFailed):
                ended.add(event.key)
            if isinstance(event, CellFailed):
                failed[event.key] = event.reason
    return failed


def _refused(stages: Sequence[Stage], store: Store, watcher: Shows | None) -> dict[str, str]:
    """Fail the cells whose model is known to be of no use; why, by key. No worker need start for that."""
    failed: dict[str, str] = {}
    for stage in (stage for stage in stages if stage.model.unresolved is not None):
        reason = stage.model.unresolved or ""
        for cell in stage.cells:
            event = _kept(stage, CellFailed(key=cell.key, kind="ModelError", reason=reason), store)
            if watcher is not None:
                watcher.show(stage, event)
            failed[cell.key] = reason
    return failed


def _foresight(stages: Sequence[Stage], executor: Executor, store: Store, known: Sequence[Measured]) -> Foresight:
    cells = (cell for stage in stages for cell in stage.cells)
    return Foresight(stages, known, gpu=executor.room()[1], lengths=lengths_of(cells, store))


def _foreseen(foresight: Foresight | None, stage: Stage, event: Event) -> list[Event]:
    """How long the rest takes, after an event; an executor that has an idea of its own tells that itself."""
    if foresight is None:
        return []
    now = time.monotonic()
    foresight.take(stage, event, now)
    left = foresight.seconds_left(now) if foresight.is_due(now) else None
    return [] if left is None else [Outlook(seconds_left=left)]


def lengths_of(cells: Iterable[Cell], store: Store) -> dict[str, Mapping[str, float]]:
    """How long the texts of tasks are whose rows are at hand: an earlier run has described them, or they are local files."""
    found = {rows["task"]: rows["lengths"] for rows in store.rows.read() if rows.get("lengths")}
    for rows in {cell.task.name: cell.task for cell in cells if cell.task.name not in found}.values():
        if rows.data_files is not None or isinstance(rows.task.source, FileSource | GeneratedSource):
            with suppress(SptError):  # the cells will tell what is wrong with the rows
                test = load_rows(rows.task, data_files=rows.data_files, limit=MOST_ROWS, need={"test"}).test
                found[rows.name] = lengths(rows.task, test)
    return {name: known for name, known in found.items() if known}


def _foresee(ahead: Sequence[Stage], executor: Executor, store: Store, known: Sequence[Measured], *, cluster: bool) -> None:
    """Keep how long it is expected to take, as `--dry-run` tells it, to be held against what it becomes."""
    room, gpu = executor.room()
    read = lengths_of((cell for stage in ahead for cell in stage.cells), store)
    estimates = Estimates(known, gpu=gpu, lengths=read)
    expected = outlook.expected(ahead, estimates, room, gpu=gpu, cluster=cluster)
    hours = expected.gpu_hours if gpu else expected.worker_hours
    seconds = {"seconds": round(expected.seconds, 1), "gpu_seconds": round(3600 * hours, 1)}
    store.event("expected", **seconds, basis=estimates.basis)


def ahead_of(config: GridConfig, cells: Sequence[Cell], store: Store, done: Collection[str]) -> list[Stage]:
    """All that is to be done: what is to be asked, what a judge then rules on, and what is then asked again.

    Args:
        config: of the grid.
        cells: of it, those that are chosen.
        store: the run folder.
        done: keys of the cells that are done.
    """
    then = {*done, *(cell.unjudged.key for cell in cells)}
    ahead = [*plan.stages(cells, done), *plan.judging(cells, then), *to_rerun(config, cells, store, then)]
    return [stage for stage in ahead if not stage.model.broken]


def to_rerun(config: GridConfig, cells: Sequence[Cell], store: Store, done: Collection[str]) -> list[Stage]:
    """The cells of which rows are still to be asked again.

    Args:
        config: whose `rerun` says how many.
        cells: of the grid.
        store: the run folder.
        done: keys of the cells that are done by then.
    """
    if not config.rerun:
        return []
    again = store.reruns.read((cell.unjudged.key for cell in cells), damaged=False)
    known = {key: rerun.share for key, rerun in again.items()}
    return plan.rerunning(cells, done, known, config.rerun)


def _vote(cells: Sequence[Cell], named: Collection[str], store: Store, watcher: Shows | None) -> None:
    """Put the answers of ensembles together: here, for all that it takes is in the run folder."""
    examples: dict[str, dict[str, Example]] = {}
    for cell in cells:
        stage = Stage(model=cell.model, cells=(cell,))
        event: Event
        try:
            if cell.task.name not in examples:
                examples = {cell.task.name: examples_of(cell)}  # of one task at a time
            members = [store.cell_result(member.key) for member in cell.members]
            event = CellDone(key=cell.key, result=voted(cell, members, examples[cell.task.name], named))
        except (ConfigError, DataError, ScoringError, DamagedError) as e:
            event = CellFailed(key=cell.key, kind=type(e).__name__, reason=str(e))
        event = _kept(stage, event, store)
        if watcher is not None:
            watcher.show(stage, event)


class _Pulse:
    """Writes to events.jsonl, now and then, what `status` cannot know from another terminal: how fast, how many, how long."""

    EVERY_S = 10.0

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pace = Throughput()
        self._in_flight: dict[str, tuple[str, int]] = {}
        """Cell -> whose it is."""
        self._told = time.monotonic()
        self._left: float | None = None

    def take(self, stage: Stage, event: Event) -> None:
        """Count an event."""
        now, worker = time.monotonic(), (stage.model.name, stage.worker)
        self._pace.take(worker, event, now)
        match event:
            case CellStarted(key=key):
                self._in_flight[key] = worker
            case CellTrained(key=key) | CellDone(key=key) | CellFailed(key=key):
                self._in_flight.pop(key, None)
            case WorkerEnded():
                self._in_flight = {key: whose for key, whose in self._in_flight.items() if whose != worker}
            case Outlook(seconds_left=left):
                self._left = left
        if now - self._told >= self.EVERY_S:
            self._told = now
            expected = {} if self._left is None else {"seconds_left": round(self._left)}
            self._store.event("pulse", requests_per_s=round(self._pace.per_s(now), 1), running=len(self._in_flight), **expected)


def standing(config: GridConfig, cells: Sequence[Cell], store: Store) -> GridResult:
    """Where a grid stands, from its run folder."""
    done = store.done()
    left = [cell for cell in cells if cell.key not in done]
    failed = store.failed() if left else set()
    # A cell fails where what it rests on has.
    failures = {cell.key: store.failure(min(why)) for cell in left if (why := cell.keys & failed)}
    return GridResult(
        config=config,
        folder=store.root,
        cells=tuple(cells),
        results=Results(store, [cell.key for cell in cells if cell.key in done]),
        failures=failures,
    )


def resolved(config: GridConfig, cells: Sequence[Cell], *, folder: Location) -> dict[str, Any]:
    """The grid with defaults filled in, and what its names stood for: commits, fingerprints, versions, cell keys."""
    models = {cell.model.name: cell.model for cell in cells}
    rows = {cell.task.name: cell.task for cell in cells}
    return {
        "name": config.name,
        "models": [
            {
                "id": model.name,
                "source": model.source,
                "revision": model.revision,
                "fingerprint": model.fingerprint,
                "post_trained": model.post_trained,
                "tensor_parallel": model.tensor_parallel,
                "pipeline_parallel": model.pipeline_parallel,
                "gpus": model.gpus,
                "dtype": model.dtype,
                "chat_template": model.chat_template,
                "chat_template_kwargs": dict(model.chat_template_kwargs),
                "chat_date": model.chat_date,
                "trust_remote_code": model.trust_remote_code,
                "soft_prompt": dict(model.soft_prompt),
                "engine": dict(model.engine),
            }
            for model in models.values()
        ],
        "tasks": [
            {
                "task": task.name,
                "version": task.version,
                "content": task.content,
                "format": task.task.format,
                "form": task.task.form_in_words,
                "limit": task.limit,
                "cut": task.cut,
                "allow_left_out": task.allow_left_out,
                "data_files": dict(task.data_files) if isinstance(task.data_files, Mapping) else task.data_files,
            }
            for task in rows.values()
        ],
        "means": [dict(found) for entry in config.tasks if (found := means(entry)) is not None],
        "protocols": [
            {p.name: {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(p).items()}} for p in config.protocols
        ],
        "seeds": list(config.seeds),
        "limit": config.limit,
        "judge": _judge(cells),
        "truth": {task: dict(known) for task, known in config.truth.items()},
        "engine": dict(config.engine),
        "rerun": config.rerun,
        "price": None if config.price is None else asdict(config.price),
        "output": str(folder),
        "spt_fast": version(),
        "cells": {
            cell.key: {
                "model": cell.model.name,
                "task": cell.task.name,
                "protocol": cell.label,
                "seed": cell.seed,
                "closed_ended": cell.task.task.closed_ended,
                "rests_on": None if cell.judge is None else cell.unjudged.key,
                **({"members": [member.key for member in cell.asked]} if cell.unjudged.members else {}),
            }
            for cell in cells
        },
    }


def _judge(cells: Sequence[Cell]) -> dict[str, Any] | None:
    judge = next((cell.judge for cell in cells if cell.judge is not None), None)
    if judge is None:
        return None
    return {
        "model": judge.model.name,
        "source": judge.model.source,
        "revision": judge.model.revision,
        "fingerprint": judge.model.fingerprint,
        "chat_template": judge.model.chat_template,
        "chat_template_kwargs": dict(judge.model.chat_template_kwargs),
        "chat_date": judge.model.chat_date,
        "engine": dict(judge.engine),
        "prompts": judge.prompts,
    }


def with_options(
    config: GridConfig, *, limit: int | None = None, output: Location | None = None, rerun: float | None = None
) -> GridConfig:
    """The grid with `--limit`, `--output` and `--rerun` put over it."""
    if limit is not None:
        # A limit from the command line is for a quick look: it lowers the limits of single tasks too.
        tasks = tuple(replace(task, limit=limit if task.limit is None else min(task.limit, limit)) for task in config.tasks)
        config = replace(config, limit=limit, tasks=tasks)
    if rerun is not None:
        config = replace(config, rerun=rerun)
    return config if output is None else replace(config, output=output)


def _describing(stages: Sequence[Stage], store: Store) -> list[Stage]:
    """Have each task's rows described once, by the first stage that reads them, where the run folder does not tell yet."""
    told: set[str] = set()
    found = []
    for stage in stages:
        rows = {rows.name: rows for cell in stage.cells for rows in (cell.task, cell.source)}
        new = frozenset(name for name, each in rows.items() if name not in told and not store.rows.describes(each))
        told |= new
        found.append(replace(stage, describe=new))
    return found


def _given(stage: Stage, store: Store, say: Callable[[str], None] | None = None) -> Given:
    """What earlier work has for a stage: soft prompts that are learnt already, or the completions to be judged. What is damaged
    is not there: vectors are learnt again, and a judge's worker fails the cell."""
    found: dict[str, Any] = {}
    done = store.done() if stage.rerun else ()
    for cell in stage.cells:
        try:
            has = store.learnt.of(cell) if stage.judge is None else store.cell_result(cell.unjudged.key)
        except DamagedError as e:
            again = stage.judge is None and cell.key not in done
            if again:
                store.learnt.forget(cell.key)
            if say is not None:
                mend = "so it is learnt again" if again else "so the cell cannot be gone on with"
                say(f"{cell.title}: {str(e).partition('; ')[0]}, {mend}")
            continue
        if has is not None:
            found[cell.key] = has
    return found


def _kept(stage: Stage, event: Event, store: Store) -> Event:
    """Keep what a worker says; what came of it: of a cell whose result cannot be kept, whatever the reason, that it failed.

    Raises:
        StoreError: nothing can be written.
    """
    try:
        _keep(stage, event, store)
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
        _keep(stage, event, store)
    return event


def _keep(stage: Stage, event: Event, store: Store) -> None:
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
            store.learnt.put(cells[key], event.prompts, event.curve, event.meaning)
            store.event("trained", key=key, cell=cells[key].title)
        case CellDone(key=key) if stage.rerun:
            store.reruns.put(cells[key], _held_against(store, key, event.result, stage.rerun))
            store.event("again", key=key, cell=cells[key].title)
        case CellFailed(key=key) if stage.rerun:
            store.event("not_again", key=key, cell=cells[key].title, kind=event.kind, reason=event.reason)
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
