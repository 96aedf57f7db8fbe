"""Kernels for NVIDIA GPUs: few rows against a large vocabulary. Imported only when they run.

What bounds them. At N = 48, V = 128k, H = 4096 in bf16 the head is 1.05 GB and everything else, scratch included, a few
percent of that; 2 N V H = 50 GFLOP take a fourth of the time that its bytes take (an H200 has 206 FLOP a byte; the head
offers 2 N / 2 = 48). So the roofline is the number of times that the head is read, at the rate of a copy; from N = 200 or so
on it is the matrix product. Reading it is split over V, for a few rows have no other dimension to fill a GPU with.

* Forward: one read. A program has the logits of a tile of the vocabulary and keeps their maximum and the sum of their
  exponentials; a second kernel joins the tiles of a row: no logits leave the chip.
* Backward: sum_v p_v w_v needs the logsumexp over all of V before its first term is right, or an accumulator `[N, H]` that is
  rescaled as flash attention's is: 1 MB in float32 at H = 4096, four times the registers of a multiprocessor. So the head is
  read again. It is not done in the forward pass: a loss without gradient would pay for it, and its memory would be no less.
* What the backward pass needs of the logits is kept where that is cheap: exponentials below their tile's maximum, in the
  head's dtype, up to `SCRATCH_BYTES` (N = 48: 12 MB, 1 % of the head), and the head is read twice in all. Rows that need
  more have the logits of some tiles computed again, as many tiles at a time as fit: a third read, and no more scratch.

All sums are float32 and in a fixed order: two runs give the same bits. The target's own term, `p_t - 1`, is added at the end
in float32: as a part of the sum it would be one minus a rounded number, and a model that knows the answer has p_t near 1.

What differs from batch to batch (N, and what follows from it) is left out of what Triton specialises a kernel on: N = 1 or 16
would have it compiled anew in the midst of a training.

Letters: `S` tiles of V; in kernels BN, BV, BH are tile sizes along N, V, H.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable
from triton.runtime.errors import OutOfResources

from spt_kernels.dispatch import OPTIONS
from spt_kernels.linear_cross_entropy import chunked

SCRATCH_BYTES = 64 * 2**20
"""Most bytes of exponentials that are in memory at once, between forward and backward or within the backward pass."""

_MULTIPROCESSORS = 3
# Of the interpreter, which has none: parts of several steps, and some without any.


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """Tile sizes of one problem."""

    rows: int
    """BN: rows of `hidden` in a tile. The tensor cores' instructions take 16, those of Hopper 64."""
    vocab: int
    """BV: rows of the head in a tile of the forward pass, which share a maximum."""
    hidden: int
    """BH of the forward pass: columns that a step of its loop takes."""
    vocab_step: int
    """Rows of the head that a step of the backward pass's loop takes; divides `vocab`."""
    hidden_out: int
    """BH of the backward pass: columns of the gradient that a program has."""
    warps: int
    """Of 32 threads, a program."""
    stages: int
    """Steps whose tiles are in flight at once."""


HOPPERS_SHARED_BYTES = 227 * 1024
"""Of shared memory that a program can have on an H100, H200 or B200. On an A100 it is 163 KiB; on an A10, L4, 3090, 4090 or
5090, 99."""


