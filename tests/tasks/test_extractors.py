"""Extractors find what a completion gives as its answer, and nothing where it gives none."""

from __future__ import annotations

import json
import re
import runpy
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spt_fast import tasks
from spt_fast.tasks.extractors import (
    HASH_FORMAT,
    JSON_FORMAT,
    before_run_on,
    first_found,
    first_line,
    json_answer,
    stated_text,
)
from spt_fast.tasks.numbers import canonical
from spt_fast.types import Example

NASTY = runpy.run_path(str(Path(__file__).with_name("nasty_completions.py")))
GSM8K = tasks.get("gsm8k")
MMLU = tasks.get("mmlu")
ANY = Example(key="0", question="?", target="a\n#### 1", answers=("1",))
CAPITALS = Example(
    key="0",
    question="?",
    target="B. Paris",
    answers=("B. Paris",),
    options=("A. Rome", "B. Paris", "C. Lima", "D. Oslo"),
    gold=1,
)


def test_the_corpus_is_large_enough() -> None:
    assert len(NASTY["GSM8K"]) + len(NASTY["MMLU"]) + len(NASTY["ANSWERS"]) >= 130


@pytest.mark.parametrize(("text", "value", "format_ok"), NASTY["GSM8K"], ids=lambda v: repr(v)[:40])
def test_a_number_is_found_only_where_it_is_the_answer(text: str, value: str | None, format_ok: bool) -> None:
    assert GSM8K.extract is not None
    found = GSM8K.extract(text)
    assert (canonical(found.value) if found else None) == value
    if found:
        assert text[slice(*found.span)] == found.value
    assert GSM8K.follows_format(text, ANY) is format_ok


@pytest.mark.parametrize(("text", "format_ok"), NASTY["MMLU"], ids=lambda v: repr(v)[:40])
def test_only_a_whole_option_follows_the_format(text: str, format_ok: bool) -> None:
    assert MMLU.follows_format(text, CAPITALS) is format_ok


@pytest.mark.parametrize(("text", "value"), NASTY["ANSWERS"], ids=lambda v: repr(v)[:40])
def test_a_json_answer_is_found_only_where_there_is_one(text: str, value: str | None) -> None:
    found = first_found(text, json_answer)
    assert (found.value if found else None) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Paris", "Paris"),
        ("  [Paris].\nMore", "Paris"),
        ('**"Paris"**', "Paris"),
        ("New York\nQuestion: x", "New York"),
        ("", None),
        ("...", None),
        ("It is a long story that nobody would call an answer", None),
    ],
)
def test_the_first_line_is_a_value_if_it_is_short(text: str, value: str | None) -> None:
    found = first_found(text, first_line)
    assert (found.value if found else None) == value
    if found:
        assert text[slice(*found.span)] == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("I think the answer is Paris.", "Paris"),
        ("**Answer:** Paris", "Paris"),
        ("The answer is not Paris.", None),
        ("The answer is Paris.\nThe answer is Rome.", None),
        ("Paris", None),
    ],
)
def test_a_stated_value_is_found_behind_its_anchor(text: str, value: str | None) -> None:
    found = first_found(text, stated_text)
    assert (found.value if found else None) == value


def test_a_completion_ends_at_the_first_run_on() -> None:
    assert before_run_on("18\n\nQuestion (algebra): x") == "18\n"
    assert before_run_on("a question: none") == "a question: none"


@given(st.text(max_size=200))
def test_no_text_makes_an_extractor_raise_and_spans_fit(text: str) -> None:
    assert GSM8K.extract is not None
    for rules in ((json_answer,), (first_line,), (stated_text,)):
        found = first_found(text, *rules)
        assert found is None or 0 <= found.span[0] < found.span[1] <= len(text)
    number = GSM8K.extract(text)
    assert number is None or text[slice(*number.span)] == number.value


@given(st.integers(-(10**30), 10**30), st.sampled_from(["#### {}", "The answer is {}.", "\\boxed{{{}}}", "{}"]))
def test_every_integer_is_found_in_every_wording_with_and_without_commas(number: int, wording: str) -> None:
    assert GSM8K.extract is not None
    for spelling in (str(number), f"{number:,}", f"{number}.00"):
        found = GSM8K.extract("so\n" + wording.format(spelling) if "#" in wording else wording.format(spelling))
        assert found is not None
        assert canonical(found.value) == str(number)


@pytest.mark.parametrize(
    "text",
    [
        "#### " + "1" * 20_000 + "x",
        "answer is " + "1 + " * 5_000 + "x",
        "####" + " " * 20_000 + "x",
        "#### 1" + " " * 20_000 + "x 2",
        "answer is" + " " * 20_000 + "x",
        "answer:" + "\n" * 20_000 + "x",
        "answer is a" + " " * 20_000 + "b",
        "\\boxed{" + " " * 20_000 + "x",
        " " * 20_000 + "x",
        "\n" + " " * 20_000 + "question" + " " * 20_000 + "x",
        "#### " + "$" * 20_000 + "x",
        "answer" + "*" * 20_000,
        "the answer is 1, " * 2_000,
        "\n" * 20_000 + "x",
        "a\n" * 10_000,
        "{" * 20_000,
        "#### 1 " + "a " * 10_000 + "1",
        "1 " + "ab-" * 10_000 + "1",
        "(((((" * 4_000,
        "question " * 4_000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_hostile_text_takes_no_time(text: str) -> None:
    assert GSM8K.extract is not None
    began = time.process_time()
    GSM8K.extract(text)
    GSM8K.follows_format(text, ANY)
    for rule in (json_answer, first_line, stated_text):
        first_found(text, rule)
    assert time.process_time() - began < 2


@given(st.text(max_size=30))
def test_the_json_format_is_what_json_reads(value: str) -> None:
    text = json.dumps({"answer": value})
    assert bool(re.fullmatch(JSON_FORMAT, text)) is bool(value)


@settings(max_examples=30)
@given(st.lists(st.text("ab #\n", max_size=8)), st.integers(-999, 99999))
def test_the_hash_format_wants_a_working_without_the_mark_and_one_last_line(lines: list[str], number: int) -> None:
    working = "\n".join(lines)
    text = f"{working}\n#### {number:,}".strip()
    expected = bool(working.strip()) and "####" not in working
    assert bool(re.fullmatch(HASH_FORMAT, text)) is expected
