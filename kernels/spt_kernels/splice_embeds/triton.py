"""Kernels for NVIDIA GPUs. Imported only when they run.

Bound by bytes: each row of the result is read once and written once (in eager PyTorch the tokens' rows are written, read and
written again by the concatenation), and at usual sizes by the launch: 8 rows of 138 positions at H = 4096 are 18 MB, 4 us.

Backward: a program has BH columns of one vector and looks for its id among all positions, a tile of ids at a time, so that the
order of its sum is that of the positions, whatever the layout. Rows that are not the vector's own are not read.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from spt_kernels.dispatch import OPTIONS

_COLUMNS = 512
_POSITIONS = 64
_COLUMNS_OF_SUM = 64


@triton.jit
def gather_kernel(table_VH, vectors_PH, ids_M, out_MH, H, BH: tl.constexpr):
    """BH columns of one position."""
    position = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BH + tl.arange(0, BH)
    inside = columns < H
    row = tl.load(ids_M + position)
    kind = out_MH.dtype.element_ty
    if row < 0:
        values = tl.load(vectors_PH + (-1 - row) * H + columns, mask=inside, other=0.0).to(kind)
    else:
        values = tl.load(table_VH + row * H + columns, mask=inside, other=0.0)
    tl.store(out_MH + position * H + columns, values, mask=inside)


@triton.jit(do_not_specialize=["M"])  # it differs from batch to batch
def sum_kernel(upstream_MH, ids_M, gradient_PH, M, H, BM: tl.constexpr, BH: tl.constexpr):
    """BH columns of one vector's gradient: the sum over all positions that have it."""
    vector = tl.program_id(0)
    positions, columns = tl.arange(0, BM), tl.program_id(1) * BH + tl.arange(0, BH)
    summed = tl.zeros((BH,), dtype=tl.float32)
    for first in range(0, M, BM):
        here = (first + positions).to(tl.int64)
        own = tl.load(ids_M + here, mask=here < M, other=0) == -1 - vector
        inside = own[:, None] & (columns < H)[None, :]
        summed += tl.sum(tl.load(upstream_MH + here[:, None] * H + columns[None, :], mask=inside, other=0.0).to(tl.float32), 0)
    tl.store(gradient_PH + vector.to(tl.int64) * H + columns, summed.to(gradient_PH.dtype.element_ty), mask=columns < H)


def splice_embeds(table_VH: Tensor, vectors_PH: Tensor, ids: Tensor) -> Tensor:
    """Arguments and result as in `spt_kernels.splice_embeds`, unchecked."""
    spliced_MH: Tensor = _SpliceEmbeds.apply(table_VH.contiguous(), vectors_PH.contiguous(), ids.flatten())
    return spliced_MH.view(*ids.shape, table_VH.shape[1])


class _SpliceEmbeds(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table_VH: Tensor, vectors_PH: Tensor, ids_M: Tensor) -> Tensor:
        H = table_VH.shape[1]
        out_MH = table_VH.new_empty(len(ids_M), H)
        # A launch goes to the current device, which need not be the tensors'.
        with torch.cuda.device_of(table_VH):
            gather_kernel[(len(ids_M), triton.cdiv(H, _COLUMNS))](
                table_VH, vectors_PH, ids_M, out_MH, H, BH=_COLUMNS, **OPTIONS
            )
        ctx.save_for_backward(ids_M)
        ctx.like = vectors_PH.shape, vectors_PH.dtype
        return out_MH

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream_MH: Tensor) -> tuple[None, Tensor, None]:
        (ids_M,) = ctx.saved_tensors
        (P, H), dtype = ctx.like
        gradient_PH = upstream_MH.new_empty(P, H, dtype=dtype)
        with torch.cuda.device_of(upstream_MH):
            sum_kernel[(P, triton.cdiv(H, _COLUMNS_OF_SUM))](
                upstream_MH.contiguous(), ids_M, gradient_PH, len(ids_M), H, BM=_POSITIONS, BH=_COLUMNS_OF_SUM, **OPTIONS
            )
        return None, gradient_PH, None
