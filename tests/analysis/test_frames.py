"""A run as data frames and as a table in a notebook: every number is there, and other people's text is text."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from spt_fast.analysis import Run, read_run
from spt_fast.analysis.frames import MOST_SHOWN, html_table
from spt_fast.analysis.runs import open_run
from spt_fast.errors import ConfigError, StoreError
from spt_fast.store import Store
from tests.helpers.recorded import write_run

HOSTILE = "<script>alert(1)</script>\x1b[2J"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    verdicts = {
        ("m", "t", "zero_shot", None): [True, False, True],
        ("m", "t", "soft_prompt", 0): [True, True, True],
        ("n", "t", "soft_prompt", 0): [False, True, True],
    }
    return read_run(write_run(tmp_path / "run", verdicts))


def test_results_are_a_row_a_metric_of_each_cell(run: Run) -> None:
    frame = run.frame()
    row = frame[(frame["model"] == "n") & (frame["metric"] == "exact_match")].iloc[0]
    assert (row["protocol"], row["seed"], row["value"], row["n"]) == ("soft_prompt", 0, pytest.approx(2 / 3), 3)
    assert frame["seed"].isna().any(), "zero-shot has no seed"


def test_samples_are_a_row_an_example_with_the_cell_in_front(run: Run) -> None:
    frame = run.frame("samples", model="m", protocol="soft_prompt")
    assert list(frame.columns[:5]) == ["model", "task", "protocol", "seed", "example"]
    assert list(frame[frame["step"] == frame["step"].max()]["correct"]) == [True, True, True]
    assert set(frame["model"]) == {"m"}
    assert len(run.frame("samples")) == 3 + 2 * 6, "soft prompts at two steps"


def test_a_choice_of_no_cell_is_an_empty_frame_with_all_columns(run: Run) -> None:
    for table in ("results", "samples"):
        assert list(run.frame(table, task="none").columns) == list(run.frame(table).columns)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"table": "cells"}, r"frame\('cells'\): there is no such table; there are results and samples"),
        ({"seed": "0"}, r"cells cannot be chosen by 'seed'; choose by model, task, protocol"),
        ({"library": "dplyr"}, r"library='dplyr'\): there is no such library; there are pandas and polars"),
    ],
)
def test_what_there_is_not_is_a_sentence(run: Run, arguments: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        run.frame(**arguments)  # type: ignore[arg-type]


def test_without_a_library_the_sentence_says_how_to_install_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)  # as `import` has it of a package that is not there
    with pytest.raises(ConfigError, match="needs polars, which is not installed; install it with: pip install polars"):
        run.frame(library="polars")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match="needs pandas or polars, which is not installed"):
        run.frame()


def test_a_damaged_cell_is_told_and_not_left_out(run: Run) -> None:
    key = next(iter(run.done.values()))
    run.store.put(f"cells/{key}/result.json", "{")
    with pytest.raises(StoreError, match="run the grid again with --fresh"):
        run.frame()


def test_a_notebook_shows_names_and_reasons_as_text(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {(HOSTILE, "t", "zero_shot", None): [True]})
    for html in (read_run(folder)._repr_html_(), _failed(folder)):
        assert "<script>" not in html
        assert "\x1b" not in html
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def _failed(folder: Path) -> str:
    """The table of the same run where its only cell has failed of something hostile."""
    store = Store(folder)
    (key,) = store.done()
    store.discard(key)
    store.put(f"cells/{key}/failure.json", f'{{"kind": "EngineError", "reason": "{HOSTILE[:-4]}"}}')
    html = open_run(folder)._repr_html_()
    assert "0 of 1 cells done" in html
    assert "failed: &lt;script&gt;" in html
    return html


def test_of_a_large_grid_a_notebook_reads_the_first_cells_only(run: Run) -> None:
    (cell, *_) = run.cells()
    read = []

    def cells():  # type: ignore[no-untyped-def]
        while True:
            read.append(1)
            yield cell

    html = html_table("g", cells(), done=100_000, cells_in_all=100_000)
    assert len(read) == MOST_SHOWN
    assert f"and {100_000 - MOST_SHOWN} more cells" in html
