"""Reading the columns of published rows. What is not as it should be is said with the column's name."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from spt_fast.errors import shortened
from spt_fast.tasks.answers.numbers import without_exponent
from spt_fast.tasks.base import LeftOut, Row, row_key
from spt_fast.tasks.forms import LETTERS
from spt_fast.tasks.multiple_choice import lettered
from spt_fast.types import Example

NO_QUESTION = "with no question"
NO_ANSWER = "with no answer"
NO_OPTION = "with an empty option"


def text(row: Row, column: str) -> str:
    """A column of text, without outer white space.

    Raises:
        KeyError: there is no such column.
        TypeError: it holds something else.
    """
    value = row[column]
    if not isinstance(value, str):
        raise TypeError(f"column {column!r} is {a_kind(value)}, not text")
    return value.strip()


def as_text(value: Any, column: str) -> str:
    """What a column holds, as text without outer white space; a number as it is written without an exponent, null is empty.

    Raises:
        TypeError: it holds something else.
    """
    if is_missing(value):
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise TypeError(f"column {column!r} is {a_kind(value)}, not text")
    if isinstance(value, str):
        return value.strip()
    if not math.isfinite(value):
        raise TypeError(f"column {column!r} is {value}, not a number")
    return without_exponent(value) if isinstance(value, float) else format(value, "d" if isinstance(value, int) else "f")


def is_missing(value: Any) -> bool:
    """Whether a column holds nothing: null, or the NaN that data frames have for it."""
    return value is None or (isinstance(value, float | Decimal) and math.isnan(value))


def a_kind(value: Any) -> str:
    """What a value is, in a message about a column: "null", "a list", "a number (12.5)"."""
    if is_missing(value):
        return "null"
    if isinstance(value, bool | int | float | Decimal | str):
        word = "true or false" if isinstance(value, bool) else "text" if isinstance(value, str) else "a number"
        return f"{word} ({shortened(value)})"
    return "a list" if isinstance(value, list | tuple) else "an object" if isinstance(value, Mapping) else type(value).__name__


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
        raise TypeError(f"column {column!r} is {a_kind(value)}, not an object")
    if key not in value:
        raise KeyError(f"{column}.{key}")
    return value[key]


def text_part(row: Row, column: str, key: str) -> str:
    """Text under a key of a column (`part`), without outer white space.

    Raises:
        KeyError, TypeError, ValueError: as `part`; or it holds something else.
    """
    return text({f"{column}.{key}": part(row, column, key)}, f"{column}.{key}")


def listed_part(row: Row, column: str, key: str) -> list[Any]:
    """A list of text under a key of a column (`part`).

    Raises:
        KeyError, TypeError, ValueError: as `part`; or it holds something else.
    """
    return _list(part(row, column, key), f"{column}.{key}")


def answers_in(values: Any, column: str) -> tuple[str, ...]:
    """All right answers of a row that a column has as a list, each once and on one line.

    What is null or empty among them is no answer; null for the whole list is none.

    Raises:
        TypeError, ValueError: the column holds something else.
    """
    listed = [] if is_missing(values) else _list(values, column)
    return tuple(dict.fromkeys(filter(None, (one_line(as_text(value, column)) for value in listed))))


def group_of(row: Row, *columns: str) -> str:
    """What rows about one thing share, of the first of these columns that a row has anything in; empty where it has not.

    Raises:
        TypeError: it holds something else than text or a number.
    """
    return next(filter(None, (as_text(row.get(column), column) for column in columns)), "")


def short_target(answers: Sequence[str], column: str, form: str, *, may_have_none: bool = False) -> str:
    """The target of a row whose right answers are in a column: the first that matches a form, or else the first.

    It is published, and so is an answer all the same.

    Raises:
        LeftOut: there are no answers (`may_have_none`: so it is by the task's design).
    """
    if not answers:
        raise LeftOut(NO_ANSWER, column=column, by_design=may_have_none)
    return next((answer for answer in answers if re.fullmatch(form, answer)), answers[0])


def question_in(row: Row, column: str) -> str:
    """The text of a question.

    Raises:
        KeyError, TypeError: as `text`.
        LeftOut: it is empty.
    """
    asked = text(row, column)
    if not asked:
        raise LeftOut(NO_QUESTION, column=column)
    return asked


def decoded(value: Any, column: str) -> Any:
    """What JSON text holds; anything else than text as it is.

    Raises:
        ValueError: text that is not JSON; names the column.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError(f"column {column!r} is text, and not JSON ({shortened(value)})") from None


def label(row: Row, column: str, *, first: int, count: int) -> int:
    """The index, from 0, that a column counts from `first`.

    Raises:
        KeyError: there is no such column.
        ValueError: it holds something else.
        LeftOut: the row is published without its answer ("", -1, null).
    """
    value = row[column]
    if isinstance(value, float | Decimal) and value == value // 1:
        value = int(value)  # where some are null, a data frame makes floats of them all
    digits = "" if is_missing(value) else str(value).strip()
    if digits in ("", "-1"):
        raise LeftOut(NO_ANSWER, column=column)
    if digits not in (allowed := [str(first + index) for index in range(count)]):
        raise ValueError(f"column {column!r} is {shortened(value)}; it is {allowed[0]} to {allowed[-1]}")
    return allowed.index(digits)


def labelled(row: Row) -> tuple[list[str], int]:
    """Options and the index of the right one, where `choices` holds `text` and `label`, and `answerKey` is a label.

    Labels are "A" to "E" or "1" to "5".

    Raises:
        KeyError, TypeError, ValueError: the columns are not so.
        LeftOut: the row is published without its answer.
    """
    texts, labels = listed_part(row, "choices", "text"), listed_part(row, "choices", "label")
    if len(texts) != len(labels):
        raise ValueError(f"column 'choices' has {len(texts)} texts and {len(labels)} labels")
    key = "" if is_missing(row["answerKey"]) else text(row, "answerKey")
    if not key:
        raise LeftOut(NO_ANSWER, column="answerKey")
    options = options_in(texts, "choices.text")
    names = [as_text(name, "choices.label") for name in labels[: len(options)]]
    if key not in names:
        raise ValueError(f"column 'answerKey' is {shortened(key)}; the labels are {', '.join(names)}")
    return options, names.index(key)


def options_of(row: Row, column: str, count: int) -> list[str]:
    """The options of a row that a column has as a list of so many.

    Raises:
        KeyError, TypeError, ValueError: it holds something else.
    """
    values = listed(row, column)
    for letter, value in zip(LETTERS, values, strict=False):
        if is_missing(value):
            raise TypeError(f"column {column!r} has null for option {letter}")
    if len(values) != count:
        raise ValueError(f"column {column!r} has {len(values)} options; there are to be {count}")
    return [as_text(value, column) for value in values]


def options_in(values: Iterable[Any], *columns: str) -> list[str]:
    """The options of a row as text. Those at the end that are null or empty are not there: some rows have fewer than others.

    Args:
        values: one an option.
        columns: where they are: each in a column of its own, or all in one.

    Raises:
        TypeError: one is neither text nor a number.
        LeftOut: one in front of others is empty, or there are fewer than two.
    """
    texts = [as_text(value, columns[i % len(columns)]) for i, value in enumerate(values)]
    while texts and not texts[-1]:
        texts.pop()
    if "" in texts:
        raise LeftOut(NO_OPTION, column=columns[texts.index("") % len(columns)])
    if len(texts) < 2:
        raise LeftOut("with fewer than two options", column=columns[0])
    return texts


def in_fixed_order(question: str, options: Sequence[str]) -> list[str]:
    """Options in the order of the hashes of question and option: the same for everybody, and tells nothing."""
    return sorted(options, key=lambda option: hashlib.sha256(f"{question}\0{option}".encode()).digest())


def chosen(*, question: str, options: Sequence[str], gold: int, context: str = "", group: str = "") -> Example:
    """A row of a task whose options have letters.

    Raises:
        ValueError: as `lettered`.
        LeftOut: the question or an option is empty.
    """
    if not question:
        raise LeftOut(NO_QUESTION)
    if not all(option.strip() for option in options):
        raise LeftOut(NO_OPTION)
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
        raise TypeError(f"column {column!r} is {a_kind(value)}, not a list")
    return list(value)
