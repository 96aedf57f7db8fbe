"""Numbers in answers, compared as numbers: "$29.00." is 29, 1,000 is 1000, 1e-05 is 0.00001, and 100 is not 10."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal

CURRENCY = "$\u20ac\u00a3\u00a5\u20b9"
MINUS = "-\u2212"

_THIN = "\u00a0\u2009\u202f"
"""Blanks that part thousands and never two numbers."""

# Possessive, so that nothing is tried twice in a long run of blanks.
_CURRENCY_SIGN = rf"\s*+(?:\\?[{CURRENCY}])?+\s*+"
_WRITTEN = re.compile(
    rf"(?P<sign>[{MINUS}+]?+){_CURRENCY_SIGN}(?P<inner>[{MINUS}+]?+)\s*+"
    rf"(?P<whole>[0-9]{{1,3}}+(?:(?:,|\{{,\}}|[{_THIN}])[0-9]{{3}})++|[0-9]*+)(?:\.(?P<fraction>[0-9]*+))?+"
    rf"(?:[eE](?P<exponent>[+-]?[0-9]{{1,3}}))?+{_CURRENCY_SIGN}(?:\\?%)?+[\s.!]*+"
)


def canonical(text: str) -> str:
    """The one spelling of a number: no separators, currency, percent sign, exponent, superfluous zeros or final stop.

    Digits of any script count, and thousands may be parted by a comma or a thin blank, in groups of exactly three. What is not
    a number ("3 4", "1, 000") comes back stripped and otherwise as it was, so that it equals nothing but itself. Exact for any
    length: the digits are never turned into a float.
    """
    stripped = text.strip()
    digits = "".join(str(unicodedata.decimal(ch)) if ch.isdecimal() else ch for ch in stripped)
    found = _WRITTEN.fullmatch(digits)
    if not found or not (found["whole"] or found["fraction"]) or (found["sign"] and found["inner"]):
        return stripped
    whole, fraction = re.sub(r"[^0-9]", "", found["whole"]), found["fraction"] or ""
    whole, fraction = _shifted(whole, fraction, int(found["exponent"] or 0))
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    value = f"{whole}.{fraction}" if fraction else whole
    negative = (found["sign"] or found["inner"] or "+") in MINUS
    return f"-{value}" if negative and value != "0" else value


def _shifted(whole: str, fraction: str, places: int) -> tuple[str, str]:
    """The digits in front of the decimal point and behind it, with the point moved to the right."""
    if places < 0:
        whole = whole.rjust(-places, "0")
        return whole[:places], whole[places:] + fraction
    fraction = fraction.ljust(places, "0")
    return whole + fraction[:places], fraction[places:]


def without_exponent(number: float) -> str:
    """A number as its digits: 0.00001, where Python writes 1e-05; what is not finite as Python has it."""
    text = repr(number)
    return format(Decimal(text), "f") if "e" in text else text
