r"""The grammar of mathematical answers: LaTeX, Unicode or plain text -> an `Answer`, a tree of frozen values.

From the loosest to the tightest:

    answer     statements between ; or , "and", "or"                    List, Conditions
    statement  x = 5, x \in A, 1 < x \le 3, f(x) = 2x                   Named, Relation
    sets       A \cup B, A \cap B, A \setminus B                        Sets
    item       (1, 2], \{1, 2\}, a matrix, a number with its words      Row, Matrix, Number, Math, Words, Bound, Measured

What is inside of an item is mathematics: a `Number` where it is a rational one, else `Math`, LaTeX in one spelling for sympy.
`vocabulary` says which words are units and which change a value. Two spellings are ambiguous, and have two readings:

* 1,234 is a number, but may be a list of two (groups of exactly three digits, no blank behind the comma);
* 2e-5 is a number, but may be 2e - 5.

Nothing here raises on hostile text, and all of it is linear or quadratic in the text's length; callers bound that.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate, product
from typing import TypeAlias

from spt_fast.tasks.answers.tokens import MATRICES, Token, Tokens, looks, spelt, tokens_of
from spt_fast.tasks.answers.vocabulary import CHANGING, HEDGES, MEANT, NUMBERS, PERCENT, SCALES, words_in

DEPTH = 40
"""How deep brackets may be nested."""

# ------------------------------------------------------------------------------------------ what an answer is


@dataclass(frozen=True)
class Number:
    """A rational number, exactly."""

    value: Fraction


@dataclass(frozen=True)
class Math:
    """An expression: LaTeX in one spelling."""

    latex: str


@dataclass(frozen=True)
class Words:
    """What is no mathematics: small letters (but for a single one), single blanks."""

    text: str


@dataclass(frozen=True)
class Percent:
    r"""20\%."""

    value: Answer


@dataclass(frozen=True)
class Measured:
    """A value with its unit, which may be one that `UNITS` does not know."""

    value: Answer
    unit: str


@dataclass(frozen=True)
class Based:
    """52_8: digits in another base."""

    digits: str
    base: str


@dataclass(frozen=True)
class Bound:
    """At least 5."""

    sign: str
    value: Answer


@dataclass(frozen=True)
class Row:
    """Several in brackets, which are as in "(1, 2]"; `\\{` and `\\}` are a set's, and "" those of a list without brackets."""

    opened: str
    items: tuple[Answer, ...]
    closed: str

    @property
    def kind(self) -> str:
        """ "list", "set" or "point" (which may be an interval)."""
        return {"": "list", "\\{": "set"}.get(self.opened, "point")


@dataclass(frozen=True)
class Ratio:
    """3:5, 1:2:3."""

    items: tuple[Answer, ...]


@dataclass(frozen=True)
class Choice:
    r"""\textbf{(A)} 5: the letter of an option, and what it says."""

    letter: str
    value: Answer


@dataclass(frozen=True)
class Matrix:
    """Its rows."""

    rows: tuple[tuple[Answer, ...], ...]


@dataclass(frozen=True)
class Sets:
    r"""Sets joined by \cup, \cap or \setminus."""

    sign: str
    items: tuple[Answer, ...]


@dataclass(frozen=True)
class Named:
    r"""x = 5 or x \in A: what is on the right, and its name."""

    name: str
    value: Answer
    sign: str


@dataclass(frozen=True)
class Relation:
    """1 < x < 3: what stands between the signs, and the signs."""

    sides: tuple[Answer, ...]
    signs: tuple[str, ...]

    @property
    def latex(self) -> str:
        """As it is written."""
        sides = list(map(written, self.sides))
        return sides[0] + "".join(f"{sign} {side}" for sign, side in zip(self.signs, sides[1:], strict=True))


@dataclass(frozen=True)
class Conditions:
    """Several relations: joined by "or", by "and", or by commas, which are either."""

    joint: str
    items: tuple[Answer, ...]


