"""What shares a passage counts for less, as SciPy, a regression with clustered errors, and simulation have it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from spt_fast.scoring.clusters import clusters, variance_of_mean, with_clusters
from spt_fast.scoring.metrics import aggregate
from spt_fast.scoring.statistics import mean, proportion, wilson
from spt_fast.types import Metric, Sample


def share(verdicts: list[bool], groups: list[str]) -> Metric:
    return with_clusters(proportion("knowledge", verdicts), verdicts, groups, share=True)


def test_the_variance_is_the_sandwich_of_a_regression_on_a_constant() -> None:
    rng = np.random.default_rng(0)
    of_row = rng.integers(0, 9, 80)
    values = (rng.random(80) + rng.random(9)[of_row] > 1).astype(float)
    residuals = values - values.mean()
    ones = np.ones((80, 1))
    bread = np.linalg.inv(ones.T @ ones)
    meat = sum(np.outer(s, s) for s in (ones[of_row == g].T @ residuals[of_row == g] for g in range(9)))
    assert variance_of_mean(values, of_row) == pytest.approx(float((9 / 8 * bread @ meat @ bread)[0, 0]))


def test_groups_that_agree_count_as_one_row_each() -> None:
    verdicts, groups = [True] * 10 + [False] * 10 + [True] * 10 + [False] * 10, [g for g in "abcd" for _ in range(10)]
    found = share(verdicts, groups)
    assert (found.value, found.n) == (0.5, 40)
    assert found.stderr == pytest.approx(stats.sem([1, 0, 1, 0]))
    worth = 40 * 0.25 / 40 / found.stderr**2
    assert (found.ci_low, found.ci_high) == pytest.approx(wilson(0.5 * worth, worth, float(stats.t.isf(0.025, 3))))
    assert found.ci_low < proportion("knowledge", verdicts).ci_low


def test_where_all_rows_are_alike_a_group_is_one_row() -> None:
    found = share([True] * 20, [g for g in "abcde" for _ in range(4)])
    assert (found.value, found.stderr, found.ci_high) == (1.0, 0.0, 1.0)
    assert found.ci_low == pytest.approx(wilson(5, 5, float(stats.t.isf(0.025, 4)))[0])


def test_rows_of_groups_of_their_own_keep_wilsons_interval() -> None:
    alone = proportion("knowledge", [True, False, True])
    assert with_clusters(alone, [True, False, True], ["", "", ""], share=True) == alone
    assert with_clusters(alone, [True, False, True], ["a", "b", ""], share=True) == alone


def test_one_group_says_nothing_of_others() -> None:
    found = share([True, False], ["a", "a"])
    assert math.isnan(found.stderr)
    assert (found.ci_low, found.ci_high) == (0.0, 1.0)


def test_a_mean_of_scores_has_the_t_interval_of_its_groups() -> None:
    values, groups = [0.0, 0.2, 0.9, 1.0, 0.4, 0.5], ["a", "a", "b", "b", "c", "c"]
    found = with_clusters(mean("f1", values), values, groups, share=False)
    stderr = stats.sem([0.1, 0.95, 0.45])
    assert found.stderr == pytest.approx(stderr)
    assert (found.ci_low, found.ci_high) == (0.0, pytest.approx(min(1.0, 0.5 + stats.t.isf(0.025, 2) * stderr)))


def test_the_interval_holds_the_truth_as_often_as_it_says_where_wilsons_does_not() -> None:
    rng = np.random.default_rng(1)
    held = alone_held = 0
    groups = [str(i // 8) for i in range(200)]
    for _ in range(600):
        easy = rng.beta(1.2, 0.8, 25)  # how easy each passage is: 0.6 on average
        verdicts = (rng.random(200) < np.repeat(easy, 8)).tolist()
        found, alone = share(verdicts, groups), proportion("knowledge", verdicts)
        held += found.ci_low <= 0.6 <= found.ci_high
        alone_held += alone.ci_low <= 0.6 <= alone.ci_high
    assert 0.93 <= held / 600 <= 0.98
    assert alone_held / 600 < 0.80


def test_the_metrics_of_a_cell_reckon_with_its_groups() -> None:
    def found(groups: list[str]) -> Metric:
        told = {"target": "A", "extracted": None, "rule": None, "format_ok": True, "prompt": "", "completion": ""}
        rows = [
            Sample(example=str(i), step=None, finish_reason="stop", knows=i < 8, correct=i < 8, group=group, **told)  # type: ignore[arg-type]
            for i, group in enumerate(groups)
        ]
        return next(metric for metric in aggregate(rows) if metric.name == "knowledge")

    grouped, apart = found([str(i // 4) for i in range(16)]), found([""] * 16)
    assert grouped.value == apart.value == 0.5
    assert grouped.stderr == pytest.approx(stats.sem([1, 1, 0, 0]))
    assert apart == proportion("knowledge", [i < 8 for i in range(16)])


def test_a_group_is_a_cluster_and_a_row_without_one_stands_alone() -> None:
    assert clusters(["", "a", "b", "a", ""]).tolist() in ([0, 2, 3, 2, 1], [1, 2, 3, 2, 0])
    assert len(set(clusters(["", ""]).tolist())) == 2
