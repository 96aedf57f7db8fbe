"""Soft prompts that are carried along a series of checkpoints, in this process, with the engine that needs no model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spt_fast import plan
from spt_fast.config import GridConfig
from spt_fast.config.reader import parse_grid
from spt_fast.driver.result import GridResult
from spt_fast.errors import ConfigError, StoreError
from spt_fast.plan import Stage
from spt_fast.prompts.carried import StartedFrom, from_json, started_from
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.report.folder import refresh
from spt_fast.scoring.metrics import STEPS_TO_FORMAT
from spt_fast.store import Store
from spt_fast.worker.events import CellTrained, Event
from tests.helpers.running import Listener, run_grid
from tests.helpers.tiny import tiny_model

TUNED = "length: 3, batch_size: 2, lr: 0.05"
CARRIED = f"soft_prompt: {{init_from: previous, steps: 2, cold_steps: 4, evaluate_at: [0], {TUNED}}}"
GRID = """
name: g
models: {models}
tasks: [{tasks}]
protocols: [{protocols}]
limit: 2
output: {output}
engine: {{kind: echo}}
"""
SERIES = '[{id: run, checkpoints: "step-*"}]'


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    for number in (1, 2, 10):
        tiny_model(folder / "run" / f"step-{number}", hidden_size=32, positions=4096, seed=number)
    return folder


@pytest.fixture
def base(kept: Path, tmp_path: Path) -> Path:
    """A folder of a test's own, with three checkpoints that it may delete."""
    shutil.copytree(kept, tmp_path / "base")
    return tmp_path / "base"


def grid(
    base: Path, *protocols: str, models: str = SERIES, tasks: str = "zoo-json", output: str | Path | None = None
) -> GridConfig:
    text = GRID.format(
        models=models, tasks=tasks, protocols=", ".join(f"{{{p}}}" for p in protocols), output=output or base / "out"
    )
    return parse_grid(text, base=base)


def learnt(result: GridResult, label: str = "soft_prompt", task: str = "zoo-json") -> dict[str, dict[int, SoftPrompt]]:
    """Model -> its soft prompts by step."""
    store = Store(result.folder)
    cells = [cell for cell in result.cells if cell.label == label and cell.task.name == task and cell.seed == 0]
    return {cell.model.name: store.learnt.soft_prompts(cell.key) for cell in cells}


def starts(result: GridResult, label: str = "soft_prompt") -> dict[str, StartedFrom | None]:
    """Model -> what result.json says of its start."""
    cells = [cell for cell in result.cells if cell.label == label and cell.key in result.results]
    return {cell.model.name: from_json(result.results[cell.key].provenance["started_from"]) for cell in cells}


def test_each_checkpoint_starts_from_the_one_before_in_natural_order_and_the_first_one_cold(base: Path) -> None:
    cold = f"soft_prompt: {{steps: 4, {TUNED}}}"
    result = run_grid(grid(base, cold, CARRIED))
    assert result.complete
    plain, carried = "soft_prompt[init=vocabulary,steps=4]", "soft_prompt[init_from=previous,steps=2]"
    own, found = learnt(result, plain), learnt(result, carried)
    assert list(found) == ["run/step-1", "run/step-2", "run/step-10"]
    assert found["run/step-1"][0].key == own["run/step-1"][4].key  # the cold start is the grid's own soft prompt
    assert found["run/step-2"][0].key == found["run/step-1"][2].key
    assert found["run/step-10"][0].key == found["run/step-2"][2].key
    assert len({steps[step].key for steps in found.values() for step in (0, 2)}) == 4
    told = starts(result, carried)
    assert told == {
        "run/step-1": StartedFrom(model="run/step-1", step=4, soft_prompt=own["run/step-1"][4].key, checkpoints=0, updates=4),
        "run/step-2": StartedFrom(model="run/step-1", step=2, soft_prompt=found["run/step-1"][2].key, checkpoints=1, updates=6),
        "run/step-10": StartedFrom(
            model="run/step-2", step=2, soft_prompt=found["run/step-2"][2].key, checkpoints=2, updates=8
        ),
    }
    assert told == {model: started_from(steps[2].provenance) for model, steps in found.items()}
    assert [each.cold for each in told.values() if each] == [True, False, False]


