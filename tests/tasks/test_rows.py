"""Rows are read from wherever they are, checked, disjoint, and in an order that a limit can cut."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spt_fast.errors import ConfigError, DataError, SptError
from spt_fast.tasks.base import SPLITS, GeneratedSource, HubSource, Row, Split, Task
from spt_fast.tasks.benchmarks.gsm8k import TASK as GSM8K
from spt_fast.tasks.benchmarks.mmlu import TASK as MMLU
from spt_fast.tasks.benchmarks.zoo import ZOO_MCQ
from spt_fast.tasks.loading import hub
from spt_fast.tasks.loading.files import SUFFIXES
from spt_fast.tasks.rows import FEW_SHOT_ROWS, content_hash, few_shot_cut, load_rows
from spt_fast.types import Example
from tests.helpers.hub import environment


def sums(first: int, count: int) -> list[dict[str, Any]]:
    """Rows like GSM8K's, about the numbers from `first` on."""
    return [
        {"question": f"What is {n} + 1?", "answer": f"{n} + 1 = {n + 1}\n#### {n + 1}"} for n in range(first, first + count)
    ]


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".jsonl":
            path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        case ".json":
            path.write_text(json.dumps(rows), encoding="utf-8")
        case ".csv":
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        case ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "train.jsonl", sums(0, 100))
    write(tmp_path / "test.jsonl", sums(1000, 50))
    return tmp_path


def asked(examples: Sequence[Example]) -> set[str]:
    return {example.question for example in examples}


def test_splits_of_a_folder_go_by_the_names_of_the_hub(folder: Path) -> None:
    rows = load_rows(GSM8K, data_files=str(folder))
    assert (len(rows.tuning), len(rows.few_shot), len(rows.test)) == (90, 10, 50)
    assert asked(rows.tuning) | asked(rows.few_shot) == asked([GSM8K.read_row(row) for row in sums(0, 100)])


def test_splits_of_a_folder_go_by_our_names_too(tmp_path: Path) -> None:
    for i, split in enumerate(SPLITS):
        write(tmp_path / f"{split}.jsonl", sums(100 * i, 10 + i))
    rows = load_rows(GSM8K, data_files=str(tmp_path))
    assert (len(rows.tuning), len(rows.few_shot), len(rows.test)) == (10, 11, 12)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, folder: Path, suffix: str) -> None:
    other = tmp_path / "other"
    write(other / f"train{suffix}", sums(0, 100))
    write(other / f"test{suffix}", sums(1000, 50))
    one, two = (load_rows(GSM8K, data_files=str(path)) for path in (folder, other))
    assert (one.tuning, one.few_shot, one.test) == (two.tuning, two.few_shot, two.test)


def test_a_json_file_may_be_lines(tmp_path: Path, folder: Path) -> None:
    (folder / "test.jsonl").rename(folder / "test.json")
    assert len(load_rows(GSM8K, data_files=str(folder)).test) == 50


def test_files_may_be_named_one_by_one(tmp_path: Path) -> None:
    files = {"train": str(write(tmp_path / "a.csv", sums(0, 30))), "test": str(write(tmp_path / "b.json", sums(50, 9)))}
    rows = load_rows(GSM8K, data_files=files)
    assert (len(rows.tuning) + len(rows.few_shot), len(rows.test)) == (30, 9)


def test_the_parts_of_a_published_split_are_read_together(tmp_path: Path) -> None:
    def choices(first: int, count: int) -> list[dict[str, Any]]:
        return [
            {"question": f"Which is {n}?", "subject": "sums", "choices": [str(n), "a", "b", "c"], "answer": 0}
            for n in range(first, first + count)
        ]

    write(tmp_path / "dev.jsonl", choices(0, 20))
    write(tmp_path / "validation.parquet", choices(20, 30))
    write(tmp_path / "test.jsonl", choices(100, 5))
    rows = load_rows(MMLU, data_files=str(tmp_path))
    assert len(rows.tuning) + len(rows.few_shot) == 50


def test_a_line_separator_inside_a_text_does_not_end_its_row(tmp_path: Path, folder: Path) -> None:
    row = {"question": "one\u2028two\x85three", "answer": "so\n#### 1"}
    for name in ("test.jsonl", "test.csv"):
        write(folder / name, [row])
        assert load_rows(GSM8K, data_files=str(folder)).test[0].question == row["question"]
        (folder / name).unlink()


