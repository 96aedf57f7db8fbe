"""Suites: several tasks under one name, with weights and shots."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from spt_fast import tasks
from spt_fast.analysis.cells import RunCell
from spt_fast.analysis.ranking import rank_run
from spt_fast.analysis.runs import open_run, read_run
from spt_fast.analysis.scores import read_scores
from spt_fast.cli.ranking import told as told_of
from spt_fast.config import FewShot, GridConfig, ModelConfig, TaskConfig, ZeroShot
from spt_fast.driver.run import run_grid
from spt_fast.errors import ConfigError
from spt_fast.plan import expand
from spt_fast.report import Recorded, overview, terminal
from spt_fast.report.folder import write_tables
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
        ("name: a", "tasks: is missing"),
        ("name: a\ntask: [mmlu]", "unknown key 'task'; did you mean 'tasks'"),
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


def test_means_of_suites_stand_in_every_table_and_in_rank(tmp_path: Path) -> None:
    """Terminal, results.csv, results.json, report.md, rank; with weights: (1 * mcq + 3 * short) / 4.

    A table of scores that is read back has the tasks alone: a mean is none of them.
    """
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\ntasks: [zoo-mcq, {task: zoo-short, weight: 3}]\n")
    run = tmp_path / "run"
    run_grid(
        GridConfig(
            name="g",
            models=(ModelConfig(id="zoo/base-95"), ModelConfig(id="zoo/base-40")),
            tasks=(TaskConfig(task=f"suite:{file}"), TaskConfig(task="zoo-number")),
            protocols=(ZeroShot(),),
            limit=20,
            engine={"kind": "echo"},
            output=str(run),
        )
    )
    write_tables(run)
    rows = list(csv.DictReader(io.StringIO((run / "results.csv").read_text())))
    of = {(row["model"], row["task"]): row for row in rows if row["metric"] == "knowledge_best"}
    mean, mcq, short = (of["zoo/base-95", name] for name in ("suite:mine", "zoo-mcq", "zoo-short"))
    expected = (float(mcq["value"]) + 3 * float(short["value"])) / 4
    assert float(mean["value"]) == pytest.approx(expected)
    assert (mean["mean_of"], mean["n"], mcq["mean_of"]) == ("2", "40", "")
    assert float(mean["ci_low"]) <= expected <= float(mean["ci_high"])
    told = next(
        each
        for each in json.loads((run / "results.json").read_text())["means"]
        if (each["model"], each["metric"]) == ("zoo/base-95", "knowledge_best")
    )
    assert (told["suite"], told["value"], told["tasks"]) == ("suite:mine", pytest.approx(expected), 2)
    grid, cells = open_run(run).grid, list(open_run(run).cells())
    shown = terminal(overview(Recorded(name="g", cells=cells, grid=grid)), width=120)
    assert "mean of suite:mine" in shown
    assert "suite:mine: 2 tasks" in (run / "report.md").read_text()
    ranking = rank_run(read_run(run), metric="knowledge_best", resamples=20)
    order = next(order for order in ranking.orders if order.task == "suite:mine")
    assert {each.model: each.score for each in order.models}["zoo/base-95"] == pytest.approx(expected)
    assert ranking.suites == ("suite:mine",)
    assert "Place and score, suite:mine" in told_of(ranking)
    assert read_scores(run / "results.csv", metric="knowledge_best").tasks == ("zoo-mcq", "zoo-short", "zoo-number")
