"""A watch in a process of its own that ends itself with SIGKILL at one of its moments: python -m tests.helpers.killed_watch.

A moment is whatever touches the disk or starts a process: each is an event of Python's audit hooks.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

from spt_fast.watch.notify import target_of
from tests.helpers.watching import Nights

SHARES = {"s1": 0.5, "s2": 0.52, "s3": 0.3, "s4": 0.53, "s5": 0.51}
_MOMENTS = (
    "open",
    "os.rename",
    "os.link",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "subprocess.Popen",
    "fcntl.flock",
    "os.listdir",
)


def main(folder: str, run: str, heard: str, kill_at: str) -> None:
    """Watch what is there; print how many moments that has.

    Args:
        folder: whose run7 has the checkpoints.
        run: the run folder.
        heard: file that verdicts are told to.
        kill_at: the moment at which it ends; 0: it does not.
    """
    nights = Nights(Path(), Path(folder), **SHARES)
    nights.run = Path(run)
    seen, last = [0], int(kill_at)

    def at(event: str, _: tuple[Any, ...]) -> None:
        if event in _MOMENTS:
            seen[0] += 1
            if seen[0] == last:
                os.kill(os.getpid(), signal.SIGKILL)

    targets = [target_of(f"sh -c {shlex.quote(f'cat >> {shlex.quote(heard)}; echo >> {shlex.quote(heard)}')}")]
    sys.addaudithook(at)
    nights.look(targets=targets)
    print(seen[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
