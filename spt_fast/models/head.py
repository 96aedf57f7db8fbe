"""The head of a causal language model: how hidden states become logits, for the families that are known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import transformers
from torch import Tensor

from spt_kernels import frozen_linear


@dataclass(frozen=True, kw_only=True)
class Head:
    """From hidden states to logits: `softcap(scale * (hidden @ weight.T + bias))`."""

    weight: Tensor
    """`[V, H]`."""
    bias: Tensor | None = None
    """`[V]`."""
    scale: float = 1.0
    """Cohere's `logit_scale`; one over Granite's `logits_scaling`."""
    softcap: float | None = None
    """`c` of `c * tanh(logits / c)`: Gemma's `final_logit_softcapping`."""

    @property
    def is_linear(self) -> bool:
        """Whether the logits are `hidden @ weight.T` and nothing else."""
        return self.bias is None and self.scale == 1.0 and self.softcap is None

    def logits(self, hidden_NH: Tensor) -> Tensor:
        """`[N, H]` -> `[N, V]`."""
        logits_NV = frozen_linear(hidden_NH, self.weight, self.bias)
        if self.scale != 1.0:
            logits_NV = logits_NV * self.scale
        if self.softcap is not None:
            logits_NV = torch.tanh(logits_NV / self.softcap) * self.softcap
        return logits_NV


def head_of(module: transformers.PreTrainedModel) -> Head | None:
    """The head of the families that are known; None: it is not known. A wrong guess is found when a `FrozenModel` is made."""
    linear = module.get_output_embeddings()
    if not isinstance(linear, torch.nn.Linear) or module.base_model is module:
        return None
    config = module.config.get_text_config()
    scale = getattr(config, "logit_scale", None)
    if scale is None and (divisor := getattr(config, "logits_scaling", None)) is not None:
        scale = 1 / divisor
    return Head(
        weight=linear.weight,
        bias=linear.bias,
        scale=1.0 if scale is None else float(scale),
        softcap=getattr(config, "final_logit_softcapping", None),
    )