Answer: TypeAlias = (
    Number
    | Math
    | Words
    | Percent
    | Measured
    | Based
    | Bound
    | Row
    | Ratio
    | Choice
    | Matrix
    | Sets
    | Named
    | Relation
    | Conditions
)

NOTHING = Words("")


def written(answer: Answer) -> str:
    """An answer as LaTeX or as words, for whoever compares what is written."""
    match answer:
        case Number(value):
            return str(value.numerator) if value.denominator == 1 else f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
        case Math(latex):
            return latex
        case Words(text):
            return text
        case Percent(value):
            return f"{written(value)}\\%"
        case Measured(value, _):
            return written(value)
        case Based(digits, base):
            return f"{digits}_{{{base}}}"
        case Bound(sign, value):
            return f"{sign} {written(value)}"
        case Row(opened, items, closed):
            return f"{opened}{','.join(map(written, items))}{closed}"
        case Ratio(items):
            return ":".join(map(written, items))
        case Choice(letter, value):
            return f"({letter}) {written(value)}"
        case Matrix(rows):
            cells = r"\\".join("&".join(map(written, row)) for row in rows)
            return f"\\begin{{pmatrix}}{cells}\\end{{pmatrix}}"
        case Sets(sign, items):
            return f" {sign} ".join(map(written, items))
        case Named(name, value, sign):
            return f"{name}{sign} {written(value)}"
        case Relation():
            return answer.latex
        case Conditions(joint, items):
            return f" {joint} ".join(map(written, items))


# ------------------------------------------------------------------------------------------ from tokens to an answer

_SYSTEMS = words_in("cases aligned align align* gathered split rcases")
_OPEN = ("(", "[", "{", "\\{", "\\langle")
_CLOSE = (")", "]", "}", "\\}", "\\rangle")
_SEMICOLON = frozenset({";"})
_COMMA = frozenset({",", "and", "or"})
_OR = frozenset({"or"})
_RELATIONS = frozenset({"=", "<", ">", r"\le", r"\ge", r"\ne", r"\in", r"\approx"})
_SET_SIGNS = (frozenset({r"\setminus"}), frozenset({r"\cup"}), frozenset({r"\cap"}))
_IN_BRACKETS = frozenset({",", ";"})
_BARS = frozenset({"|", ":", r"\mid", r"\colon"})
_COLON = frozenset({":"})


def _split(tokens: Tokens, separators: frozenset[str]) -> tuple[list[list[Token]], list[str]]:
    """The parts between separators that are in no brackets, and the separators."""
    if separators.isdisjoint([token.text for token in tokens]):
        return [list(tokens)], []
    parts: list[list[Token]] = [[]]
    found: list[str] = []
    depth = 0
    for token in tokens:
        if token.kind != "word":
            depth = max(0, depth + (token.text in _OPEN) - (token.text in _CLOSE))
        if depth == 0 and token.text in separators and token.kind != "word":
            found.append(token.text)
            parts.append([])
        else:
            parts[-1].append(token)
    return parts, found


def _answer(tokens: Tokens) -> Answer:
    tokens = _trimmed(tokens)
    if len(tokens) > 3 and tokens[1].kind == "word" and re.fullmatch(r"\([A-H]\)", "".join(token.text for token in tokens[:3])):
        return Choice(tokens[1].text, _answer(tokens[3:]))
    if len(tokens) == 1 and tokens[0].kind == "matrix" and tokens[0].text in _SYSTEMS:
        lines = [_answer([token for cell in row for token in cell]) for row in tokens[0].cells]
        return _listed(lines, {","})
    parts, _ = _split(tokens, _SEMICOLON)
    if len(parts) > 1:
        return _row(_answer(part) for part in parts if part)
    parts, separators = _split(tokens, _COMMA)
    kinds = set(separators)
    if {"and", "or"} <= kinds:
        wholes, _ = _split(tokens, _OR)
        return _listed([_answer(part) for part in wholes if _trimmed(part)], {"or"})
    found = [part for part in map(_trimmed, parts) if part]
    if len(found) < 2:
        return _statement(found[0]) if found else NOTHING
    return _listed(list(map(_statement, found)), kinds)


