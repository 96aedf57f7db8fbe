"""Rows that were lost or changed on the way from a file, and results that overwrote others, as users reported it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spt_fast import tasks
from spt_fast.config import GridConfig, ModelConfig, TaskConfig, ZeroShot
from spt_fast.export import export
from spt_fast.tasks.rows import Rows, load_rows
from tests.helpers.running import run_grid
from tests.helpers.tiny import tiny_model

LINE = "name: t\nrows: {files: {test: FILE}}\ncolumns: {question: q, answer: a}\nanswer_form: line\n"
LETTERS = """\
name: t
rows: {files: {test: FILE}}
columns: {question: q, options: [A, B, C, D], answer: {column: a, as: letter}}
random_baseline: 0.25
"""


def rows_of(text: str, file: Path) -> Rows:
    tasks.read_files_again()
    task = file.with_suffix(".yaml")
    task.write_text(text.replace("FILE", file.name))
    return load_rows(tasks.get(str(task)), need={"test"})


def parquet(folder: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), folder / "t.parquet")
    return folder / "t.parquet"


def answers(rows: Rows) -> dict[str, str]:
    return {example.question: example.target for example in rows.test}


def test_words_that_data_frames_take_for_missing_are_answers(tmp_path: Path) -> None:
    """huggingface/datasets#4467: "null" in a CSV file came as None, and the word was lost. Right: only an empty cell is
    empty, and it is counted; codes keep their noughts."""
    words = ["null", "NA", "N/A", "None", "nan", "NaN", "#N/A", "007", "true"]
    file = tmp_path / "t.csv"
    file.write_text("q,a\n" + "".join(f"Word {n}?,{word}\n" for n, word in enumerate(words)) + "Empty?,\n")
    rows = rows_of(LINE, file)
    assert answers(rows) == {f"Word {n}?": word for n, word in enumerate(words)}
    assert [(loss.rows, loss.why) for loss in rows.losses.left_out] == [(1, "with no answer")]
    file.write_text("q,A,B,C,D,a\nWhich?,null,NA,None,nan,C\nWhat?,Yes,No,Both,None,D\n")
    assert answers(rows_of(LETTERS, file)) == {"Which?": "C. None", "What?": "D. None"}


def test_the_nan_of_a_data_frame_is_no_text(tmp_path: Path) -> None:
    """UKGovernmentBEIS/inspect_ai#4626: a missing choice came as the option "nan", and a missing question as a TypeError.
    Right: an option at the end that is missing is not there; a row without its question or answer is left out, and
    counted."""
    missing = pa.array([math.nan, math.nan, math.nan])
    columns = {"q": ["One?", "Two?", None], "A": ["x"] * 3, "B": ["y"] * 3, "C": ["z"] * 3, "D": missing, "a": ["A", None, "B"]}
    rows = rows_of(LETTERS, parquet(tmp_path, columns))
    assert [example.options for example in rows.test] == [("A. x", "B. y", "C. z")]
    assert sum(loss.rows for loss in rows.losses.left_out) == 2


@pytest.mark.parametrize("gap", [math.nan, None])
def test_whole_numbers_beside_a_missing_one_stay_whole(tmp_path: Path, gap: float | None) -> None:
    """pandas-dev/pandas#28335: where one of a column of whole numbers is missing, a data frame makes floats of them all. So
    "1.0" was the answer here, and an option, and "1" was wrong for it. Right: 1; mended here. Real fractions stay as they
    are."""
    file = parquet(tmp_path, {"q": ["One?", "Two?", "Gap?"], "a": pa.array([1.0, 1990.0, gap])})
    assert answers(rows_of(LINE, file)) == {"One?": "1", "Two?": "1990"}
    file = parquet(tmp_path, {"q": ["One?", "Two?", "Gap?"], "a": pa.array([1.0, 2.5, gap])})
    assert answers(rows_of(LINE, file)) == {"One?": "1.0", "Two?": "2.5"}
    numbers = pa.array([3.0, 4.0, gap])
    columns = {"q": ["One?", "Two?", "Gap?"], "A": ["1"] * 3, "B": ["2"] * 3, "C": numbers, "D": numbers, "a": ["C", "D", "A"]}
    assert answers(rows_of(LETTERS, parquet(tmp_path, columns))) == {"One?": "C. 3", "Two?": "D. 4", "Gap?": "A. 1"}


def test_a_line_of_a_file_ends_at_a_line_feed_alone(tmp_path: Path) -> None:
    """huggingface/datasets#3910, wbolster/jsonlines#53: U+2028, U+0085 and the like inside a text were taken for ends of
    lines, and cut the row in two. Right: they are white space of the text."""
    inside = "".join(("one", "\u2028two", "\u2029three", "\u0085four", "\u000bfive", "\u001csix", "?"))
    file = tmp_path / "t.jsonl"
    lines = [json.dumps({"q": f"{n} {inside}", "a": "x"}, ensure_ascii=False) for n in range(3)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    assert {question.split()[0] for question in answers(rows_of(LINE, file))} == {"0", "1", "2"}
    assert all("six" in question for question in answers(rows_of(LINE, file)))


def test_tasks_of_one_data_set_and_models_of_one_name_have_results_of_their_own(tmp_path: Path) -> None:
    """evaleval/every_eval_ever#60, huggingface/lighteval#1339: arc_easy and arc_challenge, which share a data set, and two
    revisions of one model were written to the same file, one over the other. Right: none is, in the run folder and in what is
    exported."""
    for seed, owner in enumerate(("one", "two")):
        tiny_model(tmp_path / owner / "model", hidden_size=32, positions=1024, seed=seed)
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"q": f"Word {n}?", "a": f"w{n}"}) + "\n" for n in range(4)))
    for name in ("easy", "hard"):
        (tmp_path / f"{name}.yaml").write_text(LINE.replace("FILE", "t.jsonl").replace("name: t", f"name: {name}"))
    grid = GridConfig(
        name="g",
        models=tuple(ModelConfig(id=str(tmp_path / owner / "model")) for owner in ("one", "two")),
        tasks=tuple(TaskConfig(task=str(tmp_path / f"{name}.yaml")) for name in ("easy", "hard")),
        protocols=(ZeroShot(),),
        engine={"kind": "echo"},
        output=tmp_path / "run",
    )
    result = run_grid(grid)
    assert not result.failures
    assert len({cell.key for cell in result.cells}) == 4
    for form, pattern, row in (("eee", "*_samples.jsonl", "sample_id"), ("lm-eval", "samples_*.jsonl", "doc_id")):
        export(tmp_path / "run", form, tmp_path / form)
        written = sorted((tmp_path / form).rglob(pattern))
        assert len(written) == 4
        assert {len({json.loads(line)[row] for line in path.read_text().splitlines()}) for path in written} == {4}
    again = run_grid(replace(grid, models=grid.models[:1]))
    assert {cell.key for cell in again.cells} < {cell.key for cell in result.cells}
