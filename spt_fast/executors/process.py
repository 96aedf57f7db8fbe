"""A worker process: `python -m spt_fast.executors.process FD`.

Takes one job from the socket, sends events, waits for its turn, asks what it may begin and what comes after, ends.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from multiprocessing.connection import Connection
from typing import Any

from spt_fast.events import Event, StageDone
from spt_fast.executors.desk import Claim, WantsMore, YourTurn
from spt_fast.judging import run_judging
from spt_fast.sharing import More, Sharing
from spt_fast.worker import run_stage


def main(fd: int) -> None:
    """Run the job that comes through the socket `fd`."""
    connection = Connection(fd)
    stage, given = connection.recv()
    line = _Line(connection)
    run = run_stage if stage.judge is None else run_judging
    run(stage, given, line.emit, line)
    line.emit(StageDone())


class _Line(Sharing):
    """The socket: events go up, questions too, and answers come down."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._turn = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def emit(self, event: Event) -> None:
        self._send(event)

    def claim(self, keys: Sequence[str]) -> Collection[str]:
        self._send(Claim(tuple(keys)))
        mine: Collection[str] = self._answers.get()
        return mine

    def more(self) -> More | None:
        self._send(WantsMore())
        more: More | None = self._answers.get()
        return more

    def turn(self, meanwhile: Callable[[], None]) -> None:
        if not self._turn.is_set():
            meanwhile()
        self._turn.wait()

    def _send(self, message: object) -> None:
        # Pickled first: a message is sent whole, or the failure to pickle it is ours and visible here.
        self._connection.send_bytes(pickle.dumps(message))

    def _listen(self) -> None:
        """End this process group as soon as the driver is gone: nothing may go on holding a GPU for nobody."""
        try:
            while True:
                message = self._connection.recv()
                if isinstance(message, YourTurn):
                    self._turn.set()
                else:
                    self._answers.put(message)
        except (EOFError, OSError):
            os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]))
