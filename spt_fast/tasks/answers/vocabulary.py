r"""Words in mathematical answers: which of them change the value, and which are only its unit.

**A unit** does not count: 5\text{ cm}, 5cm, \text{5 cm}, $5, 5 dollars, 5^\circ and 5 apples are 5. A unit is any word behind a
value but for those below; without a blank or a \text{} in between it must be one of `UNITS` (5cm), for 5ab is a product. Two
units of one kind do count against each other, where both are in `UNITS`: 5 m is not 5 cm, but 500 cm.

**A value-changing word** is part of the value, and one that arithmetic does not know makes the whole answer words:

* `SCALES` multiply: 3 million, two dozen, half; "percent" is \%.
* `PHRASES` make a bound of a number: at least 5, 5 or more, fewer than 5.
* `CHANGING` are the rest: 5 squared, 5 p.m., not 5, 5 more than.
* Upright i and e (\mathrm{i}, \mathrm{e}) are the imaginary unit and Euler's number.

`HEDGES` (about, exactly) say nothing of the value. `NUMBERS` (three, twenty-one) count in front of a scale; alone they are
words.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple


class Unit(NamedTuple):
    """A unit that is known: what it measures, and how much of it."""

    kind: str
    size: Fraction


def words_in(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


def _units(kind: str, table: str) -> dict[str, Unit]:
    """Lines "size: spelling spelling ..."."""
    lines = (line.split(":") for line in table.strip().splitlines())
    return {name: Unit(kind, Fraction(size.strip())) for size, names in lines for name in names.split()}


UNITS = {
    **_units(
        "length",
        """
        1/1000: mm millimeter millimeters millimetre millimetres
        1/100: cm cms centimeter centimeters centimetre centimetres
        1/10: dm decimeter decimeters decimetre decimetres
        1: m meter meters metre metres
        1000: km kms kilometer kilometers kilometre kilometres
        127/5000: in inch inches
        381/1250: ft foot feet
        1143/1250: yd yds yard yards
        201168/125: mi mile miles
        """,
    ),
    **_units(
        "weight",
        """
        1/1000: mg milligram milligrams
        1: g gm gram grams
        1000: kg kgs kilogram kilograms
        45359237/100000: lb lbs pound pounds
        45359237/1600000: oz ounce ounces
        """,
    ),
    **_units(
        "time",
        """
        1/1000: ms millisecond milliseconds
        1: s sec secs second seconds
        60: min mins minute minutes
        3600: h hr hrs hour hours
        86400: day days
        604800: week weeks
        """,
    ),
    **_units("long time", "1: month months\n12: yr yrs year years"),
    **_units("volume", "1/1000: ml mL milliliter milliliters millilitre millilitres\n1: L l liter liters litre litres"),
    **_units("american volume", "1: cup cups\n2: pint pints\n4: quart quarts\n16: gallon gallons gal"),
    **_units("money", "1: \u00a2 cent cents\n100: $ dollar dollars usd"),
    **_units("angle", "1: \u00b0 degree degrees deg\n57.29577951308232: rad rads radian radians"),
}
"""Units by their spellings. The size of a radian is rounded: it never makes two answers the same by chance."""

SHORT_UNITS = words_in(
    """
    C F K N J W V A Hz kHz Pa hm mph kph kmh kmph rpm bpm sq cu cc hrs men day car pen egg box bag cup
    way ways boy boys girl girls cat cats dog dogs row rows job jobs eur gbp inr rs unit units th st nd rd mol kWh sec lbs ha
    """
)
"""Other units of one to five letters, which need not be told from a product by a blank or by their length."""

SINGLE_UNITS = words_in("m g s h l L C F K N J W V A")
r"""Letters that are units in \text{} and \mathrm{}; elsewhere a letter is a variable."""

SCALES = {
    "half": Fraction(1, 2),
    "hundred": Fraction(100),
    "thousand": Fraction(1000),
    "million": Fraction(10**6),
    "billion": Fraction(10**9),
    "trillion": Fraction(10**12),
    "dozen": Fraction(12),
}
SCALES |= {f"{name}s": size for name, size in SCALES.items() if name != "half"}

PERCENT = frozenset({"percent", "percentage", "pct", "per cent"})

_SMALL = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
NUMBERS = {name: number for number, name in enumerate(f"{_SMALL} eighteen nineteen".split())}
NUMBERS |= {name: 10 * number for number, name in enumerate(_TENS.split(), start=2)}

HEDGES = words_in("about approximately approx approx. roughly around exactly only just")

CHANGING = words_in(
    """
    more less fewer greater lesser larger smaller higher lower least most over under above below between than not no non except
    without but plus minus negative squared cubed factorial halves third thirds fourth fourths fifth fifths sixth sixths
    seventh eighth eighths ninth tenth tenths hundredth hundredths thousandth thousandths quarter quarters to through from
    until remainder modulo mod base or and if when where for is are a.m. p.m. am pm a.m p.m bc ad b.c. a.d. score gross unless
    infinity infinite infinitely divided multiplied by
    """
)
"""Words that no unit has in it."""

PHRASES: dict[tuple[str, ...], str] = {
    tuple(words.split()): f"{side}{sign}"
    for sign, side, lines in (
        (
            ">=",
            "before",
            "at least|no less than|no fewer than|not less than|not fewer than|greater than or equal to|a minimum of",
        ),
        ("<=", "before", "at most|no more than|not more than|no greater than|less than or equal to|up to|a maximum of"),
        (">", "before", "more than|greater than|larger than|over|above|exceeding"),
        ("<", "before", "less than|fewer than|smaller than|under|below"),
        (">=", "behind", "or more|or greater|or higher|or larger|or above|or over|or older|and above|and over|and up|and more"),
        ("<=", "behind", "or less|or fewer|or lower|or smaller|or below|or under|or younger|and below|and under|and less"),
    )
    for words in lines.split("|")
}
"""Words that make a bound of the number behind or before them. "5 at least" is said as well."""

PHRASES |= {("at", "least"): "either>=", ("at", "most"): "either<="}

MEANT = {
    "empty set": r"\emptyset",
    "the empty set": r"\emptyset",
    "no solution": r"\emptyset",
    "no solutions": r"\emptyset",
    "all real numbers": r"\mathbb{R}",
    "all reals": r"\mathbb{R}",
    "infinity": r"\infty",
    "negative infinity": r"-\infty",
}
"""Whole answers in words that have a sign."""

PLAIN_WORDS = words_in(
    """
    per yes no true false even odd none all and or both not on off east west north south left right up down red blue green
    monday dne undefined never always sometimes
    """
)
"""Short words that are no products of letters. Longer ones, of four letters and more, never are."""

FUNCTIONS = words_in(
    """
    sqrt pi sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp gcd lcm max min deg det
    infinity infty alpha beta gamma delta epsilon theta lambda mu sigma phi omega
    """
)
r"""Commands whose backslash is often left out."""
