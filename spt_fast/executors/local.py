"""This machine: one worker process a model, one model after the other; on a GPU one that trains before it.

While a model is evaluated, the worker of the next one starts, imports its libraries and reads its rows and tokenizer. It puts
nothing on the device, and loads no weights, before it is told that the one before it has ended (`DeviceFree`). Where soft
prompts are carried along a series it is started when all of this model's are there: it is told then what it starts from.
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
from spt_fast.worker.events import THIS_MACHINE, CellFailed, CellTrained, Event, PhaseStarted, WorkerEnded, WorkerStarted
from spt_fast.worker.lease import Given, learnt_of


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
            ready: tuple[Given, Employed] | None = None
            for stage, following in zip_longest(stages, stages[1:]):
                has, worker = ready or (earlier(stage), None)
                ready = None
                to_train = set(stage.carried - learnt_of(has).keys())
                yield stage, WorkerStarted(where=THIS_MACHINE, gpus=stage.model.gpus if gpu else 0.0)
                evaluates = False
                queue = WorkQueue(stage.cells, has)
                for event in Supervisor(stage, queue, *self._logs(stage), ready=worker).events():
                    evaluates = evaluates or _evaluates(event)
                    if self._ahead and following is not None and ready is None and evaluates and not to_train:
                        has = earlier(following)
                        waits = workers.enter_context(employ(following, has, *self._logs(following), apart=trains_apart()))
                        ready = has, waits
                    yield stage, event
                    # Now it is kept, and the next checkpoint can start from it.
                    if isinstance(event, CellTrained | CellFailed):
                        to_train.discard(event.key)
                yield stage, WorkerEnded()

    def _logs(self, stage: Stage) -> tuple[Path, str]:
        return self._log(stage.model.name), self._log_name(stage.model.name)


def _evaluates(event: Event) -> bool:
    """Whether a worker has all that it needs of the machine: it has trained, and its engine answers."""
    return isinstance(event, PhaseStarted) and event.phase == "evaluate"
