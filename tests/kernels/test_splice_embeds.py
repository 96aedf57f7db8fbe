"""splice_embeds: the definition is right, and wrong arguments are refused in words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from spt_kernels import splice_embeds
from spt_kernels.splice_embeds.cases import REAL, SMALL, Case

TABLE = torch.arange(5.0).expand(3, 5).T.contiguous()
"""Row v is filled with v."""
VECTORS = torch.tensor([[0.25] * 3, [0.5] * 3])


def test_rows_are_the_tables_and_negative_ids_are_vectors() -> None:
    spliced = splice_embeds(TABLE, VECTORS, torch.tensor([[~0, ~1, 4, 0], [2, ~0, ~1, 3]]))
    assert spliced[..., 0].tolist() == [[0.25, 0.5, 4.0, 0.0], [2.0, 0.25, 0.5, 3.0]]
    assert spliced.shape == (2, 4, 3)


def test_any_shape_of_ids_will_do() -> None:
    ids = torch.tensor([1, -2, 2])
    assert splice_embeds(TABLE, VECTORS, ids)[:, 0].tolist() == [1.0, 0.5, 2.0]
    assert splice_embeds(TABLE, VECTORS, ids[:0]).shape == (0, 3)
    assert splice_embeds(TABLE, VECTORS, ids[None, None]).shape == (1, 1, 3, 3)
    assert torch.equal(splice_embeds(TABLE, VECTORS[:0], ids.abs()), TABLE[ids.abs()])


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_the_gradient_is_the_sum_over_all_places_of_a_vector(case: Case) -> None:
    generator = torch.Generator().manual_seed(0)
    table_VH = torch.randn(50, case.H, generator=generator, dtype=torch.float64)
    vectors_PH = torch.randn(case.P * case.prompts, case.H, generator=generator, dtype=torch.float64, requires_grad=True)
    ids = case.ids(50, generator)
    upstream = torch.randn(*ids.shape, case.H, generator=generator, dtype=torch.float64)
    (gradient_PH,) = torch.autograd.grad(splice_embeds(table_VH, vectors_PH, ids), [vectors_PH], upstream)
    by_hand = torch.stack([upstream[ids == ~p].sum(0) for p in range(len(vectors_PH))])
    torch.testing.assert_close(gradient_PH, by_hand)


def test_the_gradient_is_that_of_finite_differences() -> None:
    vectors_PH = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([[~0, 1, ~1], [~1, ~1, 2]])
    assert torch.autograd.gradcheck(lambda v: splice_embeds(TABLE.double(), v, ids), [vectors_PH])


def test_vectors_are_rounded_where_they_enter_and_their_gradient_is_not() -> None:
    table_VH = torch.zeros(1, 1, dtype=torch.bfloat16)
    vectors_PH = torch.tensor([[1.0 + 2**-9]], requires_grad=True)
    spliced = splice_embeds(table_VH, vectors_PH, torch.full((257, 1), ~0))
    assert spliced.dtype == torch.bfloat16
    assert spliced[0].item() == 1.0
    # bfloat16 has no 257.
    (gradient_PH,) = torch.autograd.grad(spliced, [vectors_PH], torch.ones_like(spliced))
    assert gradient_PH.item() == 257.0


def test_every_case_has_a_reason_and_its_vectors_behind_its_head() -> None:
    cases = (*SMALL, *REAL)
    assert all(case.reason for case in cases)
    for case in cases:
        ids = case.ids(7, torch.Generator().manual_seed(0))
        assert ids.shape == (case.B, case.P + case.T)
        assert bool((ids[:, case.head : case.head + case.P] < 0).all())
        assert int((ids < 0).sum()) == case.B * case.P
        assert int(ids.min()) == -case.P * case.prompts


IDS = torch.zeros(2, 3, dtype=torch.int64)


@pytest.mark.parametrize(
    ("args", "more", "sentence"),
    [
        ((TABLE[0], VECTORS, IDS), {}, r"expected table \[V, H\] and vectors \[P, H\]"),
        ((TABLE, VECTORS[:, :2], IDS), {}, r"got \[5, 3\] and \[2, 2\]"),
        ((TABLE.long(), VECTORS, IDS), {}, "must be of float dtypes"),
        ((TABLE, VECTORS, IDS.int()), {}, "ids must be int64"),
        ((TABLE, VECTORS.to("meta"), IDS), {}, "devices differ"),
        ((TABLE.clone().requires_grad_(), VECTORS, IDS), {}, "table must not require a gradient"),
        ((TABLE, VECTORS, IDS), {"impl": "magic"}, "impl must be one of auto, reference, triton"),
    ],
)
def test_wrong_arguments_are_refused_in_words(args: tuple[Tensor, Tensor, Tensor], more: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        splice_embeds(*args, **more)
