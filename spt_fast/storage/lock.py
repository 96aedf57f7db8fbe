"""A lock where there is only an object store: an object that says who has it, renewed while its owner lives."""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

STALE_S = 300.0
"""A lock that has not been renewed for so long is nobody's: its owner was killed, or is cut off."""

RENEW_S = 30.0
"""How often an owner renews its lock: ten times as often as it must."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Who has a lock."""

    host: str
    machine: str
    """This start of this machine, and the processes that its process ids are of; empty where neither can be known."""
    pid: int
    token: str
    """32 hexadecimal digits, of one lock and no other."""
    time: float
    """When it was last renewed, by the owner's clock; seconds since 1970."""

    @classmethod
    def here(cls) -> Owner:
        """This process, now."""
        return cls(
            host=socket.gethostname(), machine=_machine(), pid=os.getpid(), token=secrets.token_hex(16), time=time.time()
        )

    @classmethod
    def read(cls, data: bytes) -> Owner | None:
        """What `data` writes; None where it is no lock of ours."""
        try:
            plain = json.loads(data)
            return cls(
                host=str(plain["host"]),
                machine=str(plain["machine"]),
                pid=int(plain["pid"]),
                token=str(plain["token"]),
                time=float(plain["time"]),
            )
        except (ValueError, KeyError, TypeError):
            return None

    @property
    def data(self) -> bytes:
        """As the lock object holds it."""
        return (json.dumps(asdict(self)) + "\n").encode()

    def renewed(self) -> Owner:
        """The same, now."""
        return replace(self, time=time.time())

    @property
    def age_s(self) -> float:
        """Seconds since it was last renewed, going by two clocks: ours and the owner's."""
        return time.time() - self.time

    @property
    def gone(self) -> bool:
        """Whether nobody has this lock any more.

        Known at once where the owner was a process of this machine that has ended; else when the lock is stale.
        """
        if self.age_s > STALE_S:
            return True
        if not self.machine or self.machine != _machine():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass
        return False


def _machine() -> str:
    """Names this boot of this machine and this container: only within both does a process id mean something."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    return ""
