"""What is told of rows that were asked twice is what differs between the two answers, and nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest
from scipy.stats import binomtest

from spt_fast.scoring.rerun import FLIPS, Rerun, flip_rate, rerun_of, sample_size
from spt_fast.types import Sample


def sample(example: str, completion: str = "A", *, right: bool = True, logprobs: tuple[float, ...] = ()) -> Sample:
    return Sample(
        example=example,
        step=None,
        prompt="p",
        completion=completion,
        finish_reason="stop",
        target="A",
        extracted=None,
        rule=None,
        format_ok=True,
        knows=right,
        correct=right,
        option_logprobs=logprobs,
    )


def row(example: str, completion: str = "A", *, right: bool = True, logprobs: tuple[float, ...] = ()) -> dict[str, Any]:
    verdicts = {"format_ok": True, "knows": right, "correct": right}
    return {"example": example, "completion": completion, **verdicts, "option_logprobs": list(logprobs)}


def test_a_completion_and_the_verdicts_on_it_flip_each_for_itself() -> None:
    before = [row("a"), row("b"), row("c", "B", right=False), row("not asked again")]
    found = rerun_of(before, [sample("a"), sample("b", "A.", right=True), sample("c", "A", right=True)], share=0.5)
    assert found.n == 3
    assert found.flips == {"completion": 2, "format_following": 0, "knowledge": 1, "exact_match": 1}
    assert [(each.example, each.what, each.before, each.after) for each in found.flipped] == [
        ("b", ("completion",), "A", "A."),
        ("c", ("completion", "knowledge", "exact_match"), "B", "A"),
    ]


def test_the_largest_difference_of_log_likelihoods_leaves_out_what_is_infinite() -> None:
    before = [row("a", logprobs=(-1.0, -2.0)), row("b", logprobs=(-math.inf, -3.0))]
    found = rerun_of(before, [sample("a", logprobs=(-1.25, -2.0)), sample("b", logprobs=(-math.inf, -3.125))], share=1)
    assert found.largest_difference == 0.25
    assert math.isnan(rerun_of([row("a")], [sample("a")], share=1).largest_difference)


def test_only_so_many_flipped_rows_are_kept_and_all_are_counted() -> None:
    before = [row(f"{i:02}") for i in range(30)]
    found = rerun_of(before, [sample(f"{i:02}", "B") for i in reversed(range(30))], share=1, most=3)
    assert found.flips["completion"] == 30
    assert [each.example for each in found.flipped] == ["00", "01", "02"]


def test_a_lone_surrogate_is_compared_as_the_store_keeps_it() -> None:
    assert rerun_of([row("a", "?")], [sample("a", "\ud800")], share=1).flips["completion"] == 0


@pytest.mark.parametrize(("rows", "share", "size"), [(1000, 0.02, 20), (1001, 0.02, 21), (3, 0.02, 1), (100, 0.07, 7)])
def test_the_share_of_rows_is_rounded_up(rows: int, share: float, size: int) -> None:
    assert sample_size(rows, share) == size


def test_the_rate_over_cells_has_scipys_wilson_interval() -> None:
    reruns = [Rerun(share=0.02, n=n, flips={**dict.fromkeys(FLIPS, 0), "completion": k}) for n, k in ((20, 1), (30, 3))]
    rate = flip_rate(reruns, "completion")
    expected = binomtest(4, 50).proportion_ci(0.95, method="wilson")
    assert (rate.value, rate.n) == (0.08, 50)
    assert (rate.ci_low, rate.ci_high) == pytest.approx((expected.low, expected.high))