def _trimmed(tokens: Tokens) -> list[Token]:
    """Without stops, empty pairs of braces, and braces around it all."""
    found = list(tokens)
    while found and found[-1].text in (".", ",", ":", ";") and found[-1].kind == "sign":
        found.pop()
    while len(found) > 1 and found[0].text == "{" and _closing(found, 0) == len(found) - 1:
        found = found[1:-1]
    return found


def _closing(tokens: Tokens, at: int) -> int:
    """Where the bracket that is opened at `at` closes; -1: nowhere."""
    depth = 0
    for i in range(at, len(tokens)):
        if tokens[i].kind != "word":
            depth += (tokens[i].text in _OPEN) - (tokens[i].text in _CLOSE)
        if depth == 0:
            return i
    return -1


def _row(items: Iterator[Answer] | Sequence[Answer]) -> Answer:
    """A list without brackets; lists in it (of a plus-minus) are opened."""
    found: list[Answer] = []
    for item in items:
        found.extend(item.items if isinstance(item, Row) and item.kind == "list" else [item])
    return found[0] if len(found) == 1 else Row("", tuple(found), "") if found else NOTHING


def _is_condition(answer: Answer) -> bool:
    if isinstance(answer, Named):
        return answer.sign == r"\in"
    return isinstance(answer, Conditions | Bound) or (isinstance(answer, Relation) and set(answer.signs) != {"="})


def _listed(items: Sequence[Answer], kinds: set[str]) -> Answer:
    """Several statements: conditions on a variable, values of one (x = 1 or x = 2, x = 1, 2), or a list."""
    if any(map(_is_condition, items)) and all(_is_condition(item) or isinstance(item, Named | Relation) for item in items):
        joint = "or" if "or" in kinds else "and" if "and" in kinds else ","
        return Conditions(joint, tuple(items))
    first = items[0]
    if isinstance(first, Relation) and first.signs == ("!=",) and all(isinstance(item, Number | Math) for item in items[1:]):
        return Conditions("and", (first, *(Relation((first.sides[0], item), first.signs) for item in items[1:])))
    names = {item.name for item in items if isinstance(item, Named)}
    if len(names) == 1 and isinstance(items[0], Named):
        return Named(items[0].name, _row(item.value if isinstance(item, Named) else item for item in items), "=")
    return _row(items)


def _statement(tokens: Tokens) -> Answer:
    parts, texts = _split(tokens, _RELATIONS)
    if not texts:
        return _sets(tokens)
    if r"\approx" in texts:
        # What it is comes first, and what it is about behind; but x \approx 5.2 has nothing else.
        cut = texts.index(r"\approx")
        if cut == 0 and (not parts[0] or _is_name(parts[0])):
            texts = [text if text != r"\approx" else "=" for text in texts]
        else:
            parts, texts = parts[: cut + 1], texts[:cut]
        if not texts:
            return _sets(parts[0])
    if not _trimmed(parts[0]):
        if len(parts) == 2:
            return _sets(parts[1]) if texts[0] == "=" else Bound(_plain(texts[0]), _sets(parts[1]))
        return Words(spelt(tokens))
    if (set(texts) <= {"="} or texts == [r"\in"]) and _is_name(parts[0]):
        return Named(spelt(parts[0]).strip(), _sets(parts[-1]), texts[0])
    return Relation(tuple(map(_sets, parts)), tuple(map(_plain, texts)))


def _plain(sign: str) -> str:
    return {r"\le": "<=", r"\ge": ">=", r"\ne": "!="}.get(sign, sign)


