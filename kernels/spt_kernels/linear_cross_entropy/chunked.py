"""The reference, some rows at a time, so that the memory of its logits is bounded whatever N is.

One chunk's logits are gone before the next one's are made: their gradient is taken at once, with ones upstream, and scaled
per row in the backward pass. Rows that fit into one chunk are the reference itself, bit for bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spt_kernels.linear_cross_entropy import reference

LOGITS_BYTES = 64 * 2**20
"""Of a chunk's logits in float32. The reference holds about three times as much while it works on them."""


def linear_cross_entropy(hidden_NH: Tensor, weight_VH: Tensor, targets_N: Tensor, reduction: str) -> Tensor:
    """Arguments and result as in `spt_kernels.linear_cross_entropy`, unchecked."""
    rows = max(1, LOGITS_BYTES // (4 * weight_VH.shape[0]))
    if len(hidden_NH) <= rows:
        return reference.linear_cross_entropy(hidden_NH, weight_VH, targets_N, reduction)
    # Inside `forward` nothing says whether the caller records gradients.
    wanted = torch.is_grad_enabled() and hidden_NH.requires_grad
    losses_N: Tensor = _Chunked.apply(hidden_NH, weight_VH, targets_N, rows, wanted)  # type: ignore[no-untyped-call]
    return losses_N if reduction == "none" else getattr(losses_N, reduction)()


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_NH: Tensor, weight_VH: Tensor, targets_N: Tensor, rows: int, wanted: bool) -> Tensor:
        losses: list[Tensor] = []
        gradients: list[Tensor] = []
        for hidden_nH, targets_n in zip(hidden_NH.split(rows), targets_N.split(rows), strict=True):
            with torch.set_grad_enabled(wanted):
                leaf_nH = hidden_nH.detach().requires_grad_(wanted)
                losses_n = reference.linear_cross_entropy(leaf_nH, weight_VH, targets_n, "none")
                if wanted:
                    gradients += torch.autograd.grad(losses_n.sum(), [leaf_nH])
            losses.append(losses_n.detach())
        if wanted:
            ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(losses)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream_N: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient_NH,) = ctx.saved_tensors
        return (gradient_NH * upstream_N[:, None]).to(gradient_NH.dtype), None, None, None, None
