"""When two mathematical answers are the same: a table of pairs, and what holds for every answer of a kind."""

from __future__ import annotations

import json
import re
import runpy
import time
from fractions import Fraction
from itertools import permutations, product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spt_fast.tasks.answers.equality import Spelling, UndecidedError, same_answers
from spt_fast.tasks.answers.grammar import readings
from spt_fast.tasks.answers.latex import accepts, equivalent, last_boxed
from spt_fast.tasks.answers.vocabulary import SCALES, UNITS
from spt_fast.types import Example

_TABLES = runpy.run_path(str(Path(__file__).with_name("answer_pairs.py")))
SAME, DIFFERENT, pairs = _TABLES["SAME"], _TABLES["DIFFERENT"], _TABLES["pairs"]

DATA = Path(__file__).parents[4] / "shared" / "data"
needs_rows = pytest.mark.skipif(not DATA.is_dir(), reason="there are no real rows beside this checkout (../shared/data)")

SYMBOLIC = settings(max_examples=20, deadline=None)
"""Of properties that ask sympy, at some hundredths of a second a question."""

EXACT = settings(max_examples=60, deadline=None)

NUMBERS = st.fractions(-2000, 2000, max_denominator=60)
BLANKS = st.sampled_from(["", " ", "  ", "\t", "\n", " \n "])


def latex(number: Fraction) -> str:
    sign = "-" if number < 0 else ""
    top, bottom = abs(number.numerator), number.denominator
    return f"{sign}{top}" if bottom == 1 else f"{sign}\\frac{{{top}}}{{{bottom}}}"


def decided(value: str, gold: str) -> bool:
    """The verdict, of spelling and numbers alone."""
    return same_answers(value, gold, Spelling())


@pytest.mark.parametrize(("kind", "one", "other"), pairs(SAME))
def test_answers_that_are_the_same_are_equal_both_ways(kind: str, one: str, other: str) -> None:
    assert equivalent(one, other), kind
    assert equivalent(other, one), kind


@pytest.mark.parametrize(("kind", "one", "other"), pairs(DIFFERENT))
def test_answers_that_are_not_are_unequal_both_ways(kind: str, one: str, other: str) -> None:
    assert not equivalent(one, other), kind
    assert not equivalent(other, one), kind


# ------------------------------------------------------------------------------------------ every answer of a kind


@EXACT
@given(
    st.lists(NUMBERS, min_size=2, max_size=5),
    st.randoms(use_true_random=False),
    st.sampled_from([", ", "; ", " and ", "\\text{ or }"]),
)
def test_a_list_of_numbers_is_the_list_in_any_order_and_no_other(numbers: list[Fraction], random: object, between: str) -> None:
    written = ", ".join(map(latex, numbers))
    random.shuffle(numbers)  # type: ignore[attr-defined]
    assert decided(between.join(map(latex, numbers)), written)
    assert not decided(", ".join(map(latex, [*numbers, Fraction(1)])), written)
    assert not decided(", ".join(map(latex, [numbers[0] + 1, *numbers[1:]])), written)
    assert not decided("".join(str(abs(number.numerator)) for number in numbers), written)


@EXACT
@given(st.lists(st.integers(0, 999), min_size=2, max_size=4))
def test_a_comma_with_a_blank_parts_numbers_whatever_their_digits(numbers: list[int]) -> None:
    written = ", ".join(map(str, numbers))
    assert not decided(written, "".join(map(str, numbers)))
    assert decided(written, ",  ".join(map(str, reversed(numbers))))
    assert decided(f"\\{{{written}\\}}", written) == (len(set(numbers)) == len(numbers))


@EXACT
@given(st.integers(1000, 10**12), st.sampled_from(["", ".5", "\\%", " \\text{ cm}"]))
def test_thousands_are_parted_in_groups_of_three_without_a_blank(number: int, behind: str) -> None:
    for comma in (",", "{,}", ",\\!", "\\,", "\u202f"):
        assert decided(f"{number:,}".replace(",", comma) + behind, f"{number}{behind}")
    assert not decided(f"{number:,}".replace(",", ", "), str(number))
    assert not decided(f"{number:,}0", f"{number}0")


@EXACT
@given(NUMBERS, st.sampled_from(sorted(UNITS)))
def test_a_unit_does_not_count_however_it_is_written(number: Fraction, unit: str) -> None:
    if not unit.isalpha():
        return
    for written in (f"\\text{{ {unit}}}", f" \\mathrm{{{unit}}}", f"\\,\\text{{{unit}}}^2", f" \\mbox{{ {unit}}}"):
        assert decided(latex(number) + written, latex(number))
    if len(unit) > 1:
        assert decided(f"{latex(number)} {unit}", latex(number))
    if number.denominator == 1:
        assert decided(f"\\text{{{number} {unit}}}", str(number))


