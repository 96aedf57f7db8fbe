"""Extractors find what a completion gives as its answer, and nothing where it gives none."""

from __future__ import annotations

import faulthandler
import json
import re
import runpy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from spt_fast import tasks
from spt_fast.scoring.score import score
from spt_fast.tasks.answers.extractors import (
    HASH_FORMAT,
    JSON_FORMAT,
    NO_ANSWER,
    SHORT_FORMAT,
    before_run_on,
    first_found,
    first_line,
    json_answer,
    short_answer,
    stated_text,
)
from spt_fast.tasks.answers.numbers import canonical
from spt_fast.tasks.base import LeftOut, Task
from spt_fast.types import Completion, Example, FinishReason, Sample

NASTY = runpy.run_path(str(Path(__file__).with_name("nasty_completions.py")))
GSM8K = tasks.get("gsm8k")
JSON = replace(
    tasks.get("triviaqa"),
    name="json",
    format=JSON_FORMAT,
    verbatim=False,
    extract=lambda text: first_found(text, json_answer),
    normalise=str.strip,
)
ANY = Example(key="0", question="?", target="a\n#### 1", answers=("1",))
CAPITALS = Example(
    key="0",
    question="?",
    target="B. Paris",
    answers=("B. Paris",),
    options=("A. Rome", "B. Paris", "C. Lima", "D. Oslo"),
    gold=1,
)
ROWS = Path(__file__).parents[4] / "shared" / "data"
PEERS = {
    "OpenCompass first_option_postprocess",
    "opencompass#1933",
    "opencompass PR#2600",
    "NeMo multichoice_regex",
    "NeMo numeric_match",
    "lm-eval flexible-extract",
    "lm-eval#2279",
    "lm-eval PR#4188",
    "lm-eval PR#2034",
    "inspect_evals#470",
    "sglang PR#29933",
    "VoiceBench#15",
    "lm-eval#4007",
    "lm-eval#2552",
    "opencompass#1462",
    "opencompass#1818",
}
"""The failures that people have told of and that a completion can show."""


OPEN = [
    pytest.param(name, answers, *row[:4], id=f"{name}: {row[0]!r:.50}")
    for (name, answers), rows in NASTY["OPEN"].items()
    for row in rows
]