def test_the_updates_to_the_form_are_a_metric_of_cells_that_are_looked_at_more_than_once(base: Path) -> None:
    for number in (2, 10):
        shutil.rmtree(base / "run" / f"step-{number}")
    early = "patience: 2, check_every: 2, held_out: 4, patience_on: format"
    patient = f"soft_prompt: {{init_from: previous, steps: 4, {early}, {TUNED}}}"
    result = run_grid(grid(base, CARRIED, f"soft_prompt: {{steps: 2, {TUNED}}}", patient))
    found = {
        cell.protocol.steps: {metric.name: metric for metric in result.results[cell.key].metrics[cell.steps[-1]]}.get(
            STEPS_TO_FORMAT
        )  # type: ignore[attr-defined]
        for cell in result.cells
        if cell.protocol.carried
    }
    by_rows, by_checks = found[2], found[4]
    assert by_rows is not None
    assert by_checks is not None
    assert (by_rows.n, by_rows.value) == (2, 0)
    assert (by_checks.n, by_checks.value) == (4, 0)  # a model of noise never has the form
    (once,) = (cell for cell in result.cells if not cell.protocol.carried)
    assert STEPS_TO_FORMAT not in {metric.name for metric in result.results[once.key].metrics[2]}
    refresh(result.folder)
    assert STEPS_TO_FORMAT in (base / "out" / "results.csv").read_text()
    page = (base / "out" / "report.md").read_text()
    assert "cold, on the model itself" in page
    assert "zoo-json: updates until format following has settled" in page


def test_a_run_that_is_killed_between_two_checkpoints_goes_on_with_the_very_same_vectors(base: Path, tmp_path: Path) -> None:
    """The folder as it is when the first checkpoint is trained is what a kill leaves behind there."""
    shutil.rmtree(base / "run" / "step-10")
    left = tmp_path / "left"

    class Copies(Listener):
        def show(self, stage: Stage, event: Event) -> None:
            super().show(stage, event)
            if isinstance(event, CellTrained) and not left.exists():
                shutil.copytree(base / "out", left)

        @contextmanager
        def watch(self, *_: object) -> Iterator[Copies]:
            yield self

    shuffled = f"shuffled_labels: {{init_from: previous, steps: 2, cold_steps: 4, {TUNED}}}"
    whole, again = run_grid(grid(base, CARRIED, shuffled), watch=Copies().watch), Listener()
    resumed = run_grid(grid(base, CARRIED, shuffled, output=left), watch=again.watch)
    assert len(again.keys(CellTrained)) == 3  # one of four was there
    assert resumed.complete
    for label in ("soft_prompt", "shuffled_labels"):
        assert keys_of(learnt(resumed, label)) == keys_of(learnt(whole, label))
        assert starts(resumed, label) == starts(whole, label)
    assert learnt(whole)["run/step-1"][0].key != learnt(whole, "shuffled_labels")["run/step-1"][2].key


def keys_of(models: dict[str, dict[int, SoftPrompt]]) -> dict[str, dict[int, str]]:
    return {model: {step: prompt.key for step, prompt in steps.items()} for model, steps in models.items()}


def test_a_checkpoint_that_is_deleted_is_started_from_all_the_same(base: Path) -> None:
    shutil.move(base / "run" / "step-10", base / "step-10")
    first = run_grid(grid(base, CARRIED))
    before = learnt(first)["run/step-2"][2].key
    shutil.rmtree(base / "run" / "step-1")
    shutil.rmtree(base / "run" / "step-2")
    shutil.move(base / "step-10", base / "run" / "step-10")
    second = run_grid(grid(base, CARRIED))
    assert [cell.model.name for cell in second.cells] == ["run/step-10"]
    assert learnt(second)["run/step-10"][0].key == before
    (told,) = starts(second).values()
    assert told is not None
    assert (told.model, told.checkpoints, told.updates) == ("run/step-2", 2, 8)


def test_a_checkpoint_that_cannot_be_used_is_passed_over_for_the_nearest_one_before(base: Path) -> None:
    (base / "run" / "step-2" / "config.json").write_text("{}")
    result = run_grid(grid(base, CARRIED))
    assert len(result.failures) == 1
    assert learnt(result)["run/step-10"][0].key == learnt(result)["run/step-1"][2].key
    # It is mended afterwards: its own cell is done, and the one behind it is not done again.
    shutil.rmtree(base / "run" / "step-2")
    tiny_model(base / "run" / "step-2", hidden_size=32, positions=4096, seed=2)
    again = run_grid(grid(base, CARRIED))
    assert again.complete
    assert learnt(again)["run/step-2"][0].key == learnt(again)["run/step-1"][2].key
    told = starts(again)["run/step-10"]
    assert told is not None
    assert told.model == "run/step-1"