@EXACT
@given(NUMBERS.filter(bool), st.sampled_from(sorted(UNITS)), st.sampled_from(sorted(UNITS)))
def test_two_units_of_one_kind_count_by_their_size(number: Fraction, unit: str, other: str) -> None:
    if not unit.isalpha() or not other.isalpha() or UNITS[unit].kind != UNITS[other].kind:
        return
    written = f"{latex(number)} \\text{{ {unit}}}"
    assert decided(written, f"{latex(number)} \\text{{ {other}}}") == (UNITS[unit].size == UNITS[other].size)
    assert decided(written, f"{latex(number * UNITS[unit].size / UNITS[other].size)} \\text{{ {other}}}")


@EXACT
@given(st.integers(1, 10**6), st.sampled_from(sorted(SCALES)), BLANKS)
def test_a_word_that_multiplies_is_part_of_the_value(number: int, word: str, blank: str) -> None:
    value = latex(number * SCALES[word])
    for written in (
        f"{number} {blank}{word}",
        f"{number}\\text{{ {word}}}",
        f"\\text{{{number} {word}}}",
        f"\\${number} \\text{{ {word}}}",
    ):
        assert decided(written, value)
        assert not decided(written, str(number))


@EXACT
@given(
    NUMBERS,
    st.sampled_from(["or more", "or less", "or fewer", "or greater"]),
    st.sampled_from(["at least", "at most", "more than"]),
)
def test_a_bound_is_not_its_number(number: Fraction, behind: str, before: str) -> None:
    for written in (
        f"{latex(number)} \\text{{ {behind}}}",
        f"\\text{{{before} }} {latex(number)}",
        f"{before} {latex(number)}",
    ):
        with pytest.raises(UndecidedError):  # a bound is a set, and sets are sympy's
            decided(written, f"[{latex(number)}, \\infty)")
        assert not decided(written, latex(number))
    assert decided(f"\\text{{at least }} {latex(number)}", f"{latex(number)} or more")


@EXACT
@given(NUMBERS)
def test_a_sign_counts_whatever_its_character(number: Fraction) -> None:
    value = latex(number)
    assert decided(value.replace("-", "\u2212"), value)
    assert decided(value.replace("-", "- "), value)
    assert decided(value, f"+{latex(abs(number))}") is (number >= 0)
    assert decided(value, latex(-number)) is (number == 0)


@EXACT
@given(st.integers(1, 99), st.integers(2, 60), st.data())
def test_a_mixed_number_is_its_sum(whole: int, bottom: int, data: st.DataObject) -> None:
    top = data.draw(st.integers(1, bottom - 1))
    value = latex(whole + Fraction(top, bottom))
    for written in (f"{whole}\\frac{{{top}}}{{{bottom}}}", f"{whole} {top}/{bottom}", f"{whole} \\tfrac{{{top}}}{{{bottom}}}"):
        assert decided(written, value)
        assert decided(f"-{written}", f"-{value}")
        assert not decided(written, str(whole))
        assert not decided(written, latex(Fraction(top, bottom)))


@SYMBOLIC
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=4, unique=True).map(sorted), st.data())
def test_a_union_is_the_same_in_any_order_and_as_inequalities(ends: list[int], data: st.DataObject) -> None:
    brackets = data.draw(st.lists(st.booleans(), min_size=len(ends), max_size=len(ends)))
    low, high = ends[0], ends[-1]
    opened, closed = "[" if brackets[-1] else "(", "]" if brackets[0] else ")"
    union = [f"(-\\infty, {low}{closed}", f"{opened}{high}, \\infty)"]
    less, more = ("\\le" if brackets[0] else "<"), ("\\ge" if brackets[-1] else ">")
    inequalities = [f"x {less} {low}", f"x {more} {high}"]
    if len(ends) == 4:
        union.insert(1, f"({ends[1]}, {ends[2]}]")
        inequalities.insert(1, f"{ends[1]} < x \\le {ends[2]}")
    written = " \\cup ".join(union)
    assert equivalent(" \\cup ".join(reversed(union)), written)
    assert equivalent("\\text{ or }".join(inequalities), written)
    assert equivalent(" or ".join(reversed(inequalities)), written)
    assert equivalent(f"x \\in {written}", " \u222a ".join(union))
    assert not equivalent(" \\cup ".join([*union[:-1], union[-1].replace(str(high), str(high + 1))]), written)
    assert not equivalent(" and ".join(inequalities), written)


