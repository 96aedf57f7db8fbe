"""Orders of models: of recorded runs, and of 61 models that others have measured."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from spt_fast.analysis.plain import plain_values
from spt_fast.analysis.ranking import rank_run, rank_scores
from spt_fast.analysis.ranking_types import ALL_TASKS, MEAN, PLANTED, RankAgreement, Ranking
from spt_fast.analysis.runs import metric_names, read_run
from spt_fast.analysis.scores import Score, ScoreTable, read_scores
from spt_fast.cli.ranking import told
from spt_fast.errors import ConfigError
from tests.helpers.recorded import write_run

LM_HARMONY = Path(__file__).resolve().parents[3] / "shared" / "data" / "lm_harmony" / "scores.json"
needs_lm_harmony = pytest.mark.skipif(not LM_HARMONY.is_file(), reason="../shared/data is not beside this checkout")

KNOWN = {"b1": 0.3, "b2": 0.5, "b3": 0.7, "b4": 0.9}


def answered(share: float, seed: int, rows: int = 200) -> list[bool]:
    """Verdicts of a model that knows so much; a row that is easy for one is easy for all."""
    hard = np.random.default_rng(0).random(rows)
    return list(np.random.default_rng(seed).normal(hard, 0.05) < share)


def record(folder: Path, seeds: tuple[int, ...] = (0, 1)) -> Path:
    """Four base models in the order of what they know under soft prompts, in disorder when they are asked plainly."""
    verdicts = {}
    for i, (base, share) in enumerate(KNOWN.items()):
        for t, task in enumerate(("t1", "t2")):
            verdicts[base, task, "zero_shot", None] = [row < (4, 0, 0, 2)[i] for row in range(200)]
            verdicts["c" + base, task, "zero_shot", None] = answered(share, 10 * i + t + 5)
            for seed in seeds:
                verdicts[base, task, "soft_prompt", seed] = answered(share - 0.1, 100 * i + 10 * t + seed)
                verdicts["c" + base, task, "soft_prompt", seed] = answered(share, 1000 + 100 * i + 10 * t + seed)
    return write_run(folder, verdicts, partners={base: "c" + base for base in KNOWN})


@pytest.fixture(scope="module")
def ranking(tmp_path_factory: pytest.TempPathFactory) -> Ranking:
    run = read_run(record(tmp_path_factory.mktemp("run") / "r"))
    return rank_run(run, truth={"": KNOWN}, resamples=300)


def of(ranking: Ranking, task: str, protocol: str, truth: str) -> RankAgreement:
    (found,) = (r for r in ranking.agreements if (r.task, r.protocol, r.truth) == (task, protocol, truth))
    return found


def test_base_models_are_held_against_both_ground_truths_and_the_planted_one(ranking: Ranking) -> None:
    assert ranking.models == tuple(KNOWN)
    truths = dict.fromkeys(found.truth for found in ranking.agreements)
    assert list(truths) == ["post-trained, zero_shot", "post-trained, soft_prompt", PLANTED]
    for truth in truths:
        for task in ("t1", "t2", ALL_TASKS, MEAN):
            soft, plain = of(ranking, task, "soft_prompt", truth), of(ranking, task, "zero_shot", truth)
            assert soft.agreement.tau_b == 1.0
            assert soft.agreement.distance == 0.0
            assert plain.agreement.tau_b < 0.5
            assert (soft.chance is None) == (task == MEAN)
    chance = of(ranking, "t1", "soft_prompt", PLANTED).chance
    assert chance is not None
    assert chance.p == pytest.approx(1 / 24)
    assert chance.distance == 3.0


def test_two_models_of_equal_score_share_a_place(ranking: Ranking) -> None:
    (order,) = (o for o in ranking.orders if (o.task, o.protocol) == ("t1", "zero_shot"))
    scores = [ranked.score for ranked in order.models]
    assert scores == sorted(scores, reverse=True)
    tied = [ranked.place for ranked in order.models if ranked.score == 0.0]
    assert len(tied) == 2
    assert len(set(tied)) == 1
    assert of(ranking, "t1", "zero_shot", PLANTED).agreement.tied == 1


def test_intervals_say_what_was_drawn_again(ranking: Ranking) -> None:
    soft = of(ranking, "t1", "soft_prompt", PLANTED).intervals["tau_b"]
    assert soft["all"].low <= soft["rows"].low <= 1.0 <= soft["rows"].high
    assert math.isnan(of(ranking, "t1", "zero_shot", PLANTED).intervals["tau_b"]["seeds"].low), "there are none"
    (gain,) = (g for g in ranking.gains if (g.task, g.truth) == (MEAN, PLANTED))
    assert (gain.protocol, gain.over) == ("soft_prompt", "zero_shot")
    assert gain.intervals["rows"].low > 0


def test_a_task_that_tells_models_apart_has_signal(ranking: Ranking) -> None:
    signals = {(s.task, s.protocol): s.signal for s in ranking.signals}
    assert signals["t1", "soft_prompt"].ratio > 10
    assert signals["t1", "zero_shot"].ratio < signals["t1", "soft_prompt"].ratio / 3
    assert signals["t1", "soft_prompt"].by_chance == pytest.approx(2.059, abs=1e-3)


def test_rows_and_seeds_are_told_apart(ranking: Ranking) -> None:
    (order,) = (o for o in ranking.orders if (o.task, o.protocol) == ("t1", "soft_prompt"))
    for ranked in order.models:
        assert 0 <= ranked.between_seeds < ranked.sampling
        assert ranked.stderr**2 == pytest.approx(ranked.sampling**2 + ranked.between_seeds**2 / 2)
    plain = next(s for s in ranking.signals if (s.task, s.protocol) == ("t1", "zero_shot"))
    assert math.isnan(plain.between_seeds)


def test_the_order_that_a_grid_knows_is_one_to_hold_others_against(tmp_path: Path) -> None:
    verdicts = {(m, "t", "zero_shot", None): answered(s, 1, 50) for m, s in KNOWN.items()}
    run = read_run(write_run(tmp_path / "r", verdicts, truth={"": KNOWN}))
    found = of(rank_run(run, resamples=50), "t", "zero_shot", PLANTED)
    assert found.agreement == of(rank_run(run, truth={"t": KNOWN}, resamples=50), "t", "zero_shot", PLANTED).agreement
    backwards = {model: -score for model, score in KNOWN.items()}
    against = of(rank_run(run, truth={"": backwards}, resamples=50), "t", "zero_shot", PLANTED)
    assert against.agreement.tau_b == -found.agreement.tau_b != 0


def test_the_same_seed_draws_the_same(tmp_path: Path) -> None:
    run = read_run(record(tmp_path / "r", seeds=(0,)))
    first, again = (plain_values(rank_run(run, resamples=50)) for _ in range(2))
    assert first == again
    assert first != plain_values(rank_run(run, resamples=50, seed=1))


def test_rows_that_one_cell_lacks_and_cells_that_are_missing_are_told(tmp_path: Path) -> None:
    verdicts = {(m, "t", "zero_shot", None): answered(s, 1, 50) for m, s in KNOWN.items()}
    verdicts["b4", "t", "zero_shot", None] = answered(0.9, 1, 40)
    run = read_run(write_run(tmp_path / "r", verdicts, waiting=[("b5", "t", "zero_shot", None)]))
    found = rank_run(run, resamples=50)
    assert "t: 40 of 50 rows are in all cells; the others are left out." in found.notes
    assert any(note.startswith("1 of 5 cells are not done") for note in found.notes)
    assert "order of 4 of 5 models by " in " ".join(told(found).split())
    assert found.agreements == ()


def test_a_protocol_that_one_task_lacks_is_ranked_where_it_is_and_not_over_tasks(tmp_path: Path) -> None:
    verdicts = {(m, t, "zero_shot", None): answered(s, 1, 50) for m, s in KNOWN.items() for t in ("t1", "t2", "t3")}
    verdicts |= {(m, t, "few_shot", 0): answered(s, 1, 50) for m, s in KNOWN.items() for t in ("t1", "t2")}
    found = rank_run(read_run(write_run(tmp_path / "r", verdicts)), truth={"": KNOWN}, resamples=50)
    assert {a.task for a in found.agreements if a.protocol == "few_shot"} == {"t1", "t2"}
    assert {a.task for a in found.agreements if a.protocol == "zero_shot"} == {"t1", "t2", "t3", ALL_TASKS, MEAN}
    assert [each.protocol for each in found.between_tasks] == ["zero_shot"]


def test_seeds_that_answered_other_rows_are_held_together_on_what_they_share(tmp_path: Path) -> None:
    verdicts = {("m", "t", "few_shot", 0): [True, False, True, False], ("m", "t", "few_shot", 1): [True, True, False]}
    rows = read_run(write_run(tmp_path / "r", verdicts)).rows("m", "t", "few_shot", "exact_match")
    assert rows is not None
    assert rows.examples == ("e00000", "e00001", "e00002")
    assert rows.values.tolist() == [[1, 0, 1], [1, 1, 0]]
    assert rows.seeds == (0, 1)


def test_one_model_has_no_order(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "r", {("m", "t", "zero_shot", None): [True]}))
    with pytest.raises(ConfigError, match="a ranking needs two models or more, and there is 1"):
        rank_run(run)
    with pytest.raises(ConfigError, match="no done cell has the metric 'f1'"):
        rank_run(run, metric="f1")
    assert "f1" not in metric_names(run)


def test_models_of_which_one_alone_has_done_cells_have_no_order(tmp_path: Path) -> None:
    waiting = [(model, "t", "zero_shot", None) for model in ("b2", "b3")]
    run = read_run(write_run(tmp_path / "r", {("b1", "t", "zero_shot", None): [True, False]}, waiting=waiting))
    with pytest.raises(ConfigError, match=r"needs two models or more whose cells of a task and protocol are done$"):
        rank_run(run)


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a run folder"):
        read_run(tmp_path)
    with pytest.raises(ConfigError, match="no cell is done yet"):
        read_run(write_run(tmp_path / "r", {}, waiting=[("m", "t", "zero_shot", None)]))


def table(values: dict[str, dict[str, float]], stderr: float = math.nan) -> ScoreTable:
    scores = [Score(model=m, task=t, value=v, stderr=stderr) for t, by_model in values.items() for m, v in by_model.items()]
    return ScoreTable(source="s", scores=tuple(scores))


def test_a_task_that_lacks_a_model_is_not_in_what_is_said_over_tasks() -> None:
    full = {"a": 0.1, "b": 0.2, "c": 0.3}
    found = rank_scores(table({"t": full, "u": full, "v": {"a": 0.9, "b": 0.1}}), resamples=50)
    assert found.between_tasks[0].tasks == ("t", "u")
    assert found.between_tasks[0].tau_b == 1.0
    assert any("v (2 of 3 models)" in note for note in found.notes)
    assert any(note.startswith("No standard errors") for note in found.notes)


def test_perplexities_are_ordered_from_the_lowest_up() -> None:
    scores = table({"t": {"a": 0.1, "b": 0.2, "c": 0.3}, "ppl": {"a": 9.0, "b": 8.0, "c": 7.0}})
    assert rank_scores(scores, resamples=50).between_tasks[0].tau_b == -1.0
    assert rank_scores(scores, lower_is_better=["ppl"], resamples=50).between_tasks[0].tau_b == 1.0


def test_scores_that_are_better_the_lower_they_are_are_shown_as_they_are() -> None:
    found = rank_scores(table({"ppl": {"a": 9.0, "b": 8.0, "c": 7.0}}), lower_is_better=["ppl"], resamples=50)
    assert [(each.place, each.model, each.score) for each in found.orders[0].models] == [
        (1, "c", 7.0),
        (2, "b", 8.0),
        (3, "a", 9.0),
    ]


def test_models_are_ordered_from_the_fewest_bits_up_whether_by_a_run_or_by_its_table(tmp_path: Path) -> None:
    bits = {"a": 3.0, "b": 0.5, "c": 1.5}
    places = [(model, "t", "zero_shot", None) for model in bits]
    truth = {"": {"a": 0.1, "c": 0.2, "b": 0.9}}
    folder = write_run(
        tmp_path / "run", dict.fromkeys(places, [True] * 9), bits=lambda model, i: bits[model] + i / 100, truth=truth
    )
    found = rank_run(read_run(folder), metric="answer_bits_per_byte", resamples=50)
    assert [each.model for each in found.orders[0].models] == ["b", "c", "a"]
    assert [each.score for each in found.orders[0].models] == pytest.approx([0.54, 1.54, 3.04])
    assert {each.agreement.tau_b for each in found.agreements if each.truth == PLANTED} == {1.0}
    by_table = replace(table({"t": bits}), metric="answer_bits_per_byte")
    assert [each.model for each in rank_scores(by_table, resamples=50).orders[0].models] == ["b", "c", "a"]
    with pytest.raises(ConfigError, match="no done cell has the metric 'answer_bits_per_byte'"):
        rank_run(read_run(write_run(tmp_path / "old", {place: [True] for place in places})), metric="answer_bits_per_byte")


def test_partners_that_the_table_does_not_have_are_refused() -> None:
    with pytest.raises(ConfigError, match="partners: x is not in s"):
        rank_scores(table({"t": {"a": 0.1, "b": 0.2}}), partners={"a": "x"})


@needs_lm_harmony
def test_task_tuning_brings_the_orders_of_24_benchmarks_together_as_was_published() -> None:
    """0.517 and 0.755, higher on 274 of 276 pairs: arXiv 2507.05195, from its own scores."""
    found = rank_scores(read_scores(LM_HARMONY), resamples=200)
    by_protocol = {each.protocol: each for each in found.between_tasks}
    plain, tuned = by_protocol["direct_eval"], by_protocol["train_before_test"]
    assert (len(plain.tasks), plain.models, plain.pairs) == (24, 61, 276)
    assert round(plain.tau_b, 3) == 0.517
    assert round(tuned.tau_b, 3) == 0.755
    assert tuned.higher_than == {"direct_eval": 274}
    for each, within in ((plain, 0.09), (tuned, 0.09)):
        interval = each.intervals["all"]
        assert each.tau_b - within < interval.low < each.tau_b < interval.high < each.tau_b + within
    assert plain.intervals["all"].high < tuned.intervals["all"].low
    assert any("arxiv_2025 (53 of 61 models)" in note for note in found.notes)


@needs_lm_harmony
def test_base_and_chat_models_agree_as_was_recomputed_from_the_same_scores() -> None:
    scores = read_scores(LM_HARMONY)
    partners = {
        model.removesuffix(suffix): model
        for model in scores.models
        for suffix in ("-Chat", "-Instruct", "-it")
        if model.endswith(suffix) and model.removesuffix(suffix) in scores.models
    }
    assert len(partners) == 24
    found = rank_scores(scores, partners=partners, resamples=50)
    means = {
        (protocol, truth): of(found, MEAN, protocol, f"post-trained, {truth}").agreement.tau_b
        for protocol in ("direct_eval", "train_before_test")
        for truth in ("direct_eval", "train_before_test")
    }
    assert means["direct_eval", "direct_eval"] == pytest.approx(0.612, abs=1e-3)
    assert means["train_before_test", "direct_eval"] == pytest.approx(0.611, abs=1e-3)
    assert means["direct_eval", "train_before_test"] == pytest.approx(0.575, abs=1e-3)
    assert means["train_before_test", "train_before_test"] == pytest.approx(0.800, abs=1e-3)
    values = {(s.task, s.protocol, s.model): s.value for s in scores.scores}
    base, chat = ([values["gsm8k", "direct_eval", m] for m in side] for side in (partners.keys(), partners.values()))
    gsm8k = of(found, "gsm8k", "direct_eval", "post-trained, direct_eval").agreement.tau_b
    assert gsm8k == pytest.approx(stats.kendalltau(base, chat).statistic)


def test_closed_ended_tasks_are_ranked_by_knowledge_and_open_ended_ones_by_exact_match(tmp_path: Path) -> None:
    verdicts = {
        (model, task, "zero_shot", None): [i < n for i in range(20)] for n, model in enumerate("ab") for task in ("mcq", "open")
    }
    run = read_run(write_run(tmp_path / "r", verdicts, closed_ended=("mcq",)))
    found = rank_run(run, resamples=20)
    assert found.metrics == {"mcq": "knowledge_best", "open": "exact_match"}
    assert any("ranked by knowledge_best, open-ended ones by exact_match" in note for note in found.notes)
    assert rank_run(run, tasks=["mcq"], resamples=20).metric == "knowledge_best"
    one = rank_run(run, metric="format_following", resamples=20)
    assert set(one.metrics.values()) == {"format_following"}
    assert not any("ranked by" in note for note in one.notes)
