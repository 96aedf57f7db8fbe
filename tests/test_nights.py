"""Tonight beside yesterday: a folder a day, and nothing is done twice."""

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
from spt_fast.driver.run import Interrupted, with_options
from spt_fast.errors import ConfigError, StoreError
from spt_fast.models.identity import Model
from spt_fast.plan.cell import Cell, Judge, TaskRows
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.report.folder import write_tables
from spt_fast.storage.local import FolderStorage
from spt_fast.store import Store, reuse
from spt_fast.types import TrainingStep
from spt_fast.worker.events import CellDone, CellTrained

from .test_run import Listener, numbers, run_grid
from .test_store import cell, result
from .tiny import tiny_model

TONIGHT = "2026-11-21"
CELLS = [cell(seed=seed) for seed in range(6)]
LEARNT = cell(SoftPromptConfig(steps=2, evaluate_at=(0,)))
ROWS = TaskRows(name="t", version=1, content="rows")


def config_of(output: Location, **changes: Any) -> GridConfig:
    return GridConfig(name="g", models=(ModelConfig(id="m"),), tasks=(TaskConfig(task="zoo-mcq"),), output=output, **changes)


def night(place: Location, day: str, done: Sequence[Cell] = (), learnt: Sequence[Cell] = ()) -> Store:
    """A folder of `place`/{date} with these cells in it."""
    store = Store(joined(place, day))
    for each in learnt:
        prompts = {step: SoftPrompt(vectors=np.full((3, 4), step, np.float32)) for step in each.steps if step is not None}
        store.put_prompts(each, prompts, [TrainingStep(step=1, loss=1.0, grad_norm=1.0)])
    for each in done:
        store.put_result(each, result(*each.steps))
    return store


def take_over(place: Location, day: str, cells: Sequence[Cell]) -> tuple[Store, list[str]]:
    """What a run of that day begins with, and what is said."""
    config, store = config_of(joined(place, "{date}")), Store(joined(place, day))
    store.lock()
    try:
        return store, [str(each) for each in reuse.take_over(config, store, cells)]
    finally:
        store.close()


def test_what_is_done_and_what_is_learnt_is_taken_over_from_the_newest_night_that_has_it(place: Location) -> None:
    old = night(place, "2026-11-18", CELLS[:4], learnt=[LEARNT])
    new = night(place, "2026-11-20", CELLS[2:5])
    new.put_failure(CELLS[5], "EngineError", "it died")
    new.put_rows(ROWS, {"name": "t"})
    night(place, "yesterday", CELLS)  # no folder of a day
    tonight, said = take_over(place, TONIGHT, [*CELLS, LEARNT])
    assert tonight.done() == {each.key for each in CELLS[:5]}
    assert tonight.failed() == set(), "why a cell failed is yesterday's"
    assert said == [
        f"3 cells taken over from {new.root}",
        f"2 cells and 1 soft prompt taken over from {old.root}",
    ]
    told = [(event["event"], event["cells"], event["prompts"], event["source"]) for event in tonight.events()]
    assert told == [("adopted", 3, 0, str(new.root)), ("adopted", 2, 1, str(old.root))]
    for each in CELLS[:5]:
        assert tonight.cell_result(each.key) == old.cell_result(CELLS[0].key)
    prompts = tonight.prompts(LEARNT)
    assert prompts is not None
    assert prompts[2].key == old.prompts(LEARNT)[2].key  # type: ignore[index]
    assert tonight.text(f"cells/{LEARNT.key}/curve.csv") == old.text(f"cells/{LEARNT.key}/curve.csv")
    assert tonight.describes(ROWS)


def test_the_same_evening_takes_nothing_a_second_time_and_the_next_takes_everything(place: Location) -> None:
    night(place, "2026-11-20", CELLS[:2])
    tonight, said = take_over(place, TONIGHT, CELLS[:4])
    assert len(said) == 1
    tonight.put_result(CELLS[2], result(None))
    tonight.discard(CELLS[0].key)  # damaged, say
    assert take_over(place, TONIGHT, CELLS[:4])[1] == [], "what was thrown away is to be run again"
    night(place, "2026-11-20", CELLS[5:])
    assert take_over(place, TONIGHT, CELLS)[0].done() == {each.key for each in (*CELLS[1:3], CELLS[5])}, "new in the grid"
    tomorrow, _ = take_over(place, "2026-11-22", CELLS)
    assert tomorrow.done() == {each.key for each in (CELLS[0], *CELLS[1:3], CELLS[5])}


