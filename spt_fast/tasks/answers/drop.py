"""Answers of DROP (arXiv 1903.00161): numbers, dates and spans of the passage; its exact match and its F1.

An answer is a bag of words; one of several spans is several bags. Bags of answer and value are paired one to one for the
highest sum of F1s; a bag whose answer holds numbers scores only against one that holds one of them; what is left unpaired
scores 0; of the validated answers the best counts. So the published script (allennlp_models/rc/tools/drop.py, which lm-eval
has copied), with these differences, each of them on purpose:

* A value is one text, so somebody must cut it into spans. The script is handed a list by its caller; lm-eval hands it the
  whole completion as one span, and so no answer of several spans is ever matched exactly. Here a value is cut at semicolons
  or, where there is none, at commas and "and", but only against answers of several spans, and left whole as well; the best
  reading counts.
* Words end at any white space, not only at a blank: the script reads "10\\n" as no number (lm-evaluation-harness#1050).
* Punctuation around a number goes and its decimal point stays: "$12.5", "(3.14)" and "3.5%" are 12.5, 3.14 and 3.5, where the
  script makes 125, 314 and 35 of them.
* A sign counts: "-5", "-$5" and "\u22125" (the minus sign of Unicode, or a dash in its place) are -5, and are not 5. The script
  cuts words at hyphens and drops other dashes with the punctuation, so that -5 and 5 are one to it. A hyphen between two words
  or numbers ("3-5", "9-November") still parts them.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spt_fast.tasks.base import Row
from spt_fast.types import Example

SEPARATOR = "; "
"""Stands between the spans of one answer. A semicolon inside a span is written as a comma, which no score can see."""

_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_LIST = re.compile(r",?\s+(?:and|&)\s+|,\s+")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_DASHES = "\\-\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"
# A dash in front of a number and behind nothing that it could part from it: no word, no other dash, no "1990 -1995".
_SIGN = re.compile(rf"(?<![\w{_DASHES}])(?<!\d\s)[{_DASHES}](?=[^\w\s{_DASHES}]*\.?\d)")
_MINUS = "\x01"  # stands for a sign while words are cut


def gold(row: Row) -> tuple[str, ...]:
    """The answers of a row: `answer` first, then those of `validated_answers` that differ; empty ones are left out.

    `validated_answers` is a list of answers (the published JSON), or a column for each of their fields (the Hub's table).

    Raises:
        KeyError, TypeError, ValueError: the row has another layout, or no answer.
    """
    validated = row.get("validated_answers") or []
    answers = [row["answer"], *(_rows(validated) if isinstance(validated, Mapping) else validated)]
    written = dict.fromkeys(filter(None, map(_written, answers)))
    if not written:
        raise ValueError("column 'answer' holds no number, no date and no span")
    return tuple(written)


def accepts(value: str, example: Example) -> bool:
    """Exact match: the spans of `value` are those of one of the answers, in any order."""
    return any(_normal(spans) == _normal(wanted) for spans, wanted in _readings(value, example))


def f1(value: str, example: Example) -> float:
    """DROP's F1 of `value`, the best of the answers, rounded to two places as the script does."""
    return round(max((_aligned(spans, wanted) for spans, wanted in _readings(value, example)), default=0.0), 2)


def normalise(text: str) -> str:
    """Small letters, numbers as floats, no punctuation, no articles; words end at white space and at hyphens."""
    words = (_word(word) for word in re.split(r"[\s-]+", _SIGN.sub(_MINUS, text.lower())))
    return " ".join(" ".join(words).split())


def _word(word: str) -> str:
    sign = -1 if _MINUS in word else 1
    word = word.replace(_MINUS, "")
    number = word.rstrip(string.punctuation).lstrip(string.punctuation.replace(".", "")).replace(",", "")
    if _is_number(number):
        return _written_number(sign, number)
    bare = word.translate(_NO_PUNCTUATION)
    return _written_number(sign, bare) if _is_number(bare) else _ARTICLE.sub(" ", bare)


def _written_number(sign: int, digits: str) -> str:
    return str(sign * float(digits) or 0.0)  # -0.0 is 0.0


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _readings(value: str, example: Example) -> Iterator[tuple[list[str], list[str]]]:
    """Ways to cut the value into spans, each with the spans of the answer that it is compared with."""
    for answer in example.answers:
        wanted = [span for span in answer.split(SEPARATOR) if span.strip()]
        if wanted:
            yield [value], wanted
        if len(wanted) > 1:
            cut = value.split(";") if ";" in value else _LIST.split(value)
            yield [span for span in cut if span.strip()] or [value], wanted


def _normal(spans: Sequence[str]) -> list[str]:
    return sorted(map(normalise, spans))


def _aligned(spans: Sequence[str], wanted: Sequence[str]) -> float:
    found = [set(normalise(span).split()) for span in spans]
    golden = [set(normalise(span).split()) for span in wanted]
    scores = [[_overlap(bag, other) for other in found] for bag in golden]
    return _best_sum(scores) / max(len(found), len(golden))


def _best_sum(scores: list[list[float]]) -> float:
    """The highest sum of entries, no two of them in one row or one column."""
    if len(scores) == 1 or len(scores[0]) == 1:
        return max(max(row) for row in scores)
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]  # a third of a second to import

    rows, columns = linear_sum_assignment(scores, maximize=True)
    return float(sum(scores[row][column] for row, column in zip(rows, columns, strict=True)))


def _overlap(wanted: set[str], found: set[str]) -> float:
    numbers = set(filter(_is_number, wanted))
    if numbers and not numbers & found:
        return 0.0
    if not wanted or not found:
        return float(wanted == found)
    return 2 * len(wanted & found) / (len(wanted) + len(found))


def _written(answer: Mapping[str, Any]) -> str:
    """One answer as text: its number, else its spans, else its date as "day month year"."""
    if answer["number"] is not None and (number := str(answer["number"]).strip()):
        return number
    spans = [" ".join(span.replace(";", ",").split()) for span in answer["spans"]]
    if any(spans):
        return SEPARATOR.join(filter(None, spans))
    date = answer.get("date") or {}
    return " ".join(filter(None, (str(date.get(part) or "").strip() for part in ("day", "month", "year"))))


def _rows(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Columns of equal length -> rows; a column of columns (`date`) likewise."""
    lists = {name: _rows(column) if isinstance(column, Mapping) else column for name, column in columns.items()}
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
