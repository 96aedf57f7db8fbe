"""Reuse of completed cells: a folder a day, and nothing is done twice."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from spt_fast.cli.dry_run import dry_run
from spt_fast.config import GridConfig, ModelConfig, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.config.output import Location, day_of, joined, parent
from spt_fast.driver.options import with_options
from spt_fast.driver.result import Interrupted
from spt_fast.errors import ConfigError, StoreError
from spt_fast.models.identity import Model
from spt_fast.plan.cell import Cell, Judge, TaskRows
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.report.folder import write_tables
from spt_fast.storage.local import FolderStorage
from spt_fast.store import Store
from spt_fast.store.reuse import MOST, earlier, reuse
from spt_fast.types import TrainingStep
from spt_fast.worker.events import CellDone, CellTrained
from tests.helpers.cells import cell, result
from tests.helpers.running import Listener, numbers, run_grid
from tests.helpers.tiny import tiny_model

TODAY = "2026-11-21"
CELLS = [cell(seed=seed) for seed in range(6)]
LEARNT = cell(SoftPromptConfig(steps=2, evaluate_at=(0,)))
ROWS = TaskRows(name="t", version=1, content="rows")


def config_of(output: Location, **changes: Any) -> GridConfig:
    return GridConfig(name="g", models=(ModelConfig(id="m"),), tasks=(TaskConfig(task="zoo-mcq"),), output=output, **changes)


def folder_of(place: Location, day: str, done: Sequence[Cell] = (), learnt: Sequence[Cell] = ()) -> Store:
    """A folder of `place`/{date} with these cells in it."""
    store = Store(joined(place, day))
    for each in learnt:
        prompts = {step: SoftPrompt(vectors=np.full((3, 4), step, np.float32)) for step in each.steps if step is not None}
        store.learnt.put(each, prompts, [TrainingStep(step=1, loss=1.0, grad_norm=1.0)])
    for each in done:
        store.put_result(each, result(*each.steps))
    return store


def reuse_in(place: Location, day: str, cells: Sequence[Cell]) -> tuple[Store, list[str]]:
    """What a run of that day begins with, and what is said."""
    config, store = config_of(joined(place, "{date}")), Store(joined(place, day))
    store.lock()
    try:
        return store, [str(each) for each in reuse(config, store, cells)]
    finally:
        store.close()


def test_completed_cells_and_soft_prompts_are_reused_from_the_newest_folder_that_has_them(place: Location) -> None:
    old = folder_of(place, "2026-11-18", CELLS[:4], learnt=[LEARNT])
    new = folder_of(place, "2026-11-20", CELLS[2:5])
    new.put_failure(CELLS[5], "EngineError", "it died")
    new.rows.put(ROWS, {"name": "t"})
    folder_of(place, "yesterday", CELLS)  # no folder of a day
    today, said = reuse_in(place, TODAY, [*CELLS, LEARNT])
    assert today.done() == {each.key for each in CELLS[:5]}
    assert today.failed() == set(), "why a cell failed is yesterday's"
    assert said == [
        f"3 completed cells reused from {new.root}",
        f"2 completed cells and 1 soft prompt reused from {old.root}",
    ]
    told = [(event["event"], event["cells"], event["prompts"], event["source"]) for event in today.events()]
    assert told == [("adopted", 3, 0, str(new.root)), ("adopted", 2, 1, str(old.root))]
    for each in CELLS[:5]:
        assert today.cell_result(each.key) == old.cell_result(CELLS[0].key)
    prompts = today.learnt.of(LEARNT)
    assert prompts is not None
    assert prompts[2].key == old.learnt.of(LEARNT)[2].key  # type: ignore[index]
    assert today.text(f"cells/{LEARNT.key}/curve.csv") == old.text(f"cells/{LEARNT.key}/curve.csv")
    assert today.rows.describes(ROWS)


def test_the_same_day_reuses_nothing_a_second_time_and_the_next_reuses_everything(place: Location) -> None:
    folder_of(place, "2026-11-20", CELLS[:2])
    today, said = reuse_in(place, TODAY, CELLS[:4])
    assert len(said) == 1
    today.put_result(CELLS[2], result(None))
    today.discard(CELLS[0].key)  # damaged, say
    assert reuse_in(place, TODAY, CELLS[:4])[1] == [], "what was thrown away is to be run again"
    folder_of(place, "2026-11-20", CELLS[5:])
    assert reuse_in(place, TODAY, CELLS)[0].done() == {each.key for each in (*CELLS[1:3], CELLS[5])}, "new in the grid"
    tomorrow, _ = reuse_in(place, "2026-11-22", CELLS)
    assert tomorrow.done() == {each.key for each in (CELLS[0], *CELLS[1:3], CELLS[5])}


def test_of_a_judged_cell_the_completions_are_reused_and_of_other_grids_nothing(place: Location) -> None:
    folder_of(place, "2026-11-20", CELLS)
    judge = Judge(model=Model(name="judge", source="/j", fingerprint="sha256:1"), engine={}, prompts="sha256:2")
    today, _ = reuse_in(place, TODAY, [replace(CELLS[0], judge=judge)])
    assert today.done() == {CELLS[0].key}


def test_so_many_folders_are_looked_at_and_no_more(place: Location) -> None:
    folder_of(place, "2026-11-01", CELLS[:1])
    for day in range(2, 2 + MOST):
        folder_of(place, f"2026-11-{day:02}", CELLS[1:2])
    today, said = reuse_in(place, TODAY, CELLS)
    assert (today.done(), len(said)) == ({CELLS[1].key}, 1)


def test_a_run_that_is_still_at_work_is_said(place: Location) -> None:
    yesterday = folder_of(place, "2026-11-20", CELLS[:1])
    yesterday.lock()
    _, (said,) = reuse_in(place, TODAY, CELLS)
    yesterday.close()
    assert said.startswith("1 completed cell reused")
    assert said.endswith("a run is at work there, and cells that it completes from now on are run here too")


def test_reused_files_share_their_bytes_and_none_is_changed(tmp_path: Path) -> None:
    yesterday = folder_of(tmp_path, "2026-11-20", CELLS[:1])
    file = f"cells/{CELLS[0].key}/samples.parquet"
    before = (yesterday.root / file).read_bytes()  # type: ignore[operator]
    today, _ = reuse_in(tmp_path, TODAY, CELLS[:1])
    assert (today.root / file).samefile(yesterday.root / file)  # type: ignore[operator]
    today.put_result(CELLS[0], result(None, 3))
    today.discard(CELLS[0].key)
    assert (yesterday.root / file).read_bytes() == before  # type: ignore[operator]
    assert yesterday.done() == {CELLS[0].key}


def test_where_files_cannot_be_linked_they_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", no_links)
    folder_of(tmp_path, "2026-11-20", CELLS[:2])
    today, _ = reuse_in(tmp_path, TODAY, CELLS)
    assert len(today.samples(CELLS[0].key)) == 2
    assert today.done() == {each.key for each in CELLS[:2]}


@pytest.mark.parametrize("files", range(0, 12, 3))
@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_killed_while_it_reuses_cells_it_leaves_whole_ones_and_is_gone_on_with(
    kind: str, files: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    place: Location = tmp_path if kind == "folder" else f"memory://{tmp_path.name}"
    folder_of(place, "2026-11-20", CELLS)
    of, name = (FolderStorage, "_copy_file") if kind == "folder" else (MemoryFileSystem, "cp_file")
    real, left = getattr(of, name), [files]

    def killed(self: Any, *arguments: Any, **settings: Any) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1
        real(self, *arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(of, name, killed)
        with pytest.raises(Killed):
            reuse_in(place, TODAY, CELLS)
    half = Store(joined(place, TODAY))
    for key in half.done():
        assert len(half.samples(key)) == 2
    today, _ = reuse_in(place, TODAY, CELLS)
    assert today.done() == {each.key for each in CELLS}
    assert all(len(today.samples(each.key)) == 2 for each in CELLS)


def test_an_earlier_folder_that_cannot_be_read_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path, "2026-11-20", CELLS[:1])
    monkeypatch.setattr(FolderStorage, "local", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(StoreError, match=r"2026-11-20.*: cannot be reused in .*: Permission denied"):
        reuse_in(tmp_path, TODAY, CELLS)


# Where the folders are


@pytest.mark.parametrize(
    ("pattern", "above", "entry"),
    [
        ("runs/nightly/{date}", "runs/nightly", TODAY),
        ("{date}", ".", TODAY),
        ("/{date}", "/", TODAY),
        ("/runs/{name}-{date}", "/runs", f"g-{TODAY}"),
        ("runs/{date}/{name}", "runs", TODAY),
        ("runs/{date}-{date}.x", "runs", f"{TODAY}-{TODAY}.x"),
        ("s3://b/{name}/{date}", "s3://b/g", TODAY),
        ("s3://b/{date}", "s3://b", TODAY),
    ],
)
def test_the_folder_of_a_day_is_known_by_its_name(pattern: str, above: str, entry: str) -> None:
    output = config_of(pattern).output
    assert output is not None
    assert str(parent(output, name="g")) == above
    assert day_of(entry, output, name="g") == TODAY
    for other in (f"{entry}x", f"x{entry}", entry.replace("11", "13"), entry.replace("21", "22", 1) + "-", "", "latest"):
        assert day_of(other, output, name="g") is None


def test_a_date_that_differs_within_a_name_is_no_day() -> None:
    assert day_of("2026-11-20-2026-11-21", Path("{date}-{date}"), name="g") is None


def test_output_without_a_date_is_one_folder(tmp_path: Path) -> None:
    config = config_of(tmp_path / "{name}")
    assert config.folder == tmp_path / "g"
    store = Store(config.folder)
    assert earlier(config, store) == []
    store.lock()
    assert reuse(config, store, CELLS) == []
    store.close()
    assert not (tmp_path / "g" / ".asked").exists()


@pytest.mark.parametrize("pattern", ["runs/{day}", "runs/{}", "runs/{date", "runs/date}", "runs/{date:%Y}", "s3://b/{dat}"])
def test_an_unknown_placeholder_is_a_sentence_with_those_that_there_are(pattern: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"output: {pattern} has ") + r".* there are \{date\} .* and \{name\}$"):
        config_of(pattern)
    with pytest.raises(ConfigError, match=r"there are \{date\}"):
        with_options(config_of("runs/x"), output=pattern)


def test_a_bucket_has_no_date() -> None:
    with pytest.raises(ConfigError, match="in the name of the bucket; put it after the bucket"):
        config_of("s3://runs-{date}/x")


# Whole grids


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run7")
    for seed in (1, 2):
        tiny_model(folder / f"step-{seed}", hidden_size=32, positions=4096, seed=seed)
    return folder


@pytest.fixture
def grid(checkpoints: Path, tmp_path: Path) -> GridConfig:
    """The first checkpoint, yesterday."""
    return GridConfig(
        name="g",
        models=(ModelConfig(id=str(checkpoints), checkpoints="step-1"),),
        tasks=(TaskConfig(task="zoo-mcq"),),
        protocols=(ZeroShot(), SoftPromptConfig(length=3, steps=3, batch_size=2, lr=0.05)),
        limit=2,
        engine={"kind": "echo"},
        output=tmp_path / "nightly" / "2026-01-01",
    )


def todays(grid: GridConfig, checkpoints: Path) -> GridConfig:
    """Both checkpoints, in a folder of their day."""
    models = (ModelConfig(id=str(checkpoints), checkpoints="step-*"),)
    return replace(grid, models=models, output=Path(str(grid.output)).with_name("{date}"))


def test_a_new_checkpoint_is_all_that_is_run(grid: GridConfig, checkpoints: Path) -> None:
    yesterday = run_grid(grid)
    write_tables(yesterday.folder)
    asked, said, listener = todays(grid, checkpoints), [], Listener()
    plan = dry_run(asked, {}, fresh=False)
    assert plan.startswith("4 cells, 2 done, 2 to do; run folder ")
    assert f"2 completed cells would be reused from {yesterday.folder}" in plan
    assert not (Path(yesterday.folder).parent / str(date.today())).exists(), "nothing was reused yet"
    today = run_grid(asked, say=said.append, watch=listener.watch)
    assert today.complete
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", Path(today.folder).name)
    assert said == [f"2 completed cells reused from {yesterday.folder}"]
    new = {each.key for each in today.cells if each.model.name.endswith("step-2")}
    assert set(listener.keys(CellDone)) == new
    assert len(new) == 2
    assert {key: numbers(today)[key] for key in yesterday.results} == numbers(yesterday)
    write_tables(today.folder)
    lines = (Path(yesterday.folder) / "results.csv").read_text().splitlines()
    assert set(lines) < set((Path(today.folder) / "results.csv").read_text().splitlines())
    again = Listener()
    assert run_grid(asked, say=said.append, watch=again.watch).complete
    assert (len(said), again.seen) == (1, [])


def test_what_was_learnt_before_a_run_was_cut_short_is_not_learnt_again(grid: GridConfig, checkpoints: Path) -> None:
    def press() -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        run_grid(grid, watch=Listener(CellTrained, 1, press).watch)
    said: list[str] = []
    listener = Listener()
    asked = replace(grid, output=todays(grid, checkpoints).output)
    assert run_grid(asked, say=said.append, watch=listener.watch).complete
    assert said == [f"1 soft prompt reused from {grid.output}"]
    assert listener.keys(CellTrained) == []


def test_fresh_reuses_nothing_and_the_same_day_goes_on_without(grid: GridConfig, checkpoints: Path) -> None:
    yesterday = run_grid(grid)
    asked, said = replace(grid, output=todays(grid, checkpoints).output), []
    assert "2 to do" in dry_run(asked, {}, fresh=True)

    def press() -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        run_grid(asked, fresh=True, say=said.append, watch=Listener(CellDone, 1, press).watch)
    listener = Listener()
    today = run_grid(asked, say=said.append, watch=listener.watch)
    assert (said, len(listener.keys(CellDone))) == ([], 1)
    assert numbers(today) == numbers(yesterday)
