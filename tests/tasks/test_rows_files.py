"""Rows files of every shape that people have: read, or one sentence with the file, the row and the column."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spt_fast import tasks
from spt_fast.errors import ConfigError, DataError, SptError
from spt_fast.tasks.base import Task
from spt_fast.tasks.loading import files
from spt_fast.tasks.rows import load_rows

ROWS = [{"question": f"What is {n}?", "answer": f"so\n#### {n}"} for n in range(3)]
LINES = "\n".join(map(json.dumps, ROWS))
CELL = '"so\n#### 1"'


def read(path: Path) -> list[dict[str, Any]]:
    return [dict(row) for _, row in files.read(path)]


def refused(path: Path, task: str | Task = "gsm8k") -> str:
    """The sentence about a file, without the folder that it is in."""
    known = tasks.get(task) if isinstance(task, str) else task
    with pytest.raises(SptError) as caught:
        load_rows(known, data_files={"test": str(path)}, need={"test"})
    said = str(caught.value).replace(str(path), path.name)
    assert "\n" not in said
    assert len(said) < 500
    return said


def a_file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path


# shapes


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize(
    "text",
    [
        LINES,
        LINES.replace("\n", "\r\n"),
        LINES.replace("\n", "\r"),
        f"\ufeff{LINES}",
        "\n\ufeff".join(map(json.dumps, ROWS)),
        f"\n\n{LINES}\n\n",
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        json.dumps(ROWS, indent=2).replace("\n", "\r\n"),
        json.dumps({"data": ROWS}),
        json.dumps({"version": "1.1", "data": ROWS}, indent=2),
        json.dumps({"questions": ROWS}, indent=1),
        json.dumps({"features": [], "rows": [{"row_idx": 0, "row": row, "truncated_cells": []} for row in ROWS]}),
        "\n".join(json.dumps(row, indent=2) for row in ROWS),
    ],
    ids=[
        *("lines", "crlf", "cr", "bom", "boms", "blank", "list", "indented", "indented-crlf"),
        *("data", "indented-data", "one-key", "viewer", "objects"),
    ],
)
def test_json_of_every_shape_has_the_same_rows(tmp_path: Path, suffix: str, text: str) -> None:
    assert read(a_file(tmp_path, f"test{suffix}", text)) == ROWS


@pytest.mark.parametrize("text", [json.dumps(ROWS[0]), json.dumps(ROWS[0], indent=2)])
def test_one_object_is_one_row(tmp_path: Path, text: str) -> None:
    assert read(a_file(tmp_path, "test.json", text)) == ROWS[:1]


def test_a_row_with_a_list_of_objects_in_it_is_a_row(tmp_path: Path) -> None:
    sample = tasks.get("chembench").sample
    assert sample is not None
    assert read(a_file(tmp_path, "test.json", json.dumps(sample))) == [sample]


@pytest.mark.parametrize(
    "text",
    [
        f"question,answer\na?,{CELL}\n",
        f"question,answer\r\na?,{CELL}\r\n".replace("so\n", "so\r\n"),
        f"\ufeffquestion,answer\na?,{CELL}",
        f"question;answer\na?;{CELL}\n",
        f"question\tanswer\na?\t{CELL}\n",
        f"question, answer\na?, {CELL}\n",
        f"question,answer\n\na?,{CELL}\n,\n , \n",
    ],
)
def test_csv_of_every_dialect_has_the_same_rows(tmp_path: Path, text: str) -> None:
    assert read(a_file(tmp_path, "test.csv", text)) == [{"question": "a?", "answer": "so\n#### 1"}]


def test_a_csv_cell_may_be_as_long_as_it_likes_and_the_limit_of_others_stays(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    (row,) = read(a_file(tmp_path, "test.csv", f'question,answer\n"{"x " * 100_000}?",{CELL}\n'))
    assert len(row["question"]) == 200_001
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("name", ["test.jsonl.gz", "test.json.gz", "test.csv.gz", "test.jsonl"])
def test_packed_files_are_read(tmp_path: Path, name: str) -> None:
    out = io.StringIO()
    writer = csv.DictWriter(out, ["question", "answer"])
    writer.writeheader()
    writer.writerows(ROWS)
    a_file(tmp_path, name, gzip.compress((out.getvalue() if ".csv" in name else LINES).encode()))
    rows = load_rows(tasks.get("gsm8k"), data_files=str(tmp_path), need={"test"})
    assert len(rows.test) == len(ROWS)


def test_nested_columns_of_parquet_are_lists_and_objects(tmp_path: Path) -> None:
    sample = tasks.get("squad").sample
    assert sample is not None
    pq.write_table(pa.Table.from_pylist([dict(sample)]), tmp_path / "test.parquet")
    assert read(tmp_path / "test.parquet") == [sample]


def test_the_name_of_a_folder_is_no_column_of_parquet(tmp_path: Path) -> None:
    (tmp_path / "answer=9").mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "answer=9" / "test.parquet")
    assert read(tmp_path / "answer=9" / "test.parquet") == ROWS


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), st.text(max_size=8) | st.integers() | st.none(), min_size=2), min_size=2),
    st.sampled_from([None, 1, 4]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_is_written_as_json_is_read_back(tmp_path: Path, rows: list[dict[str, Any]], indent: int | None, end: str) -> None:
    for text in (end.join(json.dumps(row, indent=indent) for row in rows), json.dumps(rows, indent=indent)):
        assert read(a_file(tmp_path, "test.jsonl", text)) == rows


# what is wrong


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("test.jsonl", f"{LINES[:80]}\n", "test.jsonl, line 2: is not JSON ("),
        ("test.jsonl", json.dumps(ROWS[0]) + ",\n" + json.dumps(ROWS[1]), "test.jsonl, line 1: is not JSON ("),
        ("test.json", json.dumps(ROWS, indent=1)[:-20], "test.json, line 12: is not JSON ("),
        ("test.json", json.dumps({"data": ROWS}, indent=1).replace('"What is 1?"', "What"), "test.json, line 8: is not JSON ("),
        ("test.json", json.dumps({"train": ROWS, "test": ROWS}), "several lists of objects ('train', 'test'); write each to a"),
        ("test.json", json.dumps({"question": ["a"], "answer": ["b"]}), "is an object of columns ('question', 'answer')"),
        ("test.json", json.dumps({"question": {"0": "a"}, "answer": {"0": "b"}}), "is an object of columns"),
        ("test.json", "null", "line 1: is null, and not an object with columns"),
        ("test.json", "[[1]]", "row 1: is a list, and not an object"),
        ("test.json", "", "gsm8k: no test rows in test.json; it has no rows"),
        ("test.json", '{"data": []}', "it has no rows"),
        ("test.csv", "question,answer\n", "it has no rows"),
        (
            "test.jsonl",
            '{"question": "a", "question": "b"}',
            "line 1: cannot be read as JSON (column 'question' appears twice)",
        ),
        ("test.csv", "question,answer,answer\na,b,c\n", "line 1: column 'answer' appears twice"),
        ("test.csv", 'question,answer\n\n"a\nb",c,d\n', "line 3: has 3 cells, and the head has 2; put quotation marks"),
        ("test.csv", 'question,answer\na,b\nc,"d\ne\n', "line 3: is not CSV (unexpected end of data)"),
        ("test.jsonl", '{"question": "\\ud83d", "answer": "1"}', "line 1: column 'question' holds half of a surrogate pair"),
        ("test.jsonl", '{"question": ' + "9" * 5000 + "}", "line 1: cannot be read as JSON (a number has too many digits"),
        ("test.jsonl", "[" * 50_000, "line 1: cannot be read as JSON (it is nested too deep)"),
        ("test.jsonl", f"{LINES}\n".encode() + '{"question": "café"}'.encode("latin-1"), "line 4: is not UTF-8 (byte "),
        ("test.jsonl", LINES.encode("utf-16"), "line 1: is UTF-16; save it as UTF-8"),
        ("test.csv", "version https://git-lfs.github.com/spec/v1\noid x\n", "is a pointer of git-lfs and not the rows"),
        ("test.json.gz", gzip.compress(b"x" * 99, mtime=0)[:-9], "is gzip, and cannot be unpacked"),
        ("test.parquet", b"", "test.parquet: is not Parquet ("),
        ("test.jsonl.zst", b"", "is not one of .jsonl, .json, .csv, .parquet, or one of the first three in .gz"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path, name: str, content: str | bytes, says: str) -> None:
    assert says in refused(a_file(tmp_path, name, content))


def two_columns(path: Path) -> None:
    columns = [pa.array(["a"]), pa.array(["b"]), pa.array(["c"])]
    pq.write_table(pa.Table.from_arrays(columns, names=["question", "answer", "answer"]), path)


def not_text(path: Path) -> None:
    broken = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    pq.write_table(pa.Table.from_arrays([broken, pa.array(["#### 1"])], names=["question", "answer"]), path)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (two_columns, "test.parquet: column 'answer' appears twice"),
        (not_text, "test.parquet: column 'question' cannot be read ("),
    ],
)
def test_parquet_that_cannot_be_read_names_the_column(tmp_path: Path, make: Callable[[Path], None], says: str) -> None:
    make(tmp_path / "test.parquet")
    assert says in refused(tmp_path / "test.parquet")


@pytest.mark.parametrize(
    ("task", "change", "says"),
    [
        ("gsm8k", {"question": None}, "line 1: is not a row of gsm8k (column 'question' is null, not text); fix the row"),
        ("gsm8k", {"question": 3}, "column 'question' is a number (3), not text"),
        ("gsm8k", {"question": ["x"] * 9999}, "column 'question' is a list, not text"),
        ("mmlu", {"choices": ["a", "b", "c", None]}, "column 'choices' has null for option D"),
        ("mmlu", {"choices": [["a"], "b", "c", "d"]}, "column 'choices' is a list, not text"),
        ("mmlu", {"choices": "a" * 9999}, "column 'choices' is text, and not JSON ('aaaa"),
        ("mmlu", {"answer": 1.5}, "column 'answer' is 1.5; it is 0 to 3"),
        ("mmlu", {"answer": "x" * 9999}, "column 'answer' is 'xxx"),
        ("hellaswag", {"endings": ["a", None, "c", "d"]}, "column 'endings' has null for option B"),
        ("triviaqa", {"answer": {"value": "Paris", "aliases": "Paris"}}, "column 'answer.aliases' is text, and not JSON"),
        ("triviaqa", {"answer": {"value": "Paris", "aliases": [{"x": 1}]}}, "column 'answer.aliases' is an object, not text"),
        ("triviaqa", {"answer": {"value": None, "aliases": []}}, "column 'answer.value' is null, not text"),
        ("squad", {"answers": {"text": [True]}}, "column 'answers.text' is true or false (True), not text"),
        ("arc_easy", {"choices": {"text": ["a", {}], "label": ["A", "B"]}}, "column 'choices.text' is an object, not text"),
    ],
)
def test_a_row_that_does_not_fit_names_the_column_in_few_words(
    tmp_path: Path, task: str, change: dict[str, Any], says: str
) -> None:
    sample = tasks.get(task).sample
    assert sample is not None
    assert says in refused(a_file(tmp_path, "test.jsonl", json.dumps({**sample, **change})), task)


def test_nulls_among_the_right_answers_are_no_answers() -> None:
    sample = tasks.get("triviaqa").sample
    assert sample is not None
    for aliases in (None, [], [None], ["", None]):
        example = tasks.get("triviaqa").read_row({**sample, "answer": {"value": "Paris", "aliases": aliases}})
        assert example is not None
        assert example.answers == ("Paris",)


def test_numbers_among_the_right_answers_and_the_options_are_text() -> None:
    trivia, mmlu = tasks.get("triviaqa"), tasks.get("mmlu")
    assert trivia.sample is not None
    assert mmlu.sample is not None
    alias = trivia.read_row({**trivia.sample, "answer": {"value": "1984", "aliases": [1984, 0.00001]}})
    option = mmlu.read_row({**mmlu.sample, "choices": [1, 2.5, 1e-5, 10**20]})
    assert alias is not None
    assert option is not None
    assert alias.answers == ("1984", "0.00001")
    assert option.options == ("A. 1", "B. 2.5", "C. 0.00001", "D. 100000000000000000000")


def test_many_columns_with_long_names_are_not_all_told(tmp_path: Path) -> None:
    row = {f"{'x' * 500} {n}\x1b[31m": n for n in range(1000)}
    said = refused(a_file(tmp_path, "test.jsonl", json.dumps(row)))
    assert "needs a column 'answer'" in said
    assert "and 992 more" in said
    assert "\x1b" not in said


def test_whatever_a_task_of_ones_own_raises_is_told_with_the_row(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text('{"n": 1}\n{"n": 0}\n')
    (tmp_path / "own.py").write_text(
        "from spt_fast.tasks.base import FileSource, LeftOut, Task, row_key\n"
        "from spt_fast.tasks.answers.extractors import first_line\n"
        "from spt_fast.tasks.template import Template\n"
        "from spt_fast.types import Example, Sampling\n\n\n"
        "def read_row(row):\n"
        "    if row['n'] > 1:\n"
        "        raise LeftOut('that are too large', column='n', by_design=True)\n"
        "    answer = str(1 // row['n'])\n"
        "    return Example(key=row_key(row), question='?', target=answer, answers=(answer,))\n\n\n"
        "TASK = Task(name='own', version=1, summary='s', source=FileSource(files='.'), read_row=read_row,\n"
        "    template=Template(instruction='Say.', item='Q: {question}'), format='[0-9]+', extract=first_line,\n"
        "    sampling=Sampling(max_tokens=4), random_baseline=0.0, licence='none')\n"
    )
    task = tasks.get(str(tmp_path / "own.py"))
    said = refused(tmp_path / "test.jsonl", task)
    assert said.startswith("test.jsonl, line 2: is not a row of own (ZeroDivisionError: ")
    (tmp_path / "test.jsonl").write_text('{"n": 1}\n{"n": 2}\n')
    rows = load_rows(task, need={"test"})
    (other,) = rows.losses.by_design
    assert (other.rows, other.why, rows.losses.share) == (1, "that are too large", 0)


def test_a_file_that_is_not_there_is_still_the_requests_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file"):
        load_rows(tasks.get("gsm8k"), data_files={"test": str(tmp_path / "test.jsonl")})
    assert issubclass(DataError, SptError)