def test_of_a_judged_cell_the_completions_are_taken_over_and_of_other_grids_nothing(place: Location) -> None:
    night(place, "2026-11-20", CELLS)
    judge = Judge(model=Model(name="judge", source="/j", fingerprint="sha256:1"), engine={}, prompts="sha256:2")
    tonight, _ = take_over(place, TONIGHT, [replace(CELLS[0], judge=judge)])
    assert tonight.done() == {CELLS[0].key}


def test_so_many_nights_are_looked_at_and_no_more(place: Location) -> None:
    night(place, "2026-11-01", CELLS[:1])
    for day in range(2, 2 + reuse.MOST):
        night(place, f"2026-11-{day:02}", CELLS[1:2])
    tonight, said = take_over(place, TONIGHT, CELLS)
    assert (tonight.done(), len(said)) == ({CELLS[1].key}, 1)


def test_a_run_that_is_still_at_work_is_said(place: Location) -> None:
    yesterday = night(place, "2026-11-20", CELLS[:1])
    yesterday.lock()
    _, (said,) = take_over(place, TONIGHT, CELLS)
    yesterday.close()
    assert said.startswith("1 cell taken over")
    assert said.endswith("a run is at work there, and what it does from now on is done here too")


def test_tonight_shares_yesterdays_bytes_and_changes_none_of_them(tmp_path: Path) -> None:
    yesterday = night(tmp_path, "2026-11-20", CELLS[:1])
    file = f"cells/{CELLS[0].key}/samples.parquet"
    before = (yesterday.root / file).read_bytes()  # type: ignore[operator]
    tonight, _ = take_over(tmp_path, TONIGHT, CELLS[:1])
    assert (tonight.root / file).samefile(yesterday.root / file)  # type: ignore[operator]
    tonight.put_result(CELLS[0], result(None, 3))
    tonight.discard(CELLS[0].key)
    assert (yesterday.root / file).read_bytes() == before  # type: ignore[operator]
    assert yesterday.done() == {CELLS[0].key}


def test_where_files_cannot_be_linked_they_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", no_links)
    night(tmp_path, "2026-11-20", CELLS[:2])
    tonight, _ = take_over(tmp_path, TONIGHT, CELLS)
    assert len(tonight.samples(CELLS[0].key)) == 2
    assert tonight.done() == {each.key for each in CELLS[:2]}


