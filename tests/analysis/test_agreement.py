"""Agreement of orders is what SciPy, counting and brute force give."""

from __future__ import annotations

import math
from itertools import combinations, permutations, product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from spt_fast.analysis.agreement import (
    agree,
    chance,
    mean_tau_b,
    measures,
    pair_signs,
    pair_weights,
    places,
    swap_distribution,
)

scores = st.lists(st.integers(0, 5), min_size=2, max_size=9)


@st.composite
def two_orders(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    x = draw(scores)
    return x, draw(st.lists(st.integers(0, 5), min_size=len(x), max_size=len(x)))


def bubble_sorted(x: list[float], y: list[float]) -> int:
    """Adjacent swaps that bubble sort makes to bring the order by x into the order by y; no ties."""
    row = [sorted(y).index(y[i]) for i in sorted(range(len(x)), key=x.__getitem__)]
    swaps = 0
    for end in range(len(row), 1, -1):
        for i in range(end - 1):
            if row[i] > row[i + 1]:
                row[i], row[i + 1] = row[i + 1], row[i]
                swaps += 1
    return swaps


@settings(deadline=None)
@given(two_orders())
def test_tau_b_and_spearman_are_scipys_ties_included(orders: tuple[list[int], list[int]]) -> None:
    x, y = orders
    found = agree(x, y)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert math.isnan(found.tau_b)
        assert math.isnan(found.spearman)
        return
    assert found.tau_b == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)


@settings(deadline=None)
@given(st.permutations(range(7)), st.permutations(range(7)))
def test_the_distance_is_the_swaps_of_bubble_sort(x: list[float], y: list[float]) -> None:
    found = agree(x, y)
    assert found.distance == bubble_sorted(x, y)
    assert found.tau_b == pytest.approx(1 - 2 * found.distance / found.most)


def broken(x: list[int]) -> list[list[float]]:
    """The scores with their ties broken in every way."""
    tied = [[i for i, other in enumerate(x) if other == value] for value in sorted(set(x))]
    ways = []
    for orders in product(*(permutations(range(len(group))) for group in tied)):
        way = [float(value) for value in x]
        for group, order in zip(tied, orders, strict=True):
            for i, place in zip(group, order, strict=True):
                way[i] += place / 100
        ways.append(way)
    return ways


def test_a_tie_in_one_order_counts_as_the_mean_over_all_ways_of_breaking_it() -> None:
    x, y = [3, 1, 1, 1, 0], [0.1, 0.5, 0.4, 0.2, 0.3]
    means = np.mean([bubble_sorted(way, y) for way in broken(x)])
    assert agree(x, y).distance == pytest.approx(means)


def test_no_order_of_names_breaks_a_tie() -> None:
    x, y = np.array([0.0, 0.0, 0.0, 1.0]), np.array([4.0, 3.0, 2.0, 1.0])
    first = agree(x, y)
    for order in permutations(range(4)):
        assert agree(x[list(order)], y[list(order)]) == first
    assert first.tied == 3
    assert first.truth_tied == 0


def test_means_over_seeds_that_differ_by_rounding_are_a_tie() -> None:
    assert agree([0.1 + 0.2, 0.3], [1, 2]).tied == 1
    assert places([0.1 + 0.2, 0.3, 0.5]) == [2, 2, 1]


@settings(deadline=None)
@given(two_orders())
def test_decisions_are_counted_pair_by_pair(orders: tuple[list[int], list[int]]) -> None:
    x, y = orders
    told = [(i, j) for i, j in combinations(range(len(x)), 2) if y[i] != y[j]]
    assume(told)
    right = [0.5 if x[i] == x[j] else float((x[i] > x[j]) == (y[i] > y[j])) for i, j in told]
    assert agree(x, y).decision_accuracy == pytest.approx(sum(right) / len(told))


