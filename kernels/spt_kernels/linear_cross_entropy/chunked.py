"""The reference, some of the vocabulary at a time, so that the memory of its logits is bounded whatever N and V are.

Sums over the vocabulary are kept as flash attention keeps its own: relative to the greatest logit so far, and scaled anew where
a later chunk has a greater one. So the head is read once: both products with a chunk of it follow each other, and on a CPU the
chunk and its logits are in the cache meanwhile. The gradient is taken at once, with ones upstream, and scaled per row in the
backward pass. What fits into one chunk is the reference itself, bit for bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spt_kernels.frozen_linear import frozen_linear
from spt_kernels.linear_cross_entropy import reference

LOGITS_BYTES = 64 * 2**20
"""Of a chunk's logits in float32. The reference holds about three times as much while it works on them."""

CACHED_BYTES = 16 * 2**20
"""Of a chunk's logits and its part of the head on a CPU: half of the last level of its cache."""

ROWS = 4096
"""Most that go through the vocabulary together: with more, a chunk of it would be too narrow for a product."""


def linear_cross_entropy(hidden_NH: Tensor, weight_VH: Tensor, targets_N: Tensor, reduction: str) -> Tensor:
    """Arguments and result as in `spt_kernels.linear_cross_entropy`, unchecked."""
    columns = _columns(hidden_NH, weight_VH)
    if len(hidden_NH) <= ROWS and columns >= len(weight_VH):
        return reference.linear_cross_entropy(hidden_NH, weight_VH, targets_N, reduction)
    # Inside `forward` nothing says whether the caller records gradients.
    wanted = torch.is_grad_enabled() and hidden_NH.requires_grad
    losses_N: Tensor = _Chunked.apply(hidden_NH, weight_VH, targets_N, columns, wanted)  # type: ignore[no-untyped-call]
    return losses_N if reduction == "none" else getattr(losses_N, reduction)()


def _columns(hidden_NH: Tensor, weight_VH: Tensor) -> int:
    """Rows of the head, which are columns of the logits, in a chunk."""
    logits = 4 * max(1, min(len(hidden_NH), ROWS))
    if hidden_NH.device.type == "cpu":
        return max(1, CACHED_BYTES // (logits + weight_VH.shape[1] * weight_VH.element_size()))
    return max(1, LOGITS_BYTES // logits)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_NH: Tensor, weight_VH: Tensor, targets_N: Tensor, columns: int, wanted: bool) -> Tensor:
        losses: list[Tensor] = []
        gradients: list[Tensor] = []
        for hidden_nH, targets_n in zip(hidden_NH.split(ROWS), targets_N.split(ROWS), strict=True):
            sums = _Sums(hidden_nH, targets_n, wanted)
            for begin in range(0, len(weight_VH), columns):
                sums.add(weight_VH[begin : begin + columns], begin)
            losses.append(sums.losses())
            if wanted:
                gradients.append(sums.gradient(weight_VH[targets_n]))
        if wanted:
            ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(losses)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream_N: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient_NH,) = ctx.saved_tensors
        return (gradient_NH * upstream_N[:, None]).to(gradient_NH.dtype), None, None, None, None


class _Sums:
    """Over the part of the vocabulary that was added so far."""

    def __init__(self, hidden_NH: Tensor, targets_N: Tensor, wanted: bool) -> None:
        self._hidden_NH, self._targets_N = hidden_NH, targets_N
        dtype = torch.float64 if hidden_NH.dtype == torch.float64 else torch.float32
        self._greatest_N = hidden_NH.new_full((len(hidden_NH),), torch.finfo(dtype).min, dtype=dtype)
        self._sum_N = torch.zeros_like(self._greatest_N)
        """Of exponentials below the greatest logit."""
        self._target_logits_N = torch.zeros_like(self._greatest_N)
        self._weighted_NH = torch.zeros_like(hidden_NH, dtype=dtype) if wanted else None
        """The head's rows, weighted with these exponentials, but for the target's own."""

    def add(self, weight_vH: Tensor, begin: int) -> None:
        """Take in rows of the head, the first of which is the vocabulary's number `begin`."""
        logits_Nv = frozen_linear(self._hidden_NH, weight_vH).to(self._greatest_N.dtype)
        places_N1 = (self._targets_N - begin).clamp(0, len(weight_vH) - 1)[:, None]
        is_here_N = (self._targets_N >= begin) & (self._targets_N < begin + len(weight_vH))
        self._target_logits_N = torch.where(is_here_N, logits_Nv.gather(1, places_N1)[:, 0], self._target_logits_N)
        greatest_N = torch.maximum(self._greatest_N, logits_Nv.amax(1))
        scale_N = (self._greatest_N - greatest_N).exp_()
        exponentials_Nv = logits_Nv.sub_(greatest_N[:, None]).exp_()
        self._sum_N = self._sum_N * scale_N + exponentials_Nv.sum(1)
        self._greatest_N = greatest_N
        if self._weighted_NH is not None:
            others_N = exponentials_Nv.gather(1, places_N1)[:, 0].masked_fill(is_here_N, 0)
            exponentials_Nv.scatter_(1, places_N1, others_N[:, None])
            weighted_NH = frozen_linear(exponentials_Nv.to(self._hidden_NH.dtype), weight_vH.T)
            self._weighted_NH.mul_(scale_N[:, None]).add_(weighted_NH)

    def losses(self) -> Tensor:
        """`[N]`."""
        return self._sum_N.log() + (self._greatest_N - self._target_logits_N)

    def gradient(self, target_rows_NH: Tensor) -> Tensor:
        """Of each row's loss, `[N, H]`, given the target's row of the head.

        The target's own term is added last: as a part of the sum it would be one minus a rounded number, and a model that
        knows the answer has a probability near 1.
        """
        assert self._weighted_NH is not None
        less_one_N = torch.expm1(-self.losses())  # the target's probability is exp(-loss)
        gradient_NH = self._weighted_NH / self._sum_N[:, None] + less_one_N[:, None] * target_rows_NH
        return gradient_NH.to(self._hidden_NH.dtype)
