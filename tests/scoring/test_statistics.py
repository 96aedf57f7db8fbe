"""Our formulas give what SciPy gives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import binomtest

from spt_fast.scoring.statistics import (
    Z_95,
    Paired,
    holm,
    holm_adjusted,
    mcnemar_exact,
    mean,
    paired,
    proportion,
    saturation_step,
    wilson,
)
from spt_fast.types import Metric


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int]:
    n = draw(st.integers(1, 20_000))
    return draw(st.integers(0, n)), n


@settings(deadline=None)
@given(counts())
def test_the_wilson_interval_is_scipys(count: tuple[int, int]) -> None:
    successes, n = count
    expected = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert wilson(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(counts())
def test_an_interval_holds_its_value_and_stays_within_0_and_1(count: tuple[int, int]) -> None:
    successes, n = count
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert low < high


def test_an_interval_at_the_ends_is_not_empty() -> None:
    assert wilson(0, 20) == (0.0, pytest.approx(0.1611, abs=1e-4))
    assert wilson(20, 20) == (pytest.approx(0.8389, abs=1e-4), 1.0)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 300), st.integers(0, 300))
def test_the_exact_mcnemar_test_is_the_binomial_test(b: int, c: int) -> None:
    expected = binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert mcnemar_exact(b, c) == pytest.approx(expected, rel=1e-9)
    assert mcnemar_exact(b, c) == mcnemar_exact(c, b)


def test_the_mcnemar_test_takes_thousands_of_pairs() -> None:
    assert mcnemar_exact(7000, 7042) == pytest.approx(binomtest(7000, 14042, 0.5).pvalue, rel=1e-9)
    assert mcnemar_exact(0, 14042) == 0.0 or mcnemar_exact(0, 14042) < 1e-300


def test_a_proportion_carries_its_n_and_error() -> None:
    metric = proportion("knowledge", [True, False, True, True])
    assert (metric.name, metric.n, metric.value) == ("knowledge", 4, 0.75)
    assert metric.stderr == pytest.approx(math.sqrt(0.75 * 0.25 / 4))
    assert (metric.ci_low, metric.ci_high) == wilson(3, 4)


def test_a_proportion_of_nothing_is_nan_with_n_0() -> None:
    metric = proportion("knowledge", [])
    assert metric.n == 0
    assert all(math.isnan(value) for value in (metric.value, metric.stderr, metric.ci_low, metric.ci_high))


def test_pairs_are_made_by_example() -> None:
    before = {"a": True, "b": False, "c": False, "only before": True}
    after = {"c": True, "b": True, "a": False, "only after": True}
    assert paired(before, after) == Paired(n=3, gained=2, lost=1)
    assert paired(before, after).change == pytest.approx(1 / 3)
    assert paired(before, after).p == 1.0
    assert math.isnan(paired({}, after).change)


@pytest.mark.parametrize(
    ("p_values", "significant"),
    [([], 0), ([0.04], 1), ([0.04, 0.04], 0), ([0.01, 0.04], 2), ([0.03, 0.001, 0.9], 1), ([0.06], 0)],
)
def test_holm_counts_what_is_significant_together(p_values: list[float], significant: int) -> None:
    assert holm(p_values) == significant


def curve(*values: float, n: int = 100) -> dict[int, Metric]:
    return {20 * i: proportion("format_following", [j < v * n for j in range(n)]) for i, v in enumerate(values)}


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ((0.0, 0.5, 0.97, 1.0, 1.0), 40),
        ((0.0, 1.0, 0.5, 1.0), 60),  # it came, and went again
        ((1.0, 1.0), 0),
        ((0.3,), 0),
        ((0.0, 0.5), 20),
    ],
)
def test_a_curve_is_settled_from_where_it_stays_in_the_last_interval(values: tuple[float, ...], step: int) -> None:
    assert saturation_step(curve(*values)) == step


def test_a_curve_without_an_end_is_never_settled() -> None:
    assert saturation_step({}) is None
    assert saturation_step({0: proportion("format_following", [])}) is None


@given(st.lists(st.floats(0, 1), min_size=2, max_size=50))
def test_a_mean_has_scipys_standard_error_and_normal_interval(values: list[float]) -> None:
    found = mean("f1", values)
    assert found.value == pytest.approx(np.mean(values))
    assert found.stderr == pytest.approx(stats.sem(values), abs=1e-12)
    low, high = found.value - Z_95 * found.stderr, found.value + Z_95 * found.stderr
    assert (found.ci_low, found.ci_high) == (pytest.approx(max(0, low)), pytest.approx(min(1, high)))
    assert pytest.approx(stats.norm.ppf(0.975)) == Z_95


@pytest.mark.parametrize("values", [[], [0.5]], ids=["none", "one"])
def test_a_mean_of_too_few_values_has_no_standard_error(values: list[float]) -> None:
    found = mean("f1", values)
    assert found.n == len(values)
    assert math.isnan(found.stderr)
    assert (found.ci_low, found.ci_high) == (0.0, 1.0)


def test_holms_adjusted_p_values_are_those_of_rs_p_adjust() -> None:
    assert holm_adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm_adjusted([0.6, 0.5]) == [1.0, 1.0]
    assert holm_adjusted([]) == []


@given(st.lists(st.floats(0, 1), max_size=12), st.sampled_from([0.01, 0.05, 0.1]))
def test_as_many_adjusted_p_values_are_within_a_level_as_holm_finds(p_values: list[float], level: float) -> None:
    adjusted = holm_adjusted(p_values)
    assert sum(p <= level for p in adjusted) == holm(p_values, level)
    assert all(found >= p for found, p in zip(adjusted, p_values, strict=True))
