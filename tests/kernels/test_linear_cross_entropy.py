"""linear_cross_entropy: the definition is right, and wrong arguments are refused in words."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
import torch

from spt_kernels import linear_cross_entropy, linear_logprob
from spt_kernels.linear_cross_entropy import chunked, reference
from spt_kernels.linear_cross_entropy.cases import REAL, SMALL, Case

TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}


def arguments(case: Case, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(case.N + case.V)
    hidden = torch.randn(case.N, case.H, generator=generator, dtype=torch.float64).to(dtype)
    weight = (torch.randn(case.V, case.H, generator=generator, dtype=torch.float64) / math.sqrt(case.H)).to(dtype)
    targets = torch.randint(case.V, (case.N,), generator=generator)
    return hidden.requires_grad_(True), weight, targets, generator


def by_hand(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """logsumexp minus the target's logit, in float64, `[N]`."""
    logits = hidden.double() @ weight.double().T
    return logits.logsumexp(-1) - logits[torch.arange(len(targets)), targets]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_loss_and_gradient_are_the_formulas(case: Case, dtype: torch.dtype) -> None:
    hidden, weight, targets, generator = arguments(case, dtype)
    losses = linear_cross_entropy(hidden, weight, targets, reduction="none")
    expected = by_hand(hidden, weight, targets)
    upstream = torch.randn(case.N, generator=generator, dtype=torch.float64)
    (ours,) = torch.autograd.grad(losses, [hidden], upstream.to(losses.dtype))
    (theirs,) = torch.autograd.grad(expected, [hidden], upstream)
    tolerance = TOLERANCES[dtype]
    torch.testing.assert_close(losses.double(), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(ours.double(), theirs.double(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_gradient_is_that_of_finite_differences(reduction: Any) -> None:
    hidden, weight, targets, _ = arguments(Case(N=5, H=4, V=7, reason="gradcheck is quadratic"), torch.float64)
    assert torch.autograd.gradcheck(lambda h: linear_cross_entropy(h, weight, targets, reduction=reduction), [hidden])


def test_mean_and_sum_are_those_of_the_rows() -> None:
    hidden, weight, targets, _ = arguments(SMALL[2], torch.float64)
    rows = linear_cross_entropy(hidden, weight, targets, reduction="none")
    torch.testing.assert_close(linear_cross_entropy(hidden, weight, targets), rows.mean())
    torch.testing.assert_close(linear_cross_entropy(hidden, weight, targets, reduction="sum"), rows.sum())


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_the_loss_is_fp32_and_float64_stays(dtype: torch.dtype, expected: torch.dtype) -> None:
    hidden, weight, targets, _ = arguments(SMALL[1], dtype)
    loss = linear_cross_entropy(hidden, weight, targets)
    assert loss.dtype == expected
    assert torch.autograd.grad(loss, [hidden])[0].dtype == dtype


def test_large_logits_do_not_overflow() -> None:
    hidden, weight = torch.full((1, 1), 1e4), torch.tensor([[1.0], [-1.0]])
    assert linear_cross_entropy(hidden, weight, torch.tensor([0])).item() == 0
    assert linear_cross_entropy(hidden, weight, torch.tensor([1])).item() == 2e4


def test_no_rows_add_up_to_nothing() -> None:
    empty = torch.zeros(0, 4), torch.zeros(3, 4), torch.zeros(0, dtype=torch.int64)
    assert linear_cross_entropy(*empty, reduction="sum").item() == 0
    assert linear_cross_entropy(*empty, reduction="none").shape == (0,)


H, W, T = torch.zeros(2, 4), torch.zeros(3, 4), torch.zeros(2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("args", "more", "sentence"),
    [
        ((H[None], W, T), {}, r"expected hidden \[N, H\]"),
        ((H, W[:, :3], T), {}, "H differs: hidden has 4, weight 3"),
        ((H, W, T[:1]), {}, "N differs: hidden has 2, targets 1"),
        ((H, W.double(), T), {}, "must share a float dtype"),
        ((H.long(), W.long(), T), {}, "must share a float dtype"),
        ((H, W, T.int()), {}, "targets must be int64"),
        ((H, W.to("meta"), T), {}, "devices differ"),
        ((H, W.clone().requires_grad_(), T), {}, "weight must not require a gradient"),
        ((H, W, T), {"reduction": "median"}, "reduction must be one of mean, sum, none"),
        ((H, W, T), {"impl": "magic"}, "impl must be one of auto, reference, triton"),
    ],
)
def test_wrong_arguments_are_refused_in_words(args: Any, more: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        linear_cross_entropy(*args, **more)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_rows_in_chunks_give_what_they_give_at_once(
    dtype: torch.dtype, reduction: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, weight, targets, generator = arguments(SMALL[2], dtype)
    whole = linear_cross_entropy(hidden, weight, targets, reduction=reduction)
    upstream = torch.randn(whole.shape, generator=generator).to(whole.dtype)
    # 3 rows, 3 more, and the last one.
    monkeypatch.setattr(chunked, "LOGITS_BYTES", 3 * 4 * SMALL[2].V)
    parts = linear_cross_entropy(hidden, weight, targets, reduction=reduction)
    tolerance = TOLERANCES[dtype]
    torch.testing.assert_close(parts, whole, rtol=tolerance, atol=tolerance)
    (theirs,) = torch.autograd.grad(whole, [hidden], upstream)
    (ours,) = torch.autograd.grad(parts, [hidden], upstream)
    assert ours.dtype == dtype
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_chunks_without_a_gradient_take_none(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, targets, _ = arguments(SMALL[2], torch.float32)
    whole = linear_cross_entropy(hidden, weight, targets, reduction="none").detach()
    monkeypatch.setattr(chunked, "LOGITS_BYTES", 1)
    monkeypatch.setattr(torch.autograd, "grad", None)
    with torch.no_grad():
        torch.testing.assert_close(linear_cross_entropy(hidden, weight, targets, reduction="none"), whole)
    torch.testing.assert_close(linear_logprob(hidden, weight, targets), -whole)


def test_a_chunk_has_as_many_rows_as_there_is_memory_for(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, targets, _ = arguments(SMALL[2], torch.float32)
    definition, sizes = reference.linear_cross_entropy, []

    def watched(hidden_nH: torch.Tensor, *rest: Any) -> torch.Tensor:
        sizes.append(len(hidden_nH))
        return definition(hidden_nH, *rest)

    monkeypatch.setattr(reference, "linear_cross_entropy", watched)
    for logits_bytes in (7 * 4 * SMALL[2].V, 7 * 4 * SMALL[2].V - 1, 3 * 4 * SMALL[2].V):
        monkeypatch.setattr(chunked, "LOGITS_BYTES", logits_bytes)
        linear_cross_entropy(hidden, weight, targets)
    assert sizes == [7, 6, 1, 3, 3, 1]


def test_log_probabilities_are_those_of_the_softmax() -> None:
    hidden, weight, targets, _ = arguments(SMALL[3], torch.float64)
    logprobs = linear_logprob(hidden, weight, targets)
    expected = (hidden @ weight.T).softmax(-1)[torch.arange(len(targets)), targets].log()
    torch.testing.assert_close(logprobs, expected.detach())
    assert not logprobs.requires_grad


def test_every_case_has_a_reason() -> None:
    cases = (*SMALL, *REAL)
    assert all(case.reason for case in cases)
    assert len({str(case) for case in cases}) == len(cases)


def test_the_kernels_know_nothing_of_the_application_and_bring_triton_in_only_where_it_runs() -> None:
    code = (
        "import sys, torch, spt_kernels as k\n"
        "h = torch.ones(2, 3, requires_grad=True)\n"
        "k.linear_cross_entropy(h, torch.ones(5, 3), torch.tensor([0, 4])).backward()\n"
        "k.splice_embeds(torch.ones(5, 3), h, torch.tensor([[-2, 1]])).sum().backward()\n"
        "theirs = ('spt_fast', 'vllm', 'ray', 'transformers', 'datasets')\n"
        "print([m for m in sys.modules if m in theirs or m.startswith('spt_kernels') and m.endswith('triton')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
