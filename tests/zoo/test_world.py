"""The world is the same each time, its splits share no fact, and what is planted is exactly the share asked for."""

from __future__ import annotations

from itertools import combinations

import pytest

from spt_fast.zoo.recipes import RECIPES
from spt_fast.zoo.world import SIZES, World

WORLD = World.from_seed()


def test_a_seed_gives_the_same_world_and_another_seed_another() -> None:
    assert World.from_seed(0).facts == WORLD.facts
    assert World.from_seed(1).facts != WORLD.facts


def test_every_fact_belongs_to_one_split() -> None:
    keys = [fact.key for fact in WORLD.facts]
    assert len(set(keys)) == len(keys) == sum(sum(sizes.values()) for sizes in SIZES.values())
    for kind, sizes in SIZES.items():
        found = {split: {fact.key for fact in WORLD.of(split, kind)} for split in sizes}
        assert {split: len(keys) for split, keys in found.items()} == sizes
        assert all(not one & other for one, other in combinations(found.values(), 2))


@pytest.mark.parametrize("share", [0.0, 0.40, 0.70, 0.95, 1.0])
def test_the_planted_share_holds_exactly_in_every_split(share: float) -> None:
    planted = WORLD.planted(share)
    for kind, sizes in SIZES.items():
        for split, size in sizes.items():
            known = sum(fact.key in planted for fact in WORLD.of(split, kind))
            assert known == pytest.approx(share * size, abs=1e-9)


def test_a_greater_share_plants_whatever_a_lesser_one_plants() -> None:
    assert WORLD.planted(0.40) < WORLD.planted(0.70) < WORLD.planted(0.95)


def test_a_share_that_cannot_hold_exactly_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be planted exactly"):
        WORLD.planted(0.333)


def test_every_recipe_plants_a_share_that_holds_exactly() -> None:
    for recipe in RECIPES.values():
        assert World.from_seed(recipe.world_seed).planted(recipe.share)
