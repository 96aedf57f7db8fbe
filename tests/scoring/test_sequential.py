"""What is said while rows are asked holds at every look; and is said soon."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from spt_fast.scoring.sequential import (
    ANY,
    LOOKS,
    MOST_STAKED,
    PRIOR_ROWS,
    Change,
    Drop,
    Floats,
    Stream,
    Walk,
    asking_order,
    of_rows,
)
from spt_fast.scoring.stopping import WIDE

ALPHA, LARGEST = 0.05, 0.02
LOOK = np.arange(99, 1000, 50)
"""Rounds after which one looks."""


def verdicts(generator: np.random.Generator, rows: int, mean: float) -> Stream:
    values = (generator.random(rows) < mean).astype(float)
    return of_rows(values, keys(rows), rows=rows, in_all=rows, largest=1, paired=False)


def flips(generator: np.random.Generator, rows: int, drop: float, by_chance: float = 0.06) -> Stream:
    """A less B of rows of which some flip by chance, either way alike, and `drop` more are lost."""
    draw = generator.random(rows)
    lost, gained = by_chance / 2 + drop, by_chance / 2
    values = np.where(draw < lost, 1.0, np.where(draw < lost + gained, -1.0, 0.0))
    return of_rows(values, keys(rows), rows=rows, in_all=rows, largest=1, paired=True)


def keys(rows: int) -> list[str]:
    return [f"{i:06}" for i in range(rows)]


def ever(walk: Walk, null: float, distances: Sequence[float], *, above: bool) -> float:
    """The smallest p-value of all looks."""
    wealth = walk.log_wealth(null, distances, above=above)[LOOK]
    return math.exp(-max(0.0, float(wealth.max())))


def at_most(share: float, of: int) -> float:
    """How often something of this probability may happen in a test that is to pass 999 times in 1,000."""
    return float(stats.binom.ppf(0.999, of, share)) / of


@pytest.mark.parametrize(("mean", "distances"), [(0.05, ANY), (0.4, ANY), (0.9, ANY), (0.9, WIDE), (0.97, WIDE)])
def test_a_mean_is_inside_its_interval_at_every_look(mean: float, distances: Sequence[float]) -> None:
    generator = np.random.default_rng(1)
    missed = 0
    for _ in range(250):
        walk = Walk([verdicts(generator, 1000, mean)])
        missed += any(ever(walk, mean, distances, above=above) <= ALPHA / 2 for above in (True, False))
    assert missed / 250 <= at_most(ALPHA, 250)


@pytest.mark.parametrize(("drop", "passes", "fails"), [(0.0, None, ALPHA), (LARGEST, ALPHA, 0.5), (0.05, ALPHA, None)])
def test_a_wrong_answer_at_any_look_is_as_rare_as_the_policy_says(
    drop: float, passes: float | None, fails: float | None
) -> None:
    generator = np.random.default_rng(2)
    passed = failed = 0
    for _ in range(400):
        found = Drop(walk=Walk([flips(generator, 1000, drop)]), largest=LARGEST)
        passed += found.p_of_more <= ALPHA
        failed += found.p_of_none <= ALPHA and found.p_of_less <= 0.5
    assert passes is None or passed / 400 <= at_most(passes, 400)
    assert fails is None or failed / 400 <= at_most(fails, 400)
    # And right answers are given.
    assert passes is not None or passed / 400 > 0.5
    assert fails is not None or failed / 400 > 0.9


def test_the_mean_over_tasks_may_drop_in_one_of_them_alone() -> None:
    generator = np.random.default_rng(3)
    passed = sum(
        Drop(
            walk=Walk([flips(generator, rows, 4 * LARGEST * (i == 0)) for i, rows in enumerate((150, 400, 230, 150))]),
            largest=LARGEST,
        ).p_of_more
        <= ALPHA
        for _ in range(300)
    )
    assert passed / 300 <= at_most(ALPHA, 300)


def test_a_mean_over_tasks_is_known_after_as_many_rows_as_one_task() -> None:
    generator = np.random.default_rng(4)

    def rows_until_passed(tasks: int) -> float:
        walk = Walk([flips(generator, 4000 // tasks, 0.0) for _ in range(tasks)])
        wealth = walk.log_wealth(LARGEST, (0.7 * LARGEST, 1.4 * LARGEST), above=False)
        return float(np.argmax(wealth >= -math.log(ALPHA)) + 1) * tasks

    one, ten = (np.median([rows_until_passed(tasks) for _ in range(40)]) for tasks in (1, 10))
    assert ten / one == pytest.approx(1, abs=0.3)


def by_hand(values: Floats, null: float, distances: Sequence[float], sign: float) -> float:
    """The largest W of any row, row by row."""
    stakes, best = [1.0 / len(distances)] * len(distances), 0.0
    mean, squares, seen = 0.0, PRIOR_ROWS * 0.08, PRIOR_ROWS
    for value in values.tolist():
        variance = squares / seen
        for i, distance in enumerate(distances):
            bet = min(distance / (variance + distance**2), MOST_STAKED / (sign * null + 1))
            stakes[i] *= 1 + bet * sign * (value - null)
        best = max(best, sum(stakes))
        squares += (value - mean) ** 2
        mean = (mean * seen + value) / (seen + 1)
        seen += 1
    return best


def test_bounds_are_those_of_a_grid_of_means_with_every_bet_by_hand() -> None:
    stream = flips(np.random.default_rng(5), 300, 0.03)
    walk = Walk([stream])
    grid = np.linspace(-0.2, 0.2, 401)
    for above, sign in ((True, 1.0), (False, -1.0)):
        kept = [mean for mean in grid if by_hand(stream.values, mean, ANY, sign) < 1 / ALPHA]
        end = min(kept) if above else max(kept)
        assert walk.bound(ALPHA, ANY, above=above) == pytest.approx(end, abs=0.0011)


def test_bounds_and_p_values_say_the_same() -> None:
    walk = Walk([flips(np.random.default_rng(6), 500, 0.01)])
    nulls = np.linspace(-0.3, 0.3, 61)
    for above in (True, False):
        found = [walk.p(float(null), ANY, above=above) for null in nulls]
        assert found == sorted(found, reverse=not above)
        end = walk.bound(ALPHA, ANY, above=above)
        side = 1 if above else -1
        assert walk.p(end - side * 1e-6, ANY, above=above) <= ALPHA < walk.p(end + side * 1e-6, ANY, above=above)


def test_at_the_end_the_interval_is_wider_than_that_of_a_fixed_number_of_rows_but_not_by_much() -> None:
    stream = flips(np.random.default_rng(7), 2000, 0.0)
    low, high = Change(walk=Walk([stream])).limits(0.95)
    fixed = 2 * 1.96 * float(stream.values.std()) / math.sqrt(2000)
    assert low < stream.values.mean() < high
    assert 1 < (high - low) / fixed < 2.2


def test_rows_that_share_a_passage_are_worth_one_where_they_are_all_alike() -> None:
    alone = flips(np.random.default_rng(8), 200, 0.05)
    copies = np.repeat(alone.values, 5)
    groups = np.repeat(keys(200), 5).tolist()
    shared = of_rows(copies, groups, rows=1000, in_all=200, largest=5, paired=True)
    assert shared.values.tolist() == alone.values.tolist()
    assert Change(walk=Walk([shared])).p == Change(walk=Walk([alone])).p


def test_each_row_weighs_the_same_whatever_its_passage() -> None:
    values = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 1.0])
    found = of_rows(values, ["a", "a", "a", "b", "b", "c"], rows=6, in_all=3, largest=3, paired=False)
    assert found.values.mean() == pytest.approx(values.mean())
    assert found.low <= found.values.min()
    assert found.values.max() <= found.high


def test_rows_are_asked_in_an_order_that_is_random_fixed_and_keeps_passages_together() -> None:
    units = [f"p{i // 3}" for i in range(30)]
    order = asking_order(units, "t")
    assert sorted(order) == list(range(30))
    asked = [units[i] for i in order]
    assert len([1 for a, b in pairwise(asked) if a != b]) == 9
    assert asked != units
    backwards = asking_order(units[::-1], "t")
    assert [units[::-1][i] for i in backwards] == asked
    assert [units[i] for i in asking_order(units, "u")] != asked, "another task asks the same facts in another order"


def test_nothing_is_known_before_a_row_is_asked() -> None:
    empty = of_rows(np.zeros(0), [], rows=50, in_all=50, largest=1, paired=True)
    found = Drop(walk=Walk([empty]), largest=LARGEST)
    assert (found.p_of_more, found.p_of_none, found.low(ALPHA * LOOKS), found.high(ALPHA * LOOKS)) == (1.0, 1.0, -1.0, 1.0)


@pytest.mark.parametrize(("rows", "share"), [(500, 0.25), (1000, 0.5), (2000, 0.75)])
def test_where_rows_are_few_the_test_of_all_of_them_has_the_larger_part_of_alpha(rows: int, share: float) -> None:
    none = [of_rows(np.zeros(0), [], rows=rows // 2, in_all=rows // 2, largest=1, paired=True)] * 2
    assert Drop(walk=Walk(none), largest=LARGEST).passes == share
