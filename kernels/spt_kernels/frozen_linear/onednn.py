"""Products of float32 by oneDNN. PyTorch takes MKL for them on x86, and oneDNN for those of bfloat16.

On an AMD EPYC (Zen 5, AVX-512) MKL 2024.2 comes to 100 GFLOP/s a core, whatever the shapes, and oneDNN 3.12 to 200 to 230: MKL
leaves the wide instructions to Intel's own CPUs. With 29 rows, 60 to 70 and 125 to 165. PyTorch has no setting for it; the
operator is the one that its compiler puts in the place of linear layers.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

WORTH = 4_000_000
"""Multiplications from which on oneDNN is the faster one: a call of it takes about 10 us longer before it multiplies."""


@cache
def _has_it() -> bool:
    """Whether this PyTorch has the operator, and takes another library by itself."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return x86 and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def is_faster(inputs: Tensor, weight_VH: Tensor, bias_V: Tensor | None) -> bool:
    """Whether oneDNN can take this product, and is worth it."""
    plain = inputs.dtype == weight_VH.dtype == torch.float32 and inputs.device.type == weight_VH.device.type == "cpu"
    frozen = not weight_VH.requires_grad and (bias_V is None or not bias_V.requires_grad)
    return plain and frozen and inputs.numel() * weight_VH.shape[0] >= WORTH and _has_it()


def frozen_linear(inputs: Tensor, weight_VH: Tensor, bias_V: Tensor | None) -> Tensor:
    """Arguments and result as in `spt_kernels.frozen_linear`."""
    product: Tensor = _FrozenLinear.apply(inputs, weight_VH, bias_V)  # type: ignore[no-untyped-call]
    return product


class _FrozenLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight_VH: Tensor, bias_V: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight_VH)
        return _product(inputs, weight_VH, bias_V)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (weight_VH,) = ctx.saved_tensors
        return _product(upstream, weight_VH.T, None), None, None


def _product(inputs: Tensor, weight_VH: Tensor, bias_V: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(inputs.contiguous(), weight_VH, bias_V, "none", [], "")
    return product
