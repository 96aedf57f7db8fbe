"""The gate: strict in what it reads, and right as often as it says."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from spt_fast.analysis.compare_types import Compared, Comparison, Pair
from spt_fast.analysis.gate import Check, Gate, Policy, decide, gate_runs, load_policy, parse_policy, rows_needed
from spt_fast.analysis.paired import paired_difference
from spt_fast.analysis.runs import read_run
from spt_fast.errors import ConfigError
from tests.helpers.recorded import write_run

NIGHTS = 150
"""Simulated nights for each rate."""


def bits_gate(folder: Path, worse_by: float, allowed: float, rows: int = 400) -> Gate:
    """Of two runs of which the second has so many more bits per byte, with noise."""
    noise = np.random.default_rng(0).normal(0, 0.1, rows)
    place = ("m", "t", "zero_shot", None)
    right = [True] * rows
    a = write_run(folder / "a", {place: right}, bits=lambda _, i: 1.0 + i / rows)
    b = write_run(folder / "b", {place: right}, bits=lambda _, i: 1.0 + i / rows + worse_by + float(noise[i]))
    policy = Policy(checks=(Check(metric="answer_bits_per_byte", largest_drop=allowed),))
    return gate_runs(read_run(a), read_run(b), policy)


def test_bits_per_byte_must_not_rise_and_is_allowed_in_its_own_unit(tmp_path: Path) -> None:
    passed = bits_gate(tmp_path / "1", 0.0, 0.05)
    assert passed.verdict == "pass"
    assert re.fullmatch(
        r"it (rose|dropped) by 0\.00\d+ (bits per byte), and (rose )?by no more than 0\.0\d+ \2, "
        r"so a rise of 0\.05 \2 or more is ruled out\.",
        passed.findings[0].why,
    ), passed.findings[0].why
    failed = bits_gate(tmp_path / "2", 2.5, 1.5)
    assert failed.verdict == "fail"
    assert failed.findings[0].why == "it rose by 2.5 bits per byte, and 1.5 bits per byte is allowed."
    assert failed.findings[0].drop == pytest.approx(2.5, abs=0.02)
    better = bits_gate(tmp_path / "3", -2.5, 0.1)
    assert better.verdict == "pass", "lower is better"
    assert better.findings[0].why.startswith(
        "it dropped by 2.5 bits per byte, and by no less than 2.5 bits per byte, so a rise of"
    )
    unsure = bits_gate(tmp_path / "4", 0.02, 0.02)
    assert unsure.verdict == "undecided"
    assert unsure.findings[0].why.startswith("it rose, but perhaps by less than is allowed")


def test_the_rows_that_decide_on_bits_per_byte_are_those_of_their_deviation(tmp_path: Path) -> None:
    found = bits_gate(tmp_path, 0.0, 0.001).findings[0]
    deviation = np.random.default_rng(0).normal(0, 0.1, 400).std(ddof=1)
    z = stats.norm.isf(0.05) + stats.norm.isf(0.2)
    assert found.rows_needed == pytest.approx((z * deviation / 0.001) ** 2, abs=1)


def test_a_policy_is_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("alpha: 0.1\nchecks:\n- {metric: knowledge, tasks: mmlu*, largest_drop: 0.01, over: mean}\n")
    policy = load_policy(path)
    assert (policy.alpha, policy.power) == (0.1, 0.8)
    assert policy.checks == (Check(metric="knowledge", tasks=("mmlu*",), largest_drop=0.01, over="mean"),)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("checks: [{largest_drop: 0.01, metrics: a}]", r"checks\[0\]: unknown key 'metrics'; did you mean 'metric'"),
        ("checks: [{metric: knowledge}]", r"checks\[0\].largest_drop: is missing"),
        (
            "checks: [{largest_drop: 1.5}]",
            r"checks\[0\].largest_drop: must be a number from 1e-06 to below 1, a share \(0.01 is one point\), not 1.5",
        ),
        ("checks: [{largest_drop: 0}]", "must be a number from 1e-06 to"),
        ("checks: [{metric: answer_bits_per_byte, largest_drop: 0}]", "must be a number from 1e-06 to 1000000, not 0"),
        ("checks: [{largest_drop: 0.1, tasks: []}]", r"checks\[0\].tasks: is empty"),
        ("checks: [{largest_drop: 0.1, over: all}]", r"checks\[0\].over: must be each or mean, not 'all'"),
        ("checks: []", "checks: is empty"),
        ("alpha: 0.1", "checks: is missing"),
        ("checks: [{largest_drop: 0.1}]\nalpha: 0.7", "alpha: must be a number from 1e-09 to below 0.5, not 0.7"),
        ("checks: [{largest_drop: 0.1}]\npower: much", "power: must be a number"),
        ("checks: [{largest_drop: 0.1}]\nbeta: 1", "unknown key 'beta'"),
        ("- 1", "policy: must be a mapping"),
        ("a: [", "line 2, column 1: not YAML"),
    ],
)
def test_a_wrong_policy_is_one_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text + "\n")
    with pytest.raises(ConfigError, match=sentence) as told:
        load_policy(path)
    assert str(told.value).startswith(str(path))
    assert "\n" not in str(told.value)


def test_a_policy_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"p.yaml: no such file"):
        load_policy(tmp_path / "p.yaml")


def night(generator: np.random.Generator, drop: float, *, rows: int, tasks: int = 1, noise: float = 0.04) -> Compared:
    """A night: rows that flip to and fro by chance, and a drop on top."""
    comparisons = []
    for task in range(tasks):
        before = generator.random(rows) < 0.6
        flip = generator.random(rows)
        lost, gained = before & (flip < (noise / 2 + drop) / 0.6), ~before & (flip < noise / 2 / 0.4)
        difference = paired_difference(before, (before & ~lost) | gained, resamples=0)
        pair = Pair(f"t{task}", "m", "m", "soft_prompt", "soft_prompt")
        comparisons.append(Comparison(pair=pair, metric="exact_match", difference=difference))
    return Compared(a="a", b="b", alpha=0.05, comparisons=tuple(comparisons), skipped=(), notes=())


def rates(drop: float, policy: Policy, *, rows: int, tasks: int = 1, noise: float = 0.04) -> Counter[str]:
    """How often each verdict comes, over simulated nights."""
    generator = np.random.default_rng(0)
    nights = (night(generator, drop, rows=rows, tasks=tasks, noise=noise) for _ in range(NIGHTS))
    return Counter(decide(compared, policy).verdict for compared in nights)


def most(rate: float) -> float:
    """What a binomial of that rate goes beyond in one of a thousand tests."""
    return float(stats.binom.isf(0.001, NIGHTS, rate))


ONE_POINT = Policy(checks=(Check(largest_drop=0.01),))
TWO_POINTS = Policy(checks=(Check(largest_drop=0.02),))


def test_a_planted_regression_of_3_points_is_found_and_a_change_of_noise_is_not() -> None:
    """2,000 rows, of which 4 % flip by chance, and a margin of 2 points: 95 % and 99 % of nights are decided, none wrongly."""
    regressed = rates(0.03, TWO_POINTS, rows=2000)
    assert regressed["pass"] == 0
    assert regressed["fail"] >= 0.9 * NIGHTS
    unchanged = rates(0.0, TWO_POINTS, rows=2000)
    assert unchanged["fail"] == 0
    assert unchanged["pass"] >= 0.97 * NIGHTS


def test_a_drop_as_large_as_is_not_allowed_passes_no_more_often_than_alpha() -> None:
    for rows in (300, 3000):
        assert rates(0.02, TWO_POINTS, rows=rows)["pass"] <= most(0.05)


def test_noise_fails_no_more_often_than_alpha_over_all_tasks_together() -> None:
    """Seven tasks of 300 rows and a margin of one point: too few rows to pass, and yet no false alarm."""
    found = rates(0.0, ONE_POINT, rows=300, tasks=7, noise=0.1)
    assert found["fail"] <= most(0.05)
    assert found["pass"] == 0
    assert found["undecided"] > 0.9 * NIGHTS


def test_the_mean_over_tasks_decides_with_fewer_rows() -> None:
    mean = Policy(checks=(Check(largest_drop=0.02, over="mean"),))
    assert rates(0.0, mean, rows=500, tasks=4)["pass"] >= 0.9 * NIGHTS
    assert rates(0.0, TWO_POINTS, rows=500, tasks=4)["pass"] < 0.6 * NIGHTS
    assert rates(0.02, mean, rows=500, tasks=4)["pass"] <= most(0.05)
    assert rates(0.03, mean, rows=500, tasks=4)["fail"] >= 0.85 * NIGHTS


def test_the_rows_it_says_are_needed_let_a_pass_through_as_often_as_it_says() -> None:
    part = night(np.random.default_rng(1), 0.0, rows=20_000).comparisons[0].difference
    needed = rows_needed([part], 0.02, alpha=0.05, power=0.8)
    passed = rates(0.0, TWO_POINTS, rows=needed)["pass"] / NIGHTS
    assert 0.68 < passed < 0.9


# On run folders

PLACE = ("m", "t", "zero_shot", None)


def judged(folder: Path, after: list[bool], policy: Policy, **more: object) -> Gate:
    a = read_run(write_run(folder / "a", {PLACE: [i < 600 for i in range(1000)]}))
    b = read_run(write_run(folder / "b", {PLACE: after}, **more))  # type: ignore[arg-type]
    return gate_runs(a, b, policy)


def test_a_run_that_answers_the_same_passes(tmp_path: Path) -> None:
    found = judged(tmp_path, [i < 600 for i in range(1000)], ONE_POINT)
    assert (found.verdict, found.findings[0].drop) == ("pass", 0.0)
    assert 0 < found.findings[0].bounds.high < 0.01


def test_a_run_that_lost_five_points_fails_and_says_by_how_much(tmp_path: Path) -> None:
    found = judged(tmp_path, [i < 550 for i in range(1000)], ONE_POINT)
    assert found.verdict == "fail"
    assert found.findings[0].why == "it dropped by 5 points, and 1 point is allowed."


def test_too_few_rows_are_undecided_and_told_how_many_it_takes(tmp_path: Path) -> None:
    found = judged(tmp_path, [True] * 100, ONE_POINT)
    assert found.verdict == "undecided"
    finding = found.findings[0]
    assert finding.rows == 100
    assert finding.rows_needed == 268, "z^2 (1 - m) / m, as no row flipped"
    assert "with about 268 rows in place of 100 it would pass if nothing has changed" in finding.why


@pytest.mark.parametrize("over", ["each", "mean"])
def test_what_cannot_be_compared_is_never_a_pass(over: str, tmp_path: Path) -> None:
    policy = parse_policy({"checks": [{"largest_drop": 0.01, "over": over}]})
    found = judged(tmp_path, [i < 600 for i in range(1000)], policy, versions={"t": 2})
    assert found.verdict == "undecided"
    assert "cannot be compared: t: the task is of version 1 in A and 2 in B" in found.findings[0].why


def test_a_cell_that_has_failed_in_b_leaves_the_mean_undecided(tmp_path: Path) -> None:
    other = ("m", "u", "zero_shot", None)
    same = [i < 600 for i in range(1000)]
    a = read_run(write_run(tmp_path / "a", {PLACE: same, other: same}))
    b = read_run(write_run(tmp_path / "b", {PLACE: same}, waiting=[other]))
    policy = Policy(checks=(Check(largest_drop=0.05, over="mean"),))
    found = gate_runs(a, b, policy)
    assert (found.verdict, found.findings[0].task) == ("undecided", "mean of 2 tasks")
    assert "u: it is not done in B" in found.findings[0].why
    each = gate_runs(a, b, Policy(checks=(Check(largest_drop=0.05),)))
    assert [finding.verdict for finding in each.findings] == ["pass", "undecided"]
    assert each.verdict == "undecided"


def test_a_check_that_nothing_matches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"checks\[0\]: matches nothing in .*; correct its metric, tasks, protocols or models"
    ):
        judged(tmp_path, [True] * 1000, Policy(checks=(Check(largest_drop=0.01, tasks=("mmlu",)),)))


def test_rows_of_one_passage_decide_nothing(tmp_path: Path) -> None:
    a = read_run(write_run(tmp_path / "a", {PLACE: [True] * 50}, groups=lambda _: "p"))
    b = read_run(write_run(tmp_path / "b", {PLACE: [True] * 50}))
    found = gate_runs(a, b, ONE_POINT)
    assert (found.verdict, found.findings[0].why) == (
        "undecided",
        "all rows share one passage or subject, so other passages cannot be judged.",
    )
