"""How alike soft prompts are, whatever the order of their vectors; and what is known of one comes back from JSON as it was."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spt_fast.prompts.meaning import (
    Placed,
    alike_by_chance,
    as_json,
    kinships,
    meaning_of,
    probe_of,
    similarity,
)
from spt_fast.prompts.soft_prompt import SoftPrompt
from tests.helpers.meanings import MEANING, PROBE


def vectors(seed: int, length: int = 4, hidden_size: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((length, hidden_size)).astype(np.float32)


@given(st.integers(0, 2**32 - 1), st.permutations(range(4)))
@settings(max_examples=30, deadline=None)
def test_a_soft_prompt_in_another_order_is_the_same_when_matched(seed: int, order: list[int]) -> None:
    found = similarity(vectors(seed), 3 * vectors(seed)[order])
    assert found.matched == pytest.approx(1)
    assert found.by_position == pytest.approx(1) or order != sorted(order)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_the_match_is_the_best_of_all_orders(seed: int) -> None:
    a, b = vectors(seed), vectors(seed + 1)
    of_orders = [similarity(a, b[list(order)]).by_position for order in permutations(range(4))]
    assert similarity(a, b).matched == pytest.approx(max(of_orders))
    assert similarity(a, b).by_position == pytest.approx(of_orders[0])


def test_only_soft_prompts_of_one_shape_are_compared() -> None:
    with pytest.raises(ValueError, match=r"\[4, 6\] and \[3, 6\]"):
        similarity(vectors(0), vectors(0, length=3))


def test_random_rows_are_as_alike_as_chance_says() -> None:
    pool = vectors(0, length=400, hidden_size=64)
    by_position, matched = alike_by_chance(pool, 5)
    assert abs(by_position.middle) < 0.02 < by_position.high
    assert by_position.middle < matched.middle, "whoever may choose finds more"
    fresh = [similarity(pool[i : i + 5], pool[i + 5 : i + 10]).matched for i in range(0, 400, 10)]
    assert 0.8 <= np.mean([matched.low <= value <= matched.high for value in fresh]) <= 1
    assert alike_by_chance(pool[:2], 5) == alike_by_chance(pool[:2], 1), "never more than half of the rows there are"


def test_seeds_and_tasks_are_compared_apart_and_a_transfer_counts_as_what_it_carries() -> None:
    def learnt(task: str, seed: int, of: int, protocol: str = "soft_prompt") -> Placed:
        return Placed("m", task, protocol, seed, SoftPrompt(vectors=vectors(of)))

    found = kinships(
        [
            learnt("b", 0, 0, "transfer[from=a]"),  # the vectors of a, seed 0
            learnt("a", 0, 0),
            learnt("a", 1, 1),
            learnt("b", 0, 2),
            learnt("b", 1, 3),
            Placed("m", "a", "soft_prompt", 2, SoftPrompt(vectors=vectors(9, length=2))),
        ]
    )
    places = {(each.tasks, each.same_seed): each for each in found}
    assert {place: each.pairs for place, each in places.items()} == {
        (("a",), False): 1,
        (("b",), False): 1,
        (("a", "b"), True): 2,
        (("a", "b"), False): 2,
    }
    expected = [similarity(vectors(0), vectors(2)).matched, similarity(vectors(1), vectors(3)).matched]
    same = places[("a", "b"), True]
    assert same.matched == pytest.approx(np.mean(expected))
    assert same.matched_span == pytest.approx((min(expected), max(expected)))


def test_of_many_tasks_any_two_are_told_together_and_not_all_are_compared() -> None:
    prompts = [
        Placed("m", f"t{task}", "soft_prompt", seed, SoftPrompt(vectors=vectors(10 * task + seed, length=50, hidden_size=60)))
        for task in range(8)
        for seed in range(2)
    ]
    found = {(each.between, each.same_seed): each for each in kinships(prompts)}
    assert set(found) == {
        *((f"t{task}", False) for task in range(8)),
        ("any two of 8 tasks", True),
        ("any two of 8 tasks", False),
    }
    assert found["t0", False].pairs == 1
    assert 10 <= found["any two of 8 tasks", False].pairs <= 20 < 8 * 7
    assert abs(found["any two of 8 tasks", False].by_position) < 0.1


def test_what_is_known_comes_back_as_it_was() -> None:
    assert as_json(MEANING).isascii()
    assert meaning_of(as_json(MEANING)) == MEANING
    back = probe_of(as_json(PROBE))
    assert math.isnan(back.variants[0].metrics[0].stderr)
    assert as_json(back) == as_json(PROBE)
    assert (back.tokens, back.variants[0].changes) == (PROBE.tokens, PROBE.variants[0].changes)
    for wrong in ("{}", "[]", "1", "{", as_json(PROBE)):
        with pytest.raises((ValueError, KeyError, TypeError)):
            meaning_of(wrong)
