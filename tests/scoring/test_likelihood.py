"""Bits per byte and the margin over other options, against numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from spt_fast import tasks
from spt_fast.scoring.clusters import MOST_DRAWN, bootstrapped
from spt_fast.scoring.ensemble import majority_vote
from spt_fast.scoring.likelihood import GoldScores, margin, utf8_bytes
from spt_fast.scoring.methods import OptionScores
from spt_fast.scoring.metrics import aggregate, spec
from spt_fast.scoring.score import choices, score
from spt_fast.types import Completion, Example, Sample

LN2 = math.log(2)
OPTIONS = ("A. Rom", "B. Köln", "C. Bern")


def written(text: str = "x") -> Completion:
    return Completion(text=text, token_ids=(), finish_reason="stop")


def test_bits_are_binary_and_per_byte_not_per_character() -> None:
    assert GoldScores(texts=("Köln",), logprobs=(-5 * LN2,)).bits_per_byte == pytest.approx(1.0)  # K, o with two dots (2), l, n
    assert GoldScores(texts=("ab",), logprobs=(0.0,)).bits_per_byte == 0.0


def test_of_several_answers_the_likeliest_in_all_counts_and_of_equal_ones_the_first() -> None:
    assert GoldScores(texts=("United States", "US"), logprobs=(-8 * LN2, -2 * LN2)).bits_per_byte == pytest.approx(1.0)
    assert GoldScores(texts=("abcd", "ab"), logprobs=(-4 * LN2, -4 * LN2)).bits_per_byte == pytest.approx(1.0)


@pytest.mark.parametrize(
    "gold", [GoldScores(), GoldScores(texts=("",), logprobs=(-1.0,)), GoldScores(texts=("a",), logprobs=(-math.inf,))]
)
def test_without_an_answer_without_bytes_or_without_a_likelihood_there_is_none(gold: GoldScores) -> None:
    assert gold.bits_per_byte is None


def test_half_a_surrogate_pair_is_a_byte() -> None:
    assert utf8_bytes("\ud83da") == 2


def test_the_margin_is_over_the_likeliest_option_of_another_text() -> None:
    assert margin(["a", "b", "c"], [-1.0, -3.0, -2.5], 0) == 1.5
    assert margin(["a", "b", "c"], [-4.0, -3.0, -2.5], 0) == -1.5
    assert margin(["a", "b", "a"], [-4.0, -3.0, -2.5], 0) == -1.0, "the same text again is not another option"
    assert margin(["a", "a"], [-4.0, -3.0], 0) is None
    assert margin(["a", "b"], [-4.0, -math.inf], 0) is None
    assert margin(["a", "b"], [-4.0, -1.0], None) is None


def test_options_are_scored_by_their_text_behind_the_question_alone() -> None:
    scores = OptionScores(listed=(-1.0, -2.0, -3.0), texts=("Rom", "Köln", "Bern"), cloze=(-9.0, -5 * LN2, -7.0))
    found = choices(OPTIONS, 1, scores, "listed")
    assert found["answer_texts"] == ("Köln",)
    assert found["answer_bits_per_byte"] == pytest.approx(1.0)
    assert found["answer_logprob_margin"] == pytest.approx(7.0 - 5 * LN2)


def test_without_a_cloze_form_they_are_scored_as_they_are_asked() -> None:
    found = choices(OPTIONS, 1, OptionScores(listed=(-1.0, -8 * LN2, -3.0)), "listed")
    assert found["answer_texts"] == ("B. Köln",)
    assert found["answer_bits_per_byte"] == pytest.approx(1.0)
    of_a_library = OptionScores(listed=(-1.0, -8 * LN2, -3.0), written=("A", "B", "C"))
    assert choices(OPTIONS, 1, of_a_library, "listed")["answer_bits_per_byte"] == pytest.approx(8.0)


def sampled(bits: float | None, group: str = "", i: int = 0) -> Sample:
    task, example = tasks.get("zoo-short"), Example(key=str(i), question="?", target="ab", answers=("ab",), group=group)
    gold = GoldScores() if bits is None else GoldScores(texts=("ab",), logprobs=(-2 * LN2 * bits,))
    return score(task, [example], [written()], prompts=["?"], gold=[gold])[0]


def test_rows_count_alike_and_those_without_a_value_do_not_count() -> None:
    found = {each.name: each for each in aggregate([sampled(1.0), sampled(2.0), sampled(6.0), sampled(None)])}
    assert (found["answer_bits_per_byte"].value, found["answer_bits_per_byte"].n) == (pytest.approx(3.0), 3)
    assert "answer_logprob_margin" not in found, "it has no options"
    assert "answer_bits_per_byte" not in {each.name for each in aggregate([sampled(None)])}, "as runs of earlier versions"


def test_the_interval_is_that_of_a_bootstrap_and_may_be_above_one() -> None:
    values = list(np.random.default_rng(1).gamma(2.0, 1.5, 200))
    found = bootstrapped("m", values, [""] * 200)
    drawn = np.random.default_rng(5).choice(values, (20_000, 200)).mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (found.ci_low, found.ci_high) == (pytest.approx(low, abs=0.06), pytest.approx(high, abs=0.06))
    assert found.stderr == pytest.approx(np.std(values, ddof=1) / math.sqrt(200))
    assert 2 < found.ci_low < found.value < found.ci_high


def test_rows_of_a_passage_are_drawn_together_so_the_interval_is_wider() -> None:
    values = [float(i // 10) for i in range(100)]
    alone, together = (bootstrapped("m", values, groups) for groups in ([""] * 100, [str(i // 10) for i in range(100)]))
    assert together.ci_high - together.ci_low > 2.5 * (alone.ci_high - alone.ci_low)


def test_few_clusters_have_a_wider_interval_than_their_percentiles_and_one_has_none() -> None:
    assert bootstrapped("m", [1.0, 2.0, 4.0], [""] * 3).ci_low == pytest.approx(1.0)
    one = bootstrapped("m", [1.0, 2.0], ["p", "p"])
    assert (one.value, one.n) == (1.5, 2)
    assert all(map(math.isnan, (one.stderr, one.ci_low, one.ci_high)))
    assert math.isnan(bootstrapped("m", [], []).value)


def test_so_many_clusters_that_nothing_is_drawn_have_the_normal_interval() -> None:
    many = bootstrapped("m", list(np.random.default_rng(0).normal(2, 1, MOST_DRAWN + 1)), [""] * (MOST_DRAWN + 1))
    assert many.ci_high - many.value == pytest.approx(1.96 * many.stderr, rel=1e-3)


def test_an_ensemble_scores_by_the_mean_log_likelihoods_of_its_members() -> None:
    task = tasks.get("zoo-short")
    example = Example(key="0", question="?", target="ab", answers=("ab", "c"))
    golds = [GoldScores(texts=("ab", "c"), logprobs=(-2 * LN2, -9.0)), GoldScores(texts=("ab", "c"), logprobs=(-4 * LN2, -9.0))]
    ballots = [score(task, [example], [written("ab")], prompts=["?"], gold=[gold])[0] for gold in golds]
    assert majority_vote(task, example, ballots).answer_bits_per_byte == pytest.approx(1.5)
    earlier = replace(ballots[0], answer_texts=(), answer_logprobs=(), answer_bits_per_byte=None)
    assert majority_vote(task, example, [earlier, ballots[1]]).answer_bits_per_byte is None


def test_the_table_says_what_is_no_share_and_which_way_is_better() -> None:
    bits, edge = spec("answer_bits_per_byte"), spec("answer_logprob_margin")
    assert (bits.in_points, bits.sign, bits.unit, bits.least) == (False, -1.0, "bits per byte", 0.0)
    assert (edge.in_points, edge.sign, edge.unit, edge.least) == (False, 1.0, "nats", -math.inf)
    assert spec("exact_match").in_points
    assert spec("f1").in_points
    assert spec("lm_eval/word_perplexity").sign == -1.0
    assert not spec("lm_eval/bleu").in_points
    assert (spec("lm_eval/brier_score").sign, spec("lm_eval/acc/none").sign) == (-1.0, 1.0)
