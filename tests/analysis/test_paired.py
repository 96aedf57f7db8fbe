"""Paired differences: SciPy's tests where it has them, maximum likelihood done anew, and rates in simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from spt_fast.analysis.paired import bootstrap, paired_difference, score_limits
from spt_fast.analysis.plain import plain_values


def verdicts(gained: int, lost: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    before = np.array([0.0] * gained + [1.0] * lost + [0.0] * (n - gained - lost))
    after = np.array([1.0] * gained + [0.0] * lost + [0.0] * (n - gained - lost))
    return before, after


def score_statistic(gained: int, lost: int, n: int, difference: float) -> float:
    """Tango's statistic, the constrained likelihood maximised by SciPy instead of by the formula."""

    def loss(p_lost: float) -> float:
        p_gained, rest = p_lost + difference, 1 - 2 * p_lost - difference
        return -(gained * math.log(p_gained) + lost * math.log(p_lost) + (n - gained - lost) * math.log(rest))

    low, high = max(0.0, -difference), (1 - difference) / 2
    best = optimize.minimize_scalar(loss, bounds=(low + 1e-12, high - 1e-12), method="bounded", options={"xatol": 1e-12}).x
    return (gained - lost - n * difference) / math.sqrt(n * (2 * best + difference - difference**2))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(61, 400))
def test_the_ends_of_the_score_interval_are_where_the_score_test_turns(gained: int, lost: int, n: int) -> None:
    low, high = score_limits(gained, lost, n, 1.959964)
    assert score_statistic(gained, lost, n, low) == pytest.approx(1.959964, abs=2e-3)
    assert score_statistic(gained, lost, n, high) == pytest.approx(-1.959964, abs=2e-3)


def test_where_no_row_flipped_the_interval_is_not_empty() -> None:
    low, high = score_limits(0, 0, 50, 1.96)
    assert (low, high) == pytest.approx((-(1.96**2) / (50 + 1.96**2), 1.96**2 / (50 + 1.96**2)))
    found = paired_difference(*verdicts(0, 0, 50))
    assert (found.p, found.p_drop) == (1.0, pytest.approx(0.5))
    assert math.isnan(found.detectable())
    assert found.interval.high == pytest.approx(high, abs=1e-4)


def test_all_rows_flipped() -> None:
    found = paired_difference(*verdicts(20, 0, 20))
    assert found.change == 1.0
    assert found.interval.high == 1.0
    assert 0.6 < found.interval.low < 0.9


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 30), st.integers(0, 30))
def test_verdicts_of_one_seed_are_tested_by_mcnemar(gained: int, lost: int) -> None:
    found = paired_difference(*verdicts(gained, lost, 100), resamples=0)
    assert found.test == "McNemar"
    assert found.p == pytest.approx(stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0)
    assert found.design_effect == pytest.approx(1.0)
    assert found.p_drop == pytest.approx(stats.norm.cdf((gained - lost) / math.sqrt(max(1, gained + lost))))


def test_the_standard_error_is_that_of_a_paired_t_test() -> None:
    generator = np.random.default_rng(0)
    before, after = generator.random(80), generator.random(80)
    found = paired_difference(before, after)
    expected = stats.ttest_rel(after, before)
    assert found.change / found.stderr == pytest.approx(expected.statistic)
    assert found.test == "score", "scores are no verdicts"


@pytest.mark.parametrize("shape", [(1, 60), (3, 40)])
def test_the_bootstrap_by_kinds_of_rows_is_the_bootstrap_row_by_row(shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(1)
    change = generator.integers(-1, 2, shape).astype(float)
    of = generator.integers(0, 25, shape[1])
    of = np.unique(of, return_inverse=True)[1]
    fast = bootstrap(change, of, resamples=2000)
    slow = []
    for _ in range(2000):
        rows = np.concatenate([np.flatnonzero(of == g) for g in generator.integers(0, of.max() + 1, of.max() + 1)])
        slow.append(change[generator.integers(0, shape[0], shape[0])][:, rows].mean())
    assert np.mean(fast) == pytest.approx(np.mean(slow), abs=0.01)
    assert np.std(fast) == pytest.approx(np.std(slow), rel=0.08)
    assert np.quantile(fast, [0.05, 0.95]) == pytest.approx(np.quantile(slow, [0.05, 0.95]), abs=0.03)


def test_the_bootstrap_interval_is_scipys() -> None:
    before, after = verdicts(30, 12, 200)
    expected = stats.bootstrap((after - before,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(2))
    found = paired_difference(before, after, resamples=4000).bootstrap
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.011)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.011)