@pytest.fixture
def watchdog() -> Iterator[None]:
    """Ends everything, and says where it was, if an expression backtracks for minutes: no exception would get through."""
    faulthandler.dump_traceback_later(120, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def named(name: str) -> Task:
    return JSON if name == "json" else tasks.get(name)


def judged(name: str, answers: tuple[str, ...], text: str, finish_reason: FinishReason = "stop") -> Sample:
    example = Example(key="0", question="?", target="?", answers=answers)
    completion = Completion(text=text, token_ids=(1,), finish_reason=finish_reason)
    return score(named(name), [example], [completion], prompts=["p"])[0]


def test_the_corpus_is_large_and_has_every_failure_of_a_peer() -> None:
    rows = [row for group in NASTY["OPEN"].values() for row in group]
    assert len(rows) + len(NASTY["CLOSED"]) + len(NASTY["CUT_OFF"]) >= 350
    assert {row[4] for row in rows if len(row) > 4} | {row[3] for row in NASTY["CLOSED"] if len(row) > 3} >= PEERS


@pytest.mark.parametrize(("name", "answers", "text", "value", "follows", "right"), OPEN)
def test_a_completion_gets_the_verdicts_it_deserves(
    name: str, answers: tuple[str, ...], text: str, value: str | None, follows: bool, right: bool
) -> None:
    sample = judged(name, answers, text)
    assert (None if sample.extracted is None else named(name).normalise(sample.extracted)) == value
    assert (sample.format_ok, sample.knows, sample.correct) == (follows, right, follows and right)
    assert (sample.rule is None) == (value is None)
    assert all(0 <= score <= 1 for score in sample.scores.values())


@pytest.mark.parametrize(("text", "follows", "right"), [row[:3] for row in NASTY["CLOSED"]], ids=lambda v: repr(v)[:40])
def test_an_option_counts_to_the_letter_and_what_is_known_does_not_depend_on_it(text: str, follows: bool, right: bool) -> None:
    completion = Completion(text=text, token_ids=(1,), finish_reason="stop")
    for logprobs, knows in (((-3.0, -1.0, -2.0, -4.0), True), ((-1.0, -3.0, -2.0, -4.0), False)):
        sample = score(tasks.get("mmlu"), [CAPITALS], [completion], [logprobs], prompts=["p"])[0]
        assert (sample.format_ok, sample.correct, sample.knows) == (follows, right, knows)


@pytest.mark.parametrize(("name", "text", "value"), NASTY["CUT_OFF"], ids=lambda v: repr(v)[:40])
def test_what_reaches_to_the_cut_is_no_value_and_nothing_cut_off_follows_its_format(
    name: str, text: str, value: str | None
) -> None:
    if name == "mmlu":
        completion = Completion(text=text, token_ids=(1,), finish_reason="length")
        sample = score(tasks.get("mmlu"), [CAPITALS], [completion], [(-1.0, -2.0, -3.0, -4.0)], prompts=["p"])[0]
    else:
        sample = judged(name, ("Paris",), text, "length")
    assert not sample.format_ok
    assert (None if sample.extracted is None else named(name).normalise(sample.extracted)) == value


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


PIECES = [
    "answer",
    "is",
    ":",
    "the",
    "#### ",
    "$",
    "\\boxed{",
    "}",
    "\n",
    "Paris",
    ". ",
    "It",
    "5",
    "\\frac",
    "{",
    "a",
    "- ",
    "**",
]
TEXTS = st.text(max_size=200) | st.lists(st.sampled_from([*PIECES, " ", "I don't know", "Question:"])).map("".join)


@given(TEXTS)
def test_no_text_makes_an_extractor_raise_and_values_stand_where_their_spans_say(text: str) -> None:
    found = first_found(text, json_answer)
    assert found is None or 0 <= found.span[0] < found.span[1] <= len(text)
    for name in ("gsm8k", "triviaqa", "math500"):
        extract = tasks.get(name).extract
        assert extract is not None
        value = extract(text)
        assert value is None or text[slice(*value.span)] == value.value


@given(st.lists(st.from_regex(r"[A-Za-z0-9'.-]{1,9}", fullmatch=True), min_size=1, max_size=12).map(" ".join))
def test_what_follows_the_short_format_is_the_value_unless_it_refuses(text: str) -> None:
    assume(re.fullmatch(SHORT_FORMAT, text) and not NO_ANSWER.match(text))
    found = short_answer(f" {text}\n")
    assert found is not None
    assert found.value == text


@pytest.mark.skipif(not ROWS.is_dir(), reason="there are no real rows beside this checkout (../shared/data)")
@pytest.mark.parametrize("name", ["triviaqa", "squad"])
def test_published_short_answers_are_right_and_nearly_all_by_the_expression_alone(name: str) -> None:
    task = tasks.get(name)
    assert task.format is not None
    outside = []
    for split in ("train", "validation"):
        for line in (ROWS / name / f"{split}.jsonl").read_text().splitlines():
            try:
                example = task.read_row(json.loads(line))
            except LeftOut:  # SQuAD 2.0's questions without an answer
                continue
            for answer in () if example is None else example.answers:
                sample = judged(name, example.answers, f" {answer}\n")
                assert sample.correct, answer
                outside.append(re.fullmatch(task.format, answer) is None)
    assert len(outside) > 500
    assert sum(outside) / len(outside) < 0.015


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
        "answer is " * 10_000,
        "answer to " * 10_000,
        "answer: $" * 10_000,
        "\\boxed{" * 10_000,
        "\\boxed{" * 10_000 + "}" * 10_000,
        "a\nAnswer: \\boxed{" + "{" * 10_000 + "}" * 10_000 + "}",
        "a\nAnswer: \\boxed{" + "{a}" * 10_000,
        "a\nAnswer: \\boxed{5" + " ." * 10_000 + "x}",
        "\\" * 20_000,
        "Paris. It " * 4_000,
        "$" * 20_001,
        "answer is \\[" + "a" * 20_000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_hostile_text_is_read_in_one_pass(text: str, watchdog: None) -> None:
    for name in ("gsm8k", "triviaqa", "math500"):
        task = tasks.get(name)
        assert task.extract is not None
        found = task.extract(text)
        assert found is None or text[slice(*found.span)] == found.value
        task.follows_format(text, ANY)
    for rule in (json_answer, first_line, stated_text):
        first_found(text, rule)


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


@pytest.mark.parametrize("name", ["triviaqa", "squad", "nq_open", "drop"])
def test_a_short_answer_ends_at_the_bound_that_the_prompt_and_the_form_name(name: str) -> None:
    task = tasks.get(name)
    words = 15 if name == "squad" else 10
    assert f"at most {words} " in task.template.instruction
    assert f"at most {words} words" in task.form
    assert task.follows_format(" ".join(["word"] * words), ANY)
    assert not task.follows_format(" ".join(["word"] * (words + 1)), ANY)


def test_each_of_several_spans_of_drop_may_be_as_long() -> None:
    task = tasks.get("drop")
    assert task.follows_format("; ".join([" ".join(["word"] * 10)] * 3), ANY)
    assert not task.follows_format("one; " + " ".join(["word"] * 11), ANY)


WORKINGS = st.lists(
    st.sampled_from(
        ["Problem:", "User:", "Exercise 1:", "Context:", "I don't know", "6 * 3 = 18", "[INST]", "Q:", " ", "\n", "a"]
    ),
    min_size=1,
).map("".join)


@given(WORKINGS, st.integers(0, 9999))
def test_a_working_that_has_the_form_is_read_as_a_whole(working: str, number: int) -> None:
    assume(working.strip() and "####" not in working)
    sample = judged("gsm8k", (str(number),), f"{working}\n#### {number}")
    assert sample.correct


@given(
    st.sampled_from(
        [(name, answers, row[0]) for (name, answers), rows in NASTY["OPEN"].items() for row in rows if name != "math500"]
    ),
    st.text(" \t\n", max_size=3),
    st.text(" \t\n", max_size=3),
    st.randoms(use_true_random=False),
)
def test_no_verdict_depends_on_white_space_around_a_completion_or_on_the_order_of_answers(
    case: tuple[str, tuple[str, ...], str], before: str, behind: str, random: Random
) -> None:
    name, answers, text = case
    shuffled = list(answers)
    random.shuffle(shuffled)
    plain, other = judged(name, answers, text.strip()), judged(name, tuple(shuffled), f"{before}{text.strip()}{behind}")
    assert (plain.format_ok, plain.knows, plain.correct, plain.extracted, plain.scores) == (
        other.format_ok,
        other.knows,
        other.correct,
        other.extracted,
        other.scores,
    )


@given(
    st.sampled_from(
        [(name, answers, row[0]) for (name, answers), rows in NASTY["OPEN"].items() for row in rows if name != "math500"]
    ),
    st.sampled_from(
        ["<think>{}</think>\n\n", "{}</think>\n", "<think>\n{}\n</think>", "<thinking>{}</thinking>", "[THINK]{}[/THINK]"]
    ),
    st.text(max_size=20),
)
def test_a_thought_in_front_changes_no_verdict(case: tuple[str, tuple[str, ...], str], thought: str, thoughts: str) -> None:
    name, answers, text = case
    assume("think" not in text.lower() and not {"<", "["} & set(thoughts))
    plain, other = judged(name, answers, text), judged(name, answers, thought.format(thoughts) + text)
    assert (plain.format_ok, plain.knows, plain.extracted) == (other.format_ok, other.knows, other.extracted)
    if other.span is not None and name != "json":
        assert other.completion[slice(*other.span)] == other.extracted


@pytest.mark.parametrize("cue", ["<think>", "<think>\n", "<|assistant|><thinking>\n\n"])
def test_a_completion_of_a_prompt_that_opens_a_thought_is_inside_it_until_it_is_closed(cue: str) -> None:
    for text, follows in (("6 * 3 = 18\n#### 18", False), ("hm\n#### 17\n</think>\n6 * 3 = 18\n#### 18", True)):
        completion = Completion(text=text, token_ids=(1,), finish_reason="stop")
        example = replace(ANY, answers=("18",))
        sample = score(GSM8K, [example], [completion], prompts=[f"Question: ...{cue}"])[0]
        assert (sample.format_ok, sample.correct, sample.extracted) == (follows, follows, "18" if follows else None)


@pytest.mark.parametrize(
    ("text", "follows", "right"),
    [
        ("<think>A. Rome</think>\nB. Paris", True, True),
        ("B. Paris</think>\n\nA. Rome", True, False),
        ("<think>B. Paris", False, False),
        ("<think>\n</think>\n\nB. Paris\n", True, True),
    ],
)
def test_an_option_is_read_behind_a_thought(text: str, follows: bool, right: bool) -> None:
    completion = Completion(text=text, token_ids=(1,), finish_reason="stop")
    sample = score(tasks.get("mmlu"), [CAPITALS], [completion], [(-1.0, -2.0, -3.0, -4.0)], prompts=["p"])[0]
    assert (sample.format_ok, sample.correct) == (follows, right)


UNITS = st.sampled_from(["hours", "dollars", "feet", "boxes of eggs", "kg"])


@given(
    st.integers(1, 999),
    UNITS,
    st.sampled_from([" and {}", ", {}", " {}", " plus {}", " or {}", " to {}", " - {}", " & {}", " and about {}"]),
    st.sampled_from(["20", "\u00bd", "$5", "a half", "twenty", "\\frac{1}{2}"]),
    st.sampled_from(["The answer is {}.", "#### {}", "{}", "Answer: {}", "**Answer:** ${}"]),
)
def test_a_value_that_goes_on_is_no_value(number: int, unit: str, joined: str, more: str, wording: str) -> None:
    assume(not (joined in (" {}", " - {}") and more in ("a half", "twenty", "\\frac{1}{2}")))
    assert GSM8K.extract is not None
    assert GSM8K.extract("so\n" + wording.format(f"{number} {unit}{joined.format(more)}")) is None
