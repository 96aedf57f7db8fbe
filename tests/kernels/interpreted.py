"""What the Triton kernels give in Triton's interpreter: `python interpreted.py FILE` runs every call and saves the results.

A process of its own, for `TRITON_INTERPRET` counts only where Triton is imported, and for the whole process.
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spt_kernels.linear_cross_entropy import cases as linear_cases
from spt_kernels.splice_embeds import cases as splice_cases

VOCAB = 50


@dataclass(frozen=True, kw_only=True)
class LinearCall:
    """Rows of hidden states against a head, with a random gradient from upstream."""

    case: linear_cases.Case
    dtype: torch.dtype
    recompute: bool = False
    """Whether one tile of exponentials at a time is in memory."""

    def __str__(self) -> str:
        return f"{self.case}-{self.dtype}".replace("torch.", "") + ("-recompute" if self.recompute else "")

    def arguments(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Hidden states, head, targets, the first and the last token among them, and upstream gradients."""
        N, H, V = self.case.N, self.case.H, self.case.V
        generator = torch.Generator().manual_seed(N + V)
        hidden_NH = torch.randn(N, H, generator=generator, dtype=torch.float64).to(self.dtype)
        weight_VH = (torch.randn(V, H, generator=generator, dtype=torch.float64) / math.sqrt(H)).to(self.dtype)
        targets_N = torch.randint(V, (N,), generator=generator)
        targets_N[0], targets_N[-1] = 0, V - 1
        return hidden_NH, weight_VH, targets_N, torch.randn(N, generator=generator)


@dataclass(frozen=True, kw_only=True)
class SpliceCall:
    """Tokens and vectors, with a random gradient from upstream."""

    case: splice_cases.Case
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"{self.case}-{self.dtype}".replace("torch.", "")

    def arguments(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Table, vectors in float32, ids and upstream gradients."""
        generator = torch.Generator().manual_seed(self.case.H)
        table_VH = torch.randn(VOCAB, self.case.H, generator=generator).to(self.dtype)
        # Numbers that bfloat16 has: where it rounds, the interpreter cuts off.
        vectors_PH = torch.randn(self.case.P * self.case.prompts, self.case.H, generator=generator).bfloat16().float()
        ids = self.case.ids(VOCAB, generator)
        return table_VH, vectors_PH, ids, torch.randn(*ids.shape, self.case.H, generator=generator).to(self.dtype)


DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# The largest case takes seconds.
LINEAR = [
    *(LinearCall(case=case, dtype=dtype) for case in linear_cases.SMALL[:-1] for dtype in DTYPES),
    LinearCall(case=linear_cases.SMALL[-1], dtype=torch.float16),
    *(LinearCall(case=case, dtype=torch.float32, recompute=True) for case in linear_cases.SMALL[2:4]),
]
SPLICE = [SpliceCall(case=case, dtype=dtype) for case in splice_cases.SMALL for dtype in DTYPES]


def linear(call: LinearCall) -> dict[str, Tensor]:
    """Losses, their gradient and log-probabilities, and whether a second run gave other bits."""
    from spt_kernels import linear_cross_entropy, linear_logprob
    from spt_kernels.linear_cross_entropy import triton as kernels

    kernels.SCRATCH_BYTES = 1 if call.recompute else 64 * 2**20
    hidden_NH, weight_VH, targets_N, upstream_N = call.arguments()
    hidden_NH.requires_grad_(True)
    losses_N = linear_cross_entropy(hidden_NH, weight_VH, targets_N, reduction="none", impl="triton")
    (gradient_NH,) = torch.autograd.grad(losses_N, [hidden_NH], upstream_N)
    logprobs_N = linear_logprob(hidden_NH, weight_VH, targets_N, impl="triton")
    return {"losses": losses_N.detach(), "gradient": gradient_NH, "logprobs": logprobs_N}


def splice(call: SpliceCall) -> dict[str, Tensor]:
    """The spliced rows and the gradient of the vectors."""
    from spt_kernels import splice_embeds

    table_VH, vectors_PH, ids, upstream = call.arguments()
    vectors_PH.requires_grad_(True)
    spliced = splice_embeds(table_VH, vectors_PH, ids, impl="triton")
    (gradient_PH,) = torch.autograd.grad(spliced, [vectors_PH], upstream)
    return {"spliced": spliced.detach(), "gradient": gradient_PH}


def odd() -> dict[str, Tensor]:
    """Calls at the edges: no rows, means of rows, a model that is sure of its answer."""
    from spt_kernels import linear_cross_entropy, linear_logprob, splice_embeds

    call = LinearCall(case=linear_cases.SMALL[2], dtype=torch.float32)
    hidden_NH, weight_VH, targets_N, _ = call.arguments()
    found: dict[str, Tensor] = {
        "no rows": linear_logprob(hidden_NH[:0], weight_VH, targets_N[:0], impl="triton"),
        "no ids": splice_embeds(weight_VH, hidden_NH, targets_N[:0], impl="triton"),
    }
    for reduction in ("mean", "sum", "none"):
        loss: Any = linear_cross_entropy(hidden_NH, weight_VH, targets_N, reduction=reduction, impl="triton")
        found[reduction] = loss
    sure_NH = torch.full((1, 1), 6.0, dtype=torch.float16, requires_grad=True)
    head_VH = torch.tensor([[1.0], [-1.0]], dtype=torch.float16)
    loss = linear_cross_entropy(sure_NH, head_VH, torch.tensor([0]), impl="triton")
    (found["sure"],) = torch.autograd.grad(loss * 1024, [sure_NH])
    found["large"] = linear_logprob(torch.full((1, 1), 6e4), torch.tensor([[1.0], [-1.0]]), torch.tensor([1]), impl="triton")
    return found


if __name__ == "__main__":
    os.environ["TRITON_INTERPRET"] = "1"
    torch.set_num_threads(1)
    torch.save(
        {
            "linear": {str(call): linear(call) for call in LINEAR},
            "splice": {str(call): splice(call) for call in SPLICE},
            "odd": odd(),
        },
        sys.argv[1],
    )
