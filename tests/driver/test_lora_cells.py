"""LoRA cells in a grid: learnt beside soft prompts, kept as soon as they are learnt, asked in the same engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spt_fast import plan
from spt_fast.analysis.cells import RunCell
from spt_fast.config import Ensemble, GridConfig, Lora, ModelConfig, RandomVectors, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.config.reader import parse_grid
from spt_fast.driver.ensembles import examples_of, voted
from spt_fast.driver.run import run_cells
from spt_fast.engine import config_of, open_engine
from spt_fast.engine.base import Adapters
from spt_fast.errors import ConfigError
from spt_fast.export import export
from spt_fast.models.tokenizer import load_tokenizer
from spt_fast.prompts.lora import LoraAdapter
from spt_fast.store import Store
from spt_fast.store.reuse import copy_learnt
from spt_fast.tasks.rows import load_rows
from spt_fast.types import CellResult, Completion
from spt_fast.worker.answers import CellAnswers
from spt_fast.worker.events import CellDone, CellFailed, CellTrained, Event, PhaseStarted
from spt_fast.worker.lease import Lease, More
from spt_fast.worker.questions import Questions, questions
from spt_fast.worker.requests import requests_of
from spt_fast.worker.stage import run_stage
from tests.helpers.reports import markdown
from tests.helpers.tiny import tiny_model

TUNED = {"steps": 2, "batch_size": 2, "lr": 0.05}
LORA = Lora(**TUNED, rank=2, evaluate_at=(0, 1))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "one", hidden_size=32, positions=4096)


@pytest.fixture
def grid(tmp_path: Path, model: Path) -> GridConfig:
    return GridConfig(
        name="g",
        models=(ModelConfig(id=str(model)),),
        tasks=(TaskConfig(task="zoo-mcq"),),
        protocols=(ZeroShot(), SoftPromptConfig(**TUNED, length=2), LORA),  # type: ignore[arg-type]
        limit=4,
        engine={"kind": "echo"},
        output=tmp_path / "run",
    )


def results(events: list[Event]) -> dict[str, CellResult]:
    assert [event.reason for event in events if isinstance(event, CellFailed)] == []
    return {event.key: event.result for event in events if isinstance(event, CellDone)}


def test_an_adapter_is_kept_in_the_cells_folder_and_learnt_once(grid: GridConfig, tmp_path: Path) -> None:
    result = run_cells(grid)
    assert result.complete, result.failures
    store = Store(grid.folder)
    (cell,) = (cell for cell in result.cells if isinstance(cell.protocol, Lora))
    adapters = store.learnt.adapters(cell.key)
    assert list(adapters) == [0, 1, 2]
    assert store.learnt.soft_prompts(cell.key) == {}
    assert store.result(cell.key).provenance["adapter"] == adapters[2].key
    assert sorted(path.name for path in (store.root / "cells" / cell.key).iterdir()) == [
        "adapter.safetensors",
        "curve.csv",
        "result.json",
        "samples.parquet",
    ]
    export(grid.folder, "peft", tmp_path / "peft")
    (about,) = (tmp_path / "peft").glob("*/zoo-mcq@lora/adapter_config.json")
    assert json.loads(about.read_text())["base_model_name_or_path"] == grid.models[0].id
    assert (about.parent / "adapter_model.safetensors").is_file()
    # As after a kill between learning and asking: what was learnt is asked, and not learnt again.
    (store.root / "cells" / cell.key / "result.json").unlink()
    (stage,) = plan.stages(result.cells, store.done())
    given = {cell.key: store.learnt.of(cell) or {}}
    events: list[Event] = []
    run_stage(stage, given, events.append)
    assert set(results(events)) == {cell.key}
    assert not any(isinstance(event, CellTrained) or event == PhaseStarted(phase="train") for event in events)
    # It is reused in the next folder too.
    tomorrow = Store(grid.folder.with_name("tomorrow"))
    copy_learnt(tomorrow, store, {cell.key})
    assert tomorrow.learnt.among({cell.key}) == {cell.key}
    assert tomorrow.learnt.adapters(cell.key)[2].key == adapters[2].key


def test_results_say_how_much_each_protocol_trains_and_stores_and_with_which_settings(grid: GridConfig) -> None:
    soft = SoftPromptConfig(**TUNED, length=2)  # type: ignore[arg-type]
    asked = replace(
        grid,
        protocols=(
            ZeroShot(),
            RandomVectors(length=2),
            soft,
            replace(soft, encoder="mlp", encoder_hidden=8),
            Ensemble(**TUNED, length=2, members=2),  # type: ignore[arg-type]
            LORA,
        ),
    )
    cells = plan.expand(asked)
    (stage,) = plan.stages(cells, ())
    events: list[Event] = []
    run_stage(stage, {}, events.append)
    found = results(events)
    ensemble = next(cell for cell in cells if isinstance(cell.protocol, Ensemble))
    members = [found[member.key] for member in ensemble.members]
    found[ensemble.key] = voted(ensemble, members, examples_of(ensemble), {ensemble.members[0].key})
    names = ("trained_parameters", "stored_parameters", "stored_bytes")
    sizes = {cell.label: tuple(found[cell.key].costs[name] for name in names) for cell in cells}
    # H = 32; a width of 8 within the encoder; two layers of q, o [32, 32] and k, v [16, 32] changed by rank 2.
    encoder = 2 * 32 + (32 * 8 + 8) + (8 * 8 + 8) + (8 * 32 + 32)
    lora = 2 * 2 * (2 * (32 + 32) + 2 * (32 + 16))
    assert sizes == {
        "zero_shot": (0, 0, 0),
        "random_vectors": (0, 64, 256),
        "soft_prompt[encoder=None]": (64, 64, 256),
        "soft_prompt[encoder=mlp]": (encoder, 64, 256),
        "ensemble": (128, 128, 512),
        "lora": (lora, lora, 4 * lora),
    }
    told = {cell.label: json.loads(found[cell.key].provenance.get("tuning", "null")) for cell in cells}
    assert told["zero_shot"] is None
    assert told["lora"]["targets"] == ["attention"]
    assert (told["soft_prompt[encoder=mlp]"]["encoder_hidden"], told["soft_prompt[encoder=None]"]["lr"]) == (8, 0.05)
    assert "encoder_hidden" not in told["soft_prompt[encoder=None]"]
    # Seconds are counted once: those of the member that is a cell of the grid stand there.
    assert found[ensemble.key].costs["answer_s"] == members[1].costs["answer_s"]
    reports = [
        RunCell(model="m", task="t", protocol=cell.label, metrics=found[cell.key].metrics, costs=found[cell.key].costs)
        for cell in cells
    ]
    text = markdown(reports)
    assert f"| `lora` | {lora:,} | {lora:,} | {4 * lora:,} |" in text
    assert f"| `soft_prompt[encoder=mlp]` | {encoder} | 64 | 256 |" in text
    assert "stored parameters" not in markdown(reports[:1])


class Later(Lease):
    """Hands one more cell out when nothing is left, as a scheduler does that moves work."""

    def __init__(self, more: More) -> None:
        self.waiting: More | None = more

    def claim(self, keys: object) -> object:  # type: ignore[override]
        return keys

    def more(self) -> More | None:
        given, self.waiting = self.waiting, None
        return given


def test_an_engine_that_was_started_without_adapters_is_started_again_for_one_that_comes_later(grid: GridConfig) -> None:
    """The new cell's adapter is there already, so that nothing has to be learnt before it is asked."""
    cells = plan.expand(grid)
    (stage,) = plan.stages(cells, ())
    events: list[Event] = []
    run_stage(stage, {}, events.append)
    learnt = {event.key: event.prompts for event in events if isinstance(event, CellTrained)}
    (late,) = (cell for cell in cells if isinstance(cell.protocol, Lora))
    before = results(events)[late.key]
    first = replace(stage, cells=tuple(cell for cell in stage.cells if isinstance(cell.protocol, ZeroShot)))
    again: list[Event] = []
    run_stage(first, {}, again.append, Later(More(cells=(late,), given={late.key: learnt[late.key]})))
    assert results(again)[late.key].samples == before.samples
    assert sum(isinstance(event, PhaseStarted) and event.phase == "engine" for event in again) == 2


