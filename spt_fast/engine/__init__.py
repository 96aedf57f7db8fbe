"""Engines: what answers requests. `open_engine` imports the one that is asked for, and no other.

Decisions:

* Requests are one stream. `Engine.stream` takes completions and log-likelihoods of all cells mixed and yields answers as
  they are done, because separate calls a task leave the engine idle between them.
* An engine takes token ids and a soft prompt's key, not embedded prompts `[T, H]`: how the vectors reach the model is the
  engine's business, and the fastest way differs by version.
* A completion's text is made of its token ids in one place (`written`), so engines cannot differ in it; vLLM decodes only
  to see stop strings.
* Every completion comes with the log-probabilities of its own tokens, at 1 % of the time on a CPU with the largest
  vocabulary: where a logit is NaN or plus infinity they are NaN, while greedy decoding writes token 0 as if nothing were
  wrong.
* An engine that runs out of memory is started again more carefully (`oom_backoff`): only settings of `SPEED_ONLY` change,
  so cache keys and results do not. What is lacking decides which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spt_fast.config.engines import ENGINE_KEYS, ENGINES
from spt_fast.engine.base import Engine, EngineConfig, engine_of
from spt_fast.engine.guarded import Guarded
from spt_fast.errors import EngineError, boundary
from spt_fast.models.identity import Model

__all__ = ["OURS", "Engine", "EngineConfig", "config_of", "engine_of", "import_engine", "open_engine"]

OURS = ENGINE_KEYS


def open_engine(config: EngineConfig) -> Engine:
    """Start an engine.

    Raises:
        EngineError, ModelError: it cannot be started; `OutOfMemoryError` where less might do (`oom_backoff`).
    """
    found = engine_of(config.kind)
    known = config.options if found.options is None else found.options
    if unknown := sorted(set(config.options) - set(known)):
        there = ", ".join(sorted(known)) or "none"
        raise EngineError(f"engine: {config.kind} has no setting {unknown[0]!r}; there are {there}")
    if config.kind in ENGINES.ours:
        return found(config)
    with boundary(EngineError, f"starting {config.kind} for {config.model}"):
        return Guarded(found(config), config.kind)


def import_engine(kind: str) -> None:
    """Import what `open_engine` will need of the engine's library: most of what passes before it loads a model.

    Raises:
        ImportError: the library is not installed.
    """
    engine_of(kind).prepare()


def config_of(model: Model, settings: Mapping[str, object]) -> EngineConfig:
    """How the engine of a model is started, from the grid's settings (`OURS`, and the engine's own)."""
    options = dict(settings)
    ours: dict[str, Any] = {key: options.pop(key) for key in OURS if key in options}  # checked when the grid was read
    return EngineConfig(
        model=model.source,
        revision=model.revision,
        dtype=model.dtype,
        trust_remote_code=model.trust_remote_code,
        tensor_parallel=model.tensor_parallel,
        pipeline_parallel=model.pipeline_parallel,
        gpus=model.gpus,
        options=options,
        **ours,
    )