def test_the_interval_of_one_seed_holds_the_truth_as_often_as_it_says_also_where_little_flips() -> None:
    generator = np.random.default_rng(3)
    for n, gains, losses in ((60, 0.01, 0.02), (200, 0.1, 0.15), (1000, 0.002, 0.001)):
        counts, often = np.unique(
            generator.multinomial(n, [gains, losses, 1 - gains - losses], 4000), axis=0, return_counts=True
        )
        limits = np.array([score_limits(gained, lost, n, 1.96) for gained, lost, _ in counts.tolist()])
        held = (limits[:, 0] <= gains - losses) & (gains - losses <= limits[:, 1])
        assert np.average(held, weights=often) >= 0.93


@pytest.mark.parametrize(("seeds", "between", "shared"), [(1, 0.0, 0.3), (3, 0.0, 0.0), (3, 0.02, 0.0), (3, 0.02, 0.3)])
def test_with_passages_and_seeds_it_still_does(seeds: int, between: float, shared: float) -> None:
    """`shared`: how much of a row's fate is its passage's; `between`: standard deviation of what a seed does."""
    generator = np.random.default_rng(4)
    of, held = np.repeat(np.arange(80), 5), []
    for _ in range(150):
        luck = np.where(generator.random(400) < shared, generator.random(80)[of], generator.random(400))
        chance = np.clip(0.55 + generator.normal(0, between, (seeds, 1)), 0, 1)
        before = np.tile(luck < 0.6, (seeds, 1))
        after = np.where(generator.random((seeds, 400)) < 0.3, generator.random((seeds, 400)) < chance, luck < chance)
        found = paired_difference(before, after, of, resamples=0).interval
        held.append(found.low <= -0.05 <= found.high)
    assert np.mean(held) >= 0.91


def test_rows_of_a_passage_are_worth_less() -> None:
    before, after = verdicts(30, 10, 200)
    alone = paired_difference(before, after)
    together = paired_difference(before, after, np.arange(200) // 10)
    assert together.clusters == 20
    assert together.design_effect > 3
    assert together.interval.high - together.interval.low > 1.5 * (alone.interval.high - alone.interval.low)
    assert together.p > alone.p
    one = paired_difference(before, after, np.zeros(200, np.int64))
    assert (one.interval.low, one.interval.high, one.p, one.p_drop) == (-1.0, 1.0, 1.0, 1.0)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 15), st.integers(0, 15), st.integers(1, 3), st.integers(1, 4))
def test_the_one_sided_test_and_the_bound_say_the_same(gained: int, lost: int, seeds: int, size: int) -> None:
    before, after = (np.tile(each, (seeds, 1)) for each in verdicts(gained, lost, 60))
    found = paired_difference(before, after, np.arange(60) // size, resamples=0)
    high = found.limits(0.9).high
    if abs(high) > 1e-9:
        assert (found.p_drop < 0.05) == (high < 0)


def test_a_change_that_is_the_same_for_all_rows_has_an_interval() -> None:
    found = paired_difference(np.tile([[0.0], [0.0]], (1, 30)), np.tile([[1.0], [0.0]], (1, 30)))
    assert found.interval.low < 0.5 < found.interval.high
    inside = paired_difference(*verdicts(1, 1, 60), np.arange(60) // 2)
    assert inside.interval.high > 0.02, "a gain and a loss within one passage cancel, and are not for nothing"


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="same shape"):
        paired_difference(np.zeros((2, 3)), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="same shape"):
        paired_difference(np.zeros(0), np.zeros(0))


def test_a_difference_is_plain_json_with_what_is_derived_from_it() -> None:
    plain = plain_values(paired_difference(*verdicts(3, 1, 20), resamples=0))
    assert plain["change"] == pytest.approx(0.1)
    assert plain["degrees_of_freedom"] is None, "no number of JSON is infinite"
    assert plain["bootstrap"]["low"] is None
    assert plain["interval"]["level"] == 0.95
