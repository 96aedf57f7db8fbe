"""A causal LM of Transformers under what a training process has put around it, or a sentence why there is none."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch.distributed._composable.contract import REGISTRY_KEY
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import CheckpointWrapper
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from spt_fast.errors import ConfigError


def unwrapped(model: Any) -> transformers.PreTrainedModel:
    """The module that `torch.compile`, DDP and PEFT are around; one that is sharded by `fully_shard` is itself.

    Raises:
        ConfigError: it is no causal LM of Transformers, has no input embeddings, or its weights are not all here.
    """
    module = _inside(model)
    if not isinstance(module, torch.nn.Module):
        raise ConfigError(
            f"model: must be a module of PyTorch, not {type(module).__name__}; a name or folder is for spt-fast run"
        )
    if not isinstance(module, transformers.PreTrainedModel):
        raise ConfigError(
            f"model: must be a causal LM of Transformers, not {type(module).__name__}; "
            "convert the checkpoint, and evaluate it by spt-fast run"
        )
    _require_embeddings(module)
    _require_weights(module)
    return module


def _inside(model: Any) -> Any:
    while True:
        if isinstance(model, DistributedDataParallel):
            model = model.module
        elif isinstance(model, FullyShardedDataParallel):
            raise ConfigError("model: is sharded by FullyShardedDataParallel (FSDP1); shard it by fully_shard (FSDP2)")
        elif isinstance(model, torch.nn.Module) and "_orig_mod" in model._modules:  # torch.compile
            model = model._modules["_orig_mod"]
        elif hasattr(model, "get_base_model"):  # PEFT
            model = model.get_base_model()
        else:
            return model


def _require_embeddings(module: transformers.PreTrainedModel) -> None:
    name = type(module).__name__
    try:
        embeddings = module.get_input_embeddings()
    except (NotImplementedError, AttributeError):
        embeddings = None
    if not isinstance(getattr(embeddings, "weight", None), torch.Tensor):
        raise ConfigError(f"model: {name} has no input embeddings, so no soft prompt can stand among its tokens")
    if module.config.is_encoder_decoder:
        raise ConfigError(f"model: {name} has an encoder and a decoder; soft prompts are for causal LMs")
    if module.base_model is module:
        raise ConfigError(f"model: {name} has no head that predicts tokens; give the model of AutoModelForCausalLM")


def _require_weights(module: torch.nn.Module) -> None:
    sharded = any(isinstance(part, FSDPModule) for part in module.modules())
    for name, weight in module.named_parameters():
        if weight.is_meta:
            raise ConfigError(f"model: {name} is on the meta device, and has no numbers; load the weights first")
        if hasattr(weight, "ds_id"):
            raise ConfigError(f"model: {name} is partitioned by DeepSpeed ZeRO-3; shard the model by fully_shard (FSDP2)")
        if isinstance(weight, DTensor) and not sharded:
            raise ConfigError(f"model: {name} is split by tensor parallelism; evaluate its checkpoint by spt-fast run")


def has_compiled(model: torch.nn.Module) -> bool:
    """Whether any part of it was given to `torch.compile`."""
    return any("_orig_mod" in part._modules or part._compiled_call_impl is not None for part in model.modules())


def recomputes(model: torch.nn.Module) -> bool:
    """Whether PyTorch's activation checkpointing is around any part of it, by a wrapper or by hooks."""
    return any(
        isinstance(part, CheckpointWrapper) or "checkpoint" in (getattr(part, REGISTRY_KEY, None) or {})
        for part in model.modules()
    )
