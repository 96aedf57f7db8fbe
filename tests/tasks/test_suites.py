"""Suites: several tasks under one name, with weights and shots."""

from __future__ import annotations

from pathlib import Path

import pytest

from spt_fast import tasks
from spt_fast.analysis.cells import RunCell
from spt_fast.config import FewShot, GridConfig, ModelConfig, TaskConfig, ZeroShot
from spt_fast.errors import ConfigError
from spt_fast.plan import expand
from spt_fast.report.means import mean_over
from spt_fast.tasks import suites
from spt_fast.types import Metric


def test_our_suites_name_tasks_that_there_are() -> None:
    """Each by its name, and each has rows."""
    assert set(suites.names()) >= {"paper", "base-easy", "olmes"}
    for name in suites.names():
        for entry in tasks.entries(TaskConfig(task=f"suite:{name}")):
            assert tasks.get(entry.task).name == entry.task


def test_a_users_suite_has_weights_shots_and_rows_of_its_own(tmp_path: Path) -> None:
    """`data_files` is a folder with one a task; a task file beside the suite is found."""
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\ntasks:\n- zoo-mcq\n- {task: zoo-short, weight: 2, shots: 3}\n")
    entries = tasks.entries(TaskConfig(task=f"suite:{file}", data_files=str(tmp_path)))
    assert [(entry.task, entry.shots, entry.data_files) for entry in entries] == [
        ("zoo-mcq", None, str(tmp_path / "zoo-mcq")),
        ("zoo-short", 3, str(tmp_path / "zoo-short")),
    ]
    assert tasks.means(TaskConfig(task=f"suite:{file}")) == {
        "name": "suite:mine",
        "tasks": {"zoo-mcq": 1.0, "zoo-short": 2.0},
        "by_rows": False,
        "metrics": [],
    }


def test_shots_of_a_suite_go_before_the_protocols_own(tmp_path: Path) -> None:
    """And are those of the cells, so of their keys."""
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\ntasks: [zoo-mcq, {task: zoo-short, shots: 3}]\n")
    grid = GridConfig(
        name="g",
        models=(ModelConfig(id="zoo/base-95"),),
        tasks=(TaskConfig(task=f"suite:{file}"),),
        protocols=(ZeroShot(), FewShot(shots=5)),
        engine={"kind": "echo"},
    )
    shots = {cell.task.name: cell.protocol.shots for cell in expand(grid) if isinstance(cell.protocol, FewShot)}
    assert shots == {"zoo-mcq": 5, "zoo-short": 3}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tasks: [mmlu]", "name: is missing"),
        ("name: a\ntasks: []", "tasks"),
        ("name: a\ntasks: [mmlu, mmlu]", "mmlu appears twice"),
        ("name: a\ntasks: [{task: mmlu, weight: 0}]", r"tasks\[0\].weight"),
        ("name: a\ntasks: [{task: mmlu, wieght: 1}]", "did you mean 'weight'"),
        ("name: a\ntasks: [suite:paper]", "is a suite"),
        ("name: a\ntask: [mmlu]", "tasks: is missing"),
        ("name: a\ntasks: [mmlu]\nweights: {mmlu: 1}", "unknown key 'weights'"),
    ],
)
def test_a_wrong_suite_is_refused_in_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    """With the file and the key."""
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said) as refusal:
        tasks.entries(TaskConfig(task=f"suite:{file}"))
    assert str(file) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_suite_that_is_not_there_is_refused_with_the_nearest() -> None:
    """By name."""
    with pytest.raises(ConfigError, match="did you mean 'paper'"):
        tasks.entries(TaskConfig(task="suite:papre"))


def cell(task: str, value: float, error: float, n: int) -> RunCell:
    """A done cell with one metric."""
    metric = Metric(name="m", value=value, n=n, stderr=error, ci_low=value - error, ci_high=value + 2 * error)
    return RunCell(model="a", task=task, protocol="zero_shot", metrics={None: (metric,)})


def test_means_are_weighted_and_their_ends_are_those_of_independent_tasks() -> None:
    """(1 * 0.2 + 3 * 0.6) / 4 = 0.5; sqrt(0.1^2 + (3 * 0.1)^2) / 4 = 0.0791, and twice that above.

    By rows: (10 * 0.2 + 90 * 0.6) / 100 = 0.56.
    """
    cells = {"x": [cell("x", 0.2, 0.1, 10)], "y": [cell("y", 0.6, 0.1, 30)]}
    found = mean_over(cells, "m", {"x": 1.0, "y": 3.0})
    assert found is not None
    assert found.value == pytest.approx(0.5)
    assert (found.value - found.low, found.high - found.value) == pytest.approx((0.0790569, 2 * 0.0790569))
    by_rows = mean_over(cells, "m", {"x": 1.0, "y": 3.0}, by_rows=True)
    assert by_rows is not None
    assert by_rows.value == pytest.approx(0.56)


def test_a_mean_without_one_of_its_tasks_is_none() -> None:
    """Nothing is made up for what is not done."""
    assert mean_over({"x": [cell("x", 0.2, 0.1, 10)]}, "m", {"x": 1.0, "y": 1.0}) is None
