"""Starts, encoders and early stop in a grid, from YAML to the vectors, with the engine that needs no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spt_fast import plan, tasks
from spt_fast.config import SoftPromptConfig
from spt_fast.config.reader import parse_grid
from spt_fast.errors import ConfigError, DataError
from spt_fast.models.frozen_model import FrozenModel
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.prompts.adapters import save_adapter
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.tasks.rows import load_rows
from spt_fast.training import trainer
from spt_fast.training.task import require_rows, tune
from spt_fast.training.trainer import learn_many
from spt_fast.worker.events import CellDone, CellFailed, CellTrained, Event
from spt_fast.worker.stage import run_stage
from tests.helpers.tiny import tiny_model

GRID = """
name: g
models: [one]
tasks: [{tasks}]
protocols:
{protocols}
limit: 2
engine: {{kind: echo}}
"""
TUNED = "length: 3, steps: 4, batch_size: 2, lr: 0.05"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tiny_model(folder / "one", hidden_size=32, positions=4096)
    vectors = np.random.RandomState(0).normal(size=(3, 32)).astype(np.float32)
    SoftPrompt(vectors=vectors).save(folder / "given.safetensors")
    save_adapter(SoftPrompt(vectors=vectors), folder / "adapter", base_model="one")
    return folder


def text(*protocols: str, tasks: str = "zoo-json") -> str:
    return GRID.format(tasks=tasks, protocols="\n".join(f"  - {each}" for each in protocols))


def run(base: Path, *protocols: str, tasks: str = "zoo-json") -> tuple[dict[tuple[str, str], dict[int, SoftPrompt]], list[str]]:
    """What was learnt, by task, label and step, and why cells failed. In this process, which has torch already."""
    prompts, failures, _ = run_and_costs(base, *protocols, tasks=tasks)
    return prompts, failures


def run_and_costs(
    base: Path, *protocols: str, tasks: str = "zoo-json"
) -> tuple[dict[tuple[str, str], dict[int, SoftPrompt]], list[str], dict[tuple[str, str], Mapping[str, float]]]:
    """That, and what cells cost."""
    cells = {cell.key: cell for cell in plan.expand(parse_grid(text(*protocols, tasks=tasks), base=base))}
    events: list[Event] = []
    for stage in plan.stages(list(cells.values()), ()):
        run_stage(stage, {}, events.append)
    prompts = {event.key: dict(event.prompts) for event in events if isinstance(event, CellTrained)}
    failures = [event.reason for event in events if isinstance(event, CellFailed)]
    assert len([event for event in events if isinstance(event, CellDone)]) + len(failures) == len(cells)
    costs = {event.key: event.result.costs for event in events if isinstance(event, CellDone)}
    named = {key: (cell.task.name, cell.label) for key, cell in cells.items()}
    return (
        {named[key]: steps for key, steps in prompts.items()},
        failures,
        {named[key]: each for key, each in costs.items()},
    )


def test_a_worker_learns_in_shared_passes_what_it_learns_one_by_one(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    protocols = (
        f"soft_prompt: {{{TUNED}, evaluate_at: [0, 2]}}",
        f"soft_prompt: {{{TUNED}, init: soft_prompt, init_from: zoo-json}}",
        "soft_prompt: {length: 3, steps: 40, batch_size: 2, lr: 0.3, patience: 4, check_every: 2, held_out: 4}",
        "random_vectors: {length: 3}",
        "transfer: {from: zoo-json, length: 3, steps: 5, batch_size: 2, lr: 0.05}",
    )
    expected, failures, alone = run_and_costs(base, *protocols, tasks="zoo-json, zoo-mcq")
    assert not failures
    monkeypatch.setattr(
        trainer, "learn_many", lambda model, jobs, *, pad_id, at_once: learn_many(model, jobs, pad_id=pad_id, at_once=4)
    )
    together, failures, shared = run_and_costs(base, *protocols, tasks="zoo-json, zoo-mcq")
    assert not failures
    assert together.keys() == expected.keys()
    for cell, steps in expected.items():
        assert together[cell].keys() == steps.keys()
        for step, prompt in steps.items():
            np.testing.assert_allclose(together[cell][step].vectors, prompt.vectors, rtol=0, atol=1e-4)
    assert {each.get("prompts_at_once") for each in alone.values()} == {1.0, None}  # None: of the control
    assert max(each.get("prompts_at_once", 0) for each in shared.values()) == 4.0
    saved = {cell: each for cell, each in alone.items() if "steps_saved" in each}
    assert saved
    assert all("patience" in label for _, label in saved)
    for cell, each in saved.items():
        assert each["steps_taken"] + each["steps_saved"] == 40
        assert str(int(each["steps_taken"])) == expected[cell][40].provenance["steps_taken"]


def test_a_tuning_that_waits_for_the_form_stops_when_all_held_out_rows_have_it() -> None:
    """A zoo model that soon answers in letters; its loss goes on falling for long."""
    config = SoftPromptConfig(
        steps=60, lr=0.02, repeat_rows=True, patience=10, patience_on="format", held_out=16, evaluate_at=(0,)
    )
    learnt = tune("zoo/base-70", "zoo-mcq", config)
    told = learnt[60].provenance
    assert told["held_out_format_following"] == "1.0000"
    assert int(told["steps_taken"]) < 40
    assert 0 < int(told["best_step"]) <= int(told["steps_taken"])
    assert learnt[60].key != learnt[0].key


def test_every_start_optimiser_and_encoder_runs_from_yaml(base: Path) -> None:
    prompts, failures = run(
        base,
        f"soft_prompt: {{{TUNED}, evaluate_at: [0], init: [normal, uniform, vocabulary, answers, text], init_text: In short}}",
        f"soft_prompt: {{{TUNED}, encoder: [mlp, lstm], init: normal, init_std: 1}}",
        f"soft_prompt: {{{TUNED}, optimizer: adafactor, schedule: [linear, cosine], warmup: 1}}",
        f"soft_prompt: {{{TUNED}, patience: 2, held_out: 4, check_every: 1, patience_on: [loss, format]}}",
        "random_vectors: {length: 3, init: [uniform, vocabulary]}",
    )
    assert not failures
    assert len(prompts) == 13
    # A model of noise answers nothing in form, so that it is the loss that is waited for both times.
    assert len({steps[max(steps)].key for steps in prompts.values()}) == 12
    waited = [steps[4] for (_, label), steps in prompts.items() if "patience" in label]
    assert sorted(each.provenance.get("held_out_format_following", "") for each in waited) == ["", "0.0000"]
    assert all(steps[max(steps)].vectors.shape == (3, 32) for steps in prompts.values())
    # A control has the vectors that its soft prompt starts from, and they are rows of the model's table.
    starts = {label: steps[0] for (_, label), steps in prompts.items() if 0 in steps}
    by_init = {init: [each for label, each in starts.items() if f"init={init}" in label] for init in ("uniform", "vocabulary")}
    assert {init: len({each.key for each in found}) for init, found in by_init.items()} == {"uniform": 1, "vocabulary": 1}
    table = FrozenModel.load(base / "one").embed(torch.arange(272)).numpy()
    assert all((table == row).all(axis=1).any() for row in by_init["vocabulary"][0].vectors)
    (from_text,) = (each for label, each in starts.items() if "init=text" in label)
    ids = Tokenizer.load(base / "one").text_ids("In short")[:3]
    assert (from_text.vectors == table[list(ids)]).all()


@pytest.mark.parametrize("file", ["given.safetensors", "adapter"])
def test_a_start_from_a_file_is_its_vectors_whether_ours_or_pefts(file: str, base: Path) -> None:
    start = f"init: soft_prompt, init_from: {file}"
    (steps,) = run(base, f"soft_prompt: {{{TUNED}, evaluate_at: [0], {start}}}")[0].values()
    assert steps[0].key == SoftPrompt.load(base / "given.safetensors").key != steps[4].key


def test_a_start_from_a_task_is_the_last_vectors_learnt_there(base: Path) -> None:
    """Of zoo-json's own soft prompt, which the grid has, and of zoo-short's, which it has not."""
    prompts, failures = run(
        base,
        f"soft_prompt: {{{TUNED}, evaluate_at: [0], init: [vocabulary, soft_prompt], init_from: [zoo-json, zoo-short]}}",
        tasks="zoo-mcq, zoo-json",
    )
    assert not failures
    plain, from_json, from_short = (
        f"soft_prompt[init={each}]"
        for each in ("vocabulary", "soft_prompt,init_from=zoo-json", "soft_prompt,init_from=zoo-short")
    )
    assert set(prompts) == {
        ("zoo-mcq", plain),
        ("zoo-json", plain),
        ("zoo-mcq", from_json),
        ("zoo-mcq", from_short),
        ("zoo-json", from_short),  # and none from itself
    }
    assert prompts["zoo-mcq", from_json][0].key == prompts["zoo-json", plain][4].key
    assert prompts["zoo-mcq", from_short][0].key == prompts["zoo-json", from_short][0].key
    short = tune(str(base / "one"), "zoo-short", SoftPromptConfig(length=3, steps=4, batch_size=2, lr=0.05))
    assert prompts["zoo-mcq", from_short][0].key == short[4].key
    assert prompts["zoo-mcq", from_json][4].key != prompts["zoo-mcq", plain][4].key


@pytest.mark.parametrize(
    ("protocol", "sentence"),
    [
        (
            "soft_prompt: {init: soft_prompt, init_from: given.safetensors}",
            r"protocols\[0\]\.soft_prompt\.init_from: .*given\.safetensors holds 3 vectors, and length is 10; set length: 3",
        ),
        ("soft_prompt: {init: soft_prompt, init_from: no.safetensors}", r"soft_prompt\.init_from: .*no\.safetensors"),
        ("soft_prompt: {init: soft_prompt, init_from: zoo-shirt}", r"soft_prompt\.init_from: .*did you mean 'zoo-short'"),
        ("soft_prompt: {init: soft_prompt, init_from: zoo-json}", "a start needs another task than its own"),
    ],
)
def test_a_start_that_cannot_be_had_is_one_sentence(protocol: str, sentence: str, base: Path) -> None:
    grid = parse_grid(text(protocol), base=base)
    with pytest.raises(ConfigError, match=sentence):
        plan.expand(grid)


def test_a_start_of_another_width_fails_its_cells_with_a_sentence(base: Path, tmp_path: Path) -> None:
    SoftPrompt(vectors=np.ones((3, 8), dtype=np.float32)).save(tmp_path / "narrow.safetensors")
    protocol = f"soft_prompt: {{{TUNED}, init: soft_prompt, init_from: {tmp_path / 'narrow.safetensors'}}}"
    _, (failure,) = run(base, protocol)
    assert "is 3 vectors of 8 numbers, where 3 (length) of 32 (the model's width) are wanted" in failure


def test_tune_starts_from_a_file_and_says_that_a_task_is_none(base: Path) -> None:
    settings = {"length": 3, "steps": 1, "batch_size": 2, "init": "soft_prompt", "evaluate_at": (0,)}
    config = SoftPromptConfig(**settings, init_from=str(base / "given.safetensors"))  # type: ignore[arg-type]
    assert tune(str(base / "one"), "zoo-json", config)[0].key == SoftPrompt.load(base / "given.safetensors").key
    with pytest.raises(ConfigError, match="zoo-short is no file of a soft prompt; learn one on that task first"):
        tune(str(base / "one"), "zoo-json", SoftPromptConfig(**settings, init_from="zoo-short"))  # type: ignore[arg-type]


def test_rows_that_are_held_out_are_needed_too() -> None:
    task = replace(tasks.get("zoo-json"), repeat_rows=False)
    rows = load_rows(task)
    assert len(rows.tuning) == 240
    require_rows(task, rows, SoftPromptConfig(steps=28, patience=9, held_out=16))
    said = "zoo-json: 30 steps of 8 and 16 held out take 256 tuning rows, and there are 240; lower steps to 28, or set"
    with pytest.raises(DataError, match=said):
        require_rows(task, rows, SoftPromptConfig(steps=30, patience=9, held_out=16))


def test_what_auto_came_to_stands_with_the_vectors(base: Path) -> None:
    prompts, failures = run(base, "soft_prompt: {length: 3, steps: 4, batch_size: 2}")
    assert failures == []
    (learnt,) = prompts.values()
    provenance = learnt[4].provenance
    assert provenance["position"] == "after_bos"
    assert float(provenance["lr"]) == pytest.approx(0.02, rel=0.05)  # a tenth of the tiny model's 0.2
