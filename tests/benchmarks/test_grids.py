"""The grids that come with the project are good, without a network, and say what they are said to."""

from __future__ import annotations

import shutil
from dataclasses import fields, replace
from itertools import product
from pathlib import Path

import pytest
from huggingface_hub import constants

from spt_fast import plan, zoo
from spt_fast.cli.checking import check_grid
from spt_fast.config import Ensemble, Learning, Lora, SoftPromptConfig, Transfer, is_pattern
from spt_fast.config.reader import load_grid
from spt_fast.driver.options import with_options
from spt_fast.driver.run import run_cells
from spt_fast.tasks.loading.hub import why_unreachable
from spt_fast.worker.events import CellDone, CellFailed, Event
from spt_fast.worker.stage import run_stage

GRIDS = Path(__file__).parents[2] / "benchmarks" / "grids"
ROWS = Path(__file__).parents[3] / "shared" / "data"
NAMES = sorted(path.name for path in GRIDS.glob("*.yaml"))
BUILT = "series.yaml"
"""Its models come into being by `spt-fast zoo build --run`."""

needs_rows = pytest.mark.skipif(not ROWS.is_dir(), reason="there are no real rows beside this checkout (../shared/data)")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    why_unreachable.cache_clear()


def test_there_is_a_grid_for_each_way_to_begin() -> None:
    assert {"quickstart.yaml", "paper.yaml", "nightly.yaml", "local-data.yaml", "lester.yaml", "ablations.yaml"} <= set(NAMES)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=needs_rows) if n == "local-data.yaml" else n for n in NAMES if n != BUILT]
)
def test_a_grid_is_good_without_a_network(name: str, offline: None) -> None:
    assert check_grid(load_grid(GRIDS / name)).wrong == ()


def test_the_grid_of_a_training_run_is_good_once_the_run_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPT_FAST_CACHE", str(tmp_path))
    assert check_grid(load_grid(GRIDS / BUILT)).wrong == ("zoo/run is not built yet: run `spt-fast zoo build --run run`",)
    for checkpoint in zoo.RUNS["run"].checkpoints:
        shutil.copytree(zoo.find("base-40"), tmp_path / "zoo" / "run" / checkpoint.name)
    checked = check_grid(load_grid(GRIDS / BUILT))
    assert checked.wrong == ()
    first, *_, last = zoo.RUNS["run"].checkpoints
    assert checked.series == (f"zoo/run/step-*: 12 models, zoo/run/{first.name} to zoo/run/{last.name}",)
    grid = load_grid(GRIDS / BUILT)
    assert [task.task for task in grid.tasks] == ["zoo-mcq", "zoo-short", "zoo-number", "zoo-json"]


def test_public_training_runs_are_series_of_the_hub(offline: None) -> None:
    grid = load_grid(GRIDS / "public-series.yaml")
    assert {model.id.split("/")[0] for model in grid.models} == {"EleutherAI", "allenai", "HuggingFaceTB"}
    assert all(model.revision is not None and is_pattern(model.revision) for model in grid.models)


def test_the_papers_grid_is_the_papers_protocol(offline: None) -> None:
    grid = load_grid(GRIDS / "paper.yaml")
    cells = plan.expand(grid)
    models = {cell.model.name: cell.model for cell in cells}
    assert sum(model.partner_of is None for model in models.values()) == 7
    assert sum(model.partner_of is not None for model in models.values()) == 7
    assert {cell.task.name for cell in cells} == {"mmlu", "belebele", "chembench", "triviaqa", "gsm8k", "squad", "math500"}
    assert grid.seeds == (0, 1, 2)
    soft = [cell for cell in cells if isinstance(cell.protocol, SoftPromptConfig)]
    papers = [cell for cell in soft if isinstance(cell.protocol, SoftPromptConfig) and cell.protocol.init == "normal"]
    ours = [
        cell.protocol for cell in soft if isinstance(cell.protocol, SoftPromptConfig) and cell.protocol.init == "vocabulary"
    ]
    assert {(p.lr, p.position) for p in ours} == {("auto", "auto"), (0.01, "auto")}
    rates = {cell.model.name: cell.protocol.lr for cell in papers if isinstance(cell.protocol, SoftPromptConfig)}
    assert {name for name, lr in rates.items() if lr == 0.01} == {
        "mistralai/Ministral-3-14B-Base-2512",
        "mistralai/Ministral-3-14B-Instruct-2512",
    }
    assert set(rates.values()) == {0.001, 0.01}
    assert {
        (p.length, p.batch_size, p.init_std, p.position)
        for p in (cell.protocol for cell in papers)
        if isinstance(p, SoftPromptConfig)
    } == {(10, 8, 0.02, "front")}
    assert {max(step for step in cell.steps if step is not None) for cell in soft} == {80, 120}
    # 80 and 120 steps of a model, task and seed are one training.
    assert len({cell.tuning_key for cell in papers if cell.model.name == "Qwen/Qwen3-4B-Base"}) == 7 * 3
    judged = {cell.task.name for cell in cells if cell.judge is not None}
    assert judged == {"triviaqa", "gsm8k", "squad", "math500"}
    thinking = {name: model.chat_template_kwargs for name, model in models.items() if model.chat_template_kwargs}
    assert thinking["Qwen/Qwen3-8B"] == {"enable_thinking": False}


