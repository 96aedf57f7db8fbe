"""The main job on the engine without a model: nothing done is lost or done twice, and a failure is a result."""

from __future__ import annotations

import csv
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from spt_fast import plan
from spt_fast.config import FewShot, GridConfig, ModelConfig, Protocol, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.driver.resolved import resolved
from spt_fast.driver.result import Interrupted
from spt_fast.driver.run import run_cells as run_in_workers
from spt_fast.store import Store
from spt_fast.worker.events import CellDone, CellTrained, Event, PhaseStarted
from tests.helpers.running import Listener, numbers, run_grid
from tests.helpers.tiny import tiny_model

PROTOCOLS: tuple[Protocol, ...] = (
    ZeroShot(),
    FewShot(shots=2),
    SoftPromptConfig(length=3, steps=3, batch_size=2, lr=0.05, evaluate_at=(0, 2)),
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("one", "two")):
        tiny_model(folder / name, hidden_size=32, positions=4096, seed=seed)
    return folder


@pytest.fixture
def grid(models: Path, tmp_path: Path) -> GridConfig:
    return GridConfig(
        name="g",
        models=(ModelConfig(id=str(models / "one")),),
        tasks=(TaskConfig(task="zoo-mcq"), TaskConfig(task="zoo-json")),
        protocols=PROTOCOLS,
        limit=4,
        engine={"kind": "echo"},
        output=tmp_path / "run",
    )


def test_a_grid_is_done_and_its_folder_holds_what_the_documentation_says(grid: GridConfig) -> None:
    result = run_in_workers(grid)
    assert result.complete
    assert result.failures == {}
    assert len(result.cells) == 6
    for cell in result.cells:
        folder = result.folder / "cells" / cell.key
        names = {path.name for path in folder.iterdir()}
        tuned = {"prompt.safetensors", "curve.csv", "meaning.json"} if cell.label == "soft_prompt" else set()
        assert names == {"result.json", "samples.parquet", *tuned}
        assert set(result.results[cell.key].metrics) == set(cell.steps)
        rows = Store(result.folder).samples(cell.key)
        assert len(rows) == 4 * len(cell.steps)
        assert all(metric.n == 4 for metric in result.results[cell.key].metrics[cell.steps[0]][:3])


def test_each_cell_tells_what_was_read_and_written_and_the_run_what_it_was_expected_to_take(grid: GridConfig) -> None:
    result = run_grid(grid)
    for cell in result.cells:
        costs, rows = result.results[cell.key].costs, Store(result.folder).samples(cell.key)
        options = sum(len(row["option_logprobs"]) + len(row["cloze_logprobs"]) for row in rows)
        bare = {text for row in rows for text in row["cloze_texts"]}
        if options:  # and the rows by which the best way of scoring is chosen
            assert costs["requests"] > len(rows) + options + len(bare)
        else:
            answers = sum(len(row["answer_logprobs"]) for row in rows)
            assert costs["requests"] == len(rows) + answers > len(rows)
        assert costs["prompt_tokens"] > costs["requests"]
        assert costs["generated_tokens"] > 0
        assert costs["scored_tokens"] > 0
        assert costs.get("soft_positions", 0) == (3 * costs["requests"] if cell.label == "soft_prompt" else 0)
        assert "cached_tokens" not in costs, "echo does not tell"
        assert costs["peak_rss_bytes"] > 2**20
        assert ("train_peak_rss_bytes" in costs) == (cell.label == "soft_prompt")
        assert ("train_positions" in costs) == (cell.label == "soft_prompt")
    (expected,) = (event for event in Store(result.folder).events() if event["event"] == "expected")
    assert expected["seconds"] > 0
    assert expected["gpu_seconds"] > 0
    assert expected["basis"].startswith("a guess")


def test_the_same_grid_again_does_nothing(grid: GridConfig) -> None:
    first = run_grid(grid)
    listener = Listener()
    second = run_grid(grid, watch=listener.watch)
    assert listener.seen == []
    assert numbers(second) == numbers(first)


