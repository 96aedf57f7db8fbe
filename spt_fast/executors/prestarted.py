"""Worker processes that are there before it is known what for: they have imported what takes long, and wait for a stage.

Nothing of theirs is on a device, and no CUDA has been initialised in them, so which GPUs they may use (`CUDA_VISIBLE_DEVICES`)
can still be said when they are told their stage: PyTorch and vLLM read it when they first use a GPU. Now and then a release of
a library initialises CUDA when it is imported (transformers#41409, vllm#33941). Such a process begins anew when it is told
(`process`), which costs what was gained, and no more.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from spt_fast.executors.messages import ImportAhead
from spt_fast.executors.worker_process import WorkerProcess
from spt_fast.worker.stage import Do

ENVIRONMENT = {
    # Else `torch.cuda.is_available()`, which some libraries call while they are imported, initialises CUDA.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}


@dataclass(frozen=True)
class _Waiting:
    do: Do
    offline: bool
    process: WorkerProcess


class Prestarted:
    """The processes that wait. Its methods may be called from any thread."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._waiting: list[_Waiting] = []

    def start(self, do: Do, kind: str, *, offline: bool) -> None:
        """Start one.

        Args:
            do: what of a stage it will do.
            kind: the engine's, which it imports.
            offline: the Hub is out of reach of the models it is for.
        """
        # What imports say is worth nothing. Where one kills its process, the process that takes its place says so in its log.
        process = WorkerProcess(Path(os.devnull), os.devnull, offline=offline, environment=ENVIRONMENT)
        process.send(ImportAhead(do, kind))
        with self._changing:
            self._waiting.append(_Waiting(do, offline, process))

    def count(self, of: Iterable[Do]) -> int:
        """How many wait to do one of these."""
        wanted = set(of)
        with self._changing:
            return sum(each.do in wanted and each.process.alive for each in self._waiting)

    def take(self, do: Do, *, offline: bool) -> WorkerProcess | None:
        """One that waits to do this, or still imports, and is the caller's from here on; None: there is none."""
        with self._changing:
            found = next((each for each in self._waiting if self._suits(each, do, offline=offline)), None)
            if found is None:
                return None
            self._waiting.remove(found)
            return found.process

    def close(self) -> None:
        """End those that wait still, and await that."""
        with self._changing:
            for each in self._waiting:
                each.process.kill()
            self._waiting.clear()

    def _suits(self, waiting: _Waiting, do: Do, *, offline: bool) -> bool:
        return (waiting.do, waiting.offline) == (do, offline) and waiting.process.alive
