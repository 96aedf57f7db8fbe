"""Two runs that differ in a setting: `compare` says which, and what it is in either."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spt_fast.analysis.compare import compare_runs
from spt_fast.analysis.runs import Run, read_run
from spt_fast.config import GridConfig, ModelConfig, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.driver.resolved import resolved
from spt_fast.models.identity import Model
from spt_fast.plan.cell import Cell
from spt_fast.store import Store
from tests.helpers.cells import cell, result

MODEL = Model(name="m", source="/m", fingerprint="sha256:0")
LEARNING = SoftPromptConfig(steps=2, evaluate_at=())
CELL = cell(task=replace(cell().task, name="zoo-mcq"), engine={"kind": "transformers", "batch_size": 2})
LEARNT = replace(CELL, protocol=LEARNING, label="soft_prompt", seed=0)


def run_of(folder: Path, one: Cell, **settings: Any) -> Run:
    """A run folder with one cell, as the driver writes it."""
    config = GridConfig(
        name="g",
        models=(ModelConfig(id="m"),),
        tasks=(TaskConfig(task=one.task.name),),
        protocols=(one.protocol,),
        engine=dict(one.engine),
        **settings,
    )
    store = Store(folder)
    store.put_result(one, result(one.steps[-1]))
    store.grid_file.put(resolved(config, [one], folder=folder))
    return read_run(folder)


def notes(tmp_path: Path, a: Cell, b: Cell) -> list[str]:
    return list(compare_runs(run_of(tmp_path / "a", a), run_of(tmp_path / "b", b), resamples=0).notes)


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        (CELL, replace(CELL, engine={"kind": "transformers", "batch_size": 4}), "engine: batch_size is 2 in A, 4 in B."),
        (CELL, replace(CELL, engine={"kind": "vllm"}), "engine: kind is transformers in A, vllm in B."),
        (CELL, replace(CELL, engine={"kind": "vllm"}), "engine: batch_size is 2 in A, not set in B."),
        (
            replace(CELL, engine={"kind": "vllm", "hf_overrides": {"rope": {"theta": 1.0}}}),
            replace(CELL, engine={"kind": "vllm", "hf_overrides": {"rope": {"theta": 2.0}}}),
            "engine: hf_overrides.rope.theta is 1.0 in A, 2.0 in B.",
        ),
        (CELL, replace(CELL, model=replace(MODEL, dtype="bfloat16")), "m: dtype is auto in A, bfloat16 in B."),
        (CELL, replace(CELL, model=replace(MODEL, chat_template="always")), "m: chat_template is never in A, always in B."),
        (
            CELL,
            replace(CELL, model=replace(MODEL, revision="b" * 40, fingerprint=f"commit:{'b' * 40}")),
            f"m: its weights are sha256:0 in A, commit:{'b' * 40} in B.",
        ),
        (LEARNT, replace(LEARNT, protocol=replace(LEARNING, lr=0.5)), "soft_prompt: lr is"),
        (CELL, replace(CELL, task=replace(CELL.task, limit=4)), "zoo-mcq: limit is none in A, 4 in B."),
    ],
)
def test_the_setting_that_differs_is_named_with_both_its_values(tmp_path: Path, a: Cell, b: Cell, told: str) -> None:
    assert any(note.startswith(told) for note in notes(tmp_path, a, b)), notes(tmp_path, a, b)


def test_what_is_the_same_is_not_told(tmp_path: Path) -> None:
    assert notes(tmp_path, CELL, CELL) == []
    assert len(notes(tmp_path, CELL, replace(CELL, engine={"kind": "transformers", "batch_size": 4}))) == 1


def test_two_ways_of_asking_differ_in_what_they_were_chosen_for(tmp_path: Path) -> None:
    a, b = run_of(tmp_path / "a", CELL), run_of(tmp_path / "b", LEARNT)
    found = compare_runs(a, b, a_protocol=ZeroShot().name, b_protocol="soft_prompt", resamples=0)
    assert not any("lr" in note or "steps" in note for note in found.notes)