def test_an_added_task_and_an_added_seed_run_only_the_new_cells(grid: GridConfig) -> None:
    first = run_grid(grid)
    listener = Listener()
    wider = replace(grid, tasks=(*grid.tasks, TaskConfig(task="zoo-short")), seeds=(0, 1))
    second = run_grid(wider, watch=listener.watch)
    assert second.complete
    assert set(listener.keys(CellDone)) == set(second.results) - set(first.results)
    assert {key: numbers(second)[key] for key in first.results} == numbers(first)


@pytest.mark.parametrize("event", [CellTrained, CellDone])
def test_ctrl_c_keeps_what_is_done_and_the_same_grid_goes_on(grid: GridConfig, event: type[Event], tmp_path: Path) -> None:
    whole = run_in_workers(replace(grid, output=tmp_path / "whole"))

    def press() -> None:
        raise KeyboardInterrupt

    first = Listener(event, 1, press)
    with pytest.raises(Interrupted) as interrupted:
        run_in_workers(grid, watch=first.watch)
    assert len(interrupted.value.result.results) == len(first.keys(CellDone))
    second = Listener()
    result = run_in_workers(grid, watch=second.watch)
    assert numbers(result) == numbers(whole)
    assert not set(first.keys(CellDone)) & set(second.keys(CellDone)), "nothing done is done twice"
    assert not set(first.keys(CellTrained)) & set(second.keys(CellTrained)), "nothing learnt is learnt twice"


def test_a_model_that_cannot_be_started_fails_its_cells_and_no_others(grid: GridConfig, models: Path) -> None:
    broken = ModelConfig(id=str(models / "two"), engine={"refuse": True})
    result = run_grid(replace(grid, models=(broken, *grid.models)))
    assert not result.complete
    assert len(result.failures) == 6
    assert {cell.model.name for cell in result.cells if cell.key in result.failures} == {f"{models.name}/two"}
    assert {failure.kind for failure in result.failures.values()} == {"EngineError"}
    again = run_grid(replace(grid, models=(ModelConfig(id=str(models / "two")), *grid.models)))
    assert again.complete


def test_weights_that_cannot_be_trained_on_fail_the_soft_prompts_and_no_other_cells(
    grid: GridConfig, tmp_path: Path, models: Path
) -> None:
    folder = Path(shutil.copytree(models / "one", tmp_path / "m"))
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor for name, tensor in tensors.items() if "layers.1.mlp" not in name}, folder / "model.safetensors")
    result = run_grid(replace(grid, models=(ModelConfig(id=str(folder)),)))
    assert {cell.label for cell in result.cells if cell.key in result.failures} == {"soft_prompt"}
    assert {failure.kind for failure in result.failures.values()} == {"ModelError"}
    assert len(result.results) == 4


def test_an_engine_that_dies_fails_its_cell_and_is_started_again_for_the_next(grid: GridConfig) -> None:
    """Zero-shot over four rows: 4 completions and 16 likelihoods; the engine dies in the first cell and in later ones."""
    listener = Listener()
    result = run_grid(replace(grid, protocols=(ZeroShot(),), engine={"kind": "echo", "die_after": 10}), watch=listener.watch)
    failed = [cell for cell in result.cells if cell.key in result.failures]
    assert [cell.task.name for cell in failed] == ["zoo-mcq"], "20 answers are too many, 4 are not"
    assert "the engine died" in result.failures[failed[0].key].reason
    starts = [e for e in listener.seen if isinstance(e, PhaseStarted) and e.phase == "engine"]
    assert len(starts) == 2


def test_a_worker_that_is_killed_fails_the_cell_in_flight_and_the_others_go_on(grid: GridConfig) -> None:
    result = run_in_workers(replace(grid, protocols=(ZeroShot(),), engine={"kind": "echo", "kill_after": 10}))
    failed = [cell for cell in result.cells if cell.key in result.failures]
    assert [cell.task.name for cell in failed] == ["zoo-mcq"]
    assert "ended by SIGKILL" in result.failures[failed[0].key].reason
    assert len(result.results) == 1