def _is_name(tokens: Tokens) -> bool:
    r"""A variable (x, x_1, \theta, f(x), AB), several (x, y), an angle, or words (Area)."""
    text = spelt(tokens).strip()
    one = r"\\?[a-zA-Z]+'*(?:_\{\w+\})?(?:(?:\^\{-1\})?\((?:-?\w+)(?:,-?\w+)*\))?"
    several = rf"{one}|\({one}(?:,{one})*\)|[a-zA-Z ]+"
    measure = r"m?\\(?:angle|triangle) ?[A-Z]{1,3}|\\overline\{[A-Z]{2}\}|\|[A-Z]{2}\|"
    function = r"\\(?:sin|cos|tan|cot|sec|csc|ln|log)(?:[_^]\{\w\})* ?\\?[a-zA-Z]+"
    named = rf"{several}|{measure}|{function}"
    return re.fullmatch(named, text) is not None


def _sets(tokens: Tokens) -> Answer:
    tokens = _trimmed(tokens)
    for sign in _SET_SIGNS:
        parts, found = _split(tokens, sign)
        if found and all(map(_trimmed, parts)):
            return Sets(found[0], tuple(map(_sets, parts)))
    if len(tokens) > 4 and tokens[0].text == r"\mathbb" and tokens[4].text == "-":
        return Sets(r"\setminus", (_sets(tokens[:4]), _sets(tokens[5:])))
    return _item(tokens)


def _item(tokens: Tokens) -> Answer:
    if not tokens:
        return NOTHING
    first, last = tokens[0], tokens[-1]
    if first.kind == "matrix" and len(tokens) == 1 and first.text in MATRICES:
        return Matrix(tuple(tuple(map(_answer, row)) for row in first.cells))
    if len(tokens) == 3 and tokens[1].kind == "matrix" and first.text in ("(", "[") and last.text in (")", "]"):
        return _item(tokens[1:2])
    if first.text in _OPEN and first.text != "{" and first.kind != "word" and _closing(tokens, 0) == len(tokens) - 1:
        return _bracketed(tokens)
    return _worded(tokens)


def _bracketed(tokens: Tokens) -> Answer:
    opened, closed, inner = tokens[0].text, tokens[-1].text, list(tokens[1:-1])
    if opened == "\\langle":
        opened, closed = "(", ")"
    parts, found = _split(inner, _IN_BRACKETS)
    if not found:
        if opened == "\\{":
            bars, found = _split(inner, _BARS)
            if len(bars) == 2:
                return _such_that(bars[0], bars[1])
            return Row(opened, _opened(_statement(inner)), closed) if inner else Math(r"\emptyset")
        return _answer(inner)
    if not any(parts):
        return Words(spelt(tokens))
    items = tuple(_statement(_trimmed(part)) if part else NOTHING for part in parts)
    if opened == "\\{":
        items = tuple(inside for item in items for inside in _opened(item))
    return Row(opened, items, closed)


def _opened(item: Answer) -> tuple[Answer, ...]:
    return item.items if isinstance(item, Row) and item.kind == "list" else (item,)


def _such_that(left: Tokens, right: Tokens) -> Answer:
    r"""\{x \mid x > 2\}, \{x \in A : x > 2\}: the conditions."""
    first, condition = _statement(_trimmed(left)), _answer(right)
    if isinstance(first, Named) and first.value not in (Math(r"\mathbb{R}"),):
        items = condition.items if isinstance(condition, Conditions) and condition.joint != "or" else (condition,)
        return Conditions("and", (first, *items))
    return condition


# ------------------------------------------------------------------------------------------ a value and its words

_CURRENCY = (r"\$", r"\euro", r"\pounds", r"\yen", r"\rupee")


def _worded(tokens: Tokens) -> Answer:
    """A value with words in front of it and behind it."""
    if not any(token.kind in ("word", "bound") for token in tokens) and not any(token.text in _CURRENCY for token in tokens):
        return _with_percent(tokens)
    tokens, bound = _bounds(_dressed(tokens))
    value = _measured(tokens)
    if value is None:
        return _phrase(tokens) if not bound else Words(f"{bound} {written(_phrase(tokens))}")
    return Bound(bound, value) if bound else value


def _dressed(tokens: Tokens) -> list[Token]:
    """Without "the answer is", "answer:" and hedges in front."""
    found = list(tokens)
    words = next((i for i, token in enumerate(found) if token.kind != "word"), len(found))
    if 0 < words < len(found) and (found[words].text == ":" or found[words - 1].text.lower() in ("is", "are", "equals")):
        found = found[words + (found[words].text == ":") :]
    while found and found[0].kind == "word" and found[0].text.lower() in HEDGES:
        found.pop(0)
    return found