def tiles(rows: int, itemsize: int, shared_bytes: int = HOPPERS_SHARED_BYTES) -> Tiles:
    """Tile sizes for so many rows of numbers of so many bytes.

    The head's tile is much larger than that of the rows, which every program reads again (from the L2 cache), and four steps
    in flight are 160 KB a multiprocessor: about four times what the latency of its memory asks for. Where shared memory has no
    room for four, it is three.

    Args:
        rows: N.
        itemsize: bytes of a number.
        shared_bytes: of shared memory that a program can have.
    """
    padded = min(128, max(16, triton.next_power_of_2(rows)))
    in_flight = 128 * (padded + 256)  # bytes of a step of the forward pass, which takes more than the backward pass
    return Tiles(
        rows=padded,
        vocab=256,
        hidden=128 // itemsize,  # 128 bytes: a line of the cache
        vocab_step=128 // itemsize,
        hidden_out=256 if padded <= 64 else 128,
        warps=8,
        stages=max(2, min(4, 1 + shared_bytes // in_flight)),  # one of them is in registers
    )


@cache
def shared_bytes(device: int) -> int:
    """Of shared memory that a program can have on a GPU: what Triton holds a kernel against when it loads it."""
    properties: dict[str, int] = triton.runtime.driver.active.utils.get_device_properties(device)
    return properties["max_shared_mem"]


@triton.jit(do_not_specialize=["N", "first_tile"])
def tile_softmax_kernel(
    hidden_NH,
    weight_VH,
    targets_N,
    maxima_NS,
    sums_NS,
    target_logits_N,
    exponentials_NV,
    N,
    H,
    V,
    first_tile,
    S,
    stride,
    KEEP: tl.constexpr,
    BN: tl.constexpr,
    BV: tl.constexpr,
    BH: tl.constexpr,
    CAST: tl.constexpr,
):
    """Of BN rows and one tile of the vocabulary: the logits' maximum, the sum of their exponentials below it, the targets'
    logits, and, for KEEP, the exponentials, 0 at the target: `[N, stride]`, the first column that of `first_tile`."""
    # Programs that share a tile of the head are neighbours: it is read from memory once.
    row_tiles = tl.cdiv(N, BN)
    first_row = (tl.program_id(0) % row_tiles) * BN
    tile = tl.program_id(0) // row_tiles
    first_word = (first_tile + tile) * BV
    rows, words, columns = tl.arange(0, BN), tl.arange(0, BV), tl.arange(0, BH)
    is_row, is_word = rows < N - first_row, words < V - first_word
    # 64 bits where they are needed, once a program: V * H is more than 32 hold.
    hidden = hidden_NH + first_row.to(tl.int64) * H + (rows[:, None] * H + columns[None, :])
    weight = weight_VH + first_word.to(tl.int64) * H + (words[:, None] * H + columns[None, :])
    logits = tl.zeros((BN, BV), dtype=tl.float32)
    for start in range(0, H, BH):
        inside = columns[None, :] < H - start
        h = tl.load(hidden + start, mask=is_row[:, None] & inside, other=0.0)
        w = tl.load(weight + start, mask=is_word[:, None] & inside, other=0.0)
        logits = tl.dot(h.to(CAST), tl.trans(w.to(CAST)), logits, input_precision="ieee")
    logits = tl.where(is_word[None, :], logits, float("-inf"))
    maxima = tl.max(logits, 1)
    targets = tl.load(targets_N + first_row + rows, mask=is_row, other=-1) - first_word
    is_target = targets[:, None] == words[None, :]
    # The one program that has a row's target says its logit.
    target_logits = tl.sum(tl.where(is_target, logits, 0.0), 1)
    tl.store(target_logits_N + first_row + rows, target_logits, mask=is_row & (targets >= 0) & (targets < BV))
    exponentials = tl.exp(logits - maxima[:, None])
    of_tile = (first_row + rows).to(tl.int64) * S + first_tile + tile
    tl.store(maxima_NS + of_tile, maxima, mask=is_row)
    tl.store(sums_NS + of_tile, tl.sum(exponentials, 1), mask=is_row)
    if KEEP:
        exponentials = tl.where(is_target, 0.0, exponentials).to(exponentials_NV.dtype.element_ty)
        kept = exponentials_NV + first_row.to(tl.int64) * stride + tile * BV
        tl.store(kept + (rows[:, None] * stride + words[None, :]), exponentials, mask=is_row[:, None])


@triton.jit
def join_tiles_kernel(maxima_NS, sums_NS, target_logits_N, logsumexps_N, losses_N, S, BS: tl.constexpr):
    """Of one row: the logsumexp over all tiles, and the loss."""
    row = tl.program_id(0)
    tile = tl.arange(0, BS)
    maxima = tl.load(maxima_NS + row.to(tl.int64) * S + tile, mask=tile < S, other=float("-inf"))
    sums = tl.load(sums_NS + row.to(tl.int64) * S + tile, mask=tile < S, other=0.0)
    maximum = tl.max(maxima, 0)
    # As a part of the difference: log(sum) is small beside a large maximum, and would be rounded away.
    rest = tl.log(tl.sum(sums * tl.exp(maxima - maximum), 0))
    tl.store(logsumexps_N + row, maximum + rest)
    tl.store(losses_N + row, (maximum - tl.load(target_logits_N + row)) + rest)


@triton.jit(do_not_specialize=["N", "first_tile", "steps"])
def weighted_rows_kernel(
    exponentials_NV,
    maxima_NS,
    logsumexps_N,
    weight_VH,
    parts_PNH,
    N,
    H,
    V,
    first_tile,
    S,
    stride,
    kept,
    steps,
    ADD: tl.constexpr,
    BN: tl.constexpr,
    BV: tl.constexpr,
    BK: tl.constexpr,
    BH: tl.constexpr,
    CAST: tl.constexpr,
):
    """Of BN rows, BH columns and one part of the tiles that are kept: sum of p_v w_v over its `steps * BK` rows of the head;
    for ADD, added to what is there."""
    column_tiles = tl.cdiv(H, BH)
    row_tiles = tl.cdiv(N, BN)
    first_column = (tl.program_id(0) % column_tiles) * BH
    first_row = (tl.program_id(0) // column_tiles % row_tiles) * BN
    part = tl.program_id(0) // column_tiles // row_tiles
    rows, words, columns = tl.arange(0, BN), tl.arange(0, BK), tl.arange(0, BH)
    is_row, is_column = rows < N - first_row, columns < H - first_column
    exponentials = exponentials_NV + first_row.to(tl.int64) * stride + (rows[:, None] * stride + words[None, :])
    maxima = maxima_NS + (first_row + rows).to(tl.int64) * S + first_tile
    logsumexps = tl.load(logsumexps_N + first_row + rows, mask=is_row, other=float("inf"))
    weight = weight_VH + first_column + (words[:, None] * H + columns[None, :])
    summed = tl.zeros((BN, BH), dtype=tl.float32)
    for step in range(part * steps, min((part + 1) * steps, kept // BK)):
        first_word = first_tile * BV + step * BK
        e = tl.load(exponentials + step * BK, mask=is_row[:, None], other=0.0)
        is_word = words < V - first_word
        w = tl.load(weight + first_word.to(tl.int64) * H, mask=is_word[:, None] & is_column[None, :], other=0.0)
        scale = tl.exp(tl.load(maxima + step * BK // BV, mask=is_row, other=float("-inf")) - logsumexps)
        # Behind the product and in float32: e is rounded once, and only relative to itself.
        summed += tl.dot(e.to(CAST), w.to(CAST), input_precision="ieee") * scale[:, None]
    places = parts_PNH + (part * N + first_row).to(tl.int64) * H + first_column + (rows[:, None] * H + columns[None, :])
    inside = is_row[:, None] & is_column[None, :]
    if ADD:
        summed += tl.load(places, mask=inside, other=0.0)
    tl.store(places, summed, mask=inside)


@triton.jit(do_not_specialize=["N", "P"])
def join_parts_kernel(parts_PNH, weight_VH, targets_N, losses_N, upstream_N, gradient_NH, N, H, P, BH: tl.constexpr):
    """Of one row and BH columns: upstream * (the sum of the parts + (p_t - 1) w_t)."""
    row = tl.program_id(0)
    columns = tl.program_id(1) * BH + tl.arange(0, BH)
    inside = columns < H
    target = tl.load(targets_N + row)
    w = tl.load(weight_VH + target * H + columns, mask=inside, other=0.0).to(tl.float32)
    summed = tl.zeros((BH,), dtype=tl.float32)
    for part in range(P):
        summed += tl.load(parts_PNH + (part * N + row).to(tl.int64) * H + columns, mask=inside, other=0.0)
    # p_t = exp(-loss).
    summed += (tl.exp(-tl.load(losses_N + row)) - 1.0) * w
    summed *= tl.load(upstream_N + row)
    tl.store(gradient_NH + row.to(tl.int64) * H + columns, summed.to(gradient_NH.dtype.element_ty), mask=inside)


def linear_cross_entropy(hidden_NH: Tensor, weight_VH: Tensor, targets_N: Tensor, reduction: str) -> Tensor:
    """Arguments and result as in `spt_kernels.linear_cross_entropy`, unchecked.

    On a GPU that has too little shared memory or too few registers for a kernel, PyTorch takes its place.
    """
    # Inside `forward` nothing says whether the caller records gradients.
    wanted = torch.is_grad_enabled() and hidden_NH.requires_grad
    arguments = (hidden_NH.contiguous(), weight_VH.contiguous(), targets_N.contiguous())
    try:
        losses_N: Tensor = _LinearCrossEntropy.apply(*arguments, wanted)
    except OutOfResources:
        return chunked.linear_cross_entropy(*arguments, reduction)
    return losses_N if reduction == "none" else getattr(losses_N, reduction)()


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_NH: Tensor, weight_VH: Tensor, targets_N: Tensor, wanted: bool) -> Tensor:
        # A launch goes to the current device, which need not be the tensors'.
        with torch.cuda.device_of(hidden_NH):
            work = _Work(hidden_NH, weight_VH, targets_N)
            exponentials_NV = work.room() if wanted and work.tiles_at_once >= work.S else None
            work.tile_softmax(exponentials_NV)
            logsumexps_N, losses_N = work.join_tiles()
        if wanted:
            ctx.save_for_backward(hidden_NH, weight_VH, targets_N, exponentials_NV, work.maxima_NS, logsumexps_N, losses_N)
        return losses_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream_N: Tensor) -> tuple[Tensor, None, None, None]:
        try:
            gradient_NH = _gradient(upstream_N.contiguous(), *ctx.saved_tensors)
        except OutOfResources:
            hidden_NH, weight_VH, targets_N = ctx.saved_tensors[:3]
            with torch.enable_grad():
                leaf_NH = hidden_NH.detach().requires_grad_(True)
                losses_N = chunked.linear_cross_entropy(leaf_NH, weight_VH, targets_N, "none")
                (gradient_NH,) = torch.autograd.grad(losses_N, [leaf_NH], upstream_N)
        return gradient_NH, None, None, None


def _gradient(
    upstream_N: Tensor,
    hidden_NH: Tensor,
    weight_VH: Tensor,
    targets_N: Tensor,
    exponentials_NV: Tensor | None,
    maxima_NS: Tensor,
    logsumexps_N: Tensor,
    losses_N: Tensor,
) -> Tensor:
    """The backward pass: `[N, H]`."""
    with torch.cuda.device_of(hidden_NH):
        work = _Work(hidden_NH, weight_VH, targets_N, maxima_NS)
        parts_PNH = work.parts()
        if exponentials_NV is not None:
            work.weighted_rows(exponentials_NV, logsumexps_N, parts_PNH)
        else:
            exponentials_NV = work.room()
            for first_tile in range(0, work.S, work.tiles_at_once):
                work.tile_softmax(exponentials_NV, first_tile)
                work.weighted_rows(exponentials_NV, logsumexps_N, parts_PNH, first_tile)
        return work.join_parts(parts_PNH, losses_N, upstream_N)


class _Work:
    """One problem's tensors and launches. `maxima_NS`: of the forward pass, where this is the backward pass."""

    def __init__(self, hidden_NH: Tensor, weight_VH: Tensor, targets_N: Tensor, maxima_NS: Tensor | None = None) -> None:
        self.hidden_NH, self.weight_VH, self.targets_N = hidden_NH, weight_VH, targets_N
        self.N, self.H = hidden_NH.shape
        self.V = weight_VH.shape[0]
        # NumPy has no bfloat16, so the interpreter multiplies what it takes for integers.
        interpreted = not hidden_NH.is_cuda
        room = HOPPERS_SHARED_BYTES if interpreted else shared_bytes(hidden_NH.get_device())
        self.tiles = tiles(self.N, hidden_NH.element_size(), room)
        self.S = triton.cdiv(self.V, self.tiles.vocab)
        per_tile = self.N * self.tiles.vocab * hidden_NH.element_size()
        self.tiles_at_once = min(self.S, max(1, SCRATCH_BYTES // per_tile))
        self.row_tiles = triton.cdiv(self.N, self.tiles.rows)
        self.column_tiles = triton.cdiv(self.H, self.tiles.hidden_out)
        self.maxima_NS = hidden_NH.new_empty(self.N, self.S, dtype=torch.float32) if maxima_NS is None else maxima_NS
        self.sums_NS = torch.empty_like(self.maxima_NS)
        self.target_logits_N = hidden_NH.new_empty(self.N, dtype=torch.float32)
        self.cast = tl.float32 if interpreted else _TYPES[hidden_NH.dtype]
        self.options = {**OPTIONS, "num_warps": self.tiles.warps, "num_stages": self.tiles.stages}

    def room(self) -> Tensor:
        """For the exponentials of as many tiles as are kept at once."""
        return self.hidden_NH.new_empty(self.N, self.tiles_at_once * self.tiles.vocab)

    def tile_softmax(self, exponentials_NV: Tensor | None, first_tile: int = 0) -> None:
        """Launch `tile_softmax_kernel` for all tiles or, with room for fewer, for those from `first_tile` on."""
        number = self.S if exponentials_NV is None else min(self.tiles_at_once, self.S - first_tile)
        tile_softmax_kernel[(self.row_tiles * number,)](
            self.hidden_NH,
            self.weight_VH,
            self.targets_N,
            self.maxima_NS,
            self.sums_NS,
            self.target_logits_N,
            exponentials_NV,
            self.N,
            self.H,
            self.V,
            first_tile,
            self.S,
            0 if exponentials_NV is None else exponentials_NV.shape[1],
            KEEP=exponentials_NV is not None,
            BN=self.tiles.rows,
            BV=self.tiles.vocab,
            BH=self.tiles.hidden,
            CAST=self.cast,
            **self.options,
        )

    def join_tiles(self) -> tuple[Tensor, Tensor]:
        """The logsumexp and the loss of each row: `[N]` each."""
        logsumexps_N, losses_N = torch.empty_like(self.target_logits_N), torch.empty_like(self.target_logits_N)
        join_tiles_kernel[(self.N,)](
            self.maxima_NS,
            self.sums_NS,
            self.target_logits_N,
            logsumexps_N,
            losses_N,
            self.S,
            BS=triton.next_power_of_2(self.S),
            **OPTIONS,
        )
        return logsumexps_N, losses_N

    def parts(self) -> Tensor:
        """Room for partial gradients `[P, N, H]`: as many parts of V as fill the multiprocessors, within `SCRATCH_BYTES`."""
        device = self.hidden_NH.device
        gpu = device.type == "cuda"
        multiprocessors = torch.cuda.get_device_properties(device).multi_processor_count if gpu else _MULTIPROCESSORS
        most = max(1, SCRATCH_BYTES // (4 * self.hidden_NH.numel()))
        P = split(self.row_tiles * self.column_tiles, multiprocessors, most)
        return self.hidden_NH.new_empty(P, self.N, self.H, dtype=torch.float32)

    def weighted_rows(self, exponentials_NV: Tensor, logsumexps_N: Tensor, parts_PNH: Tensor, first_tile: int = 0) -> None:
        """Launch `weighted_rows_kernel` for the tiles from `first_tile` on."""
        P, kept = len(parts_PNH), min(exponentials_NV.shape[1], (self.S - first_tile) * self.tiles.vocab)
        weighted_rows_kernel[(P * self.row_tiles * self.column_tiles,)](
            exponentials_NV,
            self.maxima_NS,
            logsumexps_N,
            self.weight_VH,
            parts_PNH,
            self.N,
            self.H,
            self.V,
            first_tile,
            self.S,
            exponentials_NV.shape[1],
            kept,
            triton.cdiv(kept, P * self.tiles.vocab_step),
            ADD=first_tile > 0,
            BN=self.tiles.rows,
            BV=self.tiles.vocab,
            BK=self.tiles.vocab_step,
            BH=self.tiles.hidden_out,
            CAST=self.cast,
            **self.options,
        )

    def join_parts(self, parts_PNH: Tensor, losses_N: Tensor, upstream_N: Tensor) -> Tensor:
        """The gradient `[N, H]`."""
        gradient_NH = torch.empty_like(self.hidden_NH)
        join_parts_kernel[(self.N, triton.cdiv(self.H, _COLUMNS))](
            parts_PNH,
            self.weight_VH,
            self.targets_N,
            losses_N,
            upstream_N,
            gradient_NH,
            self.N,
            self.H,
            len(parts_PNH),
            BH=_COLUMNS,
            **OPTIONS,
        )
        return gradient_NH


_TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
_COLUMNS = 512


def split(programs: int, multiprocessors: int, most: int) -> int:
    """Into how many parts, `most` at most, each program's work is cut so that all multiprocessors have some most of the time.

    A multiprocessor has room for one program: they take `ceil(programs * parts / multiprocessors)` rounds of `1 / parts`.
    """
    most = min(most, max(8, multiprocessors // programs))
    return min(range(1, most + 1), key=lambda parts: (-(-programs * parts // multiprocessors) / parts, parts))