def test_a_task_whose_rows_cannot_be_read_fails_its_own_cells(grid: GridConfig, tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "train.jsonl").write_text('{"question": "1 + 1?", "answer": "1 + 1 = 2\\n#### 2"}\n')
    (rows / "test.jsonl").write_text("{not json\n")
    result = run_grid(replace(grid, tasks=(TaskConfig(task="gsm8k", data_files=str(rows)), *grid.tasks)))
    failed = {cell.task.name for cell in result.cells if cell.key in result.failures}
    assert failed == {"gsm8k"}
    assert len(result.results) == 6
    assert any("test.jsonl" in failure.reason for failure in result.failures.values())


def test_a_loss_that_is_not_a_number_fails_that_cell_with_a_sentence(grid: GridConfig) -> None:
    wild = SoftPromptConfig(length=3, steps=9, batch_size=2, lr=1000.0, weight_decay=1000.0)
    result = run_grid(replace(grid, protocols=(ZeroShot(), wild)))
    reasons = {cell.label: result.failures[cell.key].reason for cell in result.cells if cell.key in result.failures}
    assert set(reasons) == {"soft_prompt"}
    assert "smaller lr" in reasons["soft_prompt"]
    assert len(result.results) == 2


def test_prompts_that_do_not_fit_the_model_fail_their_cells_with_the_numbers(grid: GridConfig) -> None:
    result = run_grid(replace(grid, engine={"kind": "echo", "max_model_len": 150}))
    reasons = [result.failures[cell.key].reason for cell in result.cells if cell.label == "few_shot"]
    assert all("do not fit the model's 150 positions" in reason for reason in reasons)


def test_more_shots_than_rows_is_a_sentence(grid: GridConfig) -> None:
    result = run_grid(replace(grid, protocols=(ZeroShot(), FewShot(shots=10_000))))
    assert {cell.label for cell in result.cells if cell.key in result.failures} == {"few_shot"}
    assert all("use fewer shots" in failure.reason for failure in result.failures.values())


