"""What runs on the nodes: an actor for each worker, and one for each further part of a worker that is spread over nodes.

An actor runs its cells as this machine would (`Supervisor`): a worker process in a session of its own, which ends when the
actor does, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from spt_fast.engine.base import Followers, Part
from spt_fast.executors.supervisor import Supervisor
from spt_fast.executors.work_queue import WorkQueue
from spt_fast.executors.worker_process import GRACE_S, WorkerProcess
from spt_fast.plan import Stage
from spt_fast.plan.cell import TaskRows
from spt_fast.worker.events import Event, Progress

LINGER_S = 0.02
"""What comes so soon after news goes with it: a cell that ends is followed by the next that begins."""


@dataclass(frozen=True)
class Answer:
    """What an actor answers."""

    events: tuple[Event, ...]
    log: bytes
    """What its worker has printed since."""
    ended: bool


class ModelWorker:
    """What an actor is: cells of one model that are done in a thread, and what that has told so far."""

    def __init__(self, label: str) -> None:
        """`label`: what Ray's dashboard calls it."""
        self._label = label
        # Empty until `start`, which takes seconds on a busy machine: the driver may revoke cells meanwhile.
        self._queue = WorkQueue((), {}, shared=True)
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._ended = False
        handle, name = tempfile.mkstemp(prefix="spt-fast-", suffix=".log")
        os.close(handle)
        self._log = Path(name)
        self._read = 0

    def __repr__(self) -> str:
        return self._label

    def start(self, work: bytes, rows: Mapping[str, Any], followers: Sequence[Any] = ()) -> tuple[str, ...]:
        """Begin.

        Args:
            work: pickled: a stage, what earlier runs have of its cells, and where the driver keeps what is printed.
            rows: task -> reference to its rows, which may still be on their way.
            followers: the actors (`Follower`) of a worker that is spread over nodes.

        Returns:
            The ids of its nodes, its own first.
        """
        stage, earlier, log_name = pickle.loads(work)
        self._queue.assign(stage.cells, earlier)
        nodes, addresses = zip(_address(), *ray.get([follower.address.remote() for follower in followers]), strict=True)
        if followers:
            stage = replace(stage, nodes=addresses)
        others = _Followers(followers, self._log) if followers else None
        threading.Thread(target=self._run, args=(stage, rows, log_name, others), daemon=True).start()
        return tuple(nodes)

    def take(self, wait_s: float) -> bytes:
        """What has happened since the last call, as a pickled `Answer`; waits a while for something to happen.

        For progress alone it waits to the end, and tells of the last: a thousand workers make some five times a second each.
        """
        events: list[Event] = []
        until, soon = time.monotonic() + wait_s, 0.0
        with contextlib.suppress(queue.Empty):
            while True:
                if until > soon and (self._ended or not all(isinstance(event, Progress) for event in events)):
                    until = soon = min(until, time.monotonic() + LINGER_S)
                event = self._events.get(timeout=max(0.0, until - time.monotonic()))
                if event is None:
                    self._ended = True
                elif events and isinstance(event, Progress) and isinstance(events[-1], Progress):
                    events[-1] = event
                else:
                    events.append(event)
        with self._log.open("rb") as file:
            file.seek(self._read)
            log = file.read()
        self._read += len(log)
        if self._ended:
            self._log.unlink(missing_ok=True)
        return pickle.dumps(Answer(events=tuple(events), log=log, ended=self._ended))

    def assign(self, work: bytes) -> None:
        """Hand over more cells: pickled, with what earlier runs have of them."""
        cells, earlier = pickle.loads(work)
        self._queue.assign(cells, earlier)

    def revoke(self, keys: Sequence[str]) -> tuple[str, ...]:
        """Those of these cells that it has not begun; it does not hold them from now on."""
        return self._queue.revoke(keys)

    def release(self) -> None:
        """Let it end when it has nothing left."""
        self._queue.release()

    def _run(self, stage: Stage, rows: Mapping[str, Any], log_name: str, followers: Followers | None) -> None:
        there: dict[str, bytes] = {}
        for task, reference in rows.items():
            with contextlib.suppress(ray.exceptions.RayError):  # the worker tries itself, and says why it cannot
                there[task] = ray.get(reference)
        try:
            for event in Supervisor(replace(stage, rows=there), self._queue, self._log, log_name, followers=followers).events():
                self._events.put(event)
        finally:
            self._events.put(None)


class Follower:
    """What an actor is that has a part of a worker whose engine is spread over nodes: there it runs its part of the engine."""

    def __init__(self, label: str) -> None:
        """`label`: what Ray's dashboard calls it."""
        self._label = label
        self._changed = threading.Condition()
        self._process: WorkerProcess | None = None
        self._log = Path()
        self._lost: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def __repr__(self) -> str:
        return self._label

    def address(self) -> tuple[str, str]:
        """The id of its node, and the node's address."""
        return _address()

    def begin(self, work: bytes) -> None:
        """Run a part: a pickled `Part`."""
        self.end()
        handle, name = tempfile.mkstemp(prefix="spt-fast-part-", suffix=".log")
        os.close(handle)
        process = WorkerProcess(Path(name), name, offline=False)
        process.send(pickle.loads(work))
        with self._changed:
            self._process, self._log = process, Path(name)
        threading.Thread(target=self._watch, args=(process,), daemon=True).start()

    def end(self) -> bytes:
        """End what runs, and return what it has printed."""
        with self._changed:
            process, self._process = self._process, None
            self._changed.notify_all()
        if process is None:
            return b""
        process.kill()
        printed = self._log.read_bytes()
        self._log.unlink()
        return printed

    def lost(self) -> bytes:
        """Wait until a part has ended by itself, and return what it has printed; the engine may wait for it for ever."""
        return self._lost.get()

    def _watch(self, process: WorkerProcess) -> None:
        for _ in process.messages():
            pass  # it has none: this is until it ends
        with self._changed:
            # An engine that closes, or dies, takes its parts with it, and then says so.
            if self._changed.wait_for(lambda: self._process is not process, GRACE_S):
                return
        self._lost.put(self.end())


class _Followers(Followers):
    """The actors that have the parts, as their worker sees them.

    One that cannot be reached is left to the driver, who sees it too, and gives up the worker and all its parts.
    """

    def __init__(self, actors: Sequence[Any], log: Path) -> None:
        self._actors, self._log = actors, log

    def begin(self, parts: Sequence[Part]) -> None:
        self._ask([actor.begin.remote(pickle.dumps(part)) for actor, part in zip(self._actors, parts, strict=True)])

    def end(self) -> None:
        with self._log.open("ab") as file:
            file.writelines(self._ask([actor.end.remote() for actor in self._actors]))

    def _ask(self, references: Sequence[Any]) -> list[Any]:
        answers = []
        for reference in references:
            with contextlib.suppress(ray.exceptions.RayError):
                answers.append(ray.get(reference))
        return answers


def read_answer(data: bytes) -> Answer | None:
    """What an actor says; None where it cannot be read here, whatever its worker put into it."""
    try:
        answer: Answer = pickle.loads(data)
    except Exception:
        return None
    return answer


def _address() -> tuple[str, str]:
    """The id of this process's node, and the node's address."""
    return str(ray.get_runtime_context().get_node_id()), str(ray.util.get_node_ip_address())


def read_rows(wanted: TaskRows) -> bytes:
    return pickle.dumps(wanted.read())
