"""Rows that are asked again tell which answers flip, and change nothing else."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from spt_fast import plan
from spt_fast.analysis.cells import RunCell
from spt_fast.analysis.runs import open_run
from spt_fast.cli.dry_run import dry_run
from spt_fast.config import FewShot, GridConfig, JudgeConfig, ModelConfig, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.config.reader import load_grid, parse_grid, share_of
from spt_fast.driver.options import with_options
from spt_fast.driver.result import GridResult
from spt_fast.errors import ConfigError
from spt_fast.report import summary
from spt_fast.report.folder import write_tables
from spt_fast.store import RERUN, Store
from spt_fast.worker.events import CellDone, PhaseStarted
from tests.helpers.running import Listener, numbers, run_grid
from tests.helpers.tiny import tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("models") / "one", hidden_size=32, positions=4096))


@pytest.fixture
def grid(model: str, tmp_path: Path) -> GridConfig:
    return GridConfig(
        name="g",
        models=(ModelConfig(id=model),),
        tasks=(TaskConfig(task="zoo-mcq"), TaskConfig(task="zoo-json")),
        protocols=(ZeroShot(), FewShot(shots=2), SoftPromptConfig(length=3, steps=3, batch_size=2, evaluate_at=(0,))),
        limit=20,
        engine={"kind": "echo"},
        output=tmp_path / "run",
        rerun=0.2,
    )


def files(result: GridResult) -> dict[str, bytes]:
    """What the cells hold beside what was asked again."""
    root = Path(result.folder)
    return {str(file): file.read_bytes() for file in root.glob("cells/*/*") if file.name != RERUN}


def reports(result: GridResult) -> list[RunCell]:
    store = Store(result.folder)
    return list(open_run(store).cells())


def test_a_steady_engine_answers_the_same_again(grid: GridConfig) -> None:
    result = run_grid(grid)
    assert result.complete
    found = Store(result.folder).reruns.read(cell.key for cell in result.cells)
    assert set(found) == {cell.key for cell in result.cells}
    for rerun in found.values():
        assert (rerun.share, rerun.n) == (0.2, 4)
        assert set(rerun.flips.values()) == {0}
        assert rerun.flipped == ()
    said = summary(reports(result))
    assert "Of 24 completions run again in all 6 cells, none differed (95% interval up to 14%)" in said


def test_flips_of_an_unsteady_engine_are_counted_shown_and_change_no_result(grid: GridConfig) -> None:
    unsteady = replace(grid, engine={"kind": "echo", "unsteady": 0.4}, rerun=0.0)
    first = run_grid(unsteady)
    before = files(first)
    again = run_grid(replace(unsteady, rerun=0.5))
    assert files(again) == before
    assert numbers(again) == numbers(first)
    found = Store(again.folder).reruns.read(cell.key for cell in again.cells)
    flips = sum(rerun.flips["completion"] for rerun in found.values())
    assert 10 < flips < 50, "of 60"
    assert sum(len(rerun.flipped) for rerun in found.values()) >= flips
    assert any(rerun.largest_difference > 0.1 for rerun in found.values())
    write_tables(again.folder)
    root = Path(again.folder)
    cells = json.loads((root / "results.json").read_text())["cells"]
    assert sum(cell["rerun"]["flips"]["completion"]["rows"] for cell in cells) == flips
    assert "## Determinism" in (root / "report.md").read_text()
    assert 'id="determinism"' in (root / "report.html").read_text()
    assert f"{100 * flips / 60:.0f}% differed" in summary(reports(again))


def test_the_same_command_asks_nothing_again_and_a_larger_share_does(grid: GridConfig) -> None:
    run_grid(grid)
    listener = Listener()
    run_grid(grid, watch=listener.watch)
    assert listener.seen == []
    lost = Path(str(grid.output)) / "cells" / plan.expand(grid)[0].key / RERUN
    lost.unlink()
    run_grid(grid, watch=listener.watch)
    assert len(listener.keys(CellDone)) == 1
    assert [event.phase for event in listener.seen if isinstance(event, PhaseStarted)] == ["load", "engine", "rerun"]
    assert lost.is_file()
    wider = Listener()
    result = run_grid(replace(grid, rerun=0.5), watch=wider.watch)
    assert len(wider.keys(CellDone)) == 6
    assert {rerun.n for rerun in Store(result.folder).reruns.read(cell.key for cell in result.cells).values()} == {10}


def test_the_rows_are_the_first_by_content_hash_at_the_last_step(grid: GridConfig) -> None:
    result = run_grid(replace(grid, engine={"kind": "echo", "unsteady": 0.5}, protocols=grid.protocols[2:]))
    store = Store(result.folder)
    for cell in result.cells:
        rows = sorted(row["example"] for row in store.samples(cell.key, ["example", "step"], last=True))
        again = store.reruns.read([cell.key])[cell.key]
        assert again.flipped
        assert {each.example for each in again.flipped} <= set(rows[:4])


def test_a_lost_soft_prompt_is_a_sentence_and_the_result_stays(grid: GridConfig) -> None:
    first = run_grid(replace(grid, rerun=0.0))
    for file in Path(first.folder).glob("cells/*/prompt.safetensors"):
        file.unlink()
    again = run_grid(grid)
    assert again.complete
    assert again.failures == {}
    assert {cell.label for cell in again.cells if cell.key in again.not_rerun} == {"soft_prompt"}
    assert all("--fresh" in reason for reason in again.not_rerun.values())
    assert len(Store(again.folder).reruns.read(cell.key for cell in again.cells)) == 4


def test_a_judged_cell_tells_what_its_completions_did_when_asked_again(grid: GridConfig, model: str) -> None:
    judged = replace(grid, judge=JudgeConfig(model=model), protocols=(ZeroShot(),))
    cells = plan.expand(judged)
    stages = plan.rerunning(cells, {cell.unjudged.key for cell in cells}, {}, 0.02)
    assert [[cell.key for cell in stage.cells] for stage in stages] == [[cell.unjudged.key for cell in cells]]
    assert plan.rerunning(cells, {cell.unjudged.key for cell in cells}, {cell.unjudged.key: 0.02 for cell in cells}, 0.02) == []


@pytest.mark.parametrize(("written", "share"), [("2%", 0.02), ("0.5 %", 0.005), (0.02, 0.02), (1, 1.0), ("0.25", 0.25)])
def test_a_share_is_written_with_or_without_per_cent(written: object, share: float) -> None:
    assert share_of(written, "rerun") == pytest.approx(share)


@pytest.mark.parametrize("written", ["two", "200%", 2, -0.1, True, float("nan"), [0.1], "-2%"])
def test_what_is_no_share_is_a_sentence(written: object) -> None:
    with pytest.raises(ConfigError, match=r"--rerun: must be a share of the rows, 2% or 0\.02"):
        share_of(written, "--rerun")


def test_neither_rerun_nor_price_is_part_of_a_key(grid: GridConfig, model: str) -> None:
    text = f"name: g\nmodels: [{model}]\ntasks: [zoo-mcq]\nengine: {{kind: echo}}\n"
    plain, more = parse_grid(text), parse_grid(f"{text}rerun: 2%\nprice: {{per_gpu_hour: 2.5, currency: USD}}\n")
    assert [cell.key for cell in plan.expand(plain)] == [cell.key for cell in plan.expand(more)]
    assert more.rerun == 0.02
    assert with_options(more, rerun=0.0).rerun == 0.0


def test_a_dry_run_says_that_rows_are_asked_again(grid: GridConfig) -> None:
    assert "20% of the rows of 6 cells are rerun" in dry_run(grid, {}, fresh=False)


def test_kill_9_while_rows_are_asked_again_loses_nothing(grid: GridConfig, model: str, tmp_path: Path) -> None:
    settings = {"name": "g", "models": [model], "tasks": ["zoo-mcq", "zoo-json"], "protocols": ["zero_shot"], "limit": 4}
    path, out = tmp_path / "grid.yaml", tmp_path / "out"
    path.write_text(json.dumps({**settings, "engine": {"kind": "echo", "delay_s": 0.02}, "output": str(out)}))
    command = [sys.executable, "-m", "spt_fast", "run", str(path), "--rerun", "100%"]
    driver = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert driver.stderr is not None
    for line in driver.stderr:
        if line.startswith("again "):
            break
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    driver.stderr.close()
    store = Store(out)
    results = {key: (out / "cells" / key / "result.json").read_bytes() for key in store.done()}
    assert len(results) == 2
    again = run_grid(replace(load_grid(path), rerun=1.0))
    assert len(store.reruns.read(results)) == 2
    assert {key: (out / "cells" / key / "result.json").read_bytes() for key in store.done()} == results
    assert "Of 8 completions run again in all 2 cells, none differed" in summary(reports(again))
