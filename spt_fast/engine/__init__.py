"""Engines: what answers requests. `open_engine` imports the one that is asked for, and no other."""

from __future__ import annotations

from collections.abc import Mapping

from spt_fast.engine.base import Engine, EngineConfig
from spt_fast.models.identity import Model


def open_engine(config: EngineConfig) -> Engine:
    """Start an engine.

    Raises:
        EngineError, ModelError: it cannot be started; `OutOfMemoryError` where less might do (`caution.Caution`).
    """
    if config.kind == "echo":
        from spt_fast.engine.echo import EchoEngine

        return EchoEngine(config)
    if config.kind == "transformers":
        from spt_fast.engine.transformers import TransformersEngine

        return TransformersEngine(config)
    from spt_fast.engine.vllm import VllmEngine

    return VllmEngine(config)


def config_of(model: Model, settings: Mapping[str, object]) -> EngineConfig:
    """How the engine of a model is started, from the grid's settings (`kind`, `window`, and the engine's own)."""
    options = dict(settings)
    kind, window = options.pop("kind", "vllm"), options.pop("window", None)
    return EngineConfig(
        kind=kind,  # type: ignore[arg-type]  # checked when the grid was read
        model=model.source,
        revision=model.revision,
        dtype=model.dtype,
        trust_remote_code=model.trust_remote_code,
        tensor_parallel=model.tensor_parallel,
        gpus=model.gpus,
        window=window,  # type: ignore[arg-type]
        options=options,
    )
