"""A worker process, as the driver has it: started in a session of its own, spoken to through a socket, ended as a group.

So it, its engine and whatever those have started end together and are awaited, whatever happened. When the driver dies, its end
of the socket closes, and the worker ends its group itself: no engine is left behind holding memory.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import BinaryIO

from spt_fast.errors import StoreError
from spt_fast.executors.messages import FromWorker, Packed, Settle

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


class WorkerProcess:
    """A process that runs one stage, or a part of another's engine; leaving the context ends its whole group and awaits it."""

    def __init__(self, log: Path, log_name: str, *, offline: bool, environment: Mapping[str, str] | None = None) -> None:
        """
        Args:
            log: the file that it prints to.
            log_name: what a person is told to look into.
            offline: the Hub was just found out of reach; libraries that do not know would go on trying for a minute.
            environment: variables of its own: the GPUs that it may use.

        Raises:
            StoreError: `log` cannot be written.
        """
        self._log_name = log_name
        ours, theirs = socket.socketpair()
        try:
            out = _opened(log)
        except StoreError:
            ours.close()
            theirs.close()
            raise
        with theirs, out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "spt_fast.executors.process", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env=environment_of(offline=offline, its_own=environment or {}),
            )
        self._connection = Connection(ours.detach())
        self._ended = False

    def settle(self, log: Path, log_name: str, environment: Mapping[str, str]) -> None:
        """Tell a process that was started before its stage was known (`prestarted`) what others are started with.

        Args:
            log: as of a new process, and the others too.

        Raises:
            StoreError: `log` cannot be written.
        """
        try:
            _opened(log).close()
        except StoreError:
            self.kill()
            raise
        self._log_name = log_name
        self.send(Settle(str(log.absolute()), environment))

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return not self._ended and self._process.poll() is None

    def send(self, job: object) -> None:
        with contextlib.suppress(OSError):  # it died already: `events` will say so
            self._connection.send(job)

    def messages(self) -> Iterator[FromWorker]:
        """Events and questions, until the worker closes its end, or says what cannot be read."""
        while True:
            try:
                message: FromWorker | Packed = self._connection.recv()
            except Exception:
                return
            yield message.opened() if isinstance(message, Packed) else message

    def end(self, finished: bool) -> str:
        """Await a worker that has said its last; how it ended, in a sentence."""
        self._connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S if finished else 1.0)
        self.end_group()
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
        self.end_group()

    def end_group(self) -> None:
        """End its whole group, and await that; from any thread. Whoever reads its messages sees their end."""
        # Once: another group may have the number later.
        if not self._ended:
            self._ended = True
            end_group(self._process)


def _opened(log: Path) -> BinaryIO:
    try:
        return log.open("ab")
    except OSError as e:
        raise StoreError(f"{log}: cannot be written: {e.strerror or e}") from None


def environment_of(*, offline: bool, its_own: Mapping[str, str]) -> dict[str, str]:
    """What a process that computes is started with.

    Args:
        offline: the Hub is not to be asked.
        its_own: variables that go before those of this process.
    """
    # VLLM_DP_*: left by a vLLM server that started us, they would make an engine wait for followers that never come.
    ours = {name: value for name, value in os.environ.items() if not name.startswith("VLLM_DP_")}
    return {**ENVIRONMENT, **ours, **({"HF_HUB_OFFLINE": "1"} if offline else {}), **its_own}


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the group of a process that leads one, and await the end of every process in it."""
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
