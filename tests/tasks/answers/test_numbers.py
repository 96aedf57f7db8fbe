"""Numbers are compared as numbers."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spt_fast.tasks.answers.numbers import canonical, without_exponent


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$29.00.", "29"),
        ("100", "100"),
        ("10", "10"),
        ("1,000", "1000"),
        ("1{,}000", "1000"),
        ("-0.0", "0"),
        ("\u22125", "-5"),
        ("+5", "5"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        (".50", "0.5"),
        ("18%", "18"),
        ("18\\%", "18"),
        ("0042", "42"),
        ("\uff14\uff12", "42"),
        ("1,00", "1,00"),
        ("1.2.3", "1.2.3"),
        (" Paris ", "Paris"),
        ("", ""),
        ("-", "-"),
        ("1e3", "1000"),
        ("1e-05", "0.00001"),
        ("-2.50E+2", "-250"),
        ("1.5e-3", "0.0015"),
        ("12345e-2", "123.45"),
        ("0e7", "0"),
        ("1e9999", "1e9999"),
        ("e5", "e5"),
        ("1\u202f234\u202f567", "1234567"),
        ("- 5", "-5"),
        ("$ 5 %", "5"),
        ("5 .", "5"),
        ("3 4", "3 4"),
        ("3\n4", "3\n4"),
        ("1 000", "1 000"),
        ("1, 000", "1, 000"),
        ("150, 30", "150, 30"),
        ("1$2", "1$2"),
        ("--5", "--5"),
        ("5 -", "5 -"),
        ("nan", "nan"),
    ],
)
def test_a_number_has_one_spelling(text: str, value: str) -> None:
    assert canonical(text) == value


@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=6), st.decimals(allow_nan=False, places=3, allow_infinity=False)
)
def test_two_numbers_are_equal_exactly_if_their_spellings_are(a: Decimal, b: Decimal) -> None:
    assert (canonical(f"{a:f}") == canonical(f"{b:f}")) == (a == b)
    assert Decimal(canonical(f"{a:f}")) == a


@given(st.text())
def test_a_second_time_changes_nothing(text: str) -> None:
    assert canonical(canonical(text)) == canonical(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_as_python_writes_it_is_its_digits(number: float) -> None:
    assert "e" not in without_exponent(number)
    assert float(without_exponent(number)) == number
    assert canonical(repr(number)) == canonical(without_exponent(number))


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.text(" \t\n", min_size=1, max_size=3))
def test_two_numbers_with_a_blank_between_are_not_one(first: int, second: int, blank: str) -> None:
    assert canonical(f"{first}{blank}{second}") != canonical(f"{first}{second}")


def test_a_long_run_of_anything_takes_no_time() -> None:
    for piece in (" ", "-", "1,", ",111", "$ ", ". ", "1e", "\u202f111"):
        canonical("1" + piece * 20_000 + "x")
