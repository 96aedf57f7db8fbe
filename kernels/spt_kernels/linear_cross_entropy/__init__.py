"""Cross-entropy of a linear head: from hidden states to the loss, or to the log-probabilities of given tokens."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from spt_kernels.dispatch import Impl, resolve
from spt_kernels.linear_cross_entropy import chunked

Reduction: TypeAlias = Literal["mean", "sum", "none"]

HALF = (torch.bfloat16, torch.float16)
"""For what `auto` takes Triton: in float32 the tensor cores are out, and cuBLAS is the faster of the two."""


def linear_cross_entropy(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    targets_N: Tensor,
    *,
    reduction: Reduction = "mean",
    impl: Impl = "auto",
) -> Tensor:
    """Negative log-likelihood of `targets` under `softmax(hidden @ weight.T)`, in nats.

    For row n: `logsumexp_v(h_n . w_v) - h_n . w_{t_n}`. Products are taken in the arguments' dtype, everything behind
    them in float32 (float64 stays float64). The head is frozen: only `hidden` gets a gradient. `[N, V]` is never in memory
    as a whole when it is large: see `chunked.LOGITS_BYTES` and `triton.SCRATCH_BYTES`.

    Args:
        hidden_NH: `[N, H]` floating point, contiguous; N may be 0 unless the reduction is `mean`.
        weight_VH: `[V, H]`, same dtype and device; must not require a gradient.
        targets_N: `[N]` int64, each in [0, V).
        reduction: `mean` over the rows, their `sum`, or `none`.
        impl: see `spt_kernels.dispatch.Impl`.

    Returns:
        A scalar, or `[N]` for `reduction="none"`; float32, or float64 for float64 arguments.

    Raises:
        ValueError: shapes, dtypes or devices do not fit together, the head wants a gradient, or there is no such
            implementation for them.
    """
    _check(hidden_NH, weight_VH, targets_N)
    if reduction not in get_args(Reduction):
        raise ValueError(f"reduction must be one of {', '.join(get_args(Reduction))}, not {reduction!r}")
    # A grid of no programs cannot be launched.
    if resolve(impl, hidden_NH, auto=HALF) == "reference" or not len(hidden_NH):
        return chunked.linear_cross_entropy(hidden_NH, weight_VH, targets_N, reduction)
    from spt_kernels.linear_cross_entropy import triton

    return triton.linear_cross_entropy(hidden_NH, weight_VH, targets_N, reduction)


@torch.no_grad()
def linear_logprob(hidden_NH: Tensor, weight_VH: Tensor, targets_N: Tensor, *, impl: Impl = "auto") -> Tensor:
    """Log-probabilities of `targets` under `softmax(hidden @ weight.T)`, in nats, `[N]`; without a gradient.

    Arguments, dtypes and errors as for `linear_cross_entropy`, whose negative it is.
    """
    return -linear_cross_entropy(hidden_NH, weight_VH, targets_N, reduction="none", impl=impl)


def _check(hidden_NH: Tensor, weight_VH: Tensor, targets_N: Tensor) -> None:
    if hidden_NH.ndim != 2 or weight_VH.ndim != 2 or targets_N.ndim != 1:
        raise ValueError(
            "expected hidden [N, H], weight [V, H] and targets [N]; got "
            f"{list(hidden_NH.shape)}, {list(weight_VH.shape)} and {list(targets_N.shape)}"
        )
    if hidden_NH.shape[1] != weight_VH.shape[1]:
        raise ValueError(f"H differs: hidden has {hidden_NH.shape[1]}, weight {weight_VH.shape[1]}")
    if hidden_NH.shape[0] != targets_N.shape[0]:
        raise ValueError(f"N differs: hidden has {hidden_NH.shape[0]}, targets {targets_N.shape[0]}")
    if hidden_NH.dtype != weight_VH.dtype or not hidden_NH.is_floating_point():
        raise ValueError(f"hidden and weight must share a float dtype: {hidden_NH.dtype}, {weight_VH.dtype}")
    if targets_N.dtype != torch.int64:
        raise ValueError(f"targets must be int64, not {targets_N.dtype}")
    if not hidden_NH.device == weight_VH.device == targets_N.device:
        raise ValueError(f"devices differ: {hidden_NH.device}, {weight_VH.device} and {targets_N.device}")
    if weight_VH.requires_grad:
        raise ValueError("the head is frozen here: weight must not require a gradient")
