"""A library's own metrics beside ours: its values, with intervals that say nothing impossible."""

from __future__ import annotations

import pytest

from spt_fast.scoring.library import with_metrics
from spt_fast.scoring.statistics import wilson
from spt_fast.types import Metric, Sample


def sample(score: float) -> Sample:
    return Sample(
        example="e",
        step=None,
        prompt="p",
        completion="c",
        finish_reason="stop",
        target="t",
        extracted=None,
        rule=None,
        format_ok=True,
        knows=True,
        correct=True,
        scores={"lm_eval/acc": score},
    )


def own(value: float, n: int) -> Metric:
    """As a library has it: the normal interval."""
    return Metric(name="lm_eval/acc", value=value, n=n, stderr=0.25, ci_low=value - 0.49, ci_high=value + 0.49)


@pytest.mark.parametrize(
    ("scores", "low", "high"),
    [
        ([1.0, 1.0, 1.0, 0.0, 0.0], *wilson(3, 5)),  # verdicts
        ([0.9, 0.8, 1.0, 0.7, 0.6], 0.8 - 0.49, 1.0),  # shares
        ([1.0, 1.0, 0.0, 0.0, 0.0], 0.6 - 0.49, 0.6 + 0.49),  # no mean of these: the library's own
    ],
)
def test_an_interval_of_a_librarys_mean_stays_where_a_mean_can_be(scores: list[float], low: float, high: float) -> None:
    value = 0.8 if 0.9 in scores else 0.6
    (found,) = (m for m in with_metrics([sample(s) for s in scores], [own(value, 5)]) if m.name == "lm_eval/acc")
    assert (found.value, found.stderr) == (value, 0.25)
    assert (found.ci_low, found.ci_high) == pytest.approx((low, high))
