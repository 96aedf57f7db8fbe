"""Reading the columns of published rows. What is not as it should be is said with the column's name."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from spt_fast.tasks.base import Row, row_key
from spt_fast.tasks.multiple_choice import lettered
from spt_fast.types import Example


def text(row: Row, column: str) -> str:
    """A column of text, without outer white space.

    Raises:
        KeyError: there is no such column.
        TypeError: it holds something else.
    """
    value = row[column]
    if not isinstance(value, str):
        raise TypeError(f"column {column!r} is {type(value).__name__}, not text")
    return value.strip()


def one_line(value: str) -> str:
    """Text whose white space is single blanks."""
    return " ".join(value.split())


def listed(row: Row, column: str) -> list[Any]:
    """A column that holds a list, or JSON text of one: a CSV file has no lists.

    Raises:
        KeyError: there is no such column.
        TypeError, ValueError: it holds something else.
    """
    return _list(row[column], column)


def part(row: Row, column: str, key: str) -> Any:
    """What a column that holds an object, or JSON text of one, has under a key.

    Raises:
        KeyError: there is no such column, or no such key in it ('choices.text').
        TypeError, ValueError: it holds something else.
    """
    value = decoded(row[column], column)
    if not isinstance(value, Mapping):
        raise TypeError(f"column {column!r} is {type(value).__name__}, not an object")
    if key not in value:
        raise KeyError(f"{column}.{key}")
    return value[key]


def listed_part(row: Row, column: str, key: str) -> list[Any]:
    """A list of text under a key of a column (`part`).

    Raises:
        KeyError, TypeError, ValueError: as `part`; or it holds something else.
    """
    return _list(part(row, column, key), f"{column}.{key}")


def in_short_form(answers: Sequence[str], form: str) -> str | None:
    """The first of the right answers that matches a form, or else the first: it is published, and so is an answer all the same.

    None: there is none.
    """
    return next((answer for answer in answers if re.fullmatch(form, answer)), answers[0] if answers else None)


def decoded(value: Any, column: str) -> Any:
    """What JSON text holds; anything else than text as it is.

    Raises:
        ValueError: text that is not JSON; names the column.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError(f"column {column!r} is text, and not JSON") from None


def label(row: Row, column: str, *, first: int, count: int) -> int | None:
    """The index, from 0, that a column counts from `first`. None: the row is published without its answer ("", -1, null).

    Raises:
        KeyError: there is no such column.
        ValueError: it holds something else.
    """
    value = row[column]
    digits = "" if value is None else str(value).strip()
    if digits in ("", "-1"):
        return None
    if digits not in (allowed := [str(first + index) for index in range(count)]):
        raise ValueError(f"column {column!r} is {value!r}; it is {allowed[0]} to {allowed[-1]}")
    return allowed.index(digits)


def labelled(row: Row) -> tuple[list[str], int | None]:
    """Options and the index of the right one, where `choices` holds `text` and `label`, and `answerKey` is a label.

    Labels are "A" to "E" or "1" to "5". None: the row is published without its answer.

    Raises:
        KeyError, TypeError, ValueError: the columns are not so.
    """
    texts, labels = listed_part(row, "choices", "text"), listed_part(row, "choices", "label")
    key = text(row, "answerKey")
    if len(texts) != len(labels):
        raise ValueError(f"column 'choices' has {len(texts)} texts and {len(labels)} labels")
    if key and key not in labels:
        raise ValueError(f"column 'answerKey' is {key!r}; the labels are {', '.join(map(str, labels))}")
    return texts, labels.index(key) if key else None


def in_fixed_order(question: str, options: Sequence[str]) -> list[str]:
    """Options in the order of the hashes of question and option: the same for everybody, and tells nothing."""
    return sorted(options, key=lambda option: hashlib.sha256(f"{question}\0{option}".encode()).digest())


def chosen(*, question: str, options: Sequence[str], gold: int, context: str = "", group: str = "") -> Example | None:
    """A row of a task whose options have letters. None where the question or an option is empty: such rows are broken.

    Raises:
        TypeError: an option is no text.
        ValueError: as `lettered`.
    """
    if wrong := [option for option in options if not isinstance(option, str)]:
        raise TypeError(f"an option is {type(wrong[0]).__name__}, not text")
    if not question or not all(option.strip() for option in options):
        return None
    rendered = lettered(options)
    return Example(
        key=row_key({"question": question, "context": context, "options": list(options), "gold": gold}),
        question=question,
        context=context,
        target=rendered[gold],
        answers=(rendered[gold],),
        options=rendered,
        texts=tuple(options),
        gold=gold,
        group=group,
    )


def _list(value: Any, column: str) -> list[Any]:
    value = decoded(value, column)
    if not isinstance(value, list | tuple):
        raise TypeError(f"column {column!r} is {type(value).__name__}, not a list")
    return list(value)
