"""Where stages run.

Decisions:

* A cell is begun by its worker or revoked by the driver, never both (`work_queue`). The worker claims cells at a queue on
  its own machine just before it begins them; the driver asks for cells back there. So work moves at any time without a
  message on the way of a cell.
* A worker process leaves a guard behind (`process`) that ends its process group whatever becomes of it: Ray ends an actor's
  children, and not theirs.
* The next model's worker starts while this one is evaluated: it imports and reads, and waits before it puts anything on the
  device. On several GPUs of one machine it is not known yet which model will be next, nor on which GPUs: there processes
  import, and are told the rest later (`prestarted`). On a cluster other workers have the processors.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from spt_fast.config.plugins import EXECUTORS, Plugins, callable_
from spt_fast.errors import ConfigError
from spt_fast.executors.base import Executor
from spt_fast.models.memory import count_gpus

LOCAL = "local"
OF_PACKAGES: Plugins[Callable[[Callable[[str], Path], Callable[[str], str] | None], Executor]] = Plugins(
    EXECUTORS, "executor", {}, callable_
)
"""Executors of installed packages, by the word that `--address` has for them."""


def open_executor(
    address: str,
    log: Callable[[str], Path],
    log_name: Callable[[str], str] | None = None,
    *,
    needs: Collection[float] = (),
) -> Executor:
    """This machine (`local`), with all of its GPUs, a Ray cluster (`auto`, HOST:PORT), or a package's executor (its name).

    Args:
        address: as `--address` has it.
        log: names the file that a model's worker prints to.
        log_name: what a person is told to look into; None: that file.
        needs: GPUs that a worker of each model takes. Where no two fit on this machine, they run one after the other.

    Raises:
        ConfigError: there is no cluster at this address, or what a package offers by this name is no executor.
    """
    if address == LOCAL:
        if 2 * min(needs, default=1.0) <= count_gpus() > 1:
            from spt_fast.executors.gpus import GpusExecutor

            return GpusExecutor(log, log_name)
        from spt_fast.executors.local import LocalExecutor

        return LocalExecutor(log, log_name)
    if address in OF_PACKAGES:
        found = OF_PACKAGES[address](log, log_name)
        if not isinstance(found, Executor):
            raise ConfigError(
                f"--address {address}: is {type(found).__name__}; derive it from spt_fast.executors.base.Executor"
            )
        return found
    from spt_fast.executors.ray.executor import RayExecutor

    return RayExecutor(address, log, log_name)
