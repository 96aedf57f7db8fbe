"""What benchmarks/series/series.py draws, and which runs it holds against each other."""

from __future__ import annotations

from collections import Counter

from benchmarks.series.series import DRAWS, KEPT, PLANTED, RUNS, Draw, Side, sides
from spt_fast import zoo

FACTS = tuple(f"fact {i}" for i in range(200))


def test_a_draw_without_replacement_takes_nine_of_ten_facts_each_once() -> None:
    draws = [Draw.of(FACTS, number, replacement=False) for number in range(DRAWS)]
    assert {len(draw.facts) for draw in draws} == {len(set(draw.facts)) for draw in draws} == {round(KEPT * len(FACTS))}
    assert len({draw.facts for draw in draws}) == DRAWS
    assert draws[3] == Draw.of(FACTS, 3, replacement=False)


def test_a_draw_with_replacement_takes_as_many_facts_some_more_than_once() -> None:
    for number in range(DRAWS):
        drawn = Counter(Draw.of(FACTS, number, replacement=True).facts)
        assert sum(drawn.values()) == len(FACTS)
        assert max(drawn.values()) > 1
        assert set(drawn) < set(FACTS)


def test_what_is_looked_for_is_what_the_zoos_runs_have() -> None:
    assert set(PLANTED) == set(RUNS) == set(zoo.RUNS)
    for name, (fault, onset) in PLANTED.items():
        run = zoo.RUNS[name]
        fell = [c.number - 1 for c in run.checkpoints if c.before and len(c.known) < len(c.before.known)]
        heeded = [checkpoint.share.mixture.heeded for checkpoint in run.checkpoints]
        went = [i for i in range(len(heeded)) if not any(heeded[i:])]
        found = {"none": None, "knowledge": fell and fell[0], "form": went and went[0]}
        assert (bool(fell), bool(went)) == (fault == "knowledge", fault == "form")
        assert found[fault] == onset


def test_a_carried_side_counts_the_updates_of_its_cold_start() -> None:
    known = sides(smoke=False)
    assert {name: side.updates for name, side in known.items()} == {
        "cold": (80, 80),
        "carried-5": (85, 5),
        "carried-10": (90, 10),
        "carried-20": (100, 20),
    }
    assert all(isinstance(side, Side) for side in known.values())
