"""Format and knowledge are judged apart."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spt_fast import tasks
from spt_fast.errors import ScoringError
from spt_fast.scoring.metrics import aggregate
from spt_fast.scoring.score import score
from spt_fast.types import Completion, Example, FinishReason, Metric, Sample

GSM8K = tasks.get("gsm8k")
MMLU = tasks.get("mmlu")
SUM = Example(key="sum", question="6 * 3?", target="6 * 3 = 18\n#### 18", answers=("18",))
CAPITAL = Example(
    key="capital",
    question="?",
    target="B. Paris",
    answers=("B. Paris",),
    options=("A. Rome", "B. Paris", "C. A much longer wrong option"),
    gold=1,
)


def said(text: str, finish_reason: FinishReason = "stop") -> Completion:
    return Completion(text=text, token_ids=(1,), finish_reason=finish_reason)


def solved(text: str, finish_reason: FinishReason = "stop") -> Sample:
    return score(GSM8K, [SUM], [said(text, finish_reason)], prompts=["p"])[0]


def chose(text: str, *logprobs: float, finish_reason: FinishReason = "stop") -> Sample:
    return score(MMLU, [CAPITAL], [said(text, finish_reason)], [logprobs], prompts=["p"], step=40)[0]


@pytest.mark.parametrize(
    ("text", "format_ok", "knows", "correct"),
    [
        ("6 * 3 = 18\n#### 18", True, True, True),
        ("6 * 3 = 19\n#### 19", True, False, False),
        ("The answer is 18.", False, True, False),
        ("The answer is 19.", False, False, False),
        ("I do not know.", False, False, False),
    ],
)
def test_an_open_answer_is_judged_for_form_and_value(text: str, format_ok: bool, knows: bool, correct: bool) -> None:
    sample = solved(text)
    assert (sample.format_ok, sample.knows, sample.correct) == (format_ok, knows, correct)


def test_a_completion_that_was_cut_off_does_not_follow_the_format() -> None:
    sample = solved("6 * 3 = 18\n#### 18", "length")
    assert not sample.format_ok
    assert not sample.correct
    assert not chose("B. Paris", -1.0, -0.5, -2.0, finish_reason="length").format_ok


def test_a_value_that_reaches_the_cut_may_be_half_a_value_and_counts_for_nothing() -> None:
    assert solved("6 * 3 = 18\n#### 1", "length").extracted is None
    assert solved("The answer is 18. So she", "length").knows


@pytest.mark.parametrize(
    ("text", "logprobs", "format_ok", "knows", "correct"),
    [
        ("B. Paris", (-2.0, -1.0, -3.0), True, True, True),
        ("A. Rome", (-2.0, -1.0, -3.0), True, True, False),  # it knows better than it wrote
        ("B. Paris", (-1.0, -2.0, -3.0), True, False, True),
        ("Paris", (-2.0, -1.0, -3.0), False, True, False),
        ("Rome", (-1.0, -2.0, -3.0), False, False, False),
    ],
)
def test_a_choice_is_judged_for_form_by_text_and_for_knowledge_by_likelihood(
    text: str, logprobs: tuple[float, ...], format_ok: bool, knows: bool, correct: bool
) -> None:
    sample = chose(text, *logprobs)
    assert (sample.format_ok, sample.knows, sample.correct) == (format_ok, knows, correct)
    assert sample.option_logprobs == logprobs
    assert sample.step == 40


def test_per_byte_a_long_option_is_not_punished_for_its_length() -> None:
    sample = chose("", -7.0, -8.0, -10.0)
    assert (sample.chosen, sample.chosen_per_byte) == (0, 2)


def test_of_equally_likely_options_the_first_counts() -> None:
    assert chose("", -1.0, -1.0, -1.0).chosen == 0
    assert chose("", -math.inf, -math.inf, -math.inf).chosen == 0


@pytest.mark.parametrize("gold", [0, 2])
@pytest.mark.parametrize("likeliest", [0, 1, 2])
def test_a_right_text_that_stands_twice_is_right_in_either_place(gold: int, likeliest: int) -> None:
    options = ("Paris", "Rome", "Paris")
    twice = replace(CAPITAL, target="Paris", answers=("Paris",), options=options, gold=gold)
    logprobs = [-2.0, -2.5, -2.0]
    logprobs[likeliest] = -1.0
    sample = score(tasks.get("mmlu:text"), [twice], [said("Paris")], [logprobs], prompts=["p"])[0]
    assert (sample.format_ok, sample.correct) == (True, True)
    assert (sample.knows, sample.knows_per_byte) == (likeliest != 1, likeliest != 1)


def test_a_likelihood_that_is_nan_or_missing_is_our_fault_and_told() -> None:
    with pytest.raises(ScoringError, match="NaN"):
        chose("", -1.0, math.nan, -1.0)
    with pytest.raises(ScoringError, match="3 options of example capital, but 2 log-likelihoods"):
        chose("", -1.0, -1.0)
    with pytest.raises(ScoringError, match="1 examples, but 0 completions"):
        score(GSM8K, [SUM], [], prompts=["p"])


def test_an_extractor_that_raises_is_told_as_a_scoring_error() -> None:
    def broken(text: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ScoringError, match="the extractor failed on 'x'"):
        score(replace(GSM8K, extract=broken), [SUM], [said("x")], prompts=["p"])


def by_name(found: tuple[Metric, ...]) -> dict[str, Metric]:
    return {metric.name: metric for metric in found}


judged = st.tuples(st.booleans(), st.booleans()).map(
    lambda v: replace(solved(""), format_ok=v[0], knows=v[1], correct=v[0] and v[1])
)


@given(st.lists(judged, min_size=1))
def test_the_four_corners_add_up(samples: list[Sample]) -> None:
    found = by_name(aggregate(samples))
    corners = [found[name].value for name in ("format_and_knowledge", "format_only", "knowledge_only", "neither")]
    assert sum(corners) == pytest.approx(1)
    assert corners[0] + corners[1] == pytest.approx(found["format_following"].value)
    assert corners[0] + corners[2] == pytest.approx(found["knowledge"].value)
    assert {metric.n for name, metric in found.items() if name != "exact_match_given_format"} == {len(samples)}


@given(st.lists(judged))
def test_exact_match_is_format_times_exact_match_given_format(samples: list[Sample]) -> None:
    found = by_name(aggregate(samples))
    given_format = found["exact_match_given_format"]
    assert given_format.n == sum(sample.format_ok for sample in samples)
    if given_format.n:
        assert found["exact_match"].value == pytest.approx(given_format.value * found["format_following"].value)
    else:
        assert math.isnan(given_format.value)


def test_knowledge_per_byte_is_for_options() -> None:
    samples = [chose("", -9.0, -8.0, -40.0), chose("", -7.5, -8.0, -40.0)]
    assert by_name(aggregate(samples))["knowledge_per_byte"].value == 1.0
    assert by_name(aggregate(samples))["knowledge"].value == 0.5
    assert "knowledge_per_byte" not in by_name(aggregate([solved("")]))


def test_a_further_score_is_a_mean_in_which_nothing_extracted_counts_as_nothing() -> None:
    task = replace(GSM8K, scores={"closeness": lambda value, example: 1 / (1 + abs(float(value) - 18))})
    samples = score(task, [SUM] * 3, [said("#### 18"), said("#### 19"), said("no idea")], prompts=["p"] * 3)
    found = by_name(aggregate(samples))["closeness"]
    assert found.value == pytest.approx((1 + 0.5 + 0) / 3)
    assert found.n == 3
    assert found.stderr == pytest.approx(np.std([1, 0.5, 0], ddof=1) / 3**0.5)
    assert found.ci_low < found.value < found.ci_high <= 1
