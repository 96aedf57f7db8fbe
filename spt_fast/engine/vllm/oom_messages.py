"""What vLLM says where memory is short, read from its errors and from what its processes print.

On a GPU its engine is another process, and several with several GPUs. What they die of stands in the log; the error that
reaches us says no more than that it stands there.
"""

from __future__ import annotations

import os
import re
import stat
import traceback
from pathlib import Path

from spt_fast.errors import CacheTooSmallError, OutOfMemoryError, ShareNotFreeError, WeightsTooLargeError
from spt_fast.models.memory import RAN_OUT

MOST_READ = 1 << 22
"""Bytes of a log that are read from its end."""

SAID: tuple[tuple[type[OutOfMemoryError], str], ...] = (
    (ShareNotFreeError, r"Free memory on device .*is less than (desired GPU memory utilization|the engine's budget)"),
    (ShareNotFreeError, r"Available memory on node .*is less than desired CPU memory utilization"),
    # A neighbour that frees memory while what the engine takes is measured: to be tried again.
    (ShareNotFreeError, r"Error in memory profiling\. Initial free memory"),
    (CacheTooSmallError, r"No available memory for the cache blocks"),
    (CacheTooSmallError, r"To serve at least one request with the model's max seq len"),
    (CacheTooSmallError, r"Cannot auto-fit max_model_len: not enough GPU memory"),
    (WeightsTooLargeError, r"Failed to load model - not enough GPU memory"),
    (OutOfMemoryError, RAN_OUT.pattern),
)
"""As vLLM 0.32 has it: v1/worker/utils.py, cpu_worker.py and gpu_worker.py, v1/core/kv_cache_utils.py, gpu_model_runner.py."""


def shortage(error: BaseException, printed: str = "") -> OutOfMemoryError | None:
    """A failure of vLLM as an error of ours, with the line that says it first; None: it is not about memory.

    Args:
        error: what reached us.
        printed: what the engine's processes have printed since it was started.
    """
    text = printed + "\n" + "".join(traceback.format_exception(error))
    # Behind a quote it is a line of vLLM's source, in a traceback.
    found = [(match.start(), kind, match) for kind, pattern in SAID if (match := re.search(rf"(?<![\"'])({pattern})", text))]
    if not found:
        return None
    at, kind, match = min(found, key=lambda each: each[0])
    if kind is OutOfMemoryError and "in load_model\n" in text[:at]:
        kind = WeightsTooLargeError
    line = text[at : text.find("\n", match.end())]
    return kind(". ".join(re.split(r"\. (?=[A-Z])", line)[:3]).rstrip("."))


class Printed:
    """What this process, and those that it starts, print to stderr from now on, where that is a file: the worker's log."""

    def __init__(self) -> None:
        self._at = _size_of_stderr()

    @property
    def text(self) -> str:
        """What it is so far; empty where stderr is no file."""
        size = _size_of_stderr()
        if size <= self._at:
            return ""
        # Opened anew: its position is its own, while those of copied descriptors are one.
        with Path("/dev/fd/2").open("rb") as file:
            file.seek(max(self._at, size - MOST_READ))
            return file.read().decode("utf-8", errors="replace")


def _size_of_stderr() -> int:
    try:
        found = os.fstat(2)
    except OSError:  # closed
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