@pytest.mark.parametrize("name", ["lester.yaml", "ablations.yaml"])
def test_starts_lengths_and_rates_of_prompt_tuning_are_there_with_a_label_each(name: str, offline: None) -> None:
    grid = load_grid(GRIDS / name)
    cells = plan.expand(grid)
    assert (
        len({(cell.model.name, cell.task.name, cell.label) for cell in cells})
        == len({cell.key for cell in cells})
        == len(cells)
    )
    soft = [protocol for protocol in grid.protocols if isinstance(protocol, SoftPromptConfig)]
    if name == "lester.yaml":
        assert {(p.init, p.length) for p in soft} == set(product(("uniform", "vocabulary", "answers"), (1, 5, 20)))
        assert {(p.optimizer, p.lr, p.weight_decay) for p in soft} == {("adafactor", 0.3, 1e-5)}
        assert [p.members for p in soft if isinstance(p, Ensemble)] == [5]
        moved = {(cell.source.name, cell.task.name) for cell in cells if isinstance(cell.protocol, Transfer)}
        assert moved == {("zoo-mcq", "zoo-json"), ("zoo-json", "zoo-mcq")}
        # A member is learnt and asked once with the soft prompt of its settings, and transfers have that one's vectors.
        keys, tuned = {cell.key for cell in cells}, {cell.tuning_key for cell in cells if cell.protocol.name == "soft_prompt"}
        assert all(cell.members[0].key in keys for cell in cells if isinstance(cell.protocol, Ensemble))
        assert all(cell.tuning_key in tuned for cell in cells if isinstance(cell.protocol, Transfer))
    else:
        paper = next(p for p in soft if p == SoftPromptConfig(repeat_rows=True, evaluate_at=(0, 10, 20, 40, 80)))
        beside = {"evaluate_at", "lr", "weight_decay", "warmup", "init_std", "init_tokens", "init_text", "init_from"}
        for p in soft:  # one thing at a time, with the rate and the settings that go with it
            beside_it = beside | ({"init"} if p.encoder else set())  # an encoder has an input of its own
            assert len({f.name for f in fields(p) if getattr(p, f.name) != getattr(paper, f.name)} - beside_it) <= 1
        (lora,) = (p for p in grid.protocols if isinstance(p, Lora))
        assert (lora.steps, lora.batch_size, lora.evaluate_at) == (paper.steps, paper.batch_size, paper.evaluate_at)
        assert {p.init for p in soft} == {"normal", "uniform", "vocabulary", "answers", "text", "soft_prompt"}
        assert {p.encoder for p in soft} == {None, "mlp", "lstm"}
        assert {p.schedule for p in soft} == {"constant", "linear", "cosine"}


@pytest.mark.parametrize("name", ["lester.yaml", "ablations.yaml"])
def test_grids_of_prompt_tuning_run_on_the_zoo(name: str) -> None:
    """Every start, optimiser and encoder of theirs learns on a model of the zoo; one update, and no answers of a model."""
    grid = with_options(load_grid(GRIDS / name), limit=1)
    short = [
        replace(p, steps=1, batch_size=2, evaluate_at=(), warmup=0) if isinstance(p, Learning) else p for p in grid.protocols
    ]
    short = [replace(p, length=10) if isinstance(p, SoftPromptConfig) else p for p in short]
    asked = {
        "protocols": tuple(dict.fromkeys(short)),
        "models": grid.models[:1],
        "tasks": grid.tasks[-1:],
        "engine": {"kind": "echo"},
    }
    cells = plan.expand(replace(grid, **asked))  # type: ignore[arg-type]
    events: list[Event] = []
    for stage in plan.stages(cells, ()):
        run_stage(stage, {}, events.append)
    assert [event.reason for event in events if isinstance(event, CellFailed)] == []
    assert {event.key for event in events if isinstance(event, CellDone)} == {each.key for cell in cells for each in cell.asked}
    starts = {cell.protocol.init for cell in cells if isinstance(cell.protocol, SoftPromptConfig)}
    assert {"uniform", "vocabulary", "answers"} <= starts


@pytest.mark.slow
@needs_rows
def test_six_real_data_sets_go_through_every_protocol_on_the_engine_without_a_model(tmp_path: Path) -> None:
    """The whole of it through vLLM takes some 15 minutes: `spt-fast run benchmarks/grids/local-data.yaml`."""
    grid = with_options(load_grid(GRIDS / "local-data.yaml"), limit=2, output=tmp_path / "run")
    (model, _) = grid.models
    short = tuple(
        SoftPromptConfig(steps=1, lr=0.02) if isinstance(protocol, SoftPromptConfig) else protocol
        for protocol in grid.protocols
    )
    asked = {**vars(grid), "models": (model,), "protocols": short, "engine": {"kind": "echo"}}
    result = run_cells(type(grid)(**asked))
    assert result.complete, result.failures
    assert len(result.cells) == 2 * 6 * 3
    assert {path.stem for path in (tmp_path / "run" / "rows").glob("*.json")} == {cell.task.name for cell in result.cells}
