"""All GPUs of this machine, without a cluster: several worker processes at once, each on GPUs of its own.

The scheduler divides the models over the GPUs as it does on a cluster; here the cluster is one node. A worker sees only its own
GPUs (`CUDA_VISIBLE_DEVICES`). While models are evaluated, the processes of those that come next import what they need; which
model that will be, and which GPUs it has, they are told when the scheduler has decided (`prestarted`).
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spt_fast.engine import config_of
from spt_fast.errors import first_line
from spt_fast.executors.crew import Crew, GaveUp, Gone, News, Said, Up
from spt_fast.executors.prestarted import Prestarted
from spt_fast.executors.scheduled import ScheduledExecutor
from spt_fast.executors.supervisor import Supervisor, parts, trains_apart
from spt_fast.executors.work_queue import WorkQueue
from spt_fast.models.memory import visible_gpus
from spt_fast.plan import Stage
from spt_fast.plan.cell import Cell
from spt_fast.scheduling.limits import Limits
from spt_fast.scheduling.messages import Job, Nodes, Resources, Start
from spt_fast.worker.events import THIS_MACHINE, Event, PhaseStarted
from spt_fast.worker.lease import Given

_ROUNDING = 1e-6

ANSWERING = ("evaluate", "rerun", "judge")
"""The phases in which a worker has all that it needs of the machine: it has trained, and its engine answers."""


class GpusExecutor(ScheduledExecutor):
    """Workers on all GPUs of this machine."""

    def __init__(self, log: Callable[[str], Path], log_name: Callable[[str], str] | None = None, *, ahead: bool = True) -> None:
        """
        Args:
            log: names the file that a model's workers print to.
            log_name: what a person is told to look into; None: that file.
            ahead: start processes of the next models while others are evaluated.
        """
        self._log = log
        self._log_name = log_name or (lambda model: str(log(model)))
        self._gpus, self._ahead = visible_gpus(), ahead
        self.limits = Limits(node_wait_s=0.0, ahead=0)  # there will be no more GPUs than there are

    def nodes(self) -> Mapping[str, Resources]:
        """This machine. A process waits for its GPU most of the time, so cores are no reason to leave a GPU idle."""
        cores = os.cpu_count() or 1
        return {THIS_MACHINE: {"CPU": float(max(cores, 10 * len(self._gpus))), "GPU": float(len(self._gpus))}}

    def uses_gpus(self) -> bool:
        """They do."""
        return True

    def in_words(self, stages: Sequence[Stage]) -> str:
        """How many models are divided over how many GPUs, and how many of these a worker takes."""
        sizes = sorted({stage.model.gpus for stage in stages})
        each = " or ".join(f"{size:g}" for size in sizes)
        models = f"{len(stages)} model{'s are' if len(stages) > 1 else ' is'}"
        return f"{models} divided over the {len(self._gpus)} GPUs of this machine, {each} to a worker"

    def crew(self, stages: Sequence[Stage]) -> Crew:
        """Worker processes of this machine."""
        to_come = stages if self._ahead else ()
        return _Processes(Nodes(self.nodes()), Devices(self._gpus), self._log, self._log_name, to_come)


def _engine_kind(stage: Stage) -> str:
    """Which engine answers."""
    settings = stage.cells[0].engine if stage.judge is None else stage.judge.engine
    return config_of(stage.model, settings).kind


class Devices:
    """Which worker has which GPUs. A share of a GPU is on the fullest one that has room for it."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names`: as `CUDA_VISIBLE_DEVICES` has them."""
        self._free = dict.fromkeys(names, 1.0)
        self._taken: dict[int, dict[str, float]] = {}

    def take(self, worker: int, gpus: float) -> tuple[str, ...]:
        """The GPUs of a new worker: the scheduler has seen to it that there are so many."""
        if gpus < 1:
            fitting = [name for name, free in self._free.items() if free >= gpus - _ROUNDING]
            names = [min(fitting, key=self._free.__getitem__)]
        else:
            names = [name for name, free in self._free.items() if free >= 1 - _ROUNDING][: round(gpus)]
        self._taken[worker] = dict.fromkeys(names, min(gpus, 1.0))
        for name in names:
            self._free[name] -= min(gpus, 1.0)
        return tuple(names)

    def give_back(self, worker: int) -> None:
        """A worker has ended."""
        for name, share in self._taken.pop(worker, {}).items():
            self._free[name] += share


