"""Executor: where cells run.

The contract, for an executor of one's own:

* `run` gets stages (a model, and the cells of it that are to be done) and yields `(stage, event)` in the driver's process, in
  the order in which things happen: `WorkerStarted`, whatever the worker tells, `WorkerEnded`.
* Each cell ends in one `CellDone` or `CellFailed`, whatever becomes of its worker.
* Where the iterator is closed early (Ctrl-C), the workers are ended before `close()` of the iterator returns.

It writes nothing to the run folder: the driver keeps what the events bring. `supervisor.run_here` runs one stage in a process
of its own on the machine that calls it, and starts a new process as often as one dies; so an executor decides when and where
it is called, and passes its events on. One that works on several models at once is a `scheduled.ScheduledExecutor`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence

from spt_fast.plan import Stage
from spt_fast.worker.events import Event
from spt_fast.worker.lease import Given


class Executor(ABC):
    """Runs stages."""

    @abstractmethod
    def run(self, stages: Sequence[Stage], earlier: Callable[[Stage], Given]) -> Generator[tuple[Stage, Event]]:
        """Run the stages and yield what happens, each event with its stage.

        Args:
            stages: what is to be done. A worker may get some of a stage's cells: `replace(stage, cells=...)`.
            earlier: called when a worker gets cells, with a stage of these: what earlier runs have of them, for that worker.
        """

    def close(self) -> None:  # noqa: B027  (most hold nothing)
        """Give back what the executor holds. Closing twice is no error."""
