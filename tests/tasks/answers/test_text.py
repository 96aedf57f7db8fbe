"""Short answers are compared as the published scripts compare them, but for signs and points; F1 is that of scikit-learn."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support
from transformers.data.metrics import squad_metrics

from spt_fast.tasks.answers.text import (
    f1,
    normalise_squad,
    normalise_triviaqa,
    squad_exact_match,
    squad_f1,
    triviaqa_f1,
)
from spt_fast.types import Example

WORDS = [
    "the",
    "The",
    "a",
    "An",
    "cat",
    "Cat",
    "cats",
    "1,000",
    "O'Hara",
    "U.S.",
    "co-op",
    "-",
    "\u201cso\u201d",
    "caf\u00e9",
    "...",
    "-5",
    "(3.14)",
    "1990-91",
]
TEXTS = st.text(max_size=30) | st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)


def asked(*answers: str) -> Example:
    return Example(key="0", question="?", target="", answers=answers)


@pytest.mark.parametrize(
    ("text", "squad", "triviaqa"),
    [
        ("The Cat", "cat", "cat"),
        ("  a  cat\n", "cat", "cat"),
        ("U.S.", "us", "u s"),
        ("Spider-Man", "spiderman", "spider man"),
        ("so_called", "socalled", "so called"),
        ("Rock \u2018n\u2019 Roll", "rock \u2018n\u2019 roll", "rock n roll"),
        ("O\u00b4Hara", "o\u00b4hara", "o hara"),
        ("don`t", "dont", "don t"),
        ("\u201cso\u201d", "\u201cso\u201d", "\u201cso\u201d"),
        ("theatre", "theatre", "theatre"),
        ("1,000", "1000", "1 000"),
        ("A", "a", "a"),
        ("The The", "the the", "the the"),
        ("!!!", "!!!", "!!!"),
        ("", "", ""),
    ],
)
def test_a_text_has_one_spelling_in_each_benchmark(text: str, squad: str, triviaqa: str) -> None:
    assert normalise_squad(text) == squad
    assert normalise_triviaqa(text) == triviaqa


def without_points_and_signs(text: str) -> str:
    return re.sub(r"(?<=[0-9])\.(?=[0-9])|-(?=[0-9])", "", text)


def is_published(text: str) -> bool:
    """Whether the published spelling is ours: it has no signs and decimal points, and may be empty."""
    return squad_metrics.normalize_answer(text) in (normalise_squad(text), "")


@given(TEXTS)
def test_squads_spelling_is_the_published_one_but_for_signs_and_what_leaves_nothing(text: str) -> None:
    published = squad_metrics.normalize_answer(text)
    assume(
        not re.search("[\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d]\\$?[0-9]", text)
    )  # other dashes are no punctuation to it
    ours = normalise_squad(text)
    assert without_points_and_signs(ours) == published or (not published and ours == " ".join(text.lower().split()))


def test_the_sign_and_the_point_of_a_number_stay() -> None:
    ours = {
        text: (normalise_squad(text), normalise_triviaqa(text))
        for text in ("(3.14).", "-$5", "\u22125%", "3.6m", "-1,000.5\u00b0C")
    }
    assert ours == {
        "(3.14).": ("3.14", "3.14"),
        "-$5": ("-5", "-5"),
        "\u22125%": ("-5", "-5"),
        "3.6m": ("3.6m", "3.6m"),
        "-1,000.5\u00b0C": ("-1000.5\u00b0c", "-1 000.5\u00b0c"),
    }
    for text in ("12.5.1990", "1990-91", "1990 -91", "- 5", "U.S.", "5."):
        assert normalise_squad(text) == squad_metrics.normalize_answer(text)


def test_a_long_run_of_marks_takes_no_time() -> None:
    for text in ("-" * 100_000, "1," * 50_000, ",111" * 30_000 + "x-", "1" * 100_000 + "_" * 100_000 + "1"):
        assert normalise_squad(text) == squad_metrics.normalize_answer(text) or not text.strip("-")


@given(TEXTS)
def test_a_second_time_changes_nothing(text: str) -> None:
    for normalise in (normalise_squad, normalise_triviaqa):
        once = normalise(text)
        # What is left as it is ("a b" of "the a b" is not) may hold articles of its own; a dash may now stand behind a number.
        again, first = (without_points_and_signs(each) for each in (normalise(once), once))
        assert again in (first, " ".join(word for word in first.split() if word not in ("a", "an", "the")))


PUBLISHED = TEXTS.filter(lambda text: bool(is_published(text) and squad_metrics.normalize_answer(text)))
"""Each text by itself: of four that all had to be of this kind, too few lists would be left."""


@given(PUBLISHED, st.lists(PUBLISHED, min_size=1, max_size=3))
def test_squads_scores_are_the_published_ones(value: str, answers: list[str]) -> None:
    assert squad_exact_match(value, answers) == bool(max(squad_metrics.compute_exact(answer, value) for answer in answers))
    assert squad_f1(value, answers) == pytest.approx(max(squad_metrics.compute_f1(answer, value) for answer in answers))


@given(TEXTS, TEXTS)
def test_f1_is_that_of_words_found_and_words_wanted(value: str, answer: str) -> None:
    found, wanted = Counter(normalise_squad(value).split()), Counter(normalise_squad(answer).split())
    assume(found or wanted)
    # Each word as often as it stands anywhere: was it wanted, was it found?
    truth, guess = [], []
    for word in found | wanted:
        for i in range(max(found[word], wanted[word])):
            truth.append(i < wanted[word])
            guess.append(i < found[word])
    *_, score, _ = precision_recall_fscore_support(truth, guess, average="binary", zero_division=0)
    assert squad_f1(value, [answer]) == pytest.approx(score)


@given(TEXTS, st.lists(TEXTS, max_size=3))
def test_what_matches_exactly_has_all_words_and_the_best_answer_counts(value: str, answers: list[str]) -> None:
    score = squad_f1(value, answers)
    assert 0 <= score <= 1
    assert score == max((squad_f1(value, [answer]) for answer in answers), default=0)
    if normalise_squad(value) and squad_exact_match(value, answers):
        assert score == 1


def test_a_score_of_a_task_is_that_of_its_examples_answers() -> None:
    assert f1("the Eiffel Tower in Paris", asked("Eiffel Tower", "tower")) == pytest.approx(2 * 2 / (4 + 2))
    assert f1("Spider-Man", asked("Spider Man")) == 0
    assert triviaqa_f1("Spider-Man", asked("Spider Man")) == 1
    assert f1("Paris", asked()) == 0
    assert f1("The", asked("A")) == 0
    assert f1("a", asked("A")) == 1
