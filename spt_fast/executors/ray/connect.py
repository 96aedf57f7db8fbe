"""The way to a Ray cluster: its address, its head node, and this very spt-fast for its nodes.

Where the head does not answer any more, Ray ends the driver's process after a minute, from inside and without a word of ours.
So the driver looks first whether it is there (`Head`), asks it for nothing while it is not, and leaves in time (`LostError`).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import ray

from spt_fast.errors import ConfigError, LostError, first_line
from spt_fast.signals import INTERRUPTED
from spt_fast.version import SHIPPED, version

HEAD_S = 20.0
"""So long the head may be silent. One that keeps its state outside may come back; Ray ends a driver after 60 seconds."""

STUCK_S = 20.0
"""So long after that a driver may take to leave; one that Ray holds in a call to the head is ended."""

LEAVE_S = 5.0
"""So long Ray may take to leave a cluster whose head is gone."""

KNOCK_S = 1.0
"""So often a head that is silent is looked for again."""


class Connection:
    """This process's connection to a cluster; one that is there already stays as it is."""

    def __init__(self, address: str, *, ship: bool | None = None) -> None:
        """
        Args:
            address: `auto`, or HOST:PORT of the head node.
            ship: give the nodes this very spt-fast, whatever they have; None: where there are other machines than this one.
                Not where this process is connected already.

        Raises:
            ConfigError: there is no cluster.
        """
        if address != "auto":
            _knock(address)
        self._ours = not ray.is_initialized()
        if self._ours:
            _connect(address, ship)
        self.head = Head(str(ray.get_runtime_context().gcs_address))

    def close(self) -> None:
        """Leave the cluster."""
        if not self._ours:
            return
        self._ours = False
        if not self.head.lost:
            ray.shutdown()
            return
        # To take leave of a head that is gone may wait for it, until Ray ends the process.
        atexit.unregister(ray._private.worker.shutdown)
        leaving = threading.Thread(target=ray.shutdown, daemon=True)
        leaving.start()
        leaving.join(LEAVE_S)


def _connect(address: str, ship: bool | None) -> None:
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        _init(address)
        if _elsewhere() if ship is None else ship:
            ray.shutdown()
            _init(address, runtime_env=_ourselves())  # Ray takes it for a whole connection only
    except (ConnectionError, ValueError, RuntimeError, OSError) as e:
        raise _no_cluster(address, first_line(e)) from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, terminate)  # Ray's own ends the process at once, where ours drains


def _init(address: str, **options: Any) -> None:
    ray.init(address=address, namespace="spt-fast", log_to_driver=False, logging_level="ERROR", **options)


class Head:
    """The head node's control service: whether it still answers."""

    def __init__(self, address: str) -> None:
        """`address`: HOST:PORT."""
        self.address = address
        self.lost = False
        """Whether it was given up."""
        self._ended = threading.Event()

    @property
    def answers(self) -> bool:
        """Whether it takes a connection now."""
        host, _, port = self.address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=3).close()
        except OSError:
            return False
        return True

    def require(self) -> None:
        """Return when it answers.

        Raises:
            LostError: it has not for a while.
        """
        until = time.monotonic() + HEAD_S
        while not self.answers:
            if self.lost or time.monotonic() > until:
                self.lost = True
                raise LostError(f"the head of the Ray cluster at {self.address} does not answer any more")
            time.sleep(KNOCK_S)

    def watch(self) -> None:
        """See to it, beside the driver, that Ray does not hold the driver when it is gone."""
        self._ended = threading.Event()
        threading.Thread(target=self._watch, args=(self._ended,), daemon=True).start()

    def watch_no_more(self) -> None:
        """Whatever becomes of it now, the driver is through with it."""
        self._ended.set()

    def _watch(self, ended: threading.Event) -> None:
        """End this process where Ray holds it in a call to a head that is gone: what was done is kept."""
        silent = None
        while not ended.wait(KNOCK_S):
            silent = None if self.answers else silent or time.monotonic()
            if silent is not None and time.monotonic() - silent > HEAD_S + STUCK_S and not self.lost:
                why = f"the head of the Ray cluster at {self.address} does not answer any more"
                with contextlib.suppress(OSError):
                    os.write(2, f"interrupted ({why}): what is done is kept; the same command goes on\n".encode())
                os._exit(INTERRUPTED)


def _elsewhere() -> bool:
    """Whether the cluster has other machines than this one."""
    return bool({node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]} - {ray.util.get_node_ip_address()})


def _ourselves() -> dict[str, Any]:
    """This very spt-fast, for nodes that have another one or none. What else it needs (vLLM, PyTorch) is theirs to have."""
    import spt_kernels

    # This file is spt_fast/executors/ray/connect.py.
    folders = [str(Path(__file__).resolve().parents[2]), str(Path(spt_kernels.__path__[0]))]
    return {"py_modules": folders, "excludes": ["**/__pycache__"], "env_vars": {SHIPPED: version()}}


def _knock(address: str) -> None:
    """Refuse an address that nobody listens at: Ray itself would go on trying for minutes."""
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdigit()) or "://" in address:
        raise ConfigError(f"--address {address}: must be local, auto, or HOST:PORT of the head node of a Ray cluster")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as e:
        raise _no_cluster(address, str(e)) from None


def _no_cluster(address: str, why: str) -> ConfigError:
    return ConfigError(
        f"--address {address}: there is no Ray cluster ({why}); start one with `ray start --head`, "
        "or leave --address out to run on this machine"
    )
