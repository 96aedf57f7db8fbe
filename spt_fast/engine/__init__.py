"""Engines: what answers requests. `open_engine` imports the one that is asked for, and no other."""

from __future__ import annotations

from spt_fast.engine.base import Engine, EngineConfig


def open_engine(config: EngineConfig) -> Engine:
    """Start an engine.

    Raises:
        EngineError, ModelError: it cannot be started.
    """
    if config.kind == "echo":
        from spt_fast.engine.echo import EchoEngine

        return EchoEngine(config)
    if config.kind == "transformers":
        from spt_fast.engine.transformers import TransformersEngine

        return TransformersEngine(config)
    from spt_fast.engine.vllm import VllmEngine

    return VllmEngine(config)
