"""The ways of scoring options, against numbers worked out by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from spt_fast import tasks
from spt_fast.scoring.methods import (
    METHODS,
    Method,
    OptionScores,
    Priors,
    ability,
    are_listed,
    choose,
    commonest,
    guess,
    knowledge_told,
    letters,
)
from spt_fast.scoring.metrics import aggregate, at_best
from spt_fast.scoring.score import score
from spt_fast.scoring.statistics import proportion
from spt_fast.types import Completion, Example, Metric, Sample

INF = math.inf
MMLU = tasks.get("mmlu")
TEXTS = ("Rome", "Paris", "Münster")

SCORES = OptionScores(
    listed=(-1.0, -2.0, -3.0),
    priors=(-0.1, -2.0, -2.5),
    texts=TEXTS,
    cloze=(-8.0, -9.0, -10.0),
    unconditional=(-5.0, -7.5, -6.0),
)


def example(gold: int = 1) -> Example:
    options = tuple(f"{letter}. {text}" for letter, text in zip("ABC", TEXTS, strict=True))
    return Example(
        key=f"e{gold}", question="?", target=options[gold], answers=(options[gold],), options=options, texts=TEXTS, gold=gold
    )


def sample(scores: OptionScores, gold: int = 1, best: Method = "listed", text: str = "A. Rome") -> Sample:
    said = Completion(text=text, token_ids=(1,), finish_reason="stop")
    return score(MMLU, [example(gold)], [said], [scores], prompts=["p"], best=best)[0]


def test_each_way_chooses_by_its_own_numbers() -> None:
    # Debiased: -0.9, 0.0, -0.5. Per byte (4, 5, 8: ü has two): -2, -1.8, -1.25. PMI: -3, -1.5, -4.
    assert SCORES.by("debiased") == pytest.approx([-0.9, 0.0, -0.5])
    assert SCORES.by("cloze_per_byte") == pytest.approx([-2.0, -1.8, -1.25])
    assert SCORES.by("cloze_pmi") == pytest.approx([-3.0, -1.5, -4.0])
    assert {way: SCORES.chosen(way) for way in METHODS} == {
        "listed": 0,
        "debiased": 1,
        "cloze": 0,
        "cloze_per_byte": 2,
        "cloze_pmi": 1,
    }


def test_verdicts_and_evidence_of_every_way_are_kept_in_the_sample() -> None:
    found = sample(SCORES, best="cloze_pmi")
    assert (found.knows, found.knows_debiased, found.knows_cloze) == (False, True, False)
    assert (found.knows_cloze_per_byte, found.knows_cloze_pmi, found.knows_best) == (False, True, True)
    assert (found.chosen, found.chosen_debiased, found.chosen_cloze) == (0, 1, 0)
    assert (found.chosen_cloze_per_byte, found.chosen_cloze_pmi, found.gold) == (2, 1, 1)
    assert found.option_logprobs == SCORES.listed
    assert found.option_priors == SCORES.priors
    assert found.cloze_logprobs == SCORES.cloze
    assert found.unconditional_logprobs == SCORES.unconditional
    assert found.cloze_texts == TEXTS
    assert found.bound is True


def test_without_cloze_and_rows_to_choose_by_there_are_the_listed_options() -> None:
    found = sample(OptionScores(listed=(-1.0, -0.5, -3.0)), best="listed")
    assert found.knows
    assert found.knows_best
    assert found.knows_cloze is None
    assert found.chosen_debiased is None
    names = {metric.name for metric in aggregate([found])}
    assert "knowledge_best" in names
    assert not names & {"knowledge_cloze", "knowledge_cloze_pmi", "knowledge_debiased"}
    assert sample(OptionScores(listed=(-1.0, -0.5, -3.0)), best="cloze").knows_best is True


def test_what_the_question_rules_out_is_not_chosen_by_pmi() -> None:
    ruled_out = OptionScores(listed=(0.0, 0.0), texts=("a", "b"), cloze=(-INF, -9.0), unconditional=(-INF, -2.0))
    assert ruled_out.by("cloze_pmi") == [-INF, -7.0]
    assert ruled_out.chosen("cloze_pmi") == 1


def test_a_place_has_by_itself_its_mean_log_softmax_over_rows() -> None:
    # Softmax of (0, log 3): 1/4, 3/4; of (log 3, 0): 3/4, 1/4.
    rows = [(0.0, math.log(3))] * 6 + [(math.log(3), 0.0)] * 2
    expected = ((6 * math.log(1 / 4) + 2 * math.log(3 / 4)) / 8, (6 * math.log(3 / 4) + 2 * math.log(1 / 4)) / 8)
    assert Priors(rows).of(2) == pytest.approx(expected)
    assert Priors(rows).of(2) == pytest.approx(Priors([(a - 7, b - 7) for a, b in rows]).of(2)), "a constant changes nothing"


def test_longer_lists_tell_of_shorter_ones_and_too_few_rows_of_nothing() -> None:
    of_four = [(0.0, 0.0, -50.0, -50.0)] * 8
    assert Priors(of_four).of(2) == pytest.approx((math.log(0.5),) * 2)
    assert Priors(of_four).of(5) == (0.0,) * 5
    assert Priors(of_four[:7]).of(4) == ()
    assert Priors([*of_four[:7], (-INF, 0.0, 0.0, 0.0)]).of(4) == ()


def test_the_best_way_is_the_one_that_is_right_most_often_and_the_first_of_equals() -> None:
    found = choose([SCORES, SCORES, SCORES, SCORES], [2, 2, 1, 0], learnt=3)
    assert found.shares == {"listed": 0.25, "debiased": 0.25, "cloze": 0.25, "cloze_per_byte": 0.5, "cloze_pmi": 0.25}
    assert (found.method, found.rows, found.learnt) == ("cloze_per_byte", 4, 3)
    assert choose([SCORES], [1]).method == "debiased"
    assert choose([], []).method == "listed"
    assert choose([OptionScores(listed=(-1.0, 0.0))], [1]).shares == {"listed": 1.0}
    told = found.told()
    assert told["knowledge_best_rows"] == "4, 3 of them learnt on"
    assert json.loads(told["knowledge_best_shares"])["cloze_per_byte"] == 0.5
    assert commonest(["cloze_pmi", "cloze", "cloze", "cloze_pmi"]) == "cloze"


def metric(name: str, value: float, low: float) -> Metric:
    return Metric(name=name, value=value, n=100, stderr=0.05, ci_low=low, ci_high=1.0)


@pytest.mark.parametrize(
    ("listed", "cloze", "expected"),
    [
        ((0.27, 0.19), (0.28, 0.20), "neither"),
        ((0.27, 0.19), (0.53, 0.44), "cloze only"),
        ((0.60, 0.50), (0.28, 0.20), "listed only"),
        ((0.60, 0.50), (0.53, 0.44), "both"),
        ((0.35, 0.26), (0.28, 0.20), "listed only"),
    ],
)
def test_what_a_model_can_do_at_all_is_above_guessing_with_its_interval(
    listed: tuple[float, float], cloze: tuple[float, float], expected: str
) -> None:
    assert ability([metric("knowledge", *listed), metric("knowledge_cloze", *cloze)], 0.25) == expected


def test_several_ways_have_wider_intervals_together() -> None:
    # Alone 0.35 - 0.09 = 0.26 is above 0.25; of two, 0.35 - 0.09 * 2.2414 / 1.96 = 0.247 is not.
    one, other = metric("knowledge", 0.35, 0.26), metric("knowledge_debiased", 0.3, 0.21)
    assert ability([one], 0.25) == "listed only"
    assert ability([one, other], 0.25) == "neither"
    assert ability([metric("knowledge", math.nan, math.nan)], 0.25) == "neither"


def test_who_always_says_yes_knows_nothing_of_yes_no_questions() -> None:
    def yes_no(gold: int) -> Sample:
        said = Completion(text="yes", token_ids=(1,), finish_reason="stop")
        row = Example(key=str(gold), question="?", target="yes", answers=("yes",), options=("no", "yes"), gold=gold)
        return score(tasks.get("boolq"), [row], [said], [(-2.0, -1.0)], prompts=["p"])[0]

    rows = [yes_no(1)] * 62 + [yes_no(0)] * 38
    assert guess(rows, 0.5) == 0.62
    assert ability(aggregate(rows), guess(rows, 0.5)) == "neither"
    assert guess([sample(SCORES)], 0.25) == 1.0, "all rows have the same options"
    assert guess([], 0.25) == 0.25
    assert rows[0].bound is None
    assert "letter_binding" not in {metric.name for metric in aggregate(rows)}


def test_letters_that_are_chosen_stand_beside_those_that_are_right() -> None:
    rows = [sample(SCORES, 1), sample(SCORES, 1), sample(SCORES, 2), sample(SCORES, 0)]
    assert letters(rows) == {"A": (1.0, 0.25), "B": (0.0, 0.5), "C": (0.0, 0.25)}
    told = knowledge_told(rows, aggregate(rows), 0.25)
    assert json.loads(told["letters"]) == {"A": [1.0, 0.25], "B": [0.0, 0.5], "C": [0.0, 0.25]}
    assert told["knowledge_by"] == "neither"


def test_options_that_no_prompt_lists_are_known_by_cloze_and_have_no_letters() -> None:
    listing = [replace(sample(SCORES, 1), prompt="A. Rome\nB. Paris\nC. Bern", options=("Rome", " Paris", "Bern"))] * 40
    assert are_listed(listing)
    plain = [replace(each, prompt="Question: the capital of France?\nAnswer:") for each in listing]
    assert not are_listed(plain)
    known = [proportion("knowledge", [True] * 40)]
    assert knowledge_told(plain, known, 0.25, listed=True)["knowledge_by"] == "neither", "all rows have the same options"
    rows = [replace(each, options=(*each.options[:2], f"Bern {i}"), cloze_texts=()) for i, each in enumerate(plain)]
    assert knowledge_told(rows, known, 0.25, listed=True)["knowledge_by"] == "listed only"
    told = knowledge_told(rows, known, 0.25, listed=False)
    assert told["knowledge_by"] == "cloze only"
    assert "letters" not in told


def test_form_binding_and_the_right_one_make_exact_match() -> None:
    rows = [
        sample(SCORES, 1, text="B. Paris"),
        sample(SCORES, 1, text="A. Rome"),
        sample(SCORES, 1, text="A. Paris"),
        sample(SCORES, 1, text="Paris"),
    ]
    found = {metric.name: (metric.value, metric.n) for metric in aggregate(rows)}
    assert found["format_following"] == (0.75, 4)
    assert found["letter_binding"] == (pytest.approx(2 / 3), 3)
    assert found["exact_match"] == (0.25, 4)
    assert found["exact_match_given_format"] == (pytest.approx(1 / 3), 3)


def test_the_table_of_form_and_knowledge_means_the_best_way() -> None:
    rows = [sample(SCORES, 1, "cloze_pmi", "A. Rome"), sample(SCORES, 1, "cloze_pmi", "Rome")]
    found = {metric.name: metric.value for metric in aggregate(rows)}
    assert (found["knowledge"], found["knowledge_best"]) == (0.0, 1.0)
    assert (found["format_and_knowledge"], found["knowledge_only"], found["format_only"]) == (0.5, 0.5, 0.0)
    assert at_best(rows[0])
