r"""Answers of MATH: LaTeX in a \boxed{}. Its form, where a completion gives its answer, and when two answers are the same.

Which two are the same (`equivalent`) is told by three modules: `vocabulary` says which words are units and which change the
value, `grammar` reads an answer, `equality` compares two. What is longer than `LONGEST` is compared as it is written only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from spt_fast.tasks.answers.equality import Spelling, UndecidedError, same_answers
from spt_fast.tasks.answers.extractors import INTRODUCTION, NO_ANSWER, bare_number, first_found
from spt_fast.tasks.answers.grammar import readings, written
from spt_fast.tasks.answers.symbolic import same
from spt_fast.types import Example, Extraction

DEPTH = 8
"""How deep braces may be nested in an answer in the form asked for. Published answers have two levels."""

LONGEST = 300
"""Characters of the longest answer that sympy is asked about. The longest published one has about 120."""

_BOX = r"\\(?:boxed|fbox)"


def _braced(depth: int) -> str:
    """An expression for text whose braces are balanced, `depth` levels of them. Possessive, so that nothing is tried twice."""
    deeper = rf"|\{{{_braced(depth - 1)}\}}" if depth else ""
    return rf"(?:[^{{}}\\\n]++|\\[^\n]{deeper})*+"


BOXED_FORMAT = rf"(?:(?![^\n]*{_BOX})(?!Answer:)[^\n]*\n)+Answer: \\boxed\{{(?=[ \t]*[^\s}}]){_braced(DEPTH)}\}}"
r"""At least one line of working without a box, then a last line "Answer: \boxed{X}", X not empty and its braces balanced."""

BOXED_FORM = r"at least one line of working without a box, then a last line: Answer: \boxed{42}"
"""`BOXED_FORMAT` in words."""


# ------------------------------------------------------------------------------------------ boxes


class _Box(NamedTuple):
    start: int
    """Of the command."""
    inner: tuple[int, int]
    """The span of what is in it."""
    end: int


_MARK = re.compile(
    # A second backslash is how a model escapes what needs no escape: no box ever follows a line break (\\).
    rf"\\?{_BOX}(?![a-zA-Z])\s*+(?:(?P<opens>\{{)|(?P<bare>-?\d+(?:\.\d+)?|\\[a-zA-Z]+|[^\s{{}}$\\]))|\\.|[{{}}]",
    re.DOTALL,
)
_BLANK = re.compile(r"(?:\\[hv]?phantom\{[^{}]*\}|\\[,;:! ]|[\s$~?_.])*")


def _all_boxes(text: str) -> list[_Box]:
    """The boxes whose braces are balanced, in the order of their ends: one pass over the text."""
    found: list[_Box] = []
    braces: list[re.Match[str]] = []
    for mark in _MARK.finditer(text):
        if mark["bare"]:
            found.append(_Box(mark.start(), mark.span("bare"), mark.end()))
        elif mark["opens"] or mark[0] == "{":
            braces.append(mark)
        elif mark[0] == "}" and braces and (opened := braces.pop())["opens"]:
            found.append(_Box(opened.start(), (opened.end(), mark.start()), mark.end()))
    return found


def _answers(text: str) -> list[_Box]:
    """The outermost boxes, but for those that are left blank to be filled in."""
    found: list[_Box] = []
    for box in _all_boxes(text):
        while found and found[-1].start > box.start:
            found.pop()
        found.append(box)
    return [box for box in found if not _BLANK.fullmatch(text, *box.inner)]


def last_boxed(solution: str) -> str | None:
    r"""What is in the last \boxed{...}, \boxed x or \fbox{...} whose braces are balanced, on one line; None without one."""
    boxes = _answers(solution)
    return " ".join(unboxed(solution[slice(*boxes[-1].inner)]).split()) if boxes else None


def all_boxed(solution: str) -> tuple[str, ...]:
    r"""What is in each of them, as `last_boxed` gives it, those that are the same left out: several are an answer in parts."""
    found = [" ".join(unboxed(solution[slice(*box.inner)]).split()) for box in _answers(solution)]
    return tuple({normalise(value): value for value in found}.values())


def unboxed(solution: str) -> str:
    r"""The solution with every \boxed{X} replaced by X."""
    shells = [shell for box in _all_boxes(solution) for shell in ((box.start, box.inner[0]), (box.inner[1], box.end))]
    ends = [0, *(at for shell in sorted(shells) for at in shell), len(solution)]
    return "".join(solution[start:end] for start, end in zip(ends[::2], ends[1::2], strict=True))


# ------------------------------------------------------------------------------------------ where the answer is

# Possessive throughout, as in `extractors`.
_DELIMITED = (
    r"(?:\$\$(?P<display>(?:[^$\\]|\\.)++)\$\$|\$(?P<dollars>(?:[^$\\\n]|\\.)++)\$"
    r"|\\\((?P<round>(?:[^\\\n]|\\[^)\n])++)\\\)|\\\[(?P<square>(?:[^\\]|\\[^\]])++)\\\])"
)
_WHOLE = re.compile(rf"{_DELIMITED}[ \t*_.]*+")
_ANSWER_LINE = re.compile(r"[ \t>#*_]*+(?:final[ ])?answer[ \t*_]*+:[ \t*_]*+(?:\$\$?|\\[(\[])?[ \t*_]*+", re.IGNORECASE)
_LINE_REST = re.compile(r"[ \t*_$.!\r]*+(?:\\[)\]])?[ \t*_.!\r]*+")
_STATED = re.compile(
    rf"\banswer[ \t*_`]*+(?:(?:is|equals)\b[ \t*_`]*+[:=]?|[:=])[\s*_`]*+(?!{INTRODUCTION})"
    rf"(?:{_DELIMITED}(?P<rest>[^\n]*)|(?P<line>[^\n]+))",
    re.IGNORECASE,
)
# Behind the answer, words may follow ("I hope it is correct."), but nothing that it would only be a part of.
_NO_MORE = re.compile(r"(?![ \t]*+(?:or|and|to|[-+*/^=,<>])(?!\w))[^\d$\\]*+", re.IGNORECASE)
_HASHES = re.compile(r"(?<!#)####(?!#)(?P<line>[^\n]+)")
_COMMAND = re.compile(
    r"\\(?:text|textbf|textit|textrm|mbox|mathrm|mathbf|mathbb|operatorname|begin|end)\*?\{[^{}]*\}|\\[a-zA-Z]+|\\."
)
_FUNCTION = r"(?:sqrt|pi|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|log|ln|infinity)"
_MATH = re.compile(rf"(?:{_FUNCTION}(?![a-zA-Z])|(?<![a-zA-Z])[a-zA-Z](?![a-zA-Z])|[^a-zA-Z?@#~\"`])*+")
_WORDS = re.compile(r"[^\W\d_](?:[^\W\d_]|['-])*(?: (?:[^\W\d_]|['-])+){0,2}\.?")


def math_answer(text: str) -> Extraction | None:
    r"""The mathematics that a completion gives as its answer, in front of the first run-on.

    In this order: the first line "Answer: \boxed{X}"; a box, if all say the same; "the answer is $X$", if all say the same;
    "#### X"; a completion that is nothing else. Boxes that differ are results on the way, parts of an answer, or somebody
    else's: which of them is meant would be a guess, even where it is the last.
    """
    return first_found(text, *MATH_RULES, whole=BOXED_FORMAT)


def answer_line(text: str) -> Extraction | None:
    r"""The form asked for, "Answer: \boxed{X}", in any decoration: the first such line."""
    for box in _answers(text):
        start, end = text.rfind("\n", 0, box.start) + 1, text.find("\n", box.end)
        if _ANSWER_LINE.fullmatch(text, start, box.start) and _LINE_REST.fullmatch(
            text, box.end, end if end >= 0 else len(text)
        ):
            return _extraction(text, *box.inner, "answer_line")
    return None


def boxed(text: str) -> Extraction | None:
    r""" "\boxed{X}" anywhere."""
    return _agreed([_extraction(text, *box.inner, "boxed") for box in _answers(text)])


def stated_math(text: str) -> Extraction | None:
    """ "The final answer is $X$. I hope it is correct.", "Answer: X"."""
    return _agreed([_stated(text, match) for match in _STATED.finditer(text)])


def hash_math(text: str) -> Extraction | None:
    """ "#### X": the first line that holds nothing else."""
    found = (_expression(text, *match.span("line"), "hash_math") for match in _HASHES.finditer(text))
    return next(filter(None, found), None)


def bare_math(text: str) -> Extraction | None:
    """A completion of one line that is mathematics, or up to three words ("even")."""
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    if "\n" in text[start:end]:
        return None
    return _expression(text, start, end, "bare_math") or _phrase(text, start, end, "bare_math")


MATH_RULES = (answer_line, boxed, stated_math, hash_math, bare_math, bare_number)
"""The rules of `math_answer`, in its order."""


def _agreed(found: Sequence[Extraction | None]) -> Extraction | None:
    if not found or any(extraction is None for extraction in found):
        return None
    return found[0] if len({normalise(extraction.value) for extraction in found if extraction}) == 1 else None


def _stated(text: str, match: re.Match[str]) -> Extraction | None:
    if match["line"] is not None:
        return _expression(text, *match.span("line"), "stated_math") or _phrase(text, *match.span("line"), "stated_math")
    return _extraction(text, *_inside(match), "stated_math") if _NO_MORE.fullmatch(match["rest"]) else None


def _inside(match: re.Match[str]) -> tuple[int, int]:
    return next(match.span(name) for name in ("display", "dollars", "round", "square") if match[name] is not None)


def _expression(text: str, start: int, end: int, rule: str) -> Extraction | None:
    """A stretch of text, if the whole of it is mathematics, or a number with its unit."""
    start, line = _undecorated(text, start, end)
    if re.search(_BOX, line):
        return None
    if whole := _WHOLE.fullmatch(line):
        first, last = _inside(whole)
        return _extraction(text, start + first, start + last, rule)
    if re.search(r"[^\W_]", line) and not line.endswith("..") and _MATH.fullmatch(_COMMAND.sub(" ", line)):
        return _extraction(text, start, start + len(line.rstrip(".")), rule)
    if number := bare_number(line):
        return _extraction(text, start + number.span[0], start + number.span[1], rule)
    return None


def _phrase(text: str, start: int, end: int, rule: str) -> Extraction | None:
    """A stretch of text, if it is one to three words."""
    start, line = _undecorated(text, start, end)
    found = _WORDS.fullmatch(line) and not NO_ANSWER.match(line)
    return _extraction(text, start, start + len(line.rstrip(".")), rule) if found else None


def _undecorated(text: str, start: int, end: int) -> tuple[int, str]:
    line = text[start:end]
    return start + len(line) - len(line.lstrip(" \t*_")), line.strip(" \t*_\r")


def _extraction(text: str, start: int, end: int, rule: str) -> Extraction | None:
    value = text[start:end]
    start, value = start + len(value) - len(value.lstrip()), value.strip()
    return Extraction(value=value, rule=rule, span=(start, start + len(value))) if value else None


# ------------------------------------------------------------------------------------------ whether two are the same


def normalise(latex: str) -> str:
    """One spelling of what is written in several ways, for finding out whether several boxes say the same."""
    return latex if len(latex) > LONGEST else written(readings(unboxed(latex))[0])


def accepts(value: str, example: Example) -> bool:
    """Whether `value` is equivalent to one of the example's answers, as a task's `equal`."""
    return any(equivalent(value, answer) for answer in example.answers)


def equivalent(value: str, gold: str) -> bool:
    """Whether an answer is the same as the published one; the top of `equality` says when.

    What sympy cannot read, or needs more than some seconds for, is the same as nothing else.

    Raises:
        ScoringError: sympy cannot be started at all.
    """
    value, gold = " ".join(unboxed(value).split()), " ".join(unboxed(gold).split())
    if max(len(value), len(gold)) > LONGEST:
        return value == gold
    if value == gold and re.search(r"\d", value):
        return True
    try:
        return same_answers(value, gold, Spelling())
    except UndecidedError:
        return same(value, gold)