def test_vectors_that_are_damaged_are_passed_over_and_it_is_said(base: Path) -> None:
    hidden = base / "step-10"
    shutil.move(base / "run" / "step-10", hidden)
    first = run_grid(grid(base, CARRIED))
    (of_two,) = (cell for cell in first.cells if cell.model.name == "run/step-2")
    (base / "out" / "cells" / of_two.key / "prompt.safetensors").write_bytes(b"not vectors")
    shutil.move(hidden, base / "run" / "step-10")
    said: list[str] = []
    again = run_grid(grid(base, CARRIED), say=said.append)
    told = starts(again)["run/step-10"]
    assert told is not None
    assert told.model == "run/step-1"
    (sentence,) = said
    assert "run/step-10 · zoo-json · soft_prompt · seed 0" in sentence
    assert "prompt.safetensors" in sentence


def test_other_settings_tasks_and_seeds_are_threads_of_their_own(base: Path) -> None:
    three = f"soft_prompt: {{init_from: previous, steps: [2, 3], cold_steps: 4, {TUNED}}}"
    cells = plan.expand(grid(base, three, "shuffled_labels: {init_from: previous, steps: 2}", tasks="zoo-json, zoo-mcq"))
    assert len({cell.thread for cell in cells}) == 6
    assert all(len({c.model.name for c in cells if c.thread == cell.thread}) == 3 for cell in cells)
    (same,) = {cell.thread for cell in plan.expand(grid(base, CARRIED))}
    assert same in {cell.thread for cell in cells}  # at which steps it is evaluated changes no vector


@pytest.mark.parametrize("deleted", [False, True])
def test_vectors_of_an_earlier_day_are_started_from_in_the_folder_of_today(deleted: bool, base: Path) -> None:
    output = str(base / "nights" / "{date}")
    shutil.rmtree(base / "run" / "step-10")
    shutil.move(base / "run" / "step-2", base / "step-2")
    first = run_grid(grid(base, CARRIED, output=output))
    day = Path(str(first.folder))
    day.rename(day.with_name("2026-01-01"))
    shutil.move(base / "step-2", base / "run" / "step-2")
    if deleted:
        shutil.rmtree(base / "run" / "step-1")
    told = starts(run_grid(grid(base, CARRIED, output=output)))["run/step-2"]
    assert told is not None
    assert (told.model, told.checkpoints) == ("run/step-1", 1)


def test_a_checkpoint_of_another_width_starts_cold_and_says_so(base: Path) -> None:
    for number in (2, 10):
        shutil.rmtree(base / "run" / f"step-{number}")
    tiny_model(base / "run" / "step-2", hidden_size=64, positions=4096, seed=3)
    told = starts(run_grid(grid(base, CARRIED)))["run/step-2"]
    assert told is not None
    assert told.cold
    assert told.model == "run/step-2"


@pytest.mark.parametrize(
    ("protocol", "models", "sentence"),
    [
        ("ensemble: {init_from: previous}", SERIES, r"protocols\[0\]\.ensemble\.init_from: previous: .* carry that one along"),
        ("random_vectors: {init_from: previous}", SERIES, r"random_vectors\.init_from: previous: .* learns nothing"),
        (
            "soft_prompt: {init_from: previous, encoder: mlp}",
            SERIES,
            r"soft_prompt\.encoder: goes not with init_from: previous",
        ),
        (
            "soft_prompt: {init_from: previous, init: normal}",
            SERIES,
            "init_from: goes with init: soft_prompt, and init is normal",
        ),
        ("soft_prompt: {init_from: prevous}", SERIES, "init_from: goes with init: .*; did you mean 'previous'"),
        ("soft_prompt: {init_from: Previous}", SERIES, "init_from: goes with init: .*; did you mean 'previous'"),
        ("soft_prompt: {init_from: gsm8k}", SERIES, "init_from: goes with init: .*; set that, or leave it out"),
        ("soft_prompt: {cold_steps: 5}", SERIES, "cold_steps: goes with init_from: previous, and init_from is null"),
        ("soft_prompt: {init_from: previous, cold_steps: 0}", SERIES, "cold_steps: must be"),
        (
            "soft_prompt: {init_from: previous, schedule: linear, warmup: 7, cold_steps: 5}",
            SERIES,
            r"cold_steps: a training of 5 steps is not to be had: .*warmup: must be below steps \(5\)",
        ),
        (
            "soft_prompt: {init_from: previous}",
            "[run/step-1]",
            r"protocols\[0\]\.soft_prompt\.init_from: .* no model .* checkpoints",
        ),
        ("zero_shot: {}", "[{id: run/step-1, soft_prompt: {init_from: previous}}]", ""),
    ],
)
def test_what_cannot_be_carried_is_refused_in_a_sentence(protocol: str, models: str, sentence: str, kept: Path) -> None:
    if not sentence:  # no protocol has vectors: there is nothing to carry
        assert plan.expand(grid(kept, protocol, models=models))
        return
    with pytest.raises(ConfigError, match=sentence):
        plan.expand(grid(kept, protocol, models=models))


