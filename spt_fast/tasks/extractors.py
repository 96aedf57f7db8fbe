"""Rules that find the value in a completion, whatever its form: small, anchored, named; they never guess.

A rule takes a text and answers an `Extraction` (`rule` is the function's name, `span` counts in that text) or None.
`first_found` cuts a completion at its first run-on and tries rules in order. Policy, the same for every rule:

* a value counts only behind an anchor ("####", "\\boxed{", "the answer is", a JSON object) or when it is all there is;
* a form that says where the answer ends ("#### 18", a JSON object at the start) is taken at its first occurrence, and
  what follows is run-on; any other rule whose finds disagree finds nothing;
* half a value is no value: "1O8", "18/3", "18 or 19", "3 million" and "1." at the head of a list are not numbers here.

The failures of other tools that these rules answer are in `tests/tasks/nasty_completions.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from spt_fast.tasks.numbers import CURRENCY, MINUS, canonical
from spt_fast.types import Extraction

Rule: TypeAlias = Callable[[str], Extraction | None]

HASH_FORMAT = r"(?:(?![^\n]*####)[^\n]*\n)+#### -?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?"
"""At least one line of working, then a last line "#### 1,234.5"."""

JSON_FORMAT = r'\{\s*"answer"\s*:\s*"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})+"\s*\}'
"""A JSON object with the one key "answer" and a string."""

LINE_FORMAT = r"[^\n]+"
"""One line."""

_RUN_ON = re.compile(
    r"(?:^|\n)[ \t]*+[#*]*+[ \t]*+"
    r"(?:question|q|problem|exercise|context|passage|instructions?|human|user)"
    r"[ \t]*+[0-9]*+[ \t]*+(?:\([^()\n]{0,80}\))?[ \t]*+\**:"
    r"|</?s>|<\|[a-z_]+\|>|\[/?INST\]|<(?:start|end)_of_turn>|<eos>",
    re.IGNORECASE,
)


def before_run_on(text: str) -> str:
    """The part of a completion in front of the next question or turn that the model goes on to invent.

    Offsets in it are offsets in `text`.
    """
    found = _RUN_ON.search(text)
    return text[: found.start()] if found else text


def first_found(text: str, *rules: Rule) -> Extraction | None:
    """What the first rule that finds anything finds in front of the first run-on."""
    answer = before_run_on(text)
    return next((found for rule in rules if (found := rule(answer)) is not None), None)


# ------------------------------------------------------------------------------------------ numbers
#
# Quantifiers are possessive (`*+`) wherever neighbours overlap: completions are hostile text, and backtracking through a
# long run of blanks would take minutes.

_DASHES = "\\-\u2212\u2013\u2014"
_DECORATION = rf"[ \t*_`~{CURRENCY}\\(\[{{]*+"
_NUMBER = rf"(?P<number>[{MINUS}+]?[{CURRENCY}]?(?:\d{{1,3}}(?:(?:,|\{{,\}})\d{{3}})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+))"
# A working in front of the number: "3 x 4 = ".
_WORKING = rf"(?:[\d \t.,+*/\u00d7\u00f7()x%={CURRENCY}{_DASHES}]*=)?"
# What must not follow, because the number would then be part of something else.
_NOT_PART = (
    r"(?!\w|[.,]\d|\{|[ \t]?[/:^][ \t]?\d|[ \t]*\?"
    rf"|[ \t]*(?:[+*=\u00d7\u00f7,;{_DASHES}]|x\b|to\b|and\b|or\b|out[ ]of\b)[ \t]*[{CURRENCY}(\\]*\d|[ \t]+\d"
    r"|[ \t]+(?:or|hundred|thousand|million|billion|trillion|dozen|and[ ]a|times|plus|minus|less|more|divided)\b)"
)
_VALUE = _WORKING + _DECORATION + _NUMBER + _NOT_PART
_CLOSING = r"[ \t*_`~$%\\)\]}.!]*+"
_UNIT = r"\\?%?(?:[ \t]++[^\W\d_]++(?:[/'-][^\W\d_]++)*+){0,5}+" + _CLOSING
_LINE_END = r"(?=[ \t\r]*(?:\n|\Z))"

_HASH_BARE = re.compile(rf"(?<!#)####(?!#){_VALUE}{_CLOSING}{_LINE_END}")
_HASH_UNIT = re.compile(rf"(?<!#)####(?!#){_VALUE}{_UNIT}{_LINE_END}")
_BOXED = re.compile(
    rf"\\boxed[ \t]*+\{{[ \t]*+(?:[a-zA-Z][ \t]*=)?{_DECORATION}{_NUMBER}{_NOT_PART}"
    r"(?:[ \t]*\\?%)?(?:[ \t]*\\(?:text|mathrm)\{[^{}]*\})?[ \t$]*\}"
)
# "The answer is 18": prose may follow. Behind a colon the line must hold nothing else: "Answer: 1. First" is a list.
_IS = re.compile(rf"\banswer[ \t*_`]++(?:is|equals)[ \t*_`]++{_VALUE}", re.IGNORECASE)
_COLON = re.compile(rf"\banswer[ \t*_`]*+(?:is|equals)?[ \t*_`]*+[:=][\s*_`]*+{_VALUE}{_UNIT}{_LINE_END}", re.IGNORECASE)
_BARE_LINE = re.compile(rf"^{_DECORATION}{_NUMBER}{_NOT_PART}{_CLOSING}{_LINE_END}", re.MULTILINE)
_BARE_TEXT = re.compile(rf"\s*+{_DECORATION}{_NUMBER}{_NOT_PART}{_UNIT}\s*")


def _number(found: re.Match[str], rule: str) -> Extraction:
    return Extraction(value=found["number"], rule=rule, span=found.span("number"))


def _agreed(matches: Iterable[re.Match[str]], rule: str) -> Extraction | None:
    """The first match, if all say the same number: with two candidates there is nothing to choose by."""
    found = list(matches)
    if len({canonical(match["number"]) for match in found}) != 1:
        return None
    return _number(found[0], rule)


def hash_number(text: str) -> Extraction | None:
    """ "#### 18", with nothing else on the line but a working ("#### 3 x 6 = 18") and decoration: the first such."""
    found = _HASH_BARE.search(text)
    return _number(found, "hash_number") if found else None


def hash_number_with_unit(text: str) -> Extraction | None:
    """ "#### 18 dollars": words behind the number may also be a Markdown heading, so all such lines must agree."""
    return _agreed(_HASH_UNIT.finditer(text), "hash_number_with_unit")


def boxed_number(text: str) -> Extraction | None:
    r""" "\boxed{18}", "\boxed{x = 18\%}", "\boxed{18 \text{ eggs}}"."""
    return _agreed(_BOXED.finditer(text), "boxed_number")


def stated_number(text: str) -> Extraction | None:
    """ "The answer is $18.", "**Answer:** 18 dollars", "final answer = 18"."""
    return _agreed([*_IS.finditer(text), *_COLON.finditer(text)], "stated_number")


def bare_number(text: str) -> Extraction | None:
    """A completion that is a number ("18 dollars."), or begins with a line that is nothing but a number."""
    if whole := _BARE_TEXT.fullmatch(text):
        return _number(whole, "bare_number")
    lines = list(_BARE_LINE.finditer(text))
    if not lines or text[: lines[0].start()].strip():
        return None
    return _agreed(lines, "bare_number")


# ------------------------------------------------------------------------------------------ JSON


def json_answer(text: str) -> Extraction | None:
    """The value of "answer" in a JSON object: text, or a number as it is written in JSON.

    An object at the very start (a code fence may stand in front) is the answer, and what follows is run-on. Otherwise
    all objects must agree. A key that is there twice, or a list in its place, is no answer.
    """
    found = list(_answers(text))
    if not found:
        return None
    before = re.sub(r"```(?:json)?", "", text[: found[0].span[0]]).strip()
    if before and len({extraction.value for extraction in found}) != 1:
        return None
    return found[0]


def _answers(text: str) -> Iterable[Extraction]:
    start = text.find("{")
    while start != -1:
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            start = text.find("{", start + 1)
            continue
        if isinstance(value, dict) and isinstance(answer := value.get("answer"), str) and answer.strip():
            yield Extraction(value=answer, rule="json_answer", span=(start, end))
        start = text.find("{", end)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dict by lower-case keys; a key that is there twice has no value."""
    keys = [key.lower() for key, _ in pairs]
    return {key.lower(): value if keys.count(key.lower()) == 1 else None for key, value in pairs}


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=str, parse_float=str, parse_constant=lambda _: None)


