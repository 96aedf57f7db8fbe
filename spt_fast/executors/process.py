"""A worker process: `python -m spt_fast.executors.process FD`.

Takes one job from the socket, sends events, waits until the device is free, asks what it may begin and what comes after, ends.
Or the job is a part of another node's engine: then it runs that until it is ended. One that was started before its stage was
known (`prestarted`) first imports what it will need, and is then told where it is.
"""

from __future__ import annotations

import os
import pickle
import queue
import select
import signal
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from multiprocessing.connection import Connection
from typing import Any

from spt_fast.engine.base import Followers, Part
from spt_fast.errors import UnstorableError
from spt_fast.executors.messages import (
    BeginFollowers,
    Claim,
    DeviceFree,
    EndFollowers,
    ImportAhead,
    Packed,
    Settle,
    WantsMore,
    WantsTraining,
    unsent,
)
from spt_fast.models import memory
from spt_fast.worker.events import CellDone, CellFailed, CellTrained, Event, StageDone
from spt_fast.worker.judge import run_judging
from spt_fast.worker.lease import Handed, Lease, More
from spt_fast.worker.stage import import_ahead, run_stage


def main(fd: int) -> None:
    """Run the job that comes through the socket `fd`."""
    _leave_nothing_behind(fd)
    connection = Connection(fd)
    job = connection.recv()
    if isinstance(job, ImportAhead):
        job = _started_ahead(connection, fd, job)
        if job is None:
            return
    line = _Line(connection)
    if isinstance(job, Part):
        from spt_fast.engine.vllm.start import follow

        follow(job)
        return
    stage, earlier, do = job
    if stage.judge is not None:
        run_judging(stage, earlier, line.emit, line)
    elif not run_stage(stage, earlier, line.emit, line, do):
        line.tell(WantsTraining())
        return
    line.emit(StageDone())


def _started_ahead(connection: Connection, fd: int, ahead: ImportAhead) -> Any:
    """Import what will be needed, become a process like those that are started for a stage, and return the job; None: there
    is none, for the driver has no use for it, or is gone."""
    import_ahead(ahead.do, ahead.kind)
    try:
        settle: Settle = connection.recv()
        os.environ.update(settle.environment)
        with open(settle.log, "ab") as log:
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
        if (
            memory.cuda_begun()
        ):  # it would go on with the GPUs that it saw then: it begins anew, and the job is still to be read
            os.execv(sys.executable, [sys.executable, "-m", "spt_fast.executors.process", str(fd)])
        return connection.recv()
    except EOFError:
        return None


def _leave_nothing_behind(fd: int) -> None:
    """Have this process group ended when this process has ended, also where it was killed alone: Ray ends an actor's children
    one by one, and not theirs. A process of vLLM that is still starting would go on, and wait half an hour for the others.

    Args:
        fd: what the process that sees to it must not keep open.
    """
    if not hasattr(os, "pidfd_open"):  # Linux has it, and is where Ray and several GPUs are
        return
    parent = os.pidfd_open(os.getpid())
    if os.fork() == 0:
        os.close(fd)
        select.select([parent], [], [])
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os.close(parent)


class _Line(Lease, Followers):
    """The socket: events go up, questions too, and answers come down."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._device_free = threading.Event()
        self._handed: Handed | None = None
        threading.Thread(target=self._listen, daemon=True).start()

    def emit(self, event: Event) -> None:
        """Send an event. What a cell came to is packed by itself: where it cannot be sent or read, that cell has failed."""
        if not isinstance(event, CellDone | CellTrained):
            self.tell(event)
            return
        try:
            self.tell(Packed(key=event.key, data=pickle.dumps(event)))
        except Exception as e:  # whatever pickling meets in a task of the user's own
            self.tell(CellFailed(key=event.key, kind=UnstorableError.__name__, reason=unsent(e)))

    def claim(self, keys: Sequence[str]) -> Collection[str]:
        self.tell(Claim(tuple(keys)))
        mine: Collection[str] = self._answers.get()
        return mine

    def more(self) -> More | None:
        self.tell(WantsMore())
        more: More | None = self._answers.get()
        return more

    def wait_for_device(self, meanwhile: Callable[[], None]) -> Handed | None:
        if not self._device_free.is_set():
            meanwhile()
        self._device_free.wait()
        return self._handed

    @property
    def followers(self) -> Followers:
        return self

    def begin(self, parts: Sequence[Part]) -> None:
        self.tell(BeginFollowers(tuple(parts)))
        self._answers.get()

    def end(self) -> None:
        self.tell(EndFollowers())
        self._answers.get()

    def tell(self, message: object) -> None:
        """Send a message that is no event."""
        # Pickled first: a message is sent whole, or the failure to pickle it is ours and visible here.
        data = pickle.dumps(message)
        try:
            self._connection.send_bytes(data)
        except OSError:
            _end_group()

    def _listen(self) -> None:
        try:
            while True:
                message = self._connection.recv()
                if isinstance(message, DeviceFree):
                    self._handed = message.handed
                    self._device_free.set()
                else:
                    self._answers.put(message)
        except (EOFError, OSError):
            _end_group()


def _end_group() -> None:
    """End this process group as soon as the driver is gone: nothing may go on holding a GPU for nobody."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]))