def test_swaps_by_chance_are_what_all_permutations_give() -> None:
    counted = np.bincount([bubble_sorted(list(order), list(range(6))) for order in permutations(range(6))])
    assert swap_distribution(6) == pytest.approx(counted / counted.sum(), abs=1e-15)
    # Seven models, as arXiv 2606.12117 has them: the Mahonian numbers, OEIS A008302.
    assert swap_distribution(7)[:8] * 5040 == pytest.approx([1, 6, 20, 49, 98, 169, 259, 359])


def test_chance_without_ties_is_scipys_exact_test() -> None:
    generator = np.random.default_rng(0)
    for n in (4, 7, 12, 30):
        x, y = generator.permutation(n), generator.permutation(n)
        expected = stats.kendalltau(x, y, method="exact", alternative="greater").pvalue
        found = chance(x, y)
        assert found.p == pytest.approx(expected, rel=1e-6)
        assert (found.how, found.distance) == ("exact", n * (n - 1) / 4)


def test_chance_with_ties_goes_through_all_orders_of_a_few_models_and_draws_those_of_many() -> None:
    x, y = [0, 0, 1, 2, 2, 3], [1, 0, 2, 2, 3, 4]
    observed = stats.kendalltau(x, y).statistic
    all_of_them = [stats.kendalltau(order, y).statistic for order in permutations(x)]
    found = chance(x, y)
    assert found.how == "exact"
    assert found.p == pytest.approx(np.mean([tau >= observed - 1e-12 for tau in all_of_them]))
    many = chance(x * 3, y * 3)
    assert many.how == "permutations"
    assert 0 < many.p < 0.001


def test_resamples_of_models_are_the_orders_of_the_models_that_were_drawn() -> None:
    generator = np.random.default_rng(1)
    x, y = generator.integers(0, 6, 8).astype(float), generator.integers(0, 6, 8).astype(float)
    drawn = generator.integers(0, 8, (20, 8))
    counts = np.array([np.bincount(row, minlength=8) for row in drawn], np.float32)
    found = measures(x[None], y[None], counts)
    for r, row in enumerate(drawn):
        assert found.spearman[r] == pytest.approx(stats.spearmanr(x[row], y[row]).statistic, abs=1e-9)
        pairs = [(i, j) for i, j in combinations(row, 2) if i != j]
        signs = [(np.sign(x[i] - x[j]), np.sign(y[i] - y[j])) for i, j in pairs]
        tau = sum(a * b for a, b in signs) / math.sqrt(sum(a * a for a, _ in signs) * sum(b * b for _, b in signs))
        assert found.tau_b[r] == pytest.approx(tau, abs=1e-6)


def test_the_mean_over_pairs_of_orders_is_the_mean_of_scipys() -> None:
    generator = np.random.default_rng(2)
    orders = generator.integers(0, 9, (5, 11)).astype(float)
    taus = [stats.kendalltau(one, other).statistic for one, other in combinations(orders, 2)]
    signs = pair_signs(orders)
    assert mean_tau_b(signs) == pytest.approx(np.mean(taus), abs=1e-6)
    assert mean_tau_b(signs, np.full(signs.shape[1], 3.0)) == pytest.approx(np.mean(taus), abs=1e-6)
    constant = np.vstack([signs, np.zeros_like(signs[:1])])
    assert mean_tau_b(constant) == pytest.approx(np.mean(taus), abs=1e-6), "one that ties everything is left out"
    assert math.isnan(mean_tau_b(signs[:1]))


def test_a_model_makes_no_pair_with_itself() -> None:
    assert pair_weights(np.array([3, 0, 2])).tolist() == [0.0, 6.0, 0.0]


@pytest.mark.parametrize(("x", "y"), [([1], [1]), ([1, 2], [1, 2, 3]), ([1, math.nan], [1, 2])])
def test_what_is_no_pair_of_orders_is_refused(x: list[float], y: list[float]) -> None:
    with pytest.raises(ValueError, match="equal length"):
        agree(x, y)