def test_lora_is_read_from_a_grid_and_what_is_wrong_is_one_sentence() -> None:
    written = "name: g\nmodels: [zoo/base-40]\ntasks: [zoo-mcq]\nprotocols:\n  - lora: {rank: [4, 8], targets: linear}\n"
    assert parse_grid(written).protocols == (Lora(rank=4, targets=("linear",)), Lora(rank=8, targets=("linear",)))
    assert Lora().targets == ("attention",)
    assert parse_grid(written.replace("linear", "[[q_proj, v_proj], [attention]]").replace("[4, 8]", "4")).protocols == (
        Lora(rank=4, targets=("q_proj", "v_proj")),
        Lora(rank=4),
    )
    for wrong, sentence in (
        ("rank: 0", r"protocols\[0\].lora.rank: must be a whole number from 1 to 4096, not 0"),
        ("alpha: 0", r"lora.alpha: must be a number above 0 and at most 1000000, not 0"),
        ("targets: []", r"lora.targets: is empty"),
        ("dropout: 1.0", r"lora.dropout: must be a number from 0 to below 1, not 1"),
        ("length: 10", r"lora: unknown key 'length'"),
        ("steps: 4, evaluate_at: [5]", r"lora.evaluate_at: step 5 is outside 0..4"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            parse_grid(written.replace("rank: [4, 8], targets: linear", wrong))


def test_every_setting_of_an_adapter_changes_its_key(grid: GridConfig) -> None:
    (cell,) = (cell for cell in plan.expand(grid) if isinstance(cell.protocol, Lora))
    changes: list[Mapping[str, object]] = [{"rank": 4}, {"alpha": 8}, {"targets": ("linear",)}, {"dropout": 0.1}, {"lr": 0.01}]
    changed = [replace(cell, protocol=replace(LORA, **each)) for each in changes]  # type: ignore[arg-type]
    assert len({each.key for each in (cell, *changed)}) == 6
    assert len({each.tuning_key for each in (cell, *changed)}) == 6
    longer = replace(cell, protocol=replace(LORA, steps=9))
    assert (longer.tuning_key == cell.tuning_key, longer.key == cell.key) == (True, False)


# On a model that knows something


@pytest.mark.vllm
@pytest.mark.slow
def test_lora_and_an_ensemble_are_asked_in_one_vllm_engine_and_transformers_agrees(tmp_path: Path) -> None:
    """On base-70. Every member and the adapter in one stream of one engine, completions and log-likelihoods mixed."""
    learning = {"steps": 30, "repeat_rows": True}
    grid = GridConfig(
        name="g",
        models=(ModelConfig(id="zoo/base-70", dtype="float32"),),
        tasks=(TaskConfig(task="zoo-mcq"),),
        protocols=(
            Ensemble(**learning, lr=0.02, members=5),  # type: ignore[arg-type]
            Lora(**learning, lr=0.005),  # type: ignore[arg-type]
        ),
        limit=60,
        engine={"kind": "vllm"},
        output=tmp_path / "run",
    )
    cells = plan.expand(grid)
    (stage,) = plan.stages(cells, ())
    events: list[Event] = []
    run_stage(stage, {}, events.append)
    found = results(events)
    assert len(found) == 6
    assert sum(isinstance(event, PhaseStarted) and event.phase == "engine" for event in events) == 1
    ensemble, lora = cells
    result = voted(ensemble, [found[member.key] for member in ensemble.members], examples_of(ensemble))
    by_name = {metric.name: metric.value for metric in result.metrics[30]}
    for name in ("format_following", "knowledge", "exact_match"):
        # Nothing makes a vote better than the mean on every draw: it may be a row of the 60 below.
        assert by_name[name] >= by_name[f"{name}_member_mean"] - 1 / 60
    plain = {metric.name: metric.value for metric in found[lora.key].metrics[30]}
    assert plain["format_following"] > 0.8
    # The reference engine on the same adapter.
    learnt = next(event.prompts for event in events if isinstance(event, CellTrained) and event.key == lora.key)
    adapter = learnt[30]
    assert isinstance(adapter, LoraAdapter)
    tokenizer = load_tokenizer(lora.model)
    rows = load_rows(lora.task.task, limit=8, need={"test"})
    asked = CellAnswers(lora, lora.steps, Questions(questions(lora, rows, tokenizer, chat=False)))
    room = Adapters(rank=adapter.rank, targets=frozenset(adapter.targets), count=1)
    with open_engine(replace(config_of(lora.model, {"kind": "transformers"}), adapters=room)) as engine:
        planned = list(requests_of(asked, engine, learnt))
        for index, answer in engine.stream(request for _, request in planned):
            asked.answers[planned[index][0]] = answer
    first = found[lora.key].samples[: len(asked.questions.test)]
    assert [sample.example for sample in first] == [question.example.key for question in asked.questions.test]
    np.testing.assert_allclose(
        [sample.option_logprobs for sample in first], [each.listed for each in asked.scores(30)], atol=1e-3
    )
    written: list[Completion] = asked.completions(30)
    assert [sample.completion for sample in first] == [completion.text for completion in written]
