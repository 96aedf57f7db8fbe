"""`run --dry-run`: the cells, the GPUs and the time a grid would take, without doing any of it."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from spt_fast import zoo
from spt_fast.cli.dry_run import dry_run
from spt_fast.config import FewShot, GridConfig, JudgeConfig, ModelConfig, SoftPromptConfig, StopConfig, TaskConfig, ZeroShot
from spt_fast.driver.run import run_cells
from spt_fast.errors import ConfigError
from tests.helpers.running import Inline


@pytest.fixture
def grid(tmp_path: Path) -> GridConfig:
    return GridConfig(
        name="g",
        models=(ModelConfig(id="zoo/base-40"), ModelConfig(id="zoo/base-70")),
        tasks=(TaskConfig(task="zoo-json"),),
        protocols=(ZeroShot(), SoftPromptConfig(steps=8), SoftPromptConfig(steps=80)),
        limit=2,
        engine={"kind": "echo"},
        output=tmp_path / "run",
    )


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No GPU here, whatever the machine has."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return monkeypatch


def test_a_grid_is_told_model_by_model_with_its_cells_and_its_time(
    grid: GridConfig, gpus: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = dry_run(grid, {}, fresh=False).splitlines()
    assert lines[0] == f"6 cells, 0 done, 6 to do; run folder {tmp_path / 'run'}"
    models = [line for line in lines if line.startswith("zoo/")]
    assert [re.sub(r"about \d+", "about N", line) for line in models] == [
        f"zoo/base-{n}: 3 cells, 1 soft prompts to train, about N s on the CPU" for n in (40, 70)
    ], "80 steps are learnt once for both"
    phases = [lines[lines.index(line) + 1] for line in models]
    assert all(re.fullmatch(r"  load \d+ s, train \d+ s, engine start \d+ s, ask \d+ s", line) for line in phases)
    assert sum("zoo-json · soft_prompt" in line for line in lines) == 4
    assert re.fullmatch(
        r"time: about \d+ s on this machine, one model after the other "
        r"\(a guess from the size of the models; nothing has been measured yet\)",
        lines[-1],
    )
    assert not (tmp_path / "run").exists(), "nothing is done"


def test_what_is_done_is_not_counted_and_tells_how_long_the_rest_takes(grid: GridConfig, gpus: pytest.MonkeyPatch) -> None:
    quick = replace(grid, protocols=(ZeroShot(), FewShot(shots=1)))
    run_cells(quick, only={"model": "zoo/base-40"}, executor=Inline())
    text = dry_run(quick, {}, fresh=False)
    assert text.startswith("4 cells, 2 done, 2 to do; ")
    assert "zoo/base-40" not in text
    assert "(going by 2 cells done)" in text
    assert dry_run(quick, {}, fresh=True).startswith("4 cells, 0 done, 4 to do; ")


def test_a_judge_is_told_with_the_cells_that_it_rules_on(grid: GridConfig, gpus: pytest.MonkeyPatch) -> None:
    text = dry_run(replace(grid, judge=JudgeConfig(model="zoo/chat-40")), {}, fresh=False)
    assert "\nzoo/chat-40: judges the completions of 6 cells\n" in text


def test_on_gpus_it_says_what_they_cost_and_that_a_long_grid_is_worth_a_cluster(
    grid: GridConfig, gpus: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    gpus.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    gpus.setattr(constants, "HF_HUB_OFFLINE", True)
    large = replace(
        grid,
        models=tuple(ModelConfig(id=f"nobody/{name}-70b", tensor_parallel=2) for name in "abc"),
        tasks=(TaskConfig(task="mmlu"),),
        limit=None,
        seeds=(0, 1, 2),
    )
    lines = dry_run(large, {}, fresh=False).splitlines()
    (head, *_) = [line for line in lines if line.startswith("nobody/a-70b")]
    assert head.endswith("on 2 GPUs")
    assert sum("will fail: " in line for line in lines) == 3
    assert re.search(r"one model after the other, \d+\.\d GPU-hours \(a guess", lines[-2])
    assert re.fullmatch(r"  on a Ray cluster \(--address\): 8 GPUs .+, 64 GPUs .+", lines[-1])


def test_an_address_without_a_cluster_is_a_sentence(grid: GridConfig) -> None:
    with pytest.raises(ConfigError, match="there is no Ray cluster"):
        dry_run(grid, {}, fresh=False, address="127.0.0.1:1")


def test_a_checkpoint_of_a_series_is_told_by_phase_cold_and_carried(
    grid: GridConfig, gpus: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number in (9, 10):
        shutil.copytree(zoo.find("zoo/base-40"), tmp_path / "base" / f"step-{number}")
    models = (ModelConfig(id=str(tmp_path / "base"), checkpoints="step-*"),)
    found = dry_run(replace(grid, models=models, protocols=(ZeroShot(), SoftPromptConfig())), {}, fresh=False)
    told = found.split(f"\na checkpoint of {tmp_path / 'base'}/step-*, all 2 cells:\n")[1]
    seconds = r"about \d+ s \(load \d+ s, train (\d+) s, engine start \d+ s, ask \d+ s\)"
    match = re.fullmatch(rf"  cold, 80 updates: {seconds}\n  carried, 10 updates: {seconds}", told)
    assert match is not None, told
    assert int(match[1]) > int(match[2])


def test_the_first_checkpoint_of_what_is_carried_is_told_with_its_cold_start(
    grid: GridConfig, gpus: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number in (9, 10):
        shutil.copytree(zoo.find("zoo/base-40"), tmp_path / "base" / f"step-{number}")
    models = (ModelConfig(id=str(tmp_path / "base"), checkpoints="step-*"),)
    carried = SoftPromptConfig(init_from="previous", steps=10)
    stop = StopConfig(width=0.1)
    lines = dry_run(replace(grid, models=models, protocols=(carried,), limit=None, stop=stop), {}, fresh=False).splitlines()
    seconds = [int(found[1]) for line in lines if (found := re.search(r"train (\d+) s", line))]
    (first, second), (cold, warm, stopped) = seconds[:2], seconds[2:]
    assert (first, second) == (cold, warm)
    assert first > second == stopped
    assert [line.split(":")[0] for line in lines[-3:]] == [
        "  cold, 80 + 10 updates",
        "  carried, 10 updates",
        "  carried, and stopped at the first look (100 rows)",
    ]
