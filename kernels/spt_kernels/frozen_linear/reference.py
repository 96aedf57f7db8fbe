"""The definition, in plain PyTorch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def frozen_linear(inputs: Tensor, weight_VH: Tensor, bias_V: Tensor | None) -> Tensor:
    """Arguments and result as in `spt_kernels.frozen_linear`."""
    return F.linear(inputs, weight_VH, bias_V)
