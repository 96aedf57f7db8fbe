"""A run folder that an earlier version has made: nothing in it is done again, and all its numbers are what they were."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from spt_fast.analysis import compare_runs, read_run
from spt_fast.config import GridConfig
from spt_fast.driver.run import run_cells
from spt_fast.export import export
from spt_fast.report.folder import write_tables
from spt_fast.store import Store
from tests.helpers.made_before import made_before


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> GridConfig:
    return made_before(tmp_path_factory.mktemp("before"))


def test_a_run_of_an_earlier_version_is_resumed_with_nothing_to_do(grid: GridConfig) -> None:
    store = Store(grid.folder)
    before = (store.versions(), store.text("events.jsonl"))
    assert run_cells(grid).complete
    assert (store.versions(), store.text("events.jsonl")) == before


def test_results_of_an_earlier_version_are_reported_to_the_last_digit(grid: GridConfig) -> None:
    store = Store(grid.folder)
    before = store.text("results.csv")
    cells, _ = write_tables(grid.folder)
    assert [cell.status for cell in cells] == ["done"] * 8
    assert store.text("results.csv") == before


def test_a_run_of_an_earlier_version_is_compared_row_by_row(grid: GridConfig, tmp_path: Path) -> None:
    copy = shutil.copytree(grid.folder, tmp_path / "copy")
    found = compare_runs(read_run(grid.folder), read_run(copy))
    assert len(found.comparisons) >= 24, "8 cells, three metrics"
    assert {each.difference.change for each in found.comparisons} == {0.0}


@pytest.mark.parametrize("format", ["csv", "parquet", "lm-eval", "eee"])
def test_a_run_of_an_earlier_version_is_exported(format: str, grid: GridConfig, tmp_path: Path) -> None:
    told = export(grid.folder, format, tmp_path / "export")
    assert (told.count, told.missing) == (8, 0)


def test_soft_prompts_and_adapters_of_an_earlier_version_are_read(grid: GridConfig) -> None:
    cells = {cell.place: cell for cell in read_run(grid.folder).cells()}
    prompts = [cell.soft_prompt() for place, cell in cells.items() if place.protocol == "soft_prompt"]
    assert [prompt.length for prompt in prompts if prompt is not None] == [2] * 4
    assert all(cell.rerun is not None for cell in cells.values())
