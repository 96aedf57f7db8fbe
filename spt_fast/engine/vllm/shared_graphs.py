"""Compiled graphs that all checkpoints of one architecture share, inside vLLM's own processes.

vLLM compiles a model once and keeps the graphs, in a folder whose name is a hash of all that they depend on. Among it are the
path of the checkpoint and its `revision`, on which they do not depend: weights are given to a graph, as its inputs. So each
checkpoint of a series, each seed and each size that is trained anew, would be compiled anew: half a minute, and minutes for a
large model. Here the two are left out of the hash. All else stays in it: config.json, dtype, positions, parallelism, settings.

A quantized model is left alone, for its scales may be numbers that a graph has taken in, and so is code that comes with a
checkpoint (`trust_remote_code`). It is installed where our worker class is imported (`worker`), in every process that compiles.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import wraps
from typing import Any

SWITCH = "SPT_FAST_SHARED_GRAPHS"
"""The environment variable that turns it on ("1"): our engine sets it for its own processes."""
NEUTRAL = {"model": "", "model_weights": "", "revision": None}
"""What says which checkpoint it is, and what stands there in the hash instead."""

_MARK = "_spt_fast_shared_graphs"


def install() -> str | None:
    """Change vLLM in this process, and return None; or why it cannot be changed, and then nothing is. Twice is no error."""
    try:
        from vllm.config import ModelConfig

        original = ModelConfig.compute_hash
    except (ImportError, AttributeError) as e:
        return f"vLLM has not what it changes: {e}"
    if not hasattr(original, _MARK):
        ModelConfig.compute_hash = _of_architecture(original)
    return None


def _of_architecture(original: Callable[[Any], str]) -> Callable[[Any], str]:
    """`ModelConfig.compute_hash`, the same for all checkpoints of one architecture."""

    @wraps(original)
    def compute_hash(self: Any) -> str:
        if self.quantization is not None or self.trust_remote_code:
            return original(self)
        neutral = copy.copy(self)
        for name, value in NEUTRAL.items():
            if hasattr(self, name):
                object.__setattr__(neutral, name, value)
        return original(neutral)

    setattr(compute_hash, _MARK, True)
    return compute_hash