def _bounds(tokens: list[Token]) -> tuple[list[Token], str]:
    """Without the phrase that makes a bound of it, and the bound's sign."""
    words = [token.text if token.kind == "bound" else "" for token in tokens]
    at = next((i for i, word in enumerate(words) if word), None)
    if at is None or sum(map(bool, words)) > 1:
        return tokens, ""
    return tokens[:at] + tokens[at + 1 :], words[at].lstrip("abcdefghijklmnopqrstuvwxyz")


def _measured(tokens: list[Token]) -> Answer | None:
    """A number, its scale and its unit; None: words that are neither."""
    unit = ""
    front = [token for token in tokens if token.text not in _CURRENCY]
    if len(front) < len(tokens):
        unit = next(token.text for token in tokens if token.text in _CURRENCY)
        unit = "$" if unit == r"\$" else unit
    start = next((i for i, token in enumerate(front) if token.kind == "word"), len(front))
    if [token.text for token in front[start - 2 : start]] == [r"\frac", "{"]:
        start -= 2
    number, rest = front[:start], front[start:]
    if not number or (len(number) == 1 and number[0].text == "a" and rest and rest[0].text.lower() in SCALES):
        rest = front
        counted, used = _counted(rest)
        if counted is None:
            return None
        value: Answer = Number(counted)
        rest = rest[used:]
    else:
        value = _with_percent(number)
        if isinstance(value, Words):
            return None
    return _scaled(value, rest, unit)


def _counted(words: Tokens) -> tuple[Fraction | None, int]:
    """The number that the first words are, and how many words that is: two dozen, a million, half a million, a dozen.

    Without a scale behind it, a number word is a word: the answer "four" is not written as a number.
    """
    texts = [token.text.lower() if token.kind in ("word", "letter") else "" for token in words]
    number, used = None, 0
    while used < len(texts) and all(part in NUMBERS for part in texts[used].split("-")):
        number = (number or 0) + sum(NUMBERS[part] for part in texts[used].split("-"))
        used += 1
    rest = texts[used:]
    if number is None and rest[:1] == ["half"] and (rest[1:2] == ["a"] or len(rest) == 1):
        return Fraction(1, 2), 1
    if number is None and rest[:1] in (["a"], ["an"]) and rest[1:2] and rest[1] in SCALES:
        return Fraction(1), 1
    return (Fraction(number), used) if number is not None and rest[:1] and rest[0] in SCALES else (None, 0)


def _scaled(value: Answer, words: Tokens, unit: str) -> Answer | None:
    """A value times its scales, with its unit; None where other words, or more mathematics, are among them."""
    rest = list(words)
    if len(rest) > 1 and rest[0].text == "a" and rest[1].text.lower() in SCALES:
        rest = rest[1:]
    while rest and rest[0].kind == "word":
        text = rest[0].text.lower()
        if text in SCALES:
            value = _times(value, SCALES[text])
        elif text in PERCENT:
            value = Percent(value)
        else:
            break
        rest = rest[1:]
    named = _unit(rest)
    if named is None:
        return None
    return Measured(value, named or unit) if named or unit else value


def _times(value: Answer, size: Fraction) -> Answer:
    if isinstance(value, Number):
        return Number(value.value * size)
    return Math(f"({written(value)})\\cdot {written(Number(size))}")


_VALUES = CHANGING | PERCENT | frozenset(SCALES) | frozenset(NUMBERS)


