"""This machine: one worker process a model, one model after the other; on a GPU one that trains before it.

While a model is evaluated, the worker of the next one starts, imports its libraries and reads its rows and tokenizer. It puts
nothing on the device, and loads no weights, before it is told that the one before it has ended (`DeviceFree`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path

from spt_fast.executors.base import Executor
from spt_fast.executors.supervisor import Employed, Supervisor, employ, trains_apart
from spt_fast.executors.work_queue import WorkQueue
from spt_fast.models.memory import count_gpus
from spt_fast.plan import Stage
from spt_fast.worker.events import THIS_MACHINE, Event, PhaseStarted, WorkerEnded, WorkerStarted
from spt_fast.worker.lease import Given


class LocalExecutor(Executor):
    """One worker process a model, one after the other."""

    def __init__(self, log: Callable[[str], Path], log_name: Callable[[str], str] | None = None, *, ahead: bool = True) -> None:
        """
        Args:
            log: names the file that a model's worker prints to.
            log_name: what a person is told to look into; None: that file.
            ahead: start a model's worker while the one before it is evaluated.
        """
        self._log = log
        self._log_name = log_name or (lambda model: str(log(model)))
        self._ahead = ahead

    def run(self, stages: Sequence[Stage], earlier: Callable[[Stage], Given]) -> Generator[tuple[Stage, Event]]:
        gpu = count_gpus() > 0
        with ExitStack() as workers:
            ready: tuple[WorkQueue, Employed] | None = None
            for stage, following in zip_longest(stages, stages[1:]):
                queue, worker = ready or (WorkQueue(stage.cells, earlier(stage)), None)
                ready = None
                yield stage, WorkerStarted(where=THIS_MACHINE, gpus=stage.model.gpus if gpu else 0.0)
                for event in Supervisor(stage, queue, *self._logs(stage), ready=worker).events():
                    if self._ahead and following is not None and ready is None and _evaluates(event):
                        has = earlier(following)
                        waits = workers.enter_context(employ(following, has, *self._logs(following), apart=trains_apart()))
                        ready = WorkQueue(following.cells, has), waits
                    yield stage, event
                yield stage, WorkerEnded()

    def _logs(self, stage: Stage) -> tuple[Path, str]:
        return self._log(stage.model.name), self._log_name(stage.model.name)


def _evaluates(event: Event) -> bool:
    """Whether a worker has all that it needs of the machine: it has trained, and its engine answers."""
    return isinstance(event, PhaseStarted) and event.phase == "evaluate"