def test_no_question_is_in_two_splits(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", [*sums(0, 40), *sums(10, 5)])
    write(tmp_path / "test.jsonl", [{**row, "question": f" {row['question'].upper()}"} for row in sums(0, 8)])
    rows = load_rows(GSM8K, data_files=str(tmp_path))
    splits = [{q.casefold() for q in asked(examples)} for examples in (rows.tuning, rows.few_shot, rows.test)]
    assert all(not one & other for one, other in combinations(splits, 2))
    assert len(rows.test) == 8
    assert len(rows.tuning) + len(rows.few_shot) == 32
    assert rows.dropped == {"tuning rows that repeat a tuning row": 5, "tuning rows that are test rows": 8}


def test_few_shot_rows_of_their_own_are_kept_out_of_tuning(tmp_path: Path) -> None:
    write(tmp_path / "tuning.jsonl", sums(0, 20))
    write(tmp_path / "few_shot.jsonl", [*sums(15, 10), *sums(15, 1), *sums(50, 1)])
    write(tmp_path / "test.jsonl", sums(50, 5))
    rows = load_rows(GSM8K, data_files=str(tmp_path))
    assert (len(rows.tuning), len(rows.few_shot), len(rows.test)) == (15, 10, 5)
    assert rows.dropped == {
        "few-shot rows that are test rows": 1,
        "few-shot rows that repeat a few-shot row": 1,
        "tuning rows that are few-shot rows": 5,
    }


def test_tuning_on_the_test_rows_is_refused_and_says_why(tmp_path: Path) -> None:
    file = str(write(tmp_path / "all.jsonl", sums(0, 20)))
    with pytest.raises(DataError, match=r"no tuning rows are left \(20 tuning rows that are test rows\)"):
        load_rows(GSM8K, data_files={"tuning": file, "test": file})


def test_test_rows_that_are_published_twice_stay_and_have_keys_of_their_own(folder: Path) -> None:
    write(folder / "test.jsonl", [*sums(1000, 5), *sums(1000, 2)])
    rows = load_rows(GSM8K, data_files=str(folder))
    assert len({example.key for example in rows.test}) == len(rows.test) == 7


def test_a_limit_takes_a_part_of_every_greater_limit_and_leaves_tuning_alone(folder: Path) -> None:
    whole = load_rows(GSM8K, data_files=str(folder))
    for limit in (1, 7, 49, 50, 1000):
        rows = load_rows(GSM8K, data_files=str(folder), limit=limit)
        assert rows.test == whole.test[:limit]
        assert (rows.tuning, rows.few_shot) == (whole.tuning, whole.few_shot)


def test_the_order_of_the_file_does_not_change_which_rows_a_limit_takes(folder: Path) -> None:
    before = load_rows(GSM8K, data_files=str(folder), limit=9).test
    write(folder / "test.jsonl", sums(1000, 50)[::-1])
    assert load_rows(GSM8K, data_files=str(folder), limit=9).test == before


def test_a_limit_does_not_let_test_rows_into_tuning(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", sums(0, 20))
    write(tmp_path / "test.jsonl", sums(0, 10))
    rows = load_rows(GSM8K, data_files=str(tmp_path), limit=1)
    assert not (asked(rows.tuning) | asked(rows.few_shot)) & asked([GSM8K.read_row(row) for row in sums(0, 10)])


@given(st.integers(0, 100_000))
def test_the_cut_for_shots_is_small_and_leaves_tuning_rows(count: int) -> None:
    cut = few_shot_cut(count)
    assert 0 <= cut <= min(FEW_SHOT_ROWS, max(count // 2, count // 10))
    assert cut >= min(8, count // 2)


def test_splits_that_are_not_needed_may_be_missing(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", sums(0, 3))
    rows = load_rows(GSM8K, data_files=str(tmp_path), need=("test",))
    assert (rows.tuning, rows.few_shot, len(rows.test)) == ((), (), 3)
    with pytest.raises(DataError, match=r"no tuning rows; add a file tuning.jsonl or train.jsonl"):
        load_rows(GSM8K, data_files=str(tmp_path))


# what is wrong is said in one sentence


@pytest.mark.parametrize(
    ("files", "error", "says"),
    [
        ({}, ConfigError, "no test rows in .*; give a file test.jsonl"),
        ({"test.jsonl": "", "train.jsonl": ""}, DataError, "no tuning rows in .*train.jsonl"),
        ({"test.jsonl": "{]\n"}, DataError, r"test.jsonl, line 1: is not JSON \("),
        ({"test.jsonl": '\n{"question": "q"}\n'}, DataError, "line 2: gsm8k needs a column 'answer'; the row has question"),
        ({"test.jsonl": "[1]\n"}, DataError, "row 1: is a number, and not an object"),
        ({"test.jsonl": "{}\n"}, DataError, "the row has none"),
        ({"test.jsonl": '{"question": "q", "answer": 3}'}, DataError, "line 1: is not a row of gsm8k"),
        ({"test.jsonl": '{"question": "q", "answer": "3"}'}, DataError, "line 1: is not a row of gsm8k .*####"),
        ({"test.jsonl": '{"question": "q", "answer": "#### 3"}'}, DataError, "target '.*#### 3' is not in the form"),
        ({"test.json": "[1, 2"}, DataError, "test.json, line 1: is not JSON"),
        ({"test.json": "[1]"}, DataError, "row 1: is a number, and not an object"),
        ({"test.csv": "question,answer\na\n"}, DataError, "line 2: has 1 cells, and the head has 2"),
        ({"test.csv": 'question,answer\n"a\n'}, DataError, "is not CSV"),
        ({"test.parquet": "no"}, DataError, "test.parquet: is not Parquet"),
        ({"test.jsonl": "", "test.csv": ""}, ConfigError, "has test.jsonl and test.csv; leave one"),
        ({"test.jsonl": "[" * 100_000}, DataError, "line 1: cannot be read as JSON"),
    ],
)
def test_files_that_are_wrong_are_told_by_place(
    tmp_path: Path, files: dict[str, str], error: type[SptError], says: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(error, match=says) as caught:
        load_rows(GSM8K, data_files=str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data_files", "says"),
    [
        ("nowhere", "the folder 'nowhere' is not there"),
        (__file__, "is a file; give {split: file}"),
        ({"tests": "a.jsonl"}, "unknown split 'tests'; choose from .*test, train"),
        ({"test": "nowhere.jsonl"}, "test: there is no file 'nowhere.jsonl'"),
        ({"test": __file__}, "is not one of .jsonl, .json, .csv, .parquet"),
    ],
)
def test_files_that_are_not_there_are_the_requests_fault(data_files: Any, says: str) -> None:
    for ask in (content_hash, lambda task, files: load_rows(task, data_files=files)):
        with pytest.raises(ConfigError, match=f"data_files: .*{says}"):
            ask(GSM8K, data_files)


def test_text_that_is_not_utf_8_is_told(folder: Path) -> None:
    (folder / "test.jsonl").write_bytes(b'{"question": "\xff"}')
    with pytest.raises(DataError, match=r"is not UTF-8 \(byte 14\)"):
        load_rows(GSM8K, data_files=str(folder))


# the Hub


def test_rows_of_the_hub_are_read_once_a_split() -> None:
    calls: list[Split] = []

    def fetch(source: HubSource, split: Split) -> list[Row]:
        calls.append(split)
        return sums(0, 400) if split == "tuning" else sums(1000, 20)

    rows = load_rows(GSM8K, fetch=fetch)
    assert calls == ["tuning", "test"]
    assert (len(rows.tuning), len(rows.few_shot), len(rows.test)) == (368, 32, 20)


def test_a_download_that_breaks_off_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked_for: list[tuple[Any, ...]] = []

    def load_dataset(*args: Any, **kwargs: Any) -> None:
        asked_for.append((*args, kwargs))
        raise ConnectionError("Couldn't reach it\nand more")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(hub, "why_unreachable", lambda source_id, revision: None)  # it breaks off later
    assert isinstance(GSM8K.source, HubSource)
    with pytest.raises(DataError, match=r"openai/gsm8k \(train, commit 740312ad\) .*Couldn't reach it\);.* data_files"):
        hub.fetch(GSM8K.source, "tuning")
    assert asked_for == [("openai/gsm8k", "main", {"revision": GSM8K.source.revision, "split": "train"})]


# what the rows are


def test_the_content_hash_changes_with_every_byte_and_with_nothing_else(folder: Path) -> None:
    before = content_hash(GSM8K, str(folder))
    assert before == content_hash(GSM8K, str(folder)) == load_rows(GSM8K, data_files=str(folder)).content
    (folder / "README.md").write_text("not a split")
    assert content_hash(GSM8K, str(folder)) == before
    named = {"train": str(folder / "train.jsonl"), "test": str(folder / "test.jsonl")}
    assert content_hash(GSM8K, named) == before
    write(folder / "test.jsonl", sums(1000, 51))
    assert content_hash(GSM8K, str(folder)) != before


def test_a_hub_that_is_not_there_is_asked_once_for_the_rows_of_a_library(tmp_path: Path) -> None:
    """`datasets` alone tries for half a minute, and prints each time."""
    reads = "import spt_fast.tasks.loading.hub as hub\nhub.published('allenai/ai2_arc', 'ARC-Easy', '', {})"
    nobody = environment("http://127.0.0.1:9", tmp_path)
    done = subprocess.run([sys.executable, "-c", reads], env=nobody, capture_output=True, text=True, check=False)
    *_, last = done.stderr.splitlines()
    assert "allenai/ai2_arc (ARC-Easy) is not in the cache, and the Hub cannot be reached (ConnectError); connect" in last
    assert "Retry" not in done.stderr


def test_the_content_hash_of_hub_and_generated_rows_needs_no_rows() -> None:
    def no_rows(split: Split) -> list[Row]:
        raise AssertionError("rows were read")

    def task(content: str) -> Task:
        return Task(**{**vars(ZOO_MCQ), "source": GeneratedSource(rows=no_rows, content=content)})

    hashes = {content_hash(GSM8K), content_hash(MMLU), content_hash(task("a")), content_hash(task("b"))}
    assert len(hashes) == 4