def test_a_hub_that_cannot_be_reached_fails_its_models_cells_and_no_others(
    grid: GridConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    result = run_grid(replace(grid, models=(ModelConfig(id="nobody/model"), *grid.models), protocols=(ZeroShot(),)))
    assert {cell.model.name for cell in result.cells if cell.key in result.failures} == {"nobody/model"}
    assert len(result.results) == 2


def test_fresh_does_the_chosen_cells_again_and_only_them(grid: GridConfig) -> None:
    run_grid(grid)
    listener = Listener()
    run_grid(grid, only={"task": "zoo-json"}, fresh=True, watch=listener.watch)
    assert len(listener.keys(CellDone)) == 3


def written(grid: GridConfig, folder: Path, **engine: Any) -> Path:
    """A grid as a file."""
    path = folder / "grid.yaml"
    text = {
        "name": "g",
        "models": [model.id for model in grid.models],
        "tasks": [task.task for task in grid.tasks],
        "protocols": [
            "zero_shot",
            {"few_shot": {"shots": 2}},
            {"soft_prompt": {"length": 3, "steps": 3, "batch_size": 2, "lr": 0.05, "evaluate_at": [0, 2]}},
        ],
        "limit": 4,
        "engine": {**grid.engine, **engine},
        "output": str(folder / "out"),
    }
    path.write_text(json.dumps(text))  # JSON is YAML
    return path


def processes_of(group_marker: str) -> list[int]:
    """Processes whose command line or environment holds the marker."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if group_marker.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("sign", ["trained", "evaluating", "done"])
def test_kill_9_at_any_moment_then_the_same_command_gives_the_same_results(sign: str, grid: GridConfig, tmp_path: Path) -> None:
    whole = run_grid(replace(grid, output=tmp_path / "whole"))
    path = written(grid, tmp_path, delay_s=0.01)
    marker = f"SPT_FAST_TEST={tmp_path}"
    command = [sys.executable, "-m", "spt_fast", "run", str(path)]
    environment = {**os.environ, "SPT_FAST_TEST": str(tmp_path)}
    driver = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)
    assert driver.stderr is not None
    for line in driver.stderr:
        if sign in line:
            break
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    driver.stderr.close()
    for pid in processes_of(marker):  # the worker ends itself when its driver is gone: await it
        with suppress(ProcessLookupError):  # it has ended already
            descriptor = os.pidfd_open(pid)
            assert select.select([descriptor], [], [], 60)[0], "a worker outlived its driver"
            os.close(descriptor)
    out = tmp_path / "out"
    before = Store(out).done()
    assert all((out / "cells" / key / "samples.parquet").is_file() for key in before)
    again = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("done  ") == len(whole.cells) - len(before)
    results = {key: Store(out).result(key).metrics for key in Store(out).done()}
    assert results_without_speed(results) == results_without_speed(numbers(whole))


def results_without_speed(metrics: dict[str, Any]) -> list[Any]:
    """The two grids differ in `delay_s`, so in their keys: compare what they came to."""
    return sorted(repr(points) for points in metrics.values())


def test_an_interrupted_command_says_how_to_go_on_and_exits_130(grid: GridConfig, tmp_path: Path) -> None:
    path = written(grid, tmp_path, delay_s=0.1)
    command = [sys.executable, "-m", "spt_fast", "run", str(path)]
    driver = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert driver.stderr is not None
    for line in driver.stderr:
        if "evaluating" in line:
            break
    driver.send_signal(signal.SIGINT)
    rest = driver.stderr.read()
    driver.stderr.close()
    assert driver.wait() == 130
    assert "resume with: spt-fast run" in rest
    assert "Traceback" not in rest


def test_an_unchanged_grid_is_answered_without_torch_or_vllm(grid: GridConfig, tmp_path: Path) -> None:
    path = written(grid, tmp_path)
    run = [sys.executable, "-m", "spt_fast", "run", str(path)]
    assert subprocess.run(run, capture_output=True, check=False).returncode == 0
    script = (
        "import sys\nfrom spt_fast.cli import main\n"
        f"try:\n    main(['run', {str(path)!r}])\n"
        "except SystemExit as e:\n"
        "    heavy = {'torch', 'vllm', 'transformers', 'datasets', 'ray'} & set(sys.modules)\n"
        "    print('HEAVY', sorted(heavy), 'EXIT', e.code)\n"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "HEAVY [] EXIT 0" in answer.stdout
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["protocol"] for row in rows} == {"zero_shot", "few_shot", "soft_prompt"}
    assert list(rows[0]) == ["model", "task", "protocol", "seed", "step", "metric", "value", "stderr", "ci_low", "ci_high", "n"]
    assert {row["step"] for row in rows if row["protocol"] == "soft_prompt"} == {"0", "2", "3"}
    assert {(row["step"], row["seed"]) for row in rows if row["protocol"] == "zero_shot"} == {("", "")}


def test_grid_yaml_says_which_models_are_one_series_and_how_far_each_was_trained(tmp_path: Path) -> None:
    for step in (9, 10):
        tiny_model(tmp_path / f"run7/step-{step}", seed=step)
    config = GridConfig(
        name="g",
        models=(ModelConfig(id=str(tmp_path / "run7"), checkpoints="step-*"),),
        tasks=(TaskConfig(task="zoo-mcq"),),
        protocols=(ZeroShot(),),
    )
    models = resolved(config, plan.expand(config), folder=tmp_path)["models"]
    assert [(each["id"], each["series"], each["trained"]) for each in models] == [
        ("run7/step-9", f"{tmp_path}/run7/step-*", {"steps": 9}),
        ("run7/step-10", f"{tmp_path}/run7/step-*", {"steps": 10}),
    ]
