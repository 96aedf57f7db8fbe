"""Tidy tables, as pandas and Arrow read them; and what a spreadsheet would run is not run."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from spt_fast.export import export
from spt_fast.export.tables import PLACE, RESULTS, SAMPLES
from spt_fast.scoring.metrics import aggregate
from spt_fast.types import Sample
from tests.helpers.planted import CELLS, HOSTILE, WAITING, sample

DONE = [cell for cell in CELLS if cell is not WAITING]
ROWS = sum(len(cell.steps) for cell in DONE) * len(HOSTILE)


@pytest.fixture(scope="module")
def exported(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("tables")
    export(run_folder, "csv", to)
    export(run_folder, "parquet", to)
    return to


def test_results_have_a_row_for_each_metric_of_each_cell_and_step(exported: Path) -> None:
    table = pd.read_parquet(exported / "results.parquet")
    assert list(table.columns) == list(RESULTS)
    soft = DONE[3]
    (row,) = table[(table.cell == soft.key) & (table.step == 2) & (table.metric == "exact_match")].to_dict("records")
    (wanted,) = [m for m in aggregate([sample(soft, i, 2) for i in range(len(HOSTILE))]) if m.name == "exact_match"]
    assert (row["value"], row["stderr"], row["ci_low"], row["n"]) == (wanted.value, wanted.stderr, wanted.ci_low, wanted.n)
    assert (row["protocol"], row["seed"]) == ("soft_prompt", 1)
    plain = table[(table.cell == DONE[0].key) & (table.metric == "exact_match_given_format")]
    assert math.isnan(plain.value.item()), "what is undefined is there, and empty"
    assert set(table.cell) == {cell.key for cell in DONE}


def test_parquet_holds_samples_as_they_are(exported: Path) -> None:
    table = pq.read_table(exported / "samples.parquet")
    assert table.column_names == list(SAMPLES)
    assert table.num_rows == ROWS
    assert pq.ParquetFile(exported / "samples.parquet").num_row_groups == len(DONE), "a cell at a time"
    rows = [row for row in table.to_pylist() if row["cell"] == DONE[1].key]
    assert [row["completion"] for row in rows] == list(HOSTILE)
    assert [dict(row["scores"]) for row in rows] == [{"f1": i / 10} for i in range(10)]
    assert rows[3]["extracted"] is None


def test_csv_and_parquet_say_the_same(exported: Path) -> None:
    numbers = pd.read_csv(exported / "results.csv")
    exact = pd.read_parquet(exported / "results.parquet")
    for name in ("value", "stderr", "ci_low", "ci_high", "n", "seed", "step"):
        assert numbers[name].astype(float).equals(exact[name].astype(float)), name
    samples = pd.read_csv(exported / "samples.csv", keep_default_na=False)
    assert len(samples) == ROWS
    whole = pd.read_parquet(exported / "samples.parquet")
    assert [json.loads(text) for text in samples.answers] == [list(values) for values in whole.answers]
    assert [json.loads(text) for text in samples.option_logprobs if text != "[]"][2] == [-1.5, None], "-inf is not JSON"
    assert [text == "True" for text in samples.knows.astype(str)] == list(whole.knows)


def test_a_spreadsheet_runs_nothing_and_the_rest_is_as_it_was(exported: Path) -> None:
    with open(exported / "samples.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["cell"] == DONE[1].key]
    told = [row["completion"] for row in rows]
    wanted = list(HOSTILE)
    wanted[1] = "'=HYPERLINK(0)"
    wanted[4] = wanted[4].replace("\0", "\ufffd")
    assert told == wanted
    assert "-5" in told, "a number is no formula"


def test_every_field_of_a_sample_is_exported() -> None:
    assert {field.name for field in fields(Sample)} == set(SAMPLES) - set(PLACE) | {"step"}
