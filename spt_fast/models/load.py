"""Loading a causal language model from a folder or the Hub, safetensors only, and putting it on its device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from transformers.utils import logging as transformers_logging

from spt_fast.errors import ModelError, first_line
from spt_fast.models import memory
from spt_fast.models.load_errors import loading

WORKING_SHARE = 0.1
"""Of a GPU's memory, what the work on a model takes beside its weights at the least."""

T = TypeVar("T")


def load_module(
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    spread_over: int | None = None,
) -> transformers.PreTrainedModel:
    """A model in main memory, or spread over GPUs.

    Args:
        name: a folder or a Hub id.
        revision: branch, tag or commit of a Hub id.
        dtype: `auto` (the checkpoint's) or the name of a torch dtype.
        trust_remote_code: run Python code that comes with the weights.
        spread_over: so many GPUs; None: over none.

    Raises:
        ModelError: there is no such model, its weights are incomplete or not safetensors, or its architecture is unknown.
    """
    if spread_over is not None and find_spec("accelerate") is None:
        raise ModelError(f"{name}: to spread a model over {spread_over} GPUs takes accelerate: pip install accelerate")
    room = nullcontext() if spread_over is None else memory.room(lambda total: (1 - WORKING_SHARE) * total, devices=spread_over)
    source: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    with loading(name), room, _without_progress_bars():
        config = transformers.AutoConfig.from_pretrained(name, **source)
        if dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise ModelError(f"{name}: {dtype!r} is not a dtype")
        _require_safetensors(name)
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            name,
            config=config,
            dtype=dtype if dtype == "auto" else getattr(torch, dtype),
            use_safetensors=True,
            attn_implementation=_attention(config),
            output_loading_info=True,
            **({} if spread_over is None else {"device_map": "auto"}),
            **source,
        )
    module, report = loaded
    # Transformers fills missing weights with random numbers and goes on; nobody wants scores of those.
    if missing := sorted(report["missing_keys"]):
        raise ModelError(f"{name}: {len(missing)} weights are not in its files, among them {missing[0]}")
    return module


def put_on(
    device: str,
    module: transformers.PreTrainedModel,
    make: Callable[[transformers.PreTrainedModel], T],
    *,
    name: str,
    gpus: float = 1.0,
) -> T:
    """Put a model on its device; on a GPU, as soon as there is room for it.

    Args:
        device: a name that torch knows.
        module: the model.
        make: what becomes of it there; what that takes of memory counts too.
        name: what error messages call it.
        gpus: of a GPU, the share that this process has beside others.

    Raises:
        ModelError: there is no room.
    """
    weights = sum(parameter.nbytes for parameter in module.parameters())
    on_gpu = torch.device(device).type == "cuda"
    room = memory.room(lambda total: weights + WORKING_SHARE * gpus * total, gpus=gpus) if on_gpu else nullcontext()
    with room:
        if on_gpu:
            memory.limit(gpus)
        try:
            return make(module.to(device))
        except Exception as e:
            if not memory.ran_out(e):
                raise
            said = first_line(e)
        module.to("meta")  # whoever holds it still: what was moved already is freed
        memory.release()
    raise ModelError(
        f"{name}: its weights of {memory.gib(weights)} GiB do not fit ({memory.described()}: {said}); it needs a GPU with "
        "more memory, or a larger share of one (gpus)"
    )


def _attention(config: transformers.PreTrainedConfig) -> str | None:
    """Which attention to ask Transformers for; None: its default.

    SDPA ignores Gemma 2's cap on attention logits without a word (transformers 5.19, integrations/sdpa_attention.py).
    """
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    return "eager" if capped else None


def _require_safetensors(name: str) -> None:
    folder = Path(name)
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return
    pickles = [p.name for p in (*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth"))]
    if pickles:
        raise ModelError(f"{name}: its weights are pickles ({pickles[0]}), which are never loaded; save them as safetensors")
    raise ModelError(f"{name}: there are no weights (*.safetensors) in this folder")


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Progress is shown by the command line, a model at a time, not by Transformers, a tensor at a time."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
