"""The tables of docs/three-minutes.md are what the reckoning says, and the reckoning is what arithmetic says."""

from __future__ import annotations

import json

import pytest

from benchmarks.budget import budget
from benchmarks.budget.budget import COUNTED, Asked, Rates, asked
from benchmarks.harness import RESULTS
from spt_fast import tasks
from spt_fast.tasks.rows import CHOOSING_ROWS


def test_the_page_has_the_tables_that_are_reckoned() -> None:
    page = budget.PAGE.read_text(encoding="utf-8")
    assert budget.with_tables(page) == page, "python benchmarks/budget/budget.py writes them anew"
    assert "Nothing on this page was measured on a GPU." in page


def test_every_rate_says_where_it_is_from() -> None:
    assert set(budget.SOURCES) == set(Rates.__dataclass_fields__)
    assert all(words and source for words, source in budget.SOURCES.values())


def test_there_are_twelve_tasks_which_spt_fast_has() -> None:
    assert len(budget.TASKS) == 12
    assert set(budget.TASKS) <= set(tasks.names())
    assert budget.CHOOSING == CHOOSING_ROWS


def test_what_was_counted_on_60_rows_is_asked_again_of_60_rows() -> None:
    closed, open_ended = COUNTED["arc_easy"], COUNTED["squad"]
    assert asked(closed, 60, 60) == Asked(requests=1483, read=29_246, forced=6_987 + 424)
    assert asked(open_ended, 60, 0) == Asked(requests=120, read=6_425, forced=229 + 600)


def test_the_phases_are_worked_out_by_hand() -> None:
    found = budget.budget(Rates(), updates=10, rows=200)
    taught = (64_565 * 3 + 102_396 * 2 + 87_203 + 115_196 + 126_470 * 2 + 45_605 * 2 + 126_188) / 8
    assert found.load == pytest.approx(14.6 / 4)
    assert found.train == pytest.approx(4 * 7.3e9 * taught / (0.4 * 989e12) + 120 * 0.05)
    assert found.engine == pytest.approx(14.6 / 4 + 36)
    assert found.total == pytest.approx(found.load + found.train + found.engine + found.ask)


def test_what_the_page_concludes_is_so() -> None:
    found = [budget.budget(Rates(), updates=updates, rows=rows) for updates, rows in budget.WAYS.values()]
    cold, carried, each, mean = found
    assert cold.total > carried.total > each.total > 180 > mean.total
    assert cold.train == pytest.approx(8 * carried.train)
    assert 110 < cold.train < 140
    assert f"{budget.most_rows(180)} of each task do" in budget.PAGE.read_text(encoding="utf-8")


def test_what_stopping_saves_is_what_was_simulated() -> None:
    written = json.loads((RESULTS / "cpu" / "stopping.json").read_text(encoding="utf-8"))
    saved = {ratio["what"]: ratio["value"] for ratio in written["ratios"]}
    assert pytest.approx(1 - saved["rows saved, without a change, 5,000 rows, 10 % flip"], abs=0.005) == budget.STOPPED
    assert pytest.approx(1 - saved["rows saved, without a change, 500 rows, 4 % flip"], abs=0.005) == budget.EACH
