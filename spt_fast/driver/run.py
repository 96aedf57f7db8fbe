"""The main job: a grid from its file to its results. Plans, runs what is left, keeps what comes, tells what it came to."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from typing import TypeAlias

from spt_fast import plan
from spt_fast.config import GridConfig
from spt_fast.config.reader import load_grid
from spt_fast.driver import ensembles
from spt_fast.driver.ahead import Ahead, ahead_of, to_rerun
from spt_fast.driver.carried import adopt, know
from spt_fast.driver.estimates import expect, measured
from spt_fast.driver.resolved import resolved, with_earlier
from spt_fast.driver.result import GridResult, Interrupted, standing
from spt_fast.driver.stages import Shows, Silence, StageRunner
from spt_fast.driver.stopping import GridStopping
from spt_fast.errors import LostError
from spt_fast.executors import LOCAL, open_executor
from spt_fast.executors.base import Executor
from spt_fast.executors.scheduled import ScheduledExecutor
from spt_fast.plan.cell import Cell
from spt_fast.store import Store
from spt_fast.store.reuse import look_no_more, reuse

Watch: TypeAlias = Callable[[Mapping[str, Cell], int], AbstractContextManager[Shows]]
"""Cells that are to be done, and how many of the grid were done before -> something that shows events."""

Say: TypeAlias = Callable[[str], None]


def run_grid(
    grid: GridConfig | str | os.PathLike[str],
    *,
    only: Mapping[str, str] | None = None,
    fresh: bool = False,
    watch: Watch | None = None,
    say: Say | None = None,
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
    say: Say | None = None,
    executor: Executor | None = None,
    address: str = LOCAL,
    series: str | None = None,
    against: str | None = None,
) -> GridResult:
    """`run_grid` without its tables: for who shows them too, and so writes them with what is shown.

    Args:
        grid: as `run_grid` has it, and so the next ones.
        only: patterns.
        fresh: reuse nothing.
        watch: shows what happens.
        say: is told of reuse.
        executor: where stages run.
        address: of a cluster.
        series: the grid's models are the next ones of this series: grid.yaml of the run folder keeps those that it has.
        against: where the grid has `stop` with a policy, the model of the run folder that it is held against.

    Raises:
        ConfigError: the request is wrong.
        StoreError: the run folder cannot be used, or another driver has taken it.
        Interrupted: Ctrl-C, or the cluster is gone; the same call continues.
    """
    config = grid if isinstance(grid, GridConfig) else load_grid(grid)
    cells = plan.expand(config)
    if series is not None:
        cells = plan.as_series(cells, series)
    chosen = plan.select(cells, only) if only else cells
    plan.require_usable(chosen)
    store = Store(config.folder)
    stopping = None if config.stop is None else GridStopping(config, cells, store, against=against)
    store.lock()
    with closing(store):
        run = _Run(config, cells, chosen, store, watch or _silently, say or _unsaid, stopping)
        run.forget() if fresh else run.reuse()
        know(cells, store)
        told = resolved(config, cells, folder=store.root)
        store.grid_file.put(told if series is None else with_earlier(told, store, series))
        ahead = Ahead.of(config, chosen, store, run.enough)
        if not ahead:
            return standing(config, cells, store)
        store.event("run", cells=len(cells), todo=len(ahead.cells), pid=os.getpid())
        needs = [cell.model.gpus for cell in ahead.cells.values()]
        where = nullcontext(executor) if executor else closing(open_executor(address, store.log, store.log_name, needs=needs))
        try:
            with where as stage_executor:
                not_rerun = run.do(ahead, stage_executor)
        except (KeyboardInterrupt, LostError) as e:
            store.event("interrupted")
            raise Interrupted(standing(config, cells, store), str(e)) from None
        store.event("end")
        return replace(standing(config, cells, store), not_rerun=not_rerun)


@dataclass(frozen=True)
class _Run:
    """A grid, and the folder that its results go to."""

    config: GridConfig
    cells: Sequence[Cell]
    chosen: Sequence[Cell]
    """Of the cells, those that `only` names."""
    store: Store
    watch: Watch
    say: Say
    stopping: GridStopping | None

    @property
    def enough(self) -> set[str]:
        """Keys of the cells that were stopped, and need not be asked any further."""
        return set() if self.stopping is None else self.stopping.enough(self.store)

    def forget(self) -> None:
        """Forget what the folder holds of the chosen cells."""
        for key in sorted({key for cell in self.chosen for key in cell.keys}):
            self.store.discard(key)
        look_no_more(self.config, self.store, self.chosen)

    def reuse(self) -> None:
        """Reuse completed cells of earlier folders."""
        for reused in reuse(self.config, self.store, self.cells):
            self.say(str(reused))
        adopt(self.config, self.chosen, self.store)

    def do(self, ahead: Ahead, executor: Executor) -> dict[str, str]:
        """Do what is ahead; why rows could not be asked again, by cell key."""
        store, done = self.store, self.store.done()
        settled = done | self.enough
        known = measured(self.cells, {store: done})
        if isinstance(executor, ScheduledExecutor):
            executor.measured = known
        expect(ahead_of(self.config, self.chosen, store, settled), executor, store, known)
        runner = StageRunner(executor=executor, store=store, known=known, say=self.say, stopping=self.stopping)
        with self._watching(ahead.cells, sum(cell.key in settled for cell in self.cells)) as shows:
            runner.run(ahead.stages, shows)
            ensembles.vote(plan.voting(self.chosen, store.done()), {cell.key for cell in self.cells}, store, shows)
            # Only now is it known whose completions are there.
            runner.run(plan.judging(self.chosen, store.done()), shows)
        again = to_rerun(self.config, self.chosen, store, store.done())
        # In engines that are started for it: with other rows in a batch than before, which is what makes answers flip.
        with self._watching({cell.key: cell for stage in again for cell in stage.cells}, 0) as shows:
            return runner.run(again, shows)

    def _watching(self, cells: Mapping[str, Cell], before: int) -> AbstractContextManager[Shows]:
        return self.watch(cells, before) if cells else nullcontext(Silence())


def _silently(cells: Mapping[str, Cell], before: int) -> AbstractContextManager[Shows]:
    return nullcontext(Silence())


def _unsaid(sentence: str) -> None:
    return
