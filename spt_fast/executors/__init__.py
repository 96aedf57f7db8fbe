"""Where stages run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from spt_fast.executors.base import Executor

LOCAL = "local"


def open_executor(address: str, log: Callable[[str], Path], log_name: Callable[[str], str] | None = None) -> Executor:
    """This machine (`local`), or a Ray cluster (`auto`, HOST:PORT).

    Args:
        address: as `--address` has it.
        log: names the file that a model's worker prints to.
        log_name: what a person is told to look into; None: that file.

    Raises:
        ConfigError: there is no cluster at this address.
    """
    if address == LOCAL:
        from spt_fast.executors.local import LocalExecutor

        return LocalExecutor(log, log_name)
    from spt_fast.executors.ray.executor import RayExecutor

    return RayExecutor(address, log, log_name)