@pytest.mark.parametrize("files", range(0, 12, 3))
@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_killed_while_it_takes_over_it_leaves_whole_cells_and_is_gone_on_with(
    kind: str, files: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    place: Location = tmp_path if kind == "folder" else f"memory://{tmp_path.name}"
    night(place, "2026-11-20", CELLS)
    of, name = (FolderStorage, "_take_file") if kind == "folder" else (MemoryFileSystem, "cp_file")
    real, left = getattr(of, name), [files]

    def killed(self: Any, *arguments: Any, **settings: Any) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1
        real(self, *arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(of, name, killed)
        with pytest.raises(Killed):
            take_over(place, TONIGHT, CELLS)
    half = Store(joined(place, TONIGHT))
    for key in half.done():
        assert len(half.samples(key)) == 2
    tonight, _ = take_over(place, TONIGHT, CELLS)
    assert tonight.done() == {each.key for each in CELLS}
    assert all(len(tonight.samples(each.key)) == 2 for each in CELLS)


def test_an_earlier_night_that_cannot_be_read_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    night(tmp_path, "2026-11-20", CELLS[:1])
    monkeypatch.setattr(FolderStorage, "local", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(StoreError, match=r"2026-11-20.*: cannot be taken over into .*: Permission denied"):
        take_over(tmp_path, TONIGHT, CELLS)


# Where the folders are


@pytest.mark.parametrize(
    ("pattern", "above", "entry"),
    [
        ("runs/nightly/{date}", "runs/nightly", TONIGHT),
        ("{date}", ".", TONIGHT),
        ("/{date}", "/", TONIGHT),
        ("/runs/{name}-{date}", "/runs", f"g-{TONIGHT}"),
        ("runs/{date}/{name}", "runs", TONIGHT),
        ("runs/{date}-{date}.x", "runs", f"{TONIGHT}-{TONIGHT}.x"),
        ("s3://b/{name}/{date}", "s3://b/g", TONIGHT),
        ("s3://b/{date}", "s3://b", TONIGHT),
    ],
)
def test_the_folder_of_a_day_is_known_by_its_name(pattern: str, above: str, entry: str) -> None:
    output = config_of(pattern).output
    assert output is not None
    assert str(parent(output, name="g")) == above
    assert day_of(entry, output, name="g") == TONIGHT
    for other in (f"{entry}x", f"x{entry}", entry.replace("11", "13"), entry.replace("21", "22", 1) + "-", "", "latest"):
        assert day_of(other, output, name="g") is None


def test_a_date_that_differs_within_a_name_is_no_day() -> None:
    assert day_of("2026-11-20-2026-11-21", Path("{date}-{date}"), name="g") is None


def test_output_without_a_date_is_one_folder(tmp_path: Path) -> None:
    config = config_of(tmp_path / "{name}")
    assert config.folder == tmp_path / "g"
    store = Store(config.folder)
    assert reuse.earlier(config, store) == []
    store.lock()
    assert reuse.take_over(config, store, CELLS) == []
    store.close()
    assert not (tmp_path / "g" / ".asked").exists()


@pytest.mark.parametrize("pattern", ["runs/{day}", "runs/{}", "runs/{date", "runs/date}", "runs/{date:%Y}", "s3://b/{dat}"])
def test_an_unknown_placeholder_is_a_sentence_with_those_that_there_are(pattern: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"output: {pattern} has ") + r".* there are \{date\} .* and \{name\}$"):
        config_of(pattern)
    with pytest.raises(ConfigError, match=r"there are \{date\}"):
        with_options(config_of("runs/x"), output=pattern)


def test_a_bucket_has_no_date() -> None:
    with pytest.raises(ConfigError, match="in the name of the bucket; put it behind the first slash"):
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


def tonights(grid: GridConfig, checkpoints: Path) -> GridConfig:
    """Both checkpoints, in a folder of their day."""
    models = (ModelConfig(id=str(checkpoints), checkpoints="step-*"),)
    return replace(grid, models=models, output=Path(str(grid.output)).with_name("{date}"))


def test_a_new_checkpoint_is_all_that_is_done_tonight(grid: GridConfig, checkpoints: Path) -> None:
    yesterday = run_grid(grid)
    write_tables(yesterday.folder)
    asked, said, listener = tonights(grid, checkpoints), [], Listener()
    plan = dry_run(asked, {}, fresh=False)
    assert plan.startswith("4 cells, 2 done, 2 to do; run folder ")
    assert f"2 cells would be taken over from {yesterday.folder}" in plan
    assert not (Path(yesterday.folder).parent / str(date.today())).exists(), "nothing was taken over yet"
    tonight = run_grid(asked, say=said.append, watch=listener.watch)
    assert tonight.complete
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", Path(tonight.folder).name)
    assert said == [f"2 cells taken over from {yesterday.folder}"]
    new = {each.key for each in tonight.cells if each.model.name.endswith("step-2")}
    assert set(listener.keys(CellDone)) == new
    assert len(new) == 2
    assert {key: numbers(tonight)[key] for key in yesterday.results} == numbers(yesterday)
    write_tables(tonight.folder)
    lines = (Path(yesterday.folder) / "results.csv").read_text().splitlines()
    assert set(lines) < set((Path(tonight.folder) / "results.csv").read_text().splitlines())
    again = Listener()
    assert run_grid(asked, say=said.append, watch=again.watch).complete
    assert (len(said), again.seen) == (1, [])


def test_what_was_learnt_before_a_night_was_cut_short_is_not_learnt_again(grid: GridConfig, checkpoints: Path) -> None:
    def press() -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        run_grid(grid, watch=Listener(CellTrained, 1, press).watch)
    said: list[str] = []
    listener = Listener()
    asked = replace(grid, output=tonights(grid, checkpoints).output)
    assert run_grid(asked, say=said.append, watch=listener.watch).complete
    assert said == [f"1 soft prompt taken over from {grid.output}"]
    assert listener.keys(CellTrained) == []


def test_fresh_takes_nothing_over_and_the_same_evening_goes_on_without(grid: GridConfig, checkpoints: Path) -> None:
    yesterday = run_grid(grid)
    asked, said = replace(grid, output=tonights(grid, checkpoints).output), []
    assert "2 to do" in dry_run(asked, {}, fresh=True)

    def press() -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        run_grid(asked, fresh=True, say=said.append, watch=Listener(CellDone, 1, press).watch)
    listener = Listener()
    tonight = run_grid(asked, say=said.append, watch=listener.watch)
    assert (said, len(listener.keys(CellDone))) == ([], 1)
    assert numbers(tonight) == numbers(yesterday)