# ------------------------------------------------------------------------------------------ of every verdict

ANSWERS = st.sampled_from(
    sorted({text for table in (SAME, DIFFERENT) for _, one, other in pairs(table) for text in (one, other)})
)
PAIRS = st.sampled_from([pair[1:] for table in (SAME, DIFFERENT) for pair in pairs(table)])


@settings(max_examples=60, deadline=None)
@given(ANSWERS, ANSWERS)
def test_a_verdict_is_symmetric(one: str, other: str) -> None:
    assert equivalent(one, other) == equivalent(other, one)


@pytest.mark.parametrize("answer", sorted({text for table in (SAME, DIFFERENT) for pair in pairs(table) for text in pair[1:]}))
def test_every_answer_is_itself(answer: str) -> None:
    assert decided(answer, answer)


@given(st.text(max_size=40))
def test_any_text_is_itself_unless_there_is_nothing_in_it(text: str) -> None:
    one, _ = readings(" ".join(text.split()))
    assert equivalent(text, text) or getattr(one, "text", "?") == ""


@settings(max_examples=60, deadline=None)
@given(PAIRS, st.data())
def test_white_space_changes_no_verdict(pair: tuple[str, str], data: st.DataObject) -> None:
    one, other = pair
    verdict = equivalent(one, other)

    def spaced(text: str) -> str:
        # What is between two signs, or is there already, may be any white space; "3 4" is not "34" though, nor "\pi x" "\pix".
        parts = re.split(r"(\s+|(?<=[=<>+(])|(?<!\\)(?=[=<>+)]))", re.sub(r"(?<!\\)\\\s", "~", text))
        draw = [data.draw(BLANKS.filter(bool) if part.strip() != part or part.isspace() else BLANKS) for part in parts[1::2]]
        inner = "".join(part + blank for part, blank in zip(parts[::2], [*draw, ""], strict=True))
        return f"{data.draw(BLANKS)}{inner}{data.draw(BLANKS)}"

    assert equivalent(spaced(one), spaced(other)) == verdict
    assert equivalent(f"{one}\n", other) == verdict


@settings(max_examples=30, deadline=None)
@given(ANSWERS, st.lists(ANSWERS, min_size=2, max_size=3))
def test_the_order_of_gold_aliases_changes_no_verdict(value: str, answers: list[str]) -> None:
    verdicts = {accepts(value, Example(key="0", question="?", target="", answers=order)) for order in permutations(answers)}
    assert len(verdicts) == 1


@needs_rows
def test_every_gold_answer_is_itself_and_no_number_is_another() -> None:
    golds = [last_boxed(row["solution"]) or "" for row in rows("math500/train")] + [
        row["answer"] for row in rows("math500/test")
    ]
    golds += [row["answer"].rpartition("####")[2] for split in ("train", "test") for row in rows(f"gsm8k/{split}")]
    assert all(decided(gold, f" {gold.replace(' ', '  ')}\n") for gold in golds)
    numbers = {readings(gold.strip())[0]: gold for gold in golds}
    plain = [gold for answer, gold in numbers.items() if type(answer).__name__ == "Number"]
    assert len(plain) > 300
    assert not [pair for pair in product(plain[:150], plain[150:300]) if decided(*pair)]


def rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text().splitlines()]


# ------------------------------------------------------------------------------------------ time


def test_numbers_and_spelling_decide_in_no_time() -> None:
    values = [f"\\frac{{{i}}}{{7}}" for i in range(200)]
    began = time.process_time()
    for value in values:
        assert not equivalent(value, "-1")
    assert (time.process_time() - began) / len(values) < 1e-3  # a thirtieth of that on an idle processor


@pytest.mark.parametrize(
    "piece",
    [
        "(",
        "{",
        "\\{",
        "[",
        "1,",
        "1,111",
        "\\frac",
        "\\sqrt[",
        "^",
        "\\text{",
        "\\pm",
        "x<",
        "\\cup ",
        "a ",
        "$",
        "\\begin{pmatrix}",
        "0.1",
        "2 ",
        "or ",
        "\\mathrm{",
    ],
)
def test_hostile_text_is_read_in_no_time(piece: str) -> None:
    began = time.process_time()
    for end in ("", "x", "}", ")"):
        readings((piece * 300)[:300] + end)
    assert time.process_time() - began < 2
