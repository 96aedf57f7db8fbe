"""The definition, in plain PyTorch. Never bent to match a kernel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def linear_cross_entropy(hidden_NH: Tensor, weight_VH: Tensor, targets_N: Tensor, reduction: str) -> Tensor:
    """Arguments and result as in `spt_kernels.linear_cross_entropy`, unchecked."""
    logits_NV = hidden_NH @ weight_VH.T
    if logits_NV.dtype != torch.float64:
        logits_NV = logits_NV.float()
    return F.cross_entropy(logits_NV, targets_N, reduction=reduction)
