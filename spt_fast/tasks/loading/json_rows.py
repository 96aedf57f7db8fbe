"""Rows of JSON: objects, one a line or each over several, or one document that holds them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from spt_fast.errors import DataError, first_line, shortened
from spt_fast.tasks.base import Row

_NO_SPACE = re.compile(r"\S")
_SURROGATE = re.compile("[\ud800-\udfff]")


def json_rows(path: Path, text: str) -> Iterator[tuple[str, Row]]:
    """Objects, one a line or each over several lines; or one document that holds them: a list, or {"data": [..]}."""
    documents = _documents(path, text)
    alone = list(islice(documents, 2))
    if len(alone) == 1 and (rows := _held(path, alone[0][1])) is not None:
        for number, row in enumerate(rows, 1):
            yield f"row {number}", _object(path, f"row {number}", row)
        return
    for line, row in chain(alone, documents):
        yield f"line {line}", _object(path, f"line {line}", row)


def _object(path: Path, place: str, row: Any) -> Row:
    if not isinstance(row, dict):
        kind = {list: "a list", str: "text", bool: "true or false", type(None): "null"}.get(type(row), "a number")
        raise DataError(f"{path}, {place}: is {kind}, and not an object with columns")
    if column := next((name for name, value in row.items() if _is_broken(name) or _is_broken(value)), None):
        raise DataError(
            f"{path}, {place}: column {shortened(column)} holds half of a surrogate pair (\\ud800 to \\udfff), "
            "which is not text; fix it"
        )
    return row


def _is_broken(value: Any) -> bool:
    """Whether there is a lone surrogate in text: half of what JSON writes as two, and no text by itself."""
    if isinstance(value, str):
        return not value.isascii() and _SURROGATE.search(value) is not None
    if isinstance(value, dict):
        return any(_is_broken(name) or _is_broken(inner) for name, inner in value.items())
    return isinstance(value, list) and any(map(_is_broken, value))


def _columns(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are there once: JSON itself lets the later of two win, silently."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name in found if sum(name == other for other, _ in pairs) > 1)
        raise ValueError(f"column {shortened(twice)} appears twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_columns)


def _documents(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """The JSON documents in a text, each with the line that it begins in."""
    if text.lstrip().partition("\n")[0].rstrip().endswith("}"):
        # Not splitlines: it would also cut at U+2028 and the like, which may stand inside a JSON string.
        for number, line in enumerate(text.split("\n"), 1):
            row = line.strip().removeprefix("\ufeff")  # files that were put together have one in the middle
            if row:
                yield number, _decoded(path, row, number)
        return
    at, number = _behind_space(text, 0), 1 + text.count("\n", 0, _behind_space(text, 0))
    while at < len(text):
        try:
            document, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as e:
            raise _not_json(path, e, 1 if isinstance(e, json.JSONDecodeError) else number) from None
        yield number, document
        end = _behind_space(text, end)
        number += text.count("\n", at, end)
        at = end


def _behind_space(text: str, at: int) -> int:
    found = _NO_SPACE.search(text, at)
    return len(text) if found is None else found.start()


def _decoded(path: Path, line: str, number: int) -> Any:
    try:
        return _DECODER.decode(line)
    except (ValueError, RecursionError) as e:
        raise _not_json(path, e, number) from None


def _not_json(path: Path, e: Exception, first: int) -> DataError:
    """The error of a document that begins in line `first` of what was decoded."""
    if isinstance(e, json.JSONDecodeError):
        return DataError(f"{path}, line {first + e.lineno - 1}: is not JSON ({e.msg}, at character {e.colno})")
    reason = "it is nested too deep" if isinstance(e, RecursionError) else first_line(e)
    if reason.startswith("Exceeds the limit"):
        reason = "a number has too many digits; write it as text"
    return DataError(f"{path}, line {first}: cannot be read as JSON ({reason})")


def _held(path: Path, document: Any) -> list[Any] | None:
    """The rows that one document holds; None where it is a row itself."""
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        return None
    lists = {name: value for name, value in document.items() if isinstance(value, list)}
    objects = {name: value for name, value in lists.items() if all(isinstance(row, dict) for row in value)}
    if "data" in objects:
        return objects["data"]
    if "rows" in objects and all("row" in row for row in objects["rows"]):  # what the Hub's viewer answers
        return [row["row"] for row in objects["rows"]]
    if len(document) == 1 and objects:
        return next(iter(objects.values()))
    names = ", ".join(map(shortened, list(document)[:4]))
    if len(objects) == len(document) > 1:
        raise DataError(f"{path}: holds several lists of objects ({names}); write each to a file of its own")
    if len(document) > 1 and (len(lists) == len(document) or _are_columns(list(document.values()))):
        raise DataError(f"{path}: is an object of columns ({names}); write an object a row, as in a .jsonl file")
    return None


def _are_columns(values: list[Any]) -> bool:
    """Whether they are {"0": .., "1": ..} with the same keys: a data frame that was written by columns."""
    return all(isinstance(value, dict) for value in values) and len({tuple(value) for value in values}) == 1