# ------------------------------------------------------------------------------------------ text

_MOST_WORDS = 8
_STATED_TEXT = re.compile(
    r"\banswer[ \t*_`]*+(?:is|:)[ \t*_`:]*+(?!not\b|no\b)(?P<value>[^\n]+)",
    re.IGNORECASE,
)
_WRAPPING = "*_`\"'[]() \t"


def _words(text: str, value: str, offset: int, rule: str) -> Extraction | None:
    core = value.strip(_WRAPPING).rstrip(".!").rstrip(_WRAPPING)
    if not core or len(core.split()) > _MOST_WORDS:
        return None
    start = text.index(core, offset)
    return Extraction(value=core, rule=rule, span=(start, start + len(core)))


def stated_text(text: str) -> Extraction | None:
    """ "The answer is Paris.": at most eight words up to the end of the line; several must agree."""
    found = [_words(text, match["value"], match.start("value"), "stated_text") for match in _STATED_TEXT.finditer(text)]
    values = {extraction.value if extraction else None for extraction in found}
    return found[0] if len(values) == 1 else None


def first_line(text: str) -> Extraction | None:
    """The first line, if it is at most eight words, without quotation marks, brackets, Markdown and its final stop."""
    line = next((line for line in text.split("\n") if line.strip()), "")
    return _words(text, line, text.index(line), "first_line") if line else None