def test_the_word_previous_is_not_a_file_of_that_name_which_has_its_path(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (base / "previous").mkdir()
    by_word, by_path = (
        grid(base, f"soft_prompt: {{init: soft_prompt, init_from: {start}}}").protocols[0]
        for start in ("previous", "./previous")
    )
    assert by_word.carried
    assert not by_path.carried
    assert by_path.starts_from == str(base / "previous")
    monkeypatch.chdir(base)
    (beside,) = parse_grid(
        "name: g\nmodels: [a]\ntasks: [zoo-json]\nprotocols: [{soft_prompt: {init: soft_prompt, init_from: ./previous}}]\n"
    ).protocols
    assert beside.starts_from == "./previous"
    assert not beside.carried


def test_previous_implies_the_start_in_presets_sweeps_and_a_models_own_settings(kept: Path) -> None:
    preset, *swept = grid(
        kept,
        "soft_prompt: {preset: paper, init_from: previous, steps: 7}",
        "soft_prompt: {init: [vocabulary, soft_prompt], init_from: previous, cold_steps: 30}",
    ).protocols
    assert (preset.init, preset.lr, preset.carried) == ("soft_prompt", 0.001, True)  # type: ignore[attr-defined]
    assert [each.carried for each in swept] == [False, True]
    own = '[{id: run, checkpoints: "step-*", soft_prompt: {init_from: previous, steps: 9}}]'
    cells = plan.expand(grid(kept, "soft_prompt: {evaluate_at: [2]}", models=own))
    assert all(cell.protocol.carried and cell.steps == (2, 9) for cell in cells)


def test_stages_of_a_series_are_in_its_order_and_say_which_cells_start_cold(base: Path) -> None:
    models = '["run/step-10", {id: run, checkpoints: "step-*"}]'  # the last one is named first
    cells = plan.expand(grid(base, CARRIED, models=models))
    assert [cell.model.name for cell in cells] == ["run/step-10", "run/step-1", "run/step-2"]
    named = [stage.model.name for stage in plan.stages(cells, ())]
    assert named == ["run/step-10", "run/step-1", "run/step-2"]  # that entry is no part of a series
    stages = plan.stages(plan.expand(grid(base, CARRIED)), ())
    assert [len(stage.cold) for stage in plan.series.with_cold(stages[::-1], {})] == [1, 1, 1]
    assert [len(stage.cold) for stage in plan.series.with_cold(stages, {})] == [1, 0, 0]
    thread = stages[0].cells[0].thread
    assert [len(stage.cold) for stage in plan.series.with_cold(stages, {thread: ["run/step-0"]})] == [0, 0, 0]
    assert plan.series.before(stages) == {1: 0, 2: 1}


def test_a_file_of_threads_that_is_none_is_made_anew(kept: Path, tmp_path: Path) -> None:
    cells = plan.expand(grid(kept, CARRIED))
    threads = Store(tmp_path / "out").threads
    threads.add(cells[:1])
    (file,) = (tmp_path / "out" / "threads").iterdir()
    for bad in ("[]", "not JSON", '{"x": 3}', "[" * 100_000):
        file.write_text(bad)
        assert threads.cells(cells[0].thread) == {}
        threads.add(cells)
        found = threads.cells(cells[0].thread)
        assert {key: found[key] for key in found if key != "x"} == {cell.key: cell.model.name for cell in cells}
    file.unlink()
    file.mkdir()
    with pytest.raises(StoreError, match=r"reading .*threads"):
        threads.cells(cells[0].thread)
