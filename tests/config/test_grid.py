"""grid.yaml as a user writes it, and what it means."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from spt_fast.config import FewShot, SoftPromptConfig, ZeroShot
from spt_fast.config.reader import overridden, parse_grid
from spt_fast.errors import ConfigError

GRID = """
name: paper
models:
  - Qwen/Qwen3-4B-Base
  - id: meta-llama/Llama-3.1-8B
    revision: main
    post_trained: meta-llama/Llama-3.1-8B-Instruct
    tensor_parallel: 1
    soft_prompt: {lr: 0.01}
  - id: /checkpoints/run7
    checkpoints: "step-*"
tasks:
  - mmlu
  - {task: gsm8k, data_files: /data/gsm8k}
  - {task: squad, limit: 2000}
protocols:
  - zero_shot
  - few_shot: {shots: 5}
  - soft_prompt: {length: 10, steps: 80, batch_size: 8, lr: 0.001, init: normal, evaluate_at: [0, 10, 20, 40, 80]}
seeds: [0, 1, 2]
limit: null
judge: null
engine: {gpu_memory_utilization: 0.8}
output: runs/paper
"""


def test_the_grid_of_the_documentation_is_read_as_it_says() -> None:
    grid = parse_grid(GRID)
    assert [model.id for model in grid.models] == [
        "Qwen/Qwen3-4B-Base",
        "meta-llama/Llama-3.1-8B",
        "/checkpoints/run7",
    ]
    assert grid.models[1].post_trained == "meta-llama/Llama-3.1-8B-Instruct"
    assert grid.models[2].checkpoints == "step-*"
    assert grid.tasks[1].data_files == "/data/gsm8k"
    assert grid.tasks[2].limit == 2000
    assert grid.protocols == (
        ZeroShot(),
        FewShot(shots=5),
        SoftPromptConfig(init="normal", lr=0.001, evaluate_at=(0, 10, 20, 40, 80)),
    )
    assert grid.seeds == (0, 1, 2)
    assert grid.engine == {"gpu_memory_utilization": 0.8}
    assert grid.folder == Path("runs/paper")


def test_defaults_are_the_papers_length_and_steps_and_a_rate_in_the_models_units() -> None:
    grid = parse_grid("name: a\nmodels: [x/y]\ntasks: [mmlu]\n")
    prompt = grid.protocols[2]
    assert isinstance(prompt, SoftPromptConfig)
    assert (prompt.length, prompt.steps, prompt.batch_size, prompt.lr) == (10, 80, 8, "auto")
    assert (prompt.weight_decay, prompt.init, prompt.position) == (0.0, "vocabulary", "auto")
    assert prompt.checkpoints == (80,)
    assert grid.folder == Path("runs/a")


@pytest.mark.parametrize("written", ["1e-3", "0.001", "1.0e-3", "1E-3"])
def test_a_rate_may_be_written_as_people_write_it(written: str) -> None:
    """YAML 1.1 takes 1e-3 for text; nobody means text."""
    text = f"name: a\nmodels: [x/y]\ntasks: [t]\nprotocols: [{{soft_prompt: {{lr: {written}}}}}]"
    protocol = parse_grid(text).protocols[0]
    assert isinstance(protocol, SoftPromptConfig)
    assert protocol.lr == 0.001


def test_the_last_step_is_always_evaluated() -> None:
    assert SoftPromptConfig(steps=80, evaluate_at=(40, 0)).checkpoints == (0, 40, 80)


def test_a_models_overrides_are_put_over_the_grids_settings() -> None:
    own = overridden(SoftPromptConfig(length=5, evaluate_at=(0, 10, 80)), {"lr": 0.01, "steps": 20}, "here")
    assert own == SoftPromptConfig(length=5, lr=0.01, steps=20, evaluate_at=(0, 10))
    assert overridden(ZeroShot(), {"lr": 0.01}, "here") == ZeroShot()


def test_relative_data_files_are_those_beside_the_grid(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    grid = parse_grid("name: a\nmodels: [x/y]\ntasks: [{task: gsm8k, data_files: rows}]", base=tmp_path)
    assert grid.tasks[0].data_files == str(tmp_path / "rows")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_yaml_is_a_grid_or_a_sentence(value: object) -> None:
    grid = {"name": "a", "models": ["x/y"], "tasks": ["t"], "protocols": value}
    for text in (yaml.safe_dump(value, allow_unicode=True), yaml.safe_dump(grid, allow_unicode=True)):
        with suppress(ConfigError):  # any other error is a bug
            parse_grid(text)
