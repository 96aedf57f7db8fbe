r"""When two answers, as `grammar` reads them, are the same.

* Numbers are exact: 0.5 is \frac12 and 1\frac45 is 1.8, but 0.33 is not \frac13.
* A percentage is its number, and is the fraction: 20\% is 20, and 0.2.
* Units do not count, but for two known ones of one kind: 5 m is not 5 cm, but 500 cm.
* Lists and sets have no order; of a set, repetitions do not count. Points have: (1, 2) is not (2, 1). Brackets tell: \{1, 2\}
  is no point, (1, 2] is not [1, 2]; a list without brackets is what the other is. A column is the point with its entries.
* A name that only one of the two has does not count: x = 5 is 5, but not y = 5. x = 1, y = 2 is (1, 2), in the order of names.
* Inequalities are the sets that they describe: x > 2 is (2, \infty), 5 or more is [5, \infty). Several with commas between are
  all true where that is possible, else one of them is: 1 < x, x < 3 is (1, 3), and x < 1, x > 3 is a union.
* A number in another base (52_8) is the same digits in the same base, or the bare digits, for the question has said which.
* Words (\text{even}, (C), Evelyn) are compared as words, never as products of letters. Variables keep their case: k is not K.

What two expressions mean is a question to a `Meaning`, that is to sympy. Everything here is symmetric.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import starmap
from typing import Protocol

from spt_fast.tasks.answers.grammar import (
    Answer,
    Based,
    Bound,
    Choice,
    Conditions,
    Math,
    Matrix,
    Measured,
    Named,
    Number,
    Percent,
    Ratio,
    Relation,
    Row,
    Sets,
    Words,
    readings,
    written,
)
from spt_fast.tasks.answers.vocabulary import UNITS, words_in


class Meaning(Protocol):
    """Who knows what mathematics means."""

    def same(self, left: str, right: str) -> bool:
        """Whether two expressions, or two equations, in LaTeX mean the same."""
        ...

    def same_set(self, left: Answer, right: Answer) -> bool:
        """Whether two answers describe the same set of numbers."""
        ...


class UndecidedError(Exception):
    """Spelling and numbers do not decide: sympy must be asked."""


class Spelling:
    """The `Meaning` that knows no mathematics."""

    def same(self, left: str, right: str) -> bool:
        """True where they are written alike.

        Raises:
            UndecidedError: they are not.
        """
        if left == right:
            return True
        raise UndecidedError

    def same_set(self, left: Answer, right: Answer) -> bool:
        """Nothing is known of sets.

        Raises:
            UndecidedError: always.
        """
        raise UndecidedError


def same_answers(value: str, gold: str, meaning: Meaning) -> bool:
    """Whether two texts are the same answer. Where both may be one number (1,234), both are; else one is what the other is.

    Raises:
        UndecidedError: `meaning` cannot say.
    """
    (left, left_parts), (right, right_parts) = readings(value), readings(gold)
    pairs = [(left, right)]
    pairs += [(left_parts, right)] if left_parts else []
    pairs += [(left, right_parts)] if right_parts else []
    if left_parts and right_parts:
        pairs = pairs[:1]
    return _any(lambda pair: same(*pair, meaning), pairs)


def _any(is_so: Callable[[tuple[Answer, Answer]], bool], pairs: Sequence[tuple[Answer, Answer]]) -> bool:
    """`any`, but what is true is true even where something in front of it is undecided."""
    undecided = None
    for pair in pairs:
        try:
            if is_so(pair):
                return True
        except UndecidedError as e:
            undecided = e
    if undecided:
        raise undecided
    return False


def same(left: Answer, right: Answer, meaning: Meaning) -> bool:
    """Whether two answers are the same; see the top of the module.

    Raises:
        UndecidedError: `meaning` cannot say.
    """
    if left == right:
        return left != Words("")
    for rule in _RULES:
        for one, other in ((left, right), (right, left)):
            verdict = rule(one, other, meaning)
            if verdict is not None:
                return verdict
    return _mathematics(left, right, meaning)


# ------------------------------------------------------------------------------------------ rules: a verdict, or None


def _names(one: Answer, other: Answer, meaning: Meaning) -> bool | None:
    if not isinstance(one, Named):
        return None
    if isinstance(other, Named):
        if one.name == other.name:
            return same(one.value, other.value, meaning)
        return _equations(one, other, meaning)
    if isinstance(other, Relation) and set(other.signs) == {"="}:
        return _equations(one, other, meaning)
    if isinstance(other, Relation | Conditions) and one.sign == "=":
        return False
    return same(one.value, other, meaning)


def _equations(one: Named | Relation, other: Named | Relation, meaning: Meaning) -> bool:
    if _is_set(one) or _is_set(other):
        return False
    return meaning.same(written(one), written(other))


def _relations(one: Answer, other: Answer, meaning: Meaning) -> bool | None:
    if not isinstance(one, Relation):
        return None
    equation = set(one.signs) == {"="}
    if isinstance(other, Relation):
        if equation != (set(other.signs) == {"="}):
            return False
        if equation or len(_variables(one)) > 1:
            return meaning.same(one.latex, other.latex)
        return _variables(one) == _variables(other) and meaning.same_set(one, other)
    if equation and isinstance(other, Number | Math | Measured | Percent):
        # 2 + 3 = 5, which is so.
        return all(same(side, other, meaning) for side in one.sides)
    return meaning.same_set(one, other) if _is_set(other) and not equation else False


def _conditions(one: Answer, other: Answer, meaning: Meaning) -> bool | None:
    if isinstance(one, Bound) and isinstance(other, Bound):
        return one.sign == other.sign and same(one.value, other.value, meaning)
    if isinstance(one, Conditions | Sets | Bound):
        if isinstance(one, Conditions) and isinstance(other, Conditions | Relation) and _variables(one) != _variables(other):
            return False
        return meaning.same_set(one, other) if _is_set(other) else False
    return None


def _is_set(answer: Answer) -> bool:
    r"""Whether an answer may describe a set of numbers; a number or a point does not, but \mathbb{R} does."""
    if isinstance(answer, Row):
        return answer.kind == "set" or (len(answer.items) == 2 and answer.kind == "point") or all(map(_is_set, answer.items))
    if isinstance(answer, Math):
        return re.search(r"\\mathbb|\\emptyset", answer.latex) is not None
    if isinstance(answer, Named):
        return answer.sign != "="
    return isinstance(answer, Conditions | Sets | Bound) or (isinstance(answer, Relation) and set(answer.signs) != {"="})


_LETTER = re.compile(r"\\[a-zA-Z]+(?:\{[a-z]*\})?|[a-zA-Z]")


def _variables(answer: Answer) -> frozenset[str]:
    """The letters of a condition that are no commands and no constants."""
    if isinstance(answer, Conditions):
        return frozenset().union(*map(_variables, answer.items))
    if isinstance(answer, Named):
        return frozenset({answer.name})
    found = _LETTER.findall(written(answer))
    return frozenset(letter for letter in found if letter in _GREEK or not letter.startswith("\\")) - {"e", "i"}


_GREEK = frozenset(rf"\{name}" for name in words_in("alpha beta gamma delta theta lambda mu sigma phi omega"))


def _wrapped(one: Answer, other: Answer, meaning: Meaning) -> bool | None:
    """Percentages and units."""
    if isinstance(one, Percent):
        if isinstance(other, Percent):
            return same(one.value, other.value, meaning)
        return _any(lambda pair: same(*pair, meaning), [(one.value, other), (_scaled(one.value, Fraction(1, 100)), other)])
    if isinstance(one, Measured):
        if isinstance(other, Measured):
            return _measured(one, other, meaning)
        if isinstance(other, Math) and len(one.unit) == 1 and f"{written(one.value)}{one.unit}" == other.latex:
            return True
        return same(one.value, other, meaning)
    return None


def _measured(one: Measured, other: Measured, meaning: Meaning) -> bool:
    unit, wanted = UNITS.get(one.unit, UNITS.get(one.unit.lower())), UNITS.get(other.unit, UNITS.get(other.unit.lower()))
    if unit and wanted and unit.kind == wanted.kind and unit.size != wanted.size:
        return same(_scaled(one.value, unit.size), _scaled(other.value, wanted.size), meaning)
    return same(one.value, other.value, meaning)


def _scaled(value: Answer, size: Fraction) -> Answer:
    if isinstance(value, Number):
        return Number(value.value * size)
    return Math(f"({written(value)})\\cdot {written(Number(size))}")


def _choices(one: Answer, other: Answer, meaning: Meaning) -> bool | None:
    if not isinstance(one, Choice):
        return None
    if isinstance(other, Choice):
        return one.letter == other.letter and same(one.value, other.value, meaning)
    return written(other) == one.letter or same(one.value, other, meaning)


def _bases(one: Answer, other: Answer, _: Meaning) -> bool | None:
    if not isinstance(one, Based):
        return None
    if isinstance(other, Based):
        return one == other
    return isinstance(other, Number | Math) and written(other) == one.digits


def _words(one: Answer, other: Answer, _: Meaning) -> bool | None:
    if not isinstance(one, Words):
        return None
    text = re.sub(r"^\((.*)\)$", r"\1", written(other))
    return bool(one.text) and (one.text == text or (len(text) > 1 and one.text.casefold() == text.casefold()))


def _matrices(one: Answer, other: Answer, meaning: Meaning) -> bool | None:
    if not isinstance(one, Matrix):
        return None
    if isinstance(other, Matrix):
        return [len(row) for row in one.rows] == [len(row) for row in other.rows] and all(
            same(cell, wanted, meaning)
            for row, line in zip(one.rows, other.rows, strict=True)
            for cell, wanted in zip(row, line, strict=True)
        )
    entries = one.rows[0] if len(one.rows) == 1 else tuple(row[0] for row in one.rows if len(row) == 1)
    if isinstance(other, Row):
        return (
            other.kind != "set"
            and len(entries) == len(other.items)
            and len(one.rows) in (1, len(entries))
            and all(same(cell, wanted, meaning) for cell, wanted in zip(entries, other.items, strict=True))
        )
    return None


def _rows(one: Answer, other: Answer, meaning: Meaning) -> bool | None:
    if not isinstance(one, Row):
        return None
    if not isinstance(other, Row):
        if len(one.items) == 1 and not _is_set(one.items[0]):
            return same(one.items[0], other, meaning)
        # Of other kinds, a set may be what they say.
        return (
            meaning.same_set(one, other)
            if _is_set(one) and isinstance(other, Math) and _is_set(other)
            else _in_letters(one, other)
        )
    one, other = _unnamed(one, other), _unnamed(other, one)
    if {one.kind, other.kind} == {"set", "point"}:
        return meaning.same_set(one, other) if _may_be_set(one) and _may_be_set(other) else False
    if "point" in (one.kind, other.kind):
        return _in_order(one, other, meaning)
    items, wanted = (_distinct(row, meaning) if row.kind == "set" else row.items for row in (one, other))
    return _in_any_order(items, wanted, meaning)


def _in_letters(one: Row, other: Answer) -> bool:
    return written(one) == written(other)


def _may_be_set(row: Row) -> bool:
    return row.kind == "set" and all(isinstance(item, Row) for item in row.items)


def _unnamed(row: Row, other: Row) -> Row:
    """x = 1, y = 2 without its names, in the order of names, where the other has none."""
    names = [item.name for item in row.items if isinstance(item, Named)]
    if row.kind != "list" or len(set(names)) != len(row.items) or any(isinstance(item, Named) for item in other.items):
        return row
    return Row(
        "", tuple(item.value for item in sorted(row.items, key=lambda item: written(item)) if isinstance(item, Named)), ""
    )


def _in_order(one: Row, other: Row, meaning: Meaning) -> bool:
    if len(one.items) != len(other.items):
        return False
    brackets = {row.opened + row.closed for row in (one, other)}
    if len(one.items) == 2 and len(brackets) > 1 and (one.kind == other.kind or brackets & {"(]", "[)"}):
        return False
    return all(starmap(lambda item, wanted: same(item, wanted, meaning), zip(one.items, other.items, strict=True)))


def _distinct(row: Row, meaning: Meaning) -> list[Answer]:
    """The items of a set, each once."""
    found: list[Answer] = []
    for item in row.items:
        if not any(same(item, other, meaning) for other in found):
            found.append(item)
    return found


def _in_any_order(items: Sequence[Answer], wanted: Sequence[Answer], meaning: Meaning) -> bool:
    """Whether the items can be paired. Not by the first that fits: 20\\% is 20, and 0.2."""
    if len(items) != len(wanted):
        return False
    partner: dict[int, int] = {}
    equal = [[j for j, other in enumerate(wanted) if same(item, other, meaning)] for item in items]

    def paired(i: int, tried: set[int]) -> bool:
        for j in equal[i]:
            if j not in tried:
                tried.add(j)
                if j not in partner or paired(partner[j], tried):
                    partner[j] = i
                    return True
        return False

    return all(paired(i, set()) for i in range(len(items)))


def _ratios(one: Answer, other: Answer, meaning: Meaning) -> bool | None:
    if not isinstance(one, Ratio):
        return None
    if not isinstance(other, Ratio) or len(one.items) != len(other.items):
        return False
    first, wanted = one.items[0], other.items[0]
    if not (isinstance(first, Number) and isinstance(wanted, Number) and first.value and wanted.value):
        return all(same(item, goal, meaning) for item, goal in zip(one.items, other.items, strict=True))
    if len(one.items) == 2:  # a time: 5:00
        return one == other
    return all(
        same(_scaled(item, 1 / first.value), _scaled(goal, 1 / wanted.value), meaning)
        for item, goal in zip(one.items, other.items, strict=True)
    )


_RULES = (_choices, _names, _relations, _conditions, _wrapped, _bases, _words, _matrices, _rows, _ratios)


def _mathematics(left: Answer, right: Answer, meaning: Meaning) -> bool:
    if isinstance(left, Number) and isinstance(right, Number):
        return left.value == right.value
    return meaning.same(written(left), written(right))
