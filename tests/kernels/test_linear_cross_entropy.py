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


def cut(monkeypatch: pytest.MonkeyPatch, case: Case, itemsize: int, columns: int, rows: int = 4096) -> None:
    """Chunks of so many columns of the logits, and of so many rows."""
    monkeypatch.setattr(chunked, "ROWS", rows)
    monkeypatch.setattr(chunked, "CACHED_BYTES", columns * (4 * min(rows, case.N) + case.H * itemsize))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_the_vocabulary_in_chunks_gives_what_it_gives_at_once(
    dtype: torch.dtype, reduction: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The greatest logit comes first, last and in between; chunks and rows do not divide what there is."""
    case = SMALL[2]
    hidden, weight, targets, generator = arguments(case, dtype)
    hidden = (30 * hidden).detach().requires_grad_(True)
    whole = linear_cross_entropy(hidden, weight, targets, reduction=reduction)
    upstream = torch.randn(whole.shape, generator=generator).to(whole.dtype)
    (theirs,) = torch.autograd.grad(whole, [hidden], upstream)
    for columns, rows in ((1, 4096), (100, 4096), (100, 3), (case.V - 1, 7), (case.V, 6)):
        cut(monkeypatch, case, dtype.itemsize, columns, rows)
        parts = linear_cross_entropy(hidden, weight, targets, reduction=reduction)
        (ours,) = torch.autograd.grad(parts, [hidden], upstream)
        tolerance = TOLERANCES[dtype]
        torch.testing.assert_close(parts, whole, rtol=tolerance, atol=tolerance)
        assert (ours.dtype, parts.dtype) == (dtype, whole.dtype)
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_chunks_in_bfloat16_are_no_farther_from_the_truth_than_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of a model that is sure of its answers too, where a probability is one less a small number."""
    case = Case(N=32, H=64, V=4096, reason="as many chunks as matter")
    for sureness in (0.0, 1.0):
        hidden, weight, targets, _ = arguments(case, torch.bfloat16)
        hidden = (hidden.detach() + 14 * sureness * weight[targets]).requires_grad_(True)
        exact = hidden.detach().double().requires_grad_(True)
        (truth,) = torch.autograd.grad(linear_cross_entropy(exact, weight.double(), targets), [exact])
        (whole,) = torch.autograd.grad(reference.linear_cross_entropy(hidden, weight, targets, "mean"), [hidden])
        cut(monkeypatch, case, 2, 300)
        (parts,) = torch.autograd.grad(linear_cross_entropy(hidden, weight, targets), [hidden])
        assert (parts - truth).norm() <= 1.25 * (whole - truth).norm()


def test_large_logits_do_not_overflow_in_chunks_either(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight = torch.full((2, 1), 1e4), torch.tensor([[-1.0], [1.0], [-1.0]])
    monkeypatch.setattr(chunked, "CACHED_BYTES", 1)
    losses = linear_cross_entropy(hidden, weight, torch.tensor([1, 2]), reduction="none")
    assert losses.tolist() == [0, 2e4]


def test_chunks_without_a_gradient_take_none(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, targets, _ = arguments(SMALL[2], torch.float32)
    whole = linear_cross_entropy(hidden, weight, targets, reduction="none").detach()
    cut(monkeypatch, SMALL[2], 4, 100)
    monkeypatch.setattr(chunked._Sums, "gradient", None)
    with torch.no_grad():
        torch.testing.assert_close(linear_cross_entropy(hidden, weight, targets, reduction="none"), whole)
    torch.testing.assert_close(linear_logprob(hidden, weight, targets), -whole)


@pytest.mark.parametrize(
    ("columns", "rows", "shapes"), [(257, 7, []), (256, 7, [256, 1]), (100, 7, [100, 100, 57]), (257, 4, [257] * 2)]
)
def test_a_chunk_is_what_there_is_room_for_and_one_chunk_is_the_definition(
    columns: int, rows: int, shapes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    case, taken = SMALL[2], []
    hidden, weight, targets, _ = arguments(case, torch.float32)
    add = chunked._Sums.add

    def watched(sums: Any, weight_vH: torch.Tensor, begin: int) -> None:
        taken.append(len(weight_vH))
        add(sums, weight_vH, begin)

    monkeypatch.setattr(chunked._Sums, "add", watched)
    cut(monkeypatch, case, 4, columns, rows)
    loss = linear_cross_entropy(hidden, weight, targets)
    assert taken == shapes
    assert torch.equal(loss, reference.linear_cross_entropy(hidden, weight, targets, "mean")) or shapes


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
