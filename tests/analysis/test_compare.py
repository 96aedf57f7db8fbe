"""Two runs, row by row: like with like, and what is not compared is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from spt_fast.analysis.compare import compare_protocols, compare_runs, flips
from spt_fast.analysis.compare_types import Flip
from spt_fast.analysis.runs import Run, read_run
from spt_fast.errors import ConfigError
from tests.helpers.recorded import Verdicts, write_run

PLACE = ("m", "t", "zero_shot", None)
BEFORE = [i < 60 for i in range(100)]
AFTER = [10 <= i < 65 for i in range(100)]  # 10 lost, 5 gained


def run(folder: Path, verdicts: Verdicts, **more: object) -> Run:
    return read_run(write_run(folder, verdicts, **more))  # type: ignore[arg-type]


def pair(folder: Path, before: Verdicts, after: Verdicts, **more: object) -> tuple[Run, Run]:
    return run(folder / "a", before), run(folder / "b", after, **more)


def test_what_moved_is_counted_row_by_row_and_tested_by_mcnemar(tmp_path: Path) -> None:
    found = compare_runs(*pair(tmp_path, {PLACE: BEFORE}, {PLACE: AFTER}), metrics=["exact_match"])
    (one,) = found.comparisons
    assert (one.gained_rows, one.lost_rows) == (5, 10)
    assert one.difference.change == pytest.approx(-0.05)
    assert one.difference.p == pytest.approx(stats.binomtest(5, 15).pvalue)
    assert one.p_holm == one.difference.p
    assert found.moved == ()


def test_rows_are_paired_by_their_hash_whatever_their_order_and_the_others_are_told(tmp_path: Path) -> None:
    a = run(tmp_path / "a", {PLACE: BEFORE})
    b = run(tmp_path / "b", {PLACE: AFTER[::-1]}, keys=lambda i: f"e{99 - i:05d}")
    (one,) = compare_runs(a, b, metrics=["exact_match"]).comparisons
    assert (one.gained_rows, one.lost_rows) == (5, 10)
    half = run(tmp_path / "half", {PLACE: AFTER[:50]})
    found = compare_runs(a, half, metrics=["exact_match"])
    assert (found.comparisons[0].gained_rows, found.comparisons[0].lost_rows) == (0, 10)
    assert found.comparisons[0].difference.rows == 50
    assert "t: compared on the 50 rows that both have, of 100 in A and 50 in B." in found.notes


def test_each_way_of_asking_is_held_against_the_plainer_ones_over_the_whole_grid(tmp_path: Path) -> None:
    few, soft = [i < 70 for i in range(100)], [10 <= i < 75 for i in range(100)]
    verdicts: dict[tuple[str, str, str, int | None], list[bool]] = {
        ("m", "t", "zero_shot", None): BEFORE,
        ("m", "t", "few_shot", 0): few,
        ("m", "t", "soft_prompt", 0): soft,
        ("n", "t", "soft_prompt", 0): soft,  # asked in one way only
    }
    found = compare_protocols(run(tmp_path / "a", verdicts), metrics=["knowledge"])
    pairs = {(each.pair.a_protocol, each.pair.b_protocol): each for each in found.comparisons}
    assert list(pairs) == [("zero_shot", "few_shot"), ("zero_shot", "soft_prompt"), ("few_shot", "soft_prompt")]
    assert [(each.gained_rows, each.lost_rows) for each in pairs.values()] == [(10, 0), (15, 10), (5, 10)]
    p = [stats.binomtest(0, 10).pvalue, stats.binomtest(10, 25).pvalue, stats.binomtest(5, 15).pvalue]
    assert [each.difference.p for each in pairs.values()] == pytest.approx(p)
    assert [each.p_holm for each in pairs.values()] == pytest.approx([3 * p[0], 2 * p[2], 2 * p[2]])
    assert {each.pair.model for each in found.comparisons} == {"m"}
    assert found.moved == (pairs["zero_shot", "few_shot"],)


def test_holms_correction_is_over_all_comparisons(tmp_path: Path) -> None:
    worse = [i < 45 for i in range(100)]
    places = [("m", task, "zero_shot", None) for task in "tuv"]
    after = {places[0]: worse, places[1]: AFTER, places[2]: BEFORE}
    found = compare_runs(*pair(tmp_path, dict.fromkeys(places, BEFORE), after), metrics=["exact_match"])
    p = [stats.binomtest(0, 15).pvalue, stats.binomtest(5, 15).pvalue, 1.0]
    assert [each.p_holm for each in found.comparisons] == pytest.approx([3 * p[0], 2 * p[1], 1.0])
    assert [each.pair.task for each in found.moved] == ["t"]


def test_seeds_are_paired_and_what_has_none_stands_against_each(tmp_path: Path) -> None:
    soft = {("m", "t", "soft_prompt", seed): AFTER for seed in (0, 1, 2)}
    a, b = pair(tmp_path, soft | {PLACE: BEFORE}, {key: value for key, value in soft.items() if key[3] != 2})
    (one,) = compare_runs(a, b, metrics=["exact_match"]).comparisons
    assert one.difference.seeds == 2
    assert one.difference.change == 0
    assert any("compared under the seeds of both: 0, 1" in note for note in compare_runs(a, b).notes)
    (across,) = compare_runs(a, a, metrics=["exact_match"], a_protocol="zero_shot", b_protocol="soft_prompt").comparisons
    assert across.difference.seeds == 3
    assert (across.gained_rows, across.lost_rows) == (15, 30)
    assert across.pair.protocol == "zero_shot -> soft_prompt"
    assert not any(note.startswith("Where there is one seed") for note in compare_runs(a, b).notes)
    other = run(tmp_path / "c", {("m", "t", "soft_prompt", 7): AFTER})
    unseeded = compare_runs(a, other, metrics=["exact_match"])
    assert unseeded.comparisons[0].difference.seeds == 1
    assert any("no seed is in both runs" in note for note in unseeded.notes)
    one_seed = run(tmp_path / "d", {("m", "t", "soft_prompt", 2): BEFORE})
    assert "With one seed, intervals do not cover what another seed would change." in compare_runs(a, one_seed).notes


def test_rows_that_share_a_passage_are_clusters(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", {PLACE: BEFORE}, groups=lambda i: f"p{i // 10}"), run(tmp_path / "b", {PLACE: AFTER})
    (one,) = compare_runs(a, b, metrics=["exact_match"]).comparisons
    assert (one.difference.rows, one.difference.clusters, one.difference.test) == (100, 10, "score")


def test_models_of_two_names_are_paired_where_each_run_has_one(tmp_path: Path) -> None:
    before = {("step-1", "t", "zero_shot", None): BEFORE, ("step-1-chat", "t", "zero_shot", None): BEFORE}
    after = {("step-2", "t", "zero_shot", None): AFTER, ("step-2-chat", "t", "zero_shot", None): BEFORE}
    a = run(tmp_path / "a", before, partners={"step-1": "step-1-chat"})
    b = run(tmp_path / "b", after, partners={"step-2": "step-2-chat"})
    found = compare_runs(a, b, metrics=["exact_match"])
    assert [each.pair.model for each in found.comparisons] == ["step-1 -> step-2", "step-1-chat -> step-2-chat"]
    (chosen,) = compare_runs(a, b, metrics=["exact_match"], a_model="step-1-chat", b_model="step-2-chat").comparisons
    assert chosen.pair.model == "step-1-chat -> step-2-chat"
    two = run(tmp_path / "c", {("x", "t", "zero_shot", None): BEFORE, ("y", "t", "zero_shot", None): BEFORE})
    with pytest.raises(
        ConfigError, match="has 2 base models, and none by the name of the other run's; name one with --b-model"
    ):
        compare_runs(a, two)


def test_a_series_of_checkpoints_is_compared_with_itself(tmp_path: Path) -> None:
    one = run(tmp_path / "a", {("s1", "t", "zero_shot", None): BEFORE, ("s2", "t", "zero_shot", None): AFTER})
    (found,) = compare_runs(one, one, metrics=["exact_match"], a_model="s1", b_model="s2").comparisons
    assert found.lost_rows == 10
    assert compare_runs(one, one, metrics=["exact_match"]).comparisons == ()
    assert {each.why for each in compare_runs(one, one).skipped} == {
        "it is the same cell; name another with --b-model or --b-protocol"
    }


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"versions": {"t": 2}}, "version 1 in A and 2 in B"),
        ({"prompt": "Question?"}, "the prompts of 100 of 100 shared rows differ"),
        ({"keys": "f{:05d}".format}, "A and B have no row in common"),
    ],
)
def test_unlike_things_are_not_compared(change: dict[str, object], why: str, tmp_path: Path) -> None:
    found = compare_runs(*pair(tmp_path, {PLACE: BEFORE}, {PLACE: AFTER}, **change), metrics=["exact_match"])
    assert found.comparisons == ()
    (skipped,) = found.skipped
    assert why in skipped.why


def test_what_two_judges_say_is_not_compared_and_exact_match_is(tmp_path: Path) -> None:
    a, b = pair(tmp_path, {PLACE: BEFORE}, {PLACE: AFTER}, judge="j")
    found = compare_runs(a, b)
    assert [each.metric for each in found.comparisons] == ["exact_match"]
    assert {each.metric: each.why for each in found.skipped} == {
        metric: f"{metric} is by another judge, or other rules, in A than in B"
        for metric in ("knowledge_best", "format_following")
    }
    same = run(tmp_path / "c", {PLACE: BEFORE}, judge="j")
    assert len(compare_runs(b, same).comparisons) == 3


def test_a_model_that_was_not_chosen_is_not_missed(tmp_path: Path) -> None:
    a = run(tmp_path / "a", {PLACE: BEFORE, ("n", "t", "zero_shot", None): BEFORE})
    b = run(tmp_path / "b", {PLACE: AFTER})
    assert {each.pair.a_model for each in compare_runs(a, b).skipped} == {"n"}
    assert compare_runs(a, b, a_model="m").skipped == ()


def test_what_a_has_and_b_has_not_is_told(tmp_path: Path) -> None:
    soft, other = ("m", "t", "soft_prompt", 0), ("m", "u", "zero_shot", None)
    a = run(tmp_path / "a", {PLACE: BEFORE, soft: BEFORE, other: BEFORE, ("n", "t", "zero_shot", None): BEFORE})
    b = run(tmp_path / "b", {PLACE: AFTER}, waiting=[other])
    found = compare_runs(a, b, metrics=["exact_match"])
    assert len(found.comparisons) == 1
    assert {(each.pair.task, each.pair.protocol, each.pair.a_model): each.why for each in found.skipped} == {
        ("u", "zero_shot", "m"): "it is not done in B",
        ("t", "soft_prompt", "m"): "B's grid does not have it",
        ("t", "zero_shot", "n"): "B's grid does not have it",
    }
    assert "B: 1 of 2 cells are not done." in found.notes


def test_a_metric_of_some_tasks_is_compared_where_it_is_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", {PLACE: BEFORE}, f1=0.5), run(tmp_path / "b", {PLACE: AFTER}, f1=0.25)
    (one,) = compare_runs(a, b, metrics=["f1"]).comparisons
    assert one.difference.change == pytest.approx(-0.25)
    assert one.difference.test == "score"
    assert flips(a, b, one, 3) == []
    with pytest.raises(ConfigError, match=r"no metric 'exact_mach' in .* or .*; did you mean 'exact_match'"):
        compare_runs(a, b, metrics=["exact_mach"])


def test_a_metric_that_a_task_never_had_is_not_missed(tmp_path: Path) -> None:
    a = run(tmp_path / "a", {PLACE: BEFORE, ("m", "u", "zero_shot", None): BEFORE})
    b = run(tmp_path / "b", {PLACE: AFTER}, f1=0.5, versions={"t": 2})
    assert {each.metric for each in compare_runs(a, b, metrics=["f1", "exact_match"]).skipped} == {"exact_match"}


def test_rows_that_flipped_are_shown_the_lost_ones_first(tmp_path: Path) -> None:
    a, b = pair(tmp_path, {PLACE: BEFORE}, {PLACE: AFTER})
    (one,) = compare_runs(a, b, metrics=["exact_match"]).comparisons
    shown = flips(a, b, one, 11)
    assert [flip.gained for flip in shown] == [False] * 10 + [True]
    assert shown[0] == Flip(example="e00000", gained=False, before="m, row 0", after="m, row 0", target="A")
    assert not any(flip.by_likelihood for flip in shown)


@pytest.mark.parametrize(
    ("metric", "closed", "by_likelihood"),
    [("knowledge", ("t",), True), ("knowledge", (), False), ("exact_match", ("t",), False)],
)
def test_a_row_whose_options_were_scored_says_that_its_completion_is_not_what_was_judged(
    metric: str, closed: tuple[str, ...], by_likelihood: bool, tmp_path: Path
) -> None:
    a, b = (run(tmp_path / name, {PLACE: found}, closed_ended=closed) for name, found in (("a", BEFORE), ("b", AFTER)))
    (one,) = compare_runs(a, b, metrics=[metric]).comparisons
    assert {flip.by_likelihood for flip in flips(a, b, one, 20)} == {by_likelihood}


@pytest.mark.parametrize("option", ["a_model", "b_model", "a_protocol", "b_protocol"])
def test_a_name_that_is_not_there_is_a_sentence(option: str, tmp_path: Path) -> None:
    a, b = pair(tmp_path, {PLACE: BEFORE}, {PLACE: AFTER})
    with pytest.raises(ConfigError, match=f"has no {option[2:]} 'x'"):
        compare_runs(a, b, **{option: "x"})  # type: ignore[arg-type]


def test_runs_without_a_task_in_common_are_refused(tmp_path: Path) -> None:
    a, b = pair(tmp_path, {PLACE: BEFORE}, {PLACE: AFTER})
    with pytest.raises(ConfigError, match=r"no task in common with .* that matches u\*"):
        compare_runs(a, b, tasks=["u*"])


def test_nothing_moves_where_nothing_has_changed_at_the_stated_rate(tmp_path: Path) -> None:
    """Twenty tasks, both runs drawn alike: any of them is said to have moved in 5 % of cases at most."""
    from spt_fast.analysis.paired import paired_difference
    from spt_fast.scoring.statistics import holm_adjusted

    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(60):
        p = []
        for _ in range(20):
            before = generator.random(120) < 0.6
            p.append(paired_difference(before, np.where(generator.random(120) < 0.1, ~before, before), resamples=0).p)
        wrong += min(holm_adjusted(p)) <= 0.05
    assert wrong <= 7, "a binomial of 60 and 0.05 goes beyond 7 in 0.1 % of cases"


def by_method(folder: Path, method: str, ability: str) -> Run:
    """Two tasks, of which one is closed-ended and scored by a method of its own."""
    verdicts = {
        ("m", task, protocol, None): [i % 2 == 0 for i in range(20)] for task in ("mcq", "open") for protocol in PROTOCOLS
    }
    chosen = {"knowledge_best": method, "knowledge_by": ability}
    run = write_run(folder, verdicts, closed_ended=("mcq",), provenance=lambda _, task, *__: chosen if task == "mcq" else {})
    return read_run(run)


PROTOCOLS = ("zero_shot", "few_shot")


def test_two_runs_that_chose_other_scoring_methods_are_told_apart(tmp_path: Path) -> None:
    before = by_method(tmp_path / "a", "cloze_per_byte", "cloze only")
    after = by_method(tmp_path / "b", "listed", "both")
    found = compare_runs(before, after)
    (chosen,) = [note for note in found.notes if note.startswith("knowledge_best")]
    assert "by cloze per byte in A, by listed in B: m \u00b7 mcq \u00b7 zero_shot, m \u00b7 mcq \u00b7 few_shot." in chosen
    abilities = [note for note in found.notes if "knowledge_by" in note]
    assert len(abilities) == 2
    assert abilities[0].endswith("are cloze only in A, both in B.")
    methods = {(each.pair.task, each.metric): each.methods for each in found.comparisons}
    assert methods["mcq", "knowledge_best"] == ("cloze per byte", "listed")
    assert methods["mcq", "exact_match"] is methods["open", "knowledge_best"] is None


def test_nothing_is_said_of_scoring_methods_that_are_the_same(tmp_path: Path) -> None:
    runs = [by_method(tmp_path / name, "cloze", "both") for name in "ab"]
    assert not [note for note in compare_runs(*runs).notes if "knowledge" in note]
    assert not [note for note in compare_protocols(runs[0]).notes if "method" in note]


def test_protocols_that_go_by_other_scoring_methods_are_counted(tmp_path: Path) -> None:
    verdicts = {("m", "mcq", protocol, None): [i % 2 == 0 for i in range(20)] for protocol in PROTOCOLS}
    best = {"zero_shot": "cloze", "few_shot": "listed"}
    run = write_run(
        tmp_path / "r",
        verdicts,
        closed_ended=("mcq",),
        provenance=lambda _, __, protocol, ___: {"knowledge_best": best[protocol]},
    )
    (note,) = [note for note in compare_protocols(read_run(run)).notes if "method" in note]
    assert note.startswith("In 1 of 1 comparisons of knowledge_best")


def bits(by: float) -> Callable[[str, int], float | None]:
    """Of row i: 1 + i / 100 and so much more, the odd rows a little less; row 7 has no answer to score."""
    return lambda _, i: None if i == 7 else 1 + i / 100 + by - 0.01 * (i % 2) * (by > 0)


def test_what_is_no_share_has_the_t_test_of_its_pairs_and_rows_without_it_are_left_out(tmp_path: Path) -> None:
    a = run(tmp_path / "a", {PLACE: BEFORE}, bits=bits(0.0))
    b = run(tmp_path / "b", {PLACE: BEFORE}, bits=bits(0.5))
    (one,) = compare_runs(a, b, metrics=["answer_bits_per_byte"]).comparisons
    before, after = ([each("m", i) for i in range(100) if i != 7] for each in (bits(0.0), bits(0.5)))
    expected = stats.ttest_rel(after, before)
    assert (one.difference.rows, one.difference.test) == (99, "t")
    assert one.difference.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (one.difference.interval.low, one.difference.interval.high) == pytest.approx((interval.low, interval.high))
    assert one.difference.change == pytest.approx(0.495, abs=0.001)
    assert (one.gained_rows, one.lost_rows) == (0, 99), "lower is better, so all rows got worse"
    assert one.better.change == -one.difference.change
    assert flips(a, b, one, 3) == [], "it has no verdicts to flip"


def test_a_run_of_an_earlier_version_lacks_bits_per_byte_and_that_is_said(tmp_path: Path) -> None:
    old, older = (run(tmp_path / name, {PLACE: BEFORE}) for name in ("old", "older"))
    new = run(tmp_path / "new", {PLACE: BEFORE}, bits=bits(0.0))
    for a, b, why in (
        (old, new, "A has no answer_bits_per_byte"),
        (new, old, "B has no such metric"),
        (older, old, "A has no"),
    ):
        found = compare_runs(a, b, metrics=["answer_bits_per_byte"])
        assert not found.comparisons
        assert why in found.skipped[0].why
    assert compare_runs(old, new, metrics=["answer_logprob_margin", "exact_match"]).skipped == ()
