"""What a watch does with grids that carry soft prompts along, and that stop asking when the policy is decided."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from spt_fast.analysis.gate import load_policy
from spt_fast.analysis.runs import open_run
from spt_fast.config import GridConfig
from spt_fast.config.reader import parse_grid
from spt_fast.driver.result import GridResult
from spt_fast.driver.run import run_cells
from spt_fast.prompts.carried import StartedFrom, from_json
from spt_fast.store import Store
from spt_fast.watch.checkpoints import pattern_of
from spt_fast.watch.loop import Watch, once
from spt_fast.watch.night import Night, default_policy
from spt_fast.watch.verdict import Verdict
from tests.helpers.running import Inline
from tests.helpers.tiny import tiny_model
from tests.helpers.watching import checkpoint

GRID = """
name: w
models: [{{id: {base}, checkpoints: "step-*"}}]
tasks: [zoo-json]
protocols: [{protocol}]
limit: 40
engine: {{kind: echo}}
output: {run}
"""
CARRIED = "{soft_prompt: {init_from: previous, steps: 2, cold_steps: 3, length: 3, batch_size: 2, lr: 0.05}}"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "m", hidden_size=32, positions=4096)


def evaluate(config: GridConfig, series: str, against: str | None) -> GridResult:
    """In this process, by the engine that has no model."""
    return run_cells(config, executor=Inline(), series=series, against=against)


def look(folder: Path, protocol: str, stop: str = "", policy: Path | None = None) -> list[Verdict]:
    """One look of a watch of its own."""
    text = GRID.format(base=folder / "run7", run=folder / "run", protocol=protocol)
    config = parse_grid(text + stop)
    night = Night(
        config=config,
        pattern=pattern_of(f"{folder}/run7/step-*"),
        policy=default_policy(["zero_shot"]) if policy is None else load_policy(policy),
        store=Store(folder / "run"),
        evaluate=evaluate,
        say=lambda _: None,
    )
    return Watch(night, show=lambda _: None, report=lambda _: None).run(once)


def test_soft_prompts_are_carried_from_checkpoints_that_are_gone(template: Path, tmp_path: Path) -> None:
    for step in (8, 9, 10):
        checkpoint(template, tmp_path / f"run7/step-{step}", step)
        assert [each.checkpoint for each in look(tmp_path, CARRIED)] == [f"run7/step-{step}"]
        shutil.rmtree(tmp_path / f"run7/step-{step}")
    run = open_run(tmp_path / "run")
    starts = [from_json(run.store.result(key).provenance["started_from"]) for key in run.done.values()]
    assert [(start.model, start.checkpoints) for start in starts if isinstance(start, StartedFrom)] == [
        ("run7/step-8", 0),
        ("run7/step-8", 1),
        ("run7/step-9", 2),
    ]


def test_rows_are_asked_until_the_policy_is_decided_against_the_last_accepted(template: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("checks: [{metric: knowledge_best, largest_drop: 0.3}]\n")
    stop = f"stop: {{check: {policy}, against: previous, block: 5, least: 10}}\n"
    for step in (1, 2, 3):
        checkpoint(template, tmp_path / f"run7/step-{step}", step)
    found = look(tmp_path, "zero_shot", stop, policy)
    assert [(each.verdict, each.baseline) for each in found] == [
        ("first", None),
        ("pass", "run7/step-1"),
        ("pass", "run7/step-2"),
    ]
    run = open_run(tmp_path / "run")
    asked = {place.model: run.stopped_at(place).n for place in run.stopped}
    assert [place.model for place in run.done] == ["run7/step-1"], "the first is asked whole"
    assert set(asked) == {"run7/step-2", "run7/step-3"}
    assert all(10 <= n < 40 for n in asked.values())
    assert " 2 of 3 checkpoints were stopped early (after " in found[2].sentence, "the series is told of all the same"
    assert "of 40 rows), and held against others on the rows that both were asked." in found[2].sentence


def test_what_was_accepted_on_few_rows_is_asked_the_rest_where_they_do_not_decide(template: Path, tmp_path: Path) -> None:
    wide, narrow = tmp_path / "wide.yaml", tmp_path / "narrow.yaml"
    wide.write_text("checks: [{metric: knowledge_best, largest_drop: 0.3}]\n")
    narrow.write_text("checks: [{metric: knowledge_best, largest_drop: 0.12}]\n")
    for step in (1, 2):
        checkpoint(template, tmp_path / f"run7/step-{step}", step)
    look(tmp_path, "zero_shot", f"stop: {{check: {wide}, against: previous, block: 5, least: 10}}\n", wide)
    assert {place.model for place in open_run(tmp_path / "run").stopped} == {"run7/step-2"}
    checkpoint(template, tmp_path / "run7/step-3", 3)
    stop = f"stop: {{check: {narrow}, against: previous, block: 5, least: 10}}\n"
    (found,) = look(tmp_path, "zero_shot", stop, narrow)
    assert (found.verdict, found.baseline) == ("pass", "run7/step-2")
    run = open_run(tmp_path / "run")
    assert {place.model for place in run.done} >= {"run7/step-1", "run7/step-2"}
    assert json.loads((tmp_path / "run/verdicts/00003.json").read_text())["findings"][0]["rows"] == 40
