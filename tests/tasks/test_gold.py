"""Which text is taken for the gold answer: the form in front of it is given, a working is part of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spt_fast import tasks
from spt_fast.tasks.base import Task
from spt_fast.tasks.gold import MOST_ANSWERS, distinct, gold_of, lead_in
from spt_fast.types import Example

JSON, NUMBER, SHORT, TRIVIA = (tasks.get(name) for name in ("zoo-json", "zoo-number", "zoo-short", "triviaqa"))


def row(target: str, *answers: str) -> Example:
    return Example(key=target, question="?", target=target, answers=answers)


OBJECTS = [row('{"answer": "bread"}', "bread"), row('{"answer": "wool"}', "wool"), row('{"answer": "iron"}', "iron")]
WORKINGS = [row("90 + 2 = 92\n#### 92", "92"), row("70 + 6 = 76\n#### 76", "76"), row("20 + 5 = 25\n#### 25", "25")]


def texts(task: Task, rows: list[Example]) -> list[tuple[str, ...]]:
    """Of each row what is given, and what is scored."""
    lead = lead_in(task, rows)
    return [(gold.given, *gold.texts) for gold in (gold_of(task, each, lead) for each in rows)]


def test_a_lead_in_that_all_rows_share_is_given_and_what_closes_the_form_is_left_out() -> None:
    assert texts(JSON, OBJECTS) == [('{"answer": "', "bread"), ('{"answer": "', "wool"), ('{"answer": "', "iron")]


def test_a_working_differs_from_row_to_row_and_is_part_of_the_answer() -> None:
    assert texts(NUMBER, WORKINGS) == [("", each.target) for each in WORKINGS]


def test_a_bare_answer_is_scored_as_it_is_and_so_are_other_gold_answers() -> None:
    assert texts(TRIVIA, [row("Paris", "Paris", "Lutetia"), row("Rome", "Rome")]) == [("", "Paris", "Lutetia"), ("", "Rome")]


MARS = (
    "Fourth planet",
    "Sol 4",
    "Mars surface features",
    "MARS",
    "Mars/Planet",
    "Mars",
    "mars (planet)",
    "Mars (planet)",
    "mars",
)


def test_of_many_gold_answers_the_most_usual_ones_are_taken_in_their_plainest_spelling() -> None:
    assert distinct(MARS) == ("Fourth planet", "Mars", "Mars/Planet", "Sol 4")
    assert len(distinct(MARS)) == MOST_ANSWERS == 4
    assert distinct(("TONY CURTIS", "Tony Curtis", "tony curtis", "Tony  Curtis")) == ("TONY CURTIS", "Tony Curtis")
    assert distinct(("NEW Z", "New Zealand,", "New Zealand.", "New Zealand")) == ("NEW Z", "New Zealand")
    assert distinct(("a  b\nc ", "a b c")) == ("a  b\nc", "a b c"), "the first is as it is"
    assert distinct(("18", "18", "+", "\u00f7")) == ("18", "+", "\u00f7"), "what has no words is a text all the same"


def test_a_few_rows_of_another_form_do_not_change_what_is_scored_of_the_others() -> None:
    odd = row("no idea", "bread")
    assert texts(JSON, [*OBJECTS, odd])[0] == ('{"answer": "', "bread")
    assert texts(JSON, [*OBJECTS, odd])[-1] == ("", "no idea"), "as it is to be written"


def test_of_one_target_it_cannot_be_told_what_is_form() -> None:
    assert texts(JSON, OBJECTS[:1]) == [("", OBJECTS[0].target)]
    assert texts(SHORT, [row("bread", "bread")]) == [("", "bread")]


@pytest.mark.parametrize("empty", ["", "  ", "\n"])
def test_an_empty_answer_has_no_text(empty: str) -> None:
    assert texts(SHORT, [row(empty, empty), row("bread", "bread")]) == [("",), ("", "bread")]
    assert distinct([empty, " a "]) == ("a",)


def test_an_extractor_that_fails_says_nothing_of_the_form() -> None:
    def failing(text: str) -> None:
        raise ValueError("no")

    assert texts(replace(JSON, extract=failing), OBJECTS) == [("", each.target) for each in OBJECTS]
