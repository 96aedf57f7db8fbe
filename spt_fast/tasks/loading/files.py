"""A local file of rows, of any kind that can be read."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from spt_fast.errors import ConfigError, DataError, first_line
from spt_fast.tasks.base import Row
from spt_fast.tasks.loading.json_rows import json_rows
from spt_fast.tasks.loading.tables import csv_rows, parquet_rows

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
PACKED = (".jsonl.gz", ".json.gz", ".csv.gz")


def read(path: Path) -> Iterator[tuple[str, Row]]:
    """The rows of a file, each with its place: "line 3" or "row 3", counted from 1.

    Raises:
        DataError: it cannot be read; names the line and what is wrong there.
    """
    check_suffix(path)
    kind = _kind(path)
    try:
        if kind == ".parquet":
            yield from parquet_rows(path)
        else:
            yield from (csv_rows if kind == ".csv" else json_rows)(path, _text(path))
    except OSError as e:
        raise DataError(f"{path}: cannot be read ({e.strerror or first_line(e)})") from None


def check_suffix(path: Path) -> None:
    """
    Raises:
        ConfigError: it is of no kind that can be read.
    """
    if _kind(path) not in SUFFIXES:
        raise ConfigError(f"data_files: {path} is not one of {', '.join(SUFFIXES)}, or one of the first three in .gz")


def _kind(path: Path) -> str:
    """What kind of file it is: one of `SUFFIXES`, or something else."""
    name = path.name.lower()
    return Path(name.removesuffix(".gz") if name.endswith(PACKED) else name).suffix


def _text(path: Path) -> str:
    """The text of a file, unpacked; its line ends are line feeds, whatever they were."""
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as e:
            raise DataError(f"{path}: is gzip, and cannot be unpacked ({first_line(e)}); fetch it again") from None
    if data.startswith(b"version https://git-lfs"):
        raise DataError(f"{path}: is a pointer of git-lfs and not the rows; `git lfs pull` fetches them")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        utf_16 = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        is_now = "is UTF-16" if utf_16 else f"is not UTF-8 (byte {e.start})"
        raise DataError(f"{path}, line {line}: {is_now}; save it as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
