"""Running stages: handed to an executor, and what comes back is kept, shown, and held against the clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from spt_fast.driver.carried import start_of
from spt_fast.driver.estimates import TimeLeft
from spt_fast.driver.heartbeat import Heartbeat
from spt_fast.driver.keep import keep
from spt_fast.driver.stopping import GridStopping
from spt_fast.errors import DamagedError, StoreError
from spt_fast.executors.base import Executor
from spt_fast.executors.scheduled import ScheduledExecutor
from spt_fast.plan import Stage
from spt_fast.scheduling.estimates import Measured
from spt_fast.store import Store
from spt_fast.worker.events import CellDone, CellFailed, Event
from spt_fast.worker.lease import Asking, Given, asking_key


class Shows(Protocol):
    """What a run tells events to: `progress.Watcher` is one."""

    def show(self, stage: Stage, event: Event) -> None:
        """Show one event."""


class Silence:
    """Shows nothing."""

    def show(self, stage: Stage, event: Event) -> None:
        """Nothing is shown."""


@dataclass(frozen=True, kw_only=True)
class StageRunner:
    """Runs stages, and keeps what comes of them."""

    executor: Executor
    store: Store
    known: Sequence[Measured] = ()
    """What cells that are done have cost."""
    say: Callable[[str], None] | None = None
    """Is told in a sentence what of earlier work is of no use."""
    stopping: GridStopping | None = None
    """When cells have been asked enough; None: all is asked."""

    def run(self, stages: Sequence[Stage], shows: Shows) -> dict[str, str]:
        """Run stages to their end; why cells failed, by key."""
        failed = self._refuse([stage for stage in stages if stage.model.unresolved is not None], shows)
        stages = [stage for stage in stages if stage.model.unresolved is None]
        for wave in [stages] if self.stopping is None else self.stopping.waves(stages):
            failed |= self._run(wave, shows) if wave else {}
        return failed

    def keep(self, stage: Stage, event: Event) -> Event:
        """Write an event to the run folder; what is to be told of it."""
        return keep(stage, event, self.store)

    def _run(self, stages: Sequence[Stage], shows: Shows) -> dict[str, str]:
        failed: dict[str, str] = {}
        ended: set[str] = set()
        if self.say is not None and isinstance(self.executor, ScheduledExecutor) and (said := self.executor.in_words(stages)):
            self.say(said)
        heartbeat = Heartbeat(self.store)
        time_left = TimeLeft(stages, self.executor, self.store, self.known)
        with closing(self.executor.run(stages, lambda stage: given(stage, self.store, self.say, self.stopping))) as events:
            for stage, told in events:
                key = getattr(told, "key", None)
                if key is not None and (key in ended or key not in stage.by_key):
                    continue  # what is said of a cell that has ended counts no more
                event = self.keep(stage, told)
                for each in (event, *time_left.after(stage, event)):
                    shows.show(stage, each)
                    heartbeat.take(stage, each)
                if isinstance(event, CellDone | CellFailed):
                    ended.add(event.key)
                if isinstance(event, CellFailed):
                    failed[event.key] = event.reason
        return failed

    def _refuse(self, stages: Sequence[Stage], shows: Shows) -> dict[str, str]:
        """Fail the cells of models that are known to be of no use: no worker need start for that."""
        failed: dict[str, str] = {}
        for stage in stages:
            for cell in stage.cells:
                failed[cell.key] = reason = stage.model.unresolved or ""
                shows.show(stage, self.keep(stage, CellFailed(key=cell.key, kind="ModelError", reason=reason)))
        return failed


def given(stage: Stage, store: Store, say: Callable[[str], None] | None = None, stopping: GridStopping | None = None) -> Given:
    """What earlier work has for a stage: soft prompts that are learnt already, those of earlier checkpoints to start from, or
    the completions to be judged; and how cells are asked.

    What is damaged is not there: vectors are learnt again, and a judge's worker fails the cell.
    """
    found: dict[str, Any] = {} if stage.judge is not None or stage.rerun else _asking(stage, store, stopping)
    done = store.done() if stage.rerun else ()
    for cell in stage.cells:
        has: Any = None
        try:
            has = store.learnt.of(cell) if stage.judge is None else store.cell_result(cell.unjudged.key)
        except DamagedError as e:
            again = stage.judge is None and cell.key not in done
            if again:
                store.learnt.forget(cell.key)
            if say is not None:
                mend = "so it is learnt again" if again else "so the cell cannot be gone on with"
                say(f"{cell.title}: {str(e).partition('; ')[0]}, {mend}")
        if has is None and cell.key in stage.carried:
            has = start_of(cell, store, say)
        if has is not None:
            found[cell.key] = has
    return found


def _asking(stage: Stage, store: Store, stopping: GridStopping | None) -> dict[str, Asking]:
    """How the cells of a stage are asked, where that is not simply everything."""
    try:
        rules = {} if stopping is None else stopping.of(stage.cells)
    except StoreError:
        rules = {}  # what they would be held against cannot be read: they are asked all
    before = store.stopped.among(()) & stage.by_key.keys()
    found = {}
    for key in rules.keys() | before:
        stopped = None
        if key in before:
            with suppress(DamagedError):  # it is asked anew
                stopped = store.stopped.whole(key)
        found[asking_key(key)] = Asking(key=key, stopping=rules.get(key), stopped=stopped)
    return found