def _unit(tokens: Tokens) -> str | None:
    """The first word of a unit, "" where there is none, None where the tokens are no unit: words, powers of them, slashes."""
    text = " ".join(token.text for token in tokens)
    bare = re.sub(r"\^ (?:\{ [0-9]+ \}|[0-9]+)|\^ \{ - [0-9]+ \}|\\frac|[{}]", "", text)
    if not re.fullmatch(r"(?:[^\W\d_]|[ ./'-]|\\cdot|\\%)*", bare) or any(token.kind == "letter" for token in tokens):
        return None
    words = [token.text.lower() for token in tokens if token.kind == "word"]
    if not _VALUES.isdisjoint(word.rstrip(".") for word in words) or not _VALUES.isdisjoint(words) or len(words) > 6:
        return None
    first = next((token.text for token in tokens if token.kind == "word"), "")
    return first.rstrip(".") if len(words) == 1 and "^" not in text and "/" not in text else f"{first} ..." if first else ""


def _phrase(tokens: Tokens) -> Words | Math:
    """Tokens as words."""
    text = "".join(f" {token.text}" if token.blank or token.kind == "word" else token.text for token in tokens)
    return words_of(text)


def words_of(text: str) -> Words | Math:
    """A text in small letters (but for a single one), single blanks, without quotes and stop."""
    bare = " ".join(re.sub(r"[{}\"`]", "", text).split()).strip(" .!,'")
    bare = re.sub(r"^\(([^()]*)\)$", r"\1", bare)
    small = bare.casefold()
    if small in MEANT:
        return Math(MEANT[small])
    return Words(re.sub(r"\b([ap])\.? ?m\b\.?", r"\1m", small) if len(bare) > 1 else bare)


# ------------------------------------------------------------------------------------------ mathematics

_RATIONAL = re.compile(
    r"(?P<minus>[+-]?)(?:(?P<whole>\d*) ?\\frac\{(?P<sign>[+-]?)(?P<top>\d+)\}\{(?P<below>-?)(?P<bottom>\d+)\}"
    r"|(?:(?P<ones>\d+) )?(?P<upper>\d+)/(?P<lower>\d+)"
    r"|(?P<units>\d*)(?:\.(?P<decimals>\d*)(?:\\overline\{(?P<repeated>\d+)\})?)?(?:[eE](?P<exponent>[+-]?\d{1,3}))?)"
)
_MIXED = re.compile(r"(?<![\d.}a-zA-Z])(\d+) ?\\frac\{(\d+)\}\{(\d+)\}(?![\d^!])")
_BASED = re.compile(r"\(?(?P<digits>[0-9A-F]+)\)?_\{\(?(?P<base>\d+)\)?\}")
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_CIRCLE = re.compile(r"\^\{\\circ ?\}")


def _with_percent(tokens: Tokens) -> Answer:
    found = list(tokens)
    if found and found[-1].text in (r"\%", "%"):
        return Percent(_mathematics(found[:-1]))
    return _mathematics(found)


def _mathematics(tokens: Tokens) -> Answer:
    """Tokens without words about them: a number, a ratio, an expression, or several with a plus-minus."""
    tokens = _trimmed(tokens)
    if len(tokens) == 1 and tokens[0].kind == "number" and (number := rational(tokens[0].text)) is not None:
        return Number(number)
    parts, colons = _split(tokens, _COLON)
    if colons:
        return _ratio([_mathematics(part) for part in parts])
    latex = spelt(tokens)
    if r"\pm" in latex or r"\mp" in latex:
        return _row(Math(text) if (number := rational(text)) is None else Number(number) for text in _both(latex))
    if based := _BASED.fullmatch(latex.replace(" ", "")):
        return Based(based["digits"], based["base"])
    return _leaf(latex)


def _leaf(latex: str) -> Answer:
    unit = ""
    if r"\circ" in latex:
        if _TRIGONOMETRIC.search(latex):
            latex = _CIRCLE.sub(r"\\cdot \\frac{\\pi}{180}", latex)
        elif (without := _CIRCLE.sub("", latex)) != latex:
            latex, unit = re.sub(r"(?<=[\d)}])[CF]$", "", without), "\u00b0"
    latex = latex.strip().removeprefix("+")
    if (number := rational(latex)) is not None:
        value: Answer = Number(number)
    elif re.search(r"\d \d", latex := _MIXED.sub(_improper, latex)):
        value = Words(" ".join(latex.split()))
    else:
        value = Math(latex) if latex else NOTHING
    return Measured(value, unit) if unit else value


