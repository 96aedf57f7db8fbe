"""Ctrl-C, SIGTERM (a batch system's way of saying it) and SIGHUP (a closed terminal's): from the first moment on.

While libraries are being imported nothing has begun that would have to be put right, and an exception would come out of the
middle of some import: so until a verb begins the process says that it was interrupted, and ends. From then on each of them
raises `KeyboardInterrupt`.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

INTERRUPTED = 130
"""Exit code."""
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def end_at_once() -> None:
    """Have this process end with a sentence where it is interrupted from now on. Only for a process that is the command."""
    for each in SIGNALS:
        # nohup ignores SIGHUP, and a shell SIGINT for what it runs in the background.
        if signal.getsignal(each) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(each, _end)


@contextmanager
def interrupting() -> Iterator[None]:
    """Have the signals raise `KeyboardInterrupt` within."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = (signal.SIG_DFL, signal.default_int_handler, _end)
    before = {each: signal.getsignal(each) for each in SIGNALS}
    for each, handler in before.items():
        if handler in ours:
            signal.signal(each, _interrupt)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def _end(*_: Any) -> NoReturn:
    with suppress(OSError):
        os.write(2, b"spt-fast: interrupted; the same command goes on\n")
    os._exit(INTERRUPTED)
