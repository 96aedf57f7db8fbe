"""How an engine that ran out of memory is started again, with smaller batches, then with a smaller share of the GPU.

All of it is in `cell.SPEED_ONLY`: a cell has the same key, and the same results, however carefully its engine was started. But
for a judge whose memory has no room for the longest sequence that its model can have: it reads as much as fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from spt_fast.engine.base import EngineConfig, engine_of
from spt_fast.errors import EngineError, OutOfMemoryError, Remedy
from spt_fast.models import memory

SHARE = 0.92
"""`gpu_memory_utilization` that vLLM asks for unless it is told (0.32)."""

NEIGHBOURS_SHARE = 0.9
"""The same, of a worker's part of a GPU that it shares: the CUDA contexts of its neighbours need some too."""

LESS: Mapping[Remedy, tuple[float, ...]] = {"batches": (1.0, 0.5, 0.25), "share": (1.0, 0.85, 0.7), "length": (1.0, 0.0)}
"""What is left of each, step by step; of the length, what the memory has room for."""
FITTING = -1
"""`max_model_len` by which vLLM takes as many positions as fit."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """How far an engine's settings are lowered: places in `LESS`."""

    batches: int = 0
    share: int = 0
    length: int = 0


def gpu_share(config: EngineConfig) -> float:
    """The share of a GPU's memory that the engine asks for: the grid's `gpu_memory_utilization`, or what goes with `gpus`."""
    default = SHARE if config.gpus >= 1 else round(NEIGHBOURS_SHARE * config.gpus, 4)
    return float(config.options.get("gpu_memory_utilization", default))


def below(rung: Rung, error: OutOfMemoryError) -> list[Rung]:
    """The rungs below one that may help against an error, the next one first."""
    found = []
    for remedy in error.helps:
        while getattr(rung, remedy) + 1 < len(LESS[remedy]):
            rung = replace(rung, **{remedy: getattr(rung, remedy) + 1})
            found.append(rung)
    return found


def lowered(first: EngineConfig, rung: Rung, *, on_gpu: bool, cuts: bool = False) -> EngineConfig:
    """The settings of a rung: those of the first start, or less.

    Args:
        first: how the engine was started first; what the grid says there is never exceeded.
        rung: how far to lower it.
        on_gpu: on a CPU no share is asked for unless the grid does.
        cuts: what is asked is cut to what fits.
    """
    engine = engine_of(first.kind)
    if not engine.takes_less:
        return first
    options = first.options
    less: dict[str, Any] = {}
    if rung.batches:
        part = LESS["batches"][rung.batches]
        own_sequences, own_tokens = engine.own_batches(first)
        tokens = int(options.get("max_num_batched_tokens", own_tokens))
        if options.get("enable_chunked_prefill", True):  # else a prompt must fit into a batch as a whole
            tokens = less["max_num_batched_tokens"] = max(1, int(tokens * part))
        # A sequence takes at least one token of a batch.
        less["max_num_seqs"] = max(1, min(int(int(options.get("max_num_seqs", own_sequences)) * part), tokens))
    if rung.length and cuts and "max_model_len" not in options:
        less["max_model_len"] = FITTING
    if rung.share:
        part = LESS["share"][rung.share]
        if options.get("kv_cache_memory_bytes") is not None:  # then vLLM does not look at the share
            less["kv_cache_memory_bytes"] = int(options["kv_cache_memory_bytes"] * part)
        if on_gpu or "gpu_memory_utilization" in options:
            less["gpu_memory_utilization"] = round(gpu_share(first) * part, 4)
    return replace(first, options={**options, **less})


class Backoff:
    """The settings that the engine of one model is started with, and how they came to be so low."""

    def __init__(self, first: EngineConfig, *, cuts: bool = False) -> None:
        """
        Args:
            first: as the grid asks.
            cuts: what is asked is cut to what fits.
        """
        self.config, self._cuts = first, cuts
        self._first, self._rung = first, Rung()
        self._tried: list[str] = []

    @property
    def note(self) -> str:
        """What was lowered: "max_num_seqs 128, max_num_batched_tokens 4096"; nothing at first."""
        return ", ".join(
            f"{name} {value}" for name, value in self.config.options.items() if self._first.options.get(name) != value
        )

    @property
    def restarts(self) -> int:
        """How often the engine ran out of memory."""
        return len(self._tried)

    def lower(self, error: OutOfMemoryError) -> bool:
        """Take the next lower settings that may help against an error; False, and nothing changed, where there are none."""
        on_gpu = memory.on_gpu()
        for rung in below(self._rung, error):
            config = lowered(self._first, rung, on_gpu=on_gpu, cuts=self._cuts)
            if config != self.config:
                self._tried.append(self.note or "the settings asked for")
                self._rung, self.config = rung, config
                return True
        return False

    def failure(self, error: EngineError) -> EngineError | None:
        """What the cells fail with that an error of the engine has hit; None: its settings are lowered, to ask them again."""
        if not isinstance(error, OutOfMemoryError):
            return error
        if self.lower(error):
            return None
        tried = f"; tried before: {'; '.join(self._tried)}" if self._tried else ""
        return type(error)(f"{error} ({self.note or 'the settings asked for'}{tried})")