def _improper(match: re.Match[str]) -> str:
    whole, top, bottom = (int(match[i]) if len(match[i]) < 30 else 0 for i in (1, 2, 3))
    # Two and five thirds are a product.
    return f"\\frac{{{whole * bottom + top}}}{{{bottom}}}" if 0 < top < bottom else match[0]


def _both(latex: str) -> list[str]:
    r"""With each sign of a plus-minus. Several go together where there is a \mp or more than four, else each on its own."""
    parts = re.split(r"(\\[pm]{2}(?![a-z]) ?)", latex)
    signs = [part.strip() for part in parts[1::2]]
    if len(signs) > 4 or r"\mp" in signs:
        ways = [["+" if sign == plus else "-" for sign in signs] for plus in (r"\pm", r"\mp")]
    else:
        ways = [list(way) for way in product("+-", repeat=len(signs))]
    texts = ("".join(text + sign for text, sign in zip(parts[::2], [*way, ""], strict=True)) for way in ways)
    return [re.sub(r"(?<![\w)}\]])\+", "", text) for text in texts]


def _ratio(items: list[Answer]) -> Answer:
    if len(items) == 2 and all(isinstance(item, Number) for item in items):
        top, bottom = (item.value for item in items if isinstance(item, Number))
        if bottom:
            return Number(top / bottom)
    return Ratio(tuple(items))


def rational(latex: str) -> Fraction | None:
    r"""The number that a decimal, a fraction or a mixed number is; digits in any number, but exponents of three at most."""
    match = _RATIONAL.fullmatch(latex)
    if not match or not re.search(r"\d", latex) or len(latex) > 1000:
        return None
    number = _magnitude(match)
    return number if number is None or match["minus"] != "-" else -number


def _magnitude(match: re.Match[str]) -> Fraction | None:
    if match["top"]:
        top, bottom, whole = int(match["top"]), int(match["bottom"]), int(match["whole"] or 0)
        if bottom == 0 or (match["whole"] and (match["sign"] or match["below"])):
            return None
        sign = -1 if (match["sign"] == "-") != bool(match["below"]) else 1
        # Two and five thirds are a product.
        return whole * Fraction(top, bottom) if whole and top >= bottom else whole + sign * Fraction(top, bottom)
    if match["upper"]:
        return (
            None if int(match["lower"]) == 0 else int(match["ones"] or 0) + Fraction(int(match["upper"]), int(match["lower"]))
        )
    decimals, repeated = match["decimals"] or "", match["repeated"] or ""
    if not (match["units"] or decimals or repeated):
        return None
    number = Fraction(int(f"{match['units']}{decimals}" or 0), 10 ** len(decimals))
    if repeated:
        number += Fraction(int(repeated), 10 ** len(decimals) * (10 ** len(repeated) - 1))
    return number * Fraction(10) ** int(match["exponent"] or 0)


# ------------------------------------------------------------------------------------------ the way in


@lru_cache(maxsize=1 << 13)
def readings(text: str) -> tuple[Answer, Answer | None]:
    """What a text says: the reading in which all that may be one number is one, and the other, where there is one."""
    if "e" not in text and (number := rational(text)) is not None:
        return Number(number), None
    spelling = looks(text)
    first = _read(spelling, whole=True)
    if not re.search(r"\d,\d|\d[eE]", spelling):
        return first, None
    second = _read(spelling, whole=False)
    return (first, None) if second == first else (first, second)


def _read(spelling: str, *, whole: bool) -> Answer:
    """An answer; what is nested deeper than mathematics is, as words."""
    depths = accumulate((ch in "([{") - (ch in ")]}") for ch in spelling)
    if max(depths, default=0) <= DEPTH:
        with contextlib.suppress(RecursionError):  # of commands whose arguments are commands
            return _answer(tokens_of(spelling, whole=whole))
    return Words(" ".join(spelling.split()))
