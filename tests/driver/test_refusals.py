"""What a grid cannot do is a sentence that says what to do instead, and its other cells go on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spt_fast.cli.checking import check_grid
from spt_fast.config import FewShot, GridConfig, ModelConfig, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.driver.result import GridResult
from spt_fast.driver.run import run_cells
from tests.helpers.running import Inline
from tests.helpers.tiny import tiny_model

FEW_STEPS = SoftPromptConfig(length=3, steps=2, batch_size=2, lr=0.05)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models: of 2048 positions, and of 300, in which a question of zoo-mcq has room and two shots have not."""
    folder = tmp_path_factory.mktemp("models")
    tiny_model(folder / "long", hidden_size=32, positions=2048)
    tiny_model(folder / "short", hidden_size=32, positions=300)
    return folder


@pytest.fixture
def grid(models: Path, tmp_path: Path) -> GridConfig:
    return GridConfig(
        name="g",
        models=(ModelConfig(id=str(models / "long")),),
        tasks=(TaskConfig(task="zoo-mcq"),),
        protocols=(ZeroShot(),),
        limit=2,
        engine={"kind": "echo"},
        output=tmp_path / "run",
    )


@pytest.fixture
def few_rows(tmp_path: Path) -> TaskConfig:
    """GSM8K with 300 tuning rows."""
    files = {}
    for first, (split, count) in enumerate({"tuning": 300, "few_shot": 8, "test": 4}.items()):
        rows = [{"question": f"{first} * {n}?", "answer": f"It is {first * n}.\n#### {first * n}"} for n in range(count)]
        path = tmp_path / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        files[split] = str(path)
    return TaskConfig(task="gsm8k", data_files=files)


def reasons(result: GridResult) -> dict[tuple[str, str, str], str]:
    """(model, task, protocol) -> why it failed."""
    failed = [cell for cell in result.cells if cell.key in result.failures]
    return {(Path(c.model.name).name, c.task.name, c.label): result.failures[c.key].reason for c in failed}


def test_rows_that_are_only_on_a_hub_out_of_reach_fail_their_cells_and_no_others(
    grid: GridConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    result = run_cells(replace(grid, tasks=(TaskConfig(task="gsm8k"), *grid.tasks)), executor=Inline())
    assert reasons(result) == {
        ("long", "gsm8k", "zero_shot"): "openai/gsm8k (train, commit 740312ad) is not in the cache, and the Hub cannot be "
        "reached (HF_HUB_OFFLINE is set); connect, or give the rows as data_files"
    }
    assert len(result.results) == 1


def test_300_tuning_rows_are_too_few_for_80_steps_of_8_and_the_sentence_has_both_ways_out(
    grid: GridConfig, few_rows: TaskConfig
) -> None:
    grid = replace(grid, tasks=(few_rows,), protocols=(ZeroShot(), FewShot(shots=2), SoftPromptConfig()))
    sentence = (
        "gsm8k: 80 steps of 8 take 640 tuning rows, and there are 300; lower steps to 37, "
        "or set repeat_rows: true of soft_prompt to go through them 2.1 times"
    )
    assert check_grid(grid).wrong == (sentence,)
    result = run_cells(grid, executor=Inline())
    assert reasons(result) == {("long", "gsm8k", "soft_prompt"): sentence}
    assert len(result.results) == 2


@pytest.mark.parametrize("way_out", [{"steps": 4}, {"repeat_rows": True}], ids=str)
def test_what_that_sentence_says_helps(way_out: dict[str, Any], grid: GridConfig, few_rows: TaskConfig) -> None:
    refused = SoftPromptConfig(length=3, steps=5, batch_size=64, lr=0.05)
    grid = replace(grid, tasks=(few_rows,), protocols=(refused,))
    assert "lower steps to 4, or set repeat_rows: true" in "".join(check_grid(grid).wrong)
    grid = replace(grid, protocols=(replace(refused, **way_out),))
    assert check_grid(grid).wrong == ()
    assert run_cells(grid, executor=Inline()).complete


def test_a_prompt_longer_than_the_model_is_told_with_the_numbers_and_what_to_do(grid: GridConfig, models: Path) -> None:
    both = (ModelConfig(id=str(models / "short")), *grid.models)
    vectors = replace(FEW_STEPS, length=250)
    result = run_cells(replace(grid, models=both, protocols=(ZeroShot(), FewShot(shots=2), vectors)), executor=Inline())
    leave = "or leave the task out for this model"
    assert reasons(result) == {
        ("short", "zoo-mcq", "few_shot"): "353 tokens and 0 soft positions do not fit the model's 300 positions, "
        f"one left to write in; use fewer shots, {leave}",
        ("short", "zoo-mcq", "soft_prompt"): "a tuning row of 182 tokens and 250 soft positions do not fit the model's "
        f"300 positions; give shorter rows as data_files, {leave}",
    }
    assert len(result.results) == 4
