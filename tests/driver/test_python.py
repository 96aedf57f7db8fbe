"""What `run_grid` gives to Python: the files that the command line writes, data frames, and a table in a notebook."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import spt_fast
from spt_fast.config import GridConfig
from spt_fast.report.folder import TABLES
from spt_fast.store import Store
from tests.helpers.made_before import made_before


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> GridConfig:
    return made_before(tmp_path_factory.mktemp("before"))


@pytest.fixture(scope="module")
def results(grid: GridConfig) -> spt_fast.GridResult:
    return spt_fast.run_grid(grid)


def test_run_grid_writes_the_tables_and_reports_once(grid: GridConfig, results: spt_fast.GridResult) -> None:
    written = [Store(results.folder).version(name) for name in TABLES]
    assert spt_fast.run_grid(grid).complete
    assert [Store(results.folder).version(name) for name in TABLES] == written, "with nothing new, nothing is written again"


def test_the_frame_of_a_result_is_its_results_csv(results: spt_fast.GridResult) -> None:
    frame = results.frame()
    told = pd.read_csv(Path(results.folder) / "results.csv", dtype={name: frame[name].dtype for name in ("seed", "step", "n")})
    pd.testing.assert_frame_equal(frame, told, check_dtype=False)
    assert str(frame["seed"].dtype) == "Int64", "a seed stays an integer beside cells that have none"


def test_a_notebook_shows_the_cells_of_a_result(results: spt_fast.GridResult) -> None:
    html = results._repr_html_()
    assert "<b>before</b>: 8 of 8 cells done" in html
    assert html.count("<tr><td>") == 8
    assert "<th>format following</th><th>knowledge</th><th>exact match</th>" in html
