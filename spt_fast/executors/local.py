"""This machine: one worker process a model, one model after the other.

While a model is asked, the worker of the next one starts, imports its libraries and reads its rows and tokenizer. It puts
nothing on the device, and loads no weights, before it is told that the one before it has ended (`YourTurn`).

A worker lives in a session of its own, so that it, its engine and whatever those have started are ended as one group and
awaited when the model is done, whatever happened. When the driver dies, its end of the socket closes, and the worker ends its
group itself: no engine is left behind holding memory.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import zip_longest
from multiprocessing.connection import Connection
from pathlib import Path

from spt_fast.engine.base import Partners
from spt_fast.errors import StoreError
from spt_fast.executors.base import Executor
from spt_fast.executors.desk import Claim, Desk, Packed, WantsMore, YourTurn
from spt_fast.executors.partners import BeginParts, EndParts
from spt_fast.models.memory import count_gpus
from spt_fast.plan import MOST_DEATHS, Stage
from spt_fast.scheduling.estimates import Measured
from spt_fast.scheduling.scheduler import Resources
from spt_fast.worker.events import (
    THIS_MACHINE,
    CellDone,
    CellFailed,
    CellStarted,
    CellTrained,
    Event,
    PhaseStarted,
    StageDone,
    WorkerEnded,
    WorkerIdle,
    WorkerStarted,
)
from spt_fast.worker.lease import Given

GRACE_S = 20.0
"""How long a worker may take to end after its last event before its group is killed."""

ENVIRONMENT = {
    # OpenMP's threads spin while they wait. Where anything else wants a core, that made vLLM on a CPU 20 to 40 times slower
    # and training 2 times. Read when the library is loaded, so only an environment can say it.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Pages of 2 MB for tensors in main memory, where the system lets programs ask for them: the system takes large tensors back
    # when they are freed, and to meet them again 4 kB at a time took longer than what is computed of logits.
    "THP_MEM_ALLOC_ENABLE": "1",
    "TORCH_CPP_LOG_LEVEL": "ERROR",  # a line about NUMA binding at each start of vLLM
}
"""What a worker's environment says where the user's does not."""


class LocalExecutor(Executor):
    """One worker process a model, one after the other."""

    def __init__(self, log: Callable[[str], Path], log_name: Callable[[str], str] | None = None, *, ahead: bool = True) -> None:
        """
        Args:
            log: names the file that a model's worker prints to.
            log_name: what a person is told to look into; None: that file.
            ahead: start a model's worker while the one before it is asked.
        """
        self._log = log
        self._log_name = log_name or (lambda model: str(log(model)))
        self._ahead = ahead

    def run(
        self, stages: Sequence[Stage], given: Callable[[Stage], Given], measured: Sequence[Measured] = ()
    ) -> Generator[tuple[Stage, Event]]:
        gpu = count_gpus() > 0
        with ExitStack() as workers:
            ready: tuple[Desk, WorkerProcess] | None = None
            for stage, following in zip_longest(stages, stages[1:]):
                model = stage.model.name
                desk, worker = ready or (Desk(stage.cells, given(stage)), None)
                ready = None
                yield stage, WorkerStarted(where=THIS_MACHINE, gpus=stage.model.gpus if gpu else 0.0)
                for event in run_here(stage, desk, self._log(model), self._log_name(model), ready=worker):
                    if self._ahead and following is not None and ready is None and _asks(event):
                        has = given(following)
                        log, log_name = self._log(following.model.name), self._log_name(following.model.name)
                        waits = workers.enter_context(_employ(following, has, log, log_name))
                        ready = Desk(following.cells, has), waits
                    yield stage, event
                yield stage, WorkerEnded()

    def room(self) -> tuple[Mapping[str, Resources], bool]:
        """This machine, whole, for one model after the other."""
        gpus = float(count_gpus())
        return {THIS_MACHINE: {"CPU": 1.0, "GPU": gpus}}, gpus > 0


def _asks(event: Event) -> bool:
    """Whether a worker has all that it needs of the machine: it has learnt, and its engine answers."""
    return isinstance(event, PhaseStarted) and event.phase == "evaluate"


def run_here(
    stage: Stage,
    desk: Desk,
    log: Path,
    log_name: str,
    *,
    ready: WorkerProcess | None = None,
    partners: Partners | None = None,
) -> Iterator[Event]:
    """Run one stage on this machine, with a new worker as often as one dies; every death costs the cell it died of.

    Of several in flight it is not known which that was: they are tried once more, one by one.

    Args:
        stage: the model, or the judge.
        desk: has the cells, and what those have already.
        log: the file that workers print to.
        log_name: what a person is told to look into: where that file ends up.
        ready: a worker that has the stage already and waits for its turn. One that has ended meanwhile is no loss.
        partners: the other nodes of a stage that is spread over several.
    """
    suspects: set[str] = set()
    deaths = 0
    while True:
        cells, given = desk.left()
        if not cells:
            return
        if deaths == MOST_DEATHS - 1:  # as in `one_by_one`
            cells = cells[::-1]
        in_flight: dict[str, None] = {}
        finished = False
        if ready is None or not ready.alive:
            ready = _employ(replace(stage, cells=cells, alone=stage.alone | suspects), given, log, log_name)
        with ready as worker:
            ready = None
            worker.send(YourTurn())
            for message in worker.messages():
                match message:
                    case Claim(keys=keys):
                        worker.send(desk.claim(keys))
                        continue
                    case BeginParts(parts=parts):
                        assert partners is not None
                        partners.begin(parts)
                        worker.send(None)
                        continue
                    case EndParts():
                        assert partners is not None
                        partners.end()
                        worker.send(None)
                        continue
                    case WantsMore():
                        if desk.waits:
                            yield WorkerIdle()
                        worker.send(desk.more())
                        continue
                    case CellStarted(key=key):
                        in_flight[key] = None
                    case CellTrained(key=key):
                        desk.learnt(key, dict(message.prompts))
                        in_flight.pop(key, None)
                    case CellDone(key=key) | CellFailed(key=key):
                        desk.ended(key)
                        in_flight.pop(key, None)
                        deaths = 0
                    case StageDone():
                        finished = True
                        break
                yield message
            reason = worker.end(finished)
        if partners is not None:
            partners.end()
        cells, _ = desk.left()
        # A worker that says it is done and is not has left cells out.
        reason = "the worker left this cell out" if finished else reason
        died_of = set(in_flight) or {cell.key for cell in cells}
        deaths += 1
        for cell in cells:
            if finished or deaths == MOST_DEATHS or cell.key in died_of & suspects:
                desk.ended(cell.key)
                yield CellFailed(key=cell.key, kind="EngineError", reason=reason)
        suspects |= died_of


def _employ(stage: Stage, given: Given, log: Path, log_name: str) -> WorkerProcess:
    """A new worker that has a stage to do, and waits for its turn."""
    worker = WorkerProcess(log, log_name, offline=stage.model.from_cache)
    worker.send((stage, given))
    return worker


class WorkerProcess:
    """A process that runs one stage, or a part of another's engine; leaving the context ends its whole group and awaits it."""

    def __init__(self, log: Path, log_name: str, *, offline: bool) -> None:
        """`offline`: the Hub was just found out of reach; libraries that do not know would go on trying for a minute."""
        self._log_name = log_name
        ours, theirs = socket.socketpair()
        try:
            out = log.open("ab")
        except OSError as e:
            ours.close()
            theirs.close()
            raise StoreError(f"{log}: cannot be written: {e.strerror or e}") from None
        with theirs, out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "spt_fast.executors.process", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env=_environment(offline),
            )
        self._connection = Connection(ours.detach())
        self._ended = False

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return not self._ended and self._process.poll() is None

    def send(self, job: object) -> None:
        with contextlib.suppress(OSError):  # it died already: `events` will say so
            self._connection.send(job)

    def messages(self) -> Iterator[Event | Claim | WantsMore | BeginParts | EndParts]:
        """Events and questions, until the worker closes its end, or says what cannot be read."""
        while True:
            try:
                message: Event | Packed | Claim | WantsMore | BeginParts | EndParts = self._connection.recv()
            except Exception:
                return
            yield message.opened() if isinstance(message, Packed) else message

    def end(self, finished: bool) -> str:
        """Await a worker that has said its last; how it ended, in a sentence."""
        self._connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S if finished else 1.0)
        self._end_group()
        code = self._process.returncode
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            why = "; the machine may be out of memory" if name == "SIGKILL" else ""
            return f"the worker was ended by {name}{why}; see {self._log_name}"
        return f"the worker ended with exit code {code}; see {self._log_name}"

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End its whole group, and await that."""
        self._connection.close()
        self._end_group()

    def _end_group(self) -> None:
        # Once: another group may have the number later.
        if not self._ended:
            self._ended = True
            _end_group(self._process)


def _environment(offline: bool) -> dict[str, str]:
    # VLLM_DP_*: left by a vLLM server that started us, they would make an engine wait for partners that never come.
    ours = {name: value for name, value in os.environ.items() if not name.startswith("VLLM_DP_")}
    return {**ENVIRONMENT, **ours, **({"HF_HUB_OFFLINE": "1"} if offline else {})}


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker's process group and await the end of every process in it."""
    group = process.pid  # start_new_session: the worker leads its group
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + GRACE_S
    while _alive_in(group) and time.monotonic() < deadline:
        time.sleep(0.01)  # the rest of the group are not our children: there is nothing to wait on but their absence


def _alive_in(group: int) -> bool:
    """Whether a process of the group still runs; one that has ended and waits for its parent (a zombie) does not."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    stats = list(Path("/proc").glob("[0-9]*/stat"))
    if not stats:
        return True  # no /proc: killpg's word stands
    for stat in stats:
        with contextlib.suppress(OSError):
            state, _, member_of = stat.read_text().rpartition(")")[2].split()[:3]
            if int(member_of) == group and state != "Z":
                return True
    return False
