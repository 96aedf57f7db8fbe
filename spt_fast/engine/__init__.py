"""Engines: what answers requests. `open_engine` imports the one that is asked for, and no other."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from spt_fast.config.reader import ENGINE_KEYS
from spt_fast.engine.base import Engine, EngineConfig, EngineKind
from spt_fast.models.identity import Model

OURS = ENGINE_KEYS


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
    from spt_fast.engine.vllm.engine import VllmEngine

    return VllmEngine(config)


def import_engine(kind: EngineKind) -> None:
    """Import what `open_engine` will need of the engine's library: most of what passes before it loads a model.

    Raises:
        ImportError: the library is not installed.
    """
    if kind == "vllm":
        from spt_fast.engine.vllm.start import import_vllm

        import_vllm()
    elif kind == "transformers":
        import_module("spt_fast.engine.transformers")


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
