"""Rows of tables: CSV and Parquet."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spt_fast.errors import DataError, first_line, shortened
from spt_fast.tasks.base import Row


def csv_rows(path: Path, text: str) -> Iterator[tuple[str, Row]]:
    (_, head), *rows = _csv_cells(path, text) or [(1, [])]
    names = [name.strip() for name in head]
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise DataError(f"{path}, line 1: column {shortened(twice)} appears twice; rename one")
    for line, cells in rows:
        if not any(map(str.strip, cells)):
            continue  # an empty line, or one of commas, as spreadsheets leave behind
        if len(cells) != len(names):
            fix = "put quotation marks around a text that has commas in it" if len(cells) > len(names) else "add the others"
            raise DataError(f"{path}, line {line}: has {len(cells)} cells, and the head has {len(names)}; {fix}")
        yield f"line {line}", dict(zip(names, cells, strict=True))


def _csv_cells(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """The cells of each row, with the line that it begins in."""
    head = text.lstrip("\n").partition("\n")[0]
    delimiter = next((each for each in ",;\t" if each in head), ",")
    found: list[tuple[int, list[str]]] = []
    line = 1
    limit = csv.field_size_limit(max(len(text), csv.field_size_limit()))
    try:
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)
        for cells in reader:
            if cells or found:
                found.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as e:
        raise DataError(f"{path}, line {line}: is not CSV ({e})") from None
    finally:
        csv.field_size_limit(limit)
    return found


def parquet_rows(path: Path) -> Iterator[tuple[str, Row]]:
    import pyarrow
    from pyarrow import parquet

    try:
        # Not `read_table`, which takes names of folders (split=test/) for columns.
        with parquet.ParquetFile(path) as file:
            table = file.read()
    except (pyarrow.ArrowException, ValueError) as e:
        raise DataError(f"{path}: is not Parquet ({first_line(e)})") from None
    names = table.column_names
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"{path}: column {shortened(twice)} appears twice; rename one")
    columns = []
    for name, column in zip(names, table.columns, strict=True):
        try:
            columns.append(_counted(column.to_pylist()) if pyarrow.types.is_floating(column.type) else column.to_pylist())
        except (pyarrow.ArrowException, ValueError, OverflowError) as e:
            raise DataError(f"{path}: column {shortened(name)} cannot be read ({first_line(e)})") from None
    for number, values in enumerate(zip(*columns, strict=True), 1):
        yield f"row {number}", dict(zip(names, values, strict=True))


def _counted(values: list[Any]) -> list[Any]:
    """A column of floats all of which are whole, as whole numbers: a data frame makes floats of them where one is missing."""
    there = [value for value in values if value is not None and not math.isnan(value)]
    if not all(map(float.is_integer, there)):
        return values
    return [value if value is None or math.isnan(value) else int(value) for value in values]
