"""The engines by their kind, and what is checked of their settings when a grid is read; the rest an engine checks itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spt_fast.config import plugins
from spt_fast.config.plugins import Plugins
from spt_fast.config.ranges import SEED, Range, refusal, require_plain
from spt_fast.config.strict import Mistakes, mapping_of
from spt_fast.errors import ConfigError, shortened


def _checked(kind: str, found: Any) -> Any:
    if not (isinstance(found, type) and all(callable(getattr(found, name, None)) for name in ("add", "stream", "close"))):
        raise ConfigError("is no engine; derive a class from spt_fast.engine.base.Engine")
    return found


ENGINE_KEYS = ("kind", "window", "scoring", "injection")
"""Of a grid's `engine:`, those that are spt-fast's own; all others are the engine's."""
ENGINES: Plugins[Any] = Plugins(
    plugins.ENGINES,
    "engine",
    {
        "vllm": "spt_fast.engine.vllm.engine:VllmEngine",
        "transformers": "spt_fast.engine.transformers:TransformersEngine",
        "echo": "spt_fast.engine.echo:EchoEngine",
    },
    _checked,
)
"""Kind -> the class, a `spt_fast.engine.base.Engine`. Ours are imported when they are opened, others when a grid names them."""
ENGINE_OURS = (
    *("model", "enable_prompt_embeds", "tokenizer", "revision", "trust_remote_code"),
    *("tensor_parallel_size", "pipeline_parallel_size", "nnodes", "node_rank", "master_addr", "master_port"),
)
ENGINE_NUMBERS: Mapping[str, Range] = {
    "window": Range(least=1, most=1_000_000, whole=True),
    "gpu_memory_utilization": Range(above=0, most=1),
    "max_model_len": Range(least=-1, most=2**31 - 1, whole=True),  # -1: what fits
    "max_num_seqs": Range(least=1, most=2**20, whole=True),
    "max_num_batched_tokens": Range(least=1, most=2**31 - 1, whole=True),
    "block_size": Range(least=1, most=2**16, whole=True),
    "swap_space": Range(least=0, most=1e6),
    "cpu_offload_gb": Range(least=0, most=1e6),
    "seed": SEED,
}
"""What numbers of the engine's settings may be; text there is for vLLM to read (max_model_len: 32k)."""
VLLM_KEYS = ("enforce_eager", "enable_prefix_caching", "kv_cache_dtype", "quantization", "max_logprobs", "load_format")
"""Settings of vLLM that people write elsewhere; which there are vLLM itself knows."""
ENGINE_CHOICES = {"scoring": ("auto", "forced", "prompt_logprobs"), "injection": ("auto", "rows", "mixed")}


def read_engine(item: Any, place: str) -> dict[str, Any]:
    """The engine's settings of a grid, a model or the judge.

    Raises:
        ConfigError: there is no such engine, or settings that spt-fast knows of are out of their range.
    """
    engine = {str(key): value for key, value in mapping_of(item or {}, place).items()}
    kind, mistakes = engine.get("kind", "vllm"), Mistakes()
    if kind not in ENGINES:
        mistakes.add(f"{place}.kind: must be one of {', '.join(ENGINES)}, not {shortened(kind)}")
    elif kind not in ENGINES.ours:
        with mistakes.part():
            ENGINES[kind]  # a package that cannot be used is no matter of a cell
    for key, value in engine.items():
        if wrong := _wrong(key, value, f"{place}.{key}"):
            mistakes.add(wrong)
    mistakes.tell()
    require_plain(engine, place)
    return engine


def _wrong(key: str, value: Any, place: str) -> str:
    """What is wrong with a setting, as far as spt-fast knows it; empty where nothing is."""
    if key in ENGINE_OURS:
        name = key.removesuffix("_size")
        return f"{place}: is set by spt-fast" + (f"; set {name} of the model" if name != key else "")
    if key in ENGINE_CHOICES and value not in ENGINE_CHOICES[key]:
        return f"{place}: must be one of {', '.join(ENGINE_CHOICES[key])}, not {shortened(value)}"
    is_for_vllm = value is None or (isinstance(value, str) and key != "window")
    return refusal(ENGINE_NUMBERS[key], value, place) if key in ENGINE_NUMBERS and not is_for_vllm else ""