@dataclass
class _Process:
    """A worker: a thread that supervises its processes."""

    cells: WorkQueue
    supervisor: Supervisor
    thread: threading.Thread


class _Processes(Crew):
    """Workers on this machine."""

    def __init__(
        self,
        nodes: Nodes,
        devices: Devices,
        log: Callable[[str], Path],
        log_name: Callable[[str], str],
        to_come: Sequence[Stage],
    ) -> None:
        self._nodes, self._devices, self._log, self._log_name = nodes, devices, log, log_name
        self._to_come = {stage.cells[0].key: stage for stage in to_come}
        """Stages for which processes are started ahead, until they have a worker."""
        self._prestarted = Prestarted()
        self._workers: dict[int, _Process] = {}
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()

    def nodes(self) -> Nodes:
        return self._nodes

    def start(self, start: Start, job: Job, whole: Stage, stage: Stage, earlier: Given) -> None:
        self._to_come.pop(whole.cells[0].key, None)
        if not start.nodes:
            return  # it needs more GPUs than there are: the scheduler is about to say so
        gpus = self._devices.take(start.worker, job.need["GPU"])
        name, cells = stage.model.name, WorkQueue(stage.cells, earlier, shared=True)
        environment = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}
        logs = (self._log(name), self._log_name(name))
        supervisor = Supervisor(stage, cells, *logs, environment=environment, prestarted=self._prestarted)
        thread = threading.Thread(target=self._run, args=(start.worker, supervisor), daemon=True)
        self._workers[start.worker] = _Process(cells, supervisor, thread)
        where = f"{THIS_MACHINE}, GPU{'s' * (len(gpus) > 1)} {', '.join(gpus)}"
        self._news.put(Up(start.worker, (THIS_MACHINE,), where))
        thread.start()

    def assign(self, worker: int, cells: tuple[Cell, ...], earlier: Given) -> None:
        self._workers[worker].cells.assign(cells, earlier)

    def revoke(self, worker: int, keys: tuple[str, ...]) -> None:
        if worker in self._workers:
            self._news.put(GaveUp(worker, self._workers[worker].cells.revoke(keys)))

    def release(self, worker: int) -> None:
        self._workers[worker].cells.release()

    def kill(self, worker: int) -> None:
        """Returns when none of its processes is left, so its GPUs are free."""
        process = self._workers.pop(worker, None)
        if process is not None:
            process.supervisor.kill()
            process.thread.join()
            self._devices.give_back(worker)

    def news(self, wait_s: float) -> Iterable[News]:
        """What workers have said. Their threads are always there, so those that are silent are heard too."""
        with contextlib.suppress(queue.Empty):
            yield self._news.get(timeout=wait_s)
            while True:
                yield self._news.get_nowait()
        for worker in list(self._workers):
            yield Said(worker, (THIS_MACHINE,))

    def observe(self, stage: Stage, event: Event) -> None:
        """While a model is evaluated, the processes of the next one import what they need."""
        if isinstance(event, PhaseStarted) and event.phase in ANSWERING:
            with contextlib.suppress(OSError):  # there is no room for another process: nothing is gained, and nothing lost
                self._prestart()

    def _prestart(self) -> None:
        """For a stage that is to come, as many as there are at work; each has one process that evaluates."""
        apart, there = trains_apart(), self._prestarted.count(("all", "evaluate"))
        for stage in list(self._to_come.values())[there : min(there + 1, len(self._workers))]:
            for do in parts(stage, {}, apart=apart):
                if self._prestarted.count((do,)) <= there:
                    self._prestarted.start(do, _engine_kind(stage), offline=stage.model.from_cache)

    def close(self) -> None:
        """End the processes that nobody has needed."""
        self._prestarted.close()

    def _run(self, worker: int, supervisor: Supervisor) -> None:
        try:
            for event in supervisor.events():
                self._news.put(Said(worker, (THIS_MACHINE,), (event,)))
        except Exception as e:  # its log cannot be written, or no process can be started
            self._news.put(Gone(worker, f"it could not be run: {first_line(e)}"))
        else:
            self._news.put(Said(worker, (THIS_MACHINE,), ended=True))
