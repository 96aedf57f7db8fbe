r"""Mathematics as it is written -> tokens, and tokens -> LaTeX in one spelling.

Sizes, spaces, fonts and dollar signs go, Unicode becomes LaTeX, and every argument gets its braces. Letters are told from
words: "ab" is a product, "even" a word, and "cm" behind a number too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from spt_fast.tasks.answers.vocabulary import (
    CHANGING,
    FUNCTIONS,
    HEDGES,
    NUMBERS,
    PERCENT,
    PHRASES,
    PLAIN_WORDS,
    SCALES,
    SHORT_UNITS,
    SINGLE_UNITS,
    UNITS,
    words_in,
)

# ------------------------------------------------------------------------------------------ characters

_SUPERSCRIPTS = str.maketrans(
    "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b\u207f\u2071", "0123456789+-ni"
)
_SUBSCRIPTS = str.maketrans("\u2080\u2081\u2082\u2083\u2084\u2085\u2086\u2087\u2088\u2089\u208a\u208b", "0123456789+-")
_RAISED = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u207b\u207f\u2071]+")
_LOWERED = re.compile("[\u2080-\u208b]+")
_SIGNS = {
    "\u2212": "-",
    "\u2013": "-",
    "\u2010": "-",
    "\u2011": "-",
    "\ufe63": "-",
    "\u00d7": r"\times ",
    "\u00b7": r"\cdot ",
    "\u22c5": r"\cdot ",
    "\u00f7": "/",
    "\u2215": "/",
    "\u2044": "/",
    "\u00b1": r"\pm ",
    "\u2213": r"\mp ",
    "\u2264": r"\le ",
    "\u2265": r"\ge ",
    "\u2a7d": r"\le ",
    "\u2a7e": r"\ge ",
    "\u2260": r"\ne ",
    "\u2248": r"\approx ",
    "\u2208": r"\in ",
    "\u222a": r"\cup ",
    "\u2229": r"\cap ",
    "\u2216": r"\setminus ",
    "\u2205": r"\emptyset ",
    "\u00d8": r"\emptyset ",
    "\u221e": r"\infty ",
    "\u2228": r"\lor ",
    "\u2227": r"\land ",
    "\u211d": r"\mathbb{R}",
    "\u2124": r"\mathbb{Z}",
    "\u2115": r"\mathbb{N}",
    "\u211a": r"\mathbb{Q}",
    "\u2102": r"\mathbb{C}",
    "\u27e8": r"\langle ",
    "\u27e9": r"\rangle ",
    "\u230a": r"\lfloor ",
    "\u230b": r"\rfloor ",
    "\u2308": r"\lceil ",
    "\u2309": r"\rceil ",
    "\u2032": "'",
    "\u2019": "'",
    "\u2026": r"\ldots ",
    "\u00b0": r"^\circ ",
    "\u2220": "",
    "\u22a5": r"\perp ",
    "\u200b": "",
    "\ufeff": "",
    "\uff0c": ", ",
    "\u3001": ", ",
    "\uff1b": "; ",
    "\uff08": "(",
    "\uff09": ")",
    "\u00a2": r"\text{ cents}",
    "\u20ac": r"\euro ",
    "\u00a3": r"\pounds ",
    "\u00a5": r"\yen ",
    "\u20b9": r"\rupee ",
}
_GREEK_LETTERS = """
    alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma sigma tau upsilon phi chi psi
    omega
"""
_GREEK = {chr(0x3B1 + i): f"\\{name} " for i, name in enumerate(_GREEK_LETTERS.split())}
_CHARACTERS = str.maketrans({**_SIGNS, **_GREEK})
_ROOTS = {"\u221a": "", "\u221b": "[3]", "\u221c": "[4]"}


def _characters(text: str) -> str:
    """Unicode -> LaTeX."""
    if text.isascii():
        return text
    text = _RAISED.sub(lambda found: f"^{{{found[0].translate(_SUPERSCRIPTS)}}}", text)
    text = _LOWERED.sub(lambda found: f"_{{{found[0].translate(_SUBSCRIPTS)}}}", text)
    text = re.sub("([\u221a\u221b\u221c]) ?(\\d+(?:\\.\\d+)?)?", lambda found: _root(found[1], found[2]), text)
    return "".join(map(_character, text.translate(_CHARACTERS)))


def _root(sign: str, number: str | None) -> str:
    return f"\\sqrt{_ROOTS[sign]}" + (f"{{{number}}}" if number else " ")


def _character(ch: str) -> str:
    """A digit of any script as ours, and one half as a fraction."""
    if ch.isascii():
        return ch
    if ch.isdecimal():
        return str(unicodedata.decimal(ch))
    above, slash, below = unicodedata.normalize("NFKC", ch).partition("\u2044")
    return f" \\frac{{{above}}}{{{below}}}" if slash and above and below else ch


# ------------------------------------------------------------------------------------------ looks

_COMMANDS = {
    **dict.fromkeys(words_in("displaystyle textstyle limits nolimits mathstrut strut"), ""),
    **dict.fromkeys(words_in("big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr bigm Bigm"), ""),
    **dict.fromkeys(words_in("quad qquad enspace thinspace"), " "),
    **dict.fromkeys(words_in("dfrac tfrac cfrac"), r"\frac"),
    **dict.fromkeys(words_in("leq leqslant leqq"), r"\le "),
    **dict.fromkeys(words_in("geq geqslant geqq"), r"\ge "),
    **dict.fromkeys(words_in("varnothing O"), r"\emptyset "),
    **dict.fromkeys(words_in("lvert rvert vert"), "|"),
    **dict.fromkeys(words_in("smallsetminus backslash"), r"\setminus "),
    **dict.fromkeys(words_in("bold boldsymbol bm"), r"\mathbf"),
    **dict.fromkeys(words_in("vee lor"), r"\text{ or }"),
    **dict.fromkeys(words_in("wedge land"), r"\text{ and }"),
    **dict.fromkeys(words_in("degree degrees"), r"^\circ "),
    "neq": r"\ne ",
    "lt": "<",
    "gt": ">",
    "lbrace": r"\{",
    "rbrace": r"\}",
    "lbrack": "[",
    "rbrack": "]",
    "lparen": "(",
    "rparen": ")",
    "imath": "i",
    "R": r"\mathbb{R}",
    "infinity": r"\infty ",
    "div": "/",
    "ast": r"\cdot ",
}
"""Commands that are other ways to write something, or only looks."""


def _in_base(match: re.Match[str]) -> str:
    return f"_{{{NUMBERS.get(match[1], match[1])}}}"


def _half_open(match: re.Match[str]) -> str:
    return f"{'[' if match[1] == '[' else '('}{match[2]}{']' if match[3] == ']' else ')'}"


_LOOKS: Sequence[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # Separators of thousands that can be nothing else.
        (r"(?<=\d)(?:\{,\}|,\\! *)(?=\d)", ""),
        (
            r"(?<![\d.,])(\d{1,3})((?:(?:\\[,!]|[\u2009\u202f\u00a0])\d{3})+)(?!\d)",
            lambda found: found[1] + re.sub(r"\D", "", found[2]),
        ),
        (r"\\(?:left|right)(?![a-zA-Z])\s*\.?", ""),
        (r"\\([a-zA-Z]+)", lambda found: _COMMANDS.get(found[1], found[0])),
        (r"\\[hv]?phantom\{[^{}]*\}|\\[hv]space\*?\{[^{}]*\}|(?<!\\)\\[,;:>!/\s]|~|\s+", " "),
        (r"(?<!\\)\$|(?<!\\)\\[()\[\]]", ""),
        (r"\\\{ *\\\}", r"\\emptyset "),
        (r"\\(?:text)?color ?\{[^{}]*\}|(?<!\\)\\$", ""),
        (r"\{([^{}]*)\\choose(?![a-zA-Z])([^{}]*)\}", r"\\binom{\1}{\2}"),
        (r"^(-?) ?(?:USD|EUR|GBP|INR|Rs\.?|US(?=\\\$)) ?(?=-?(?:\\\$)?\d)", r"\1"),
        (r"\{ ?\\(rm|bf|it|sf)(?![a-zA-Z]) ?([^{}]*)\}", r"\\math\1{\2}"),
        (r"\\(math(?:rm|bf|it|sf|bb)) ([a-zA-Z])", r"\\\1{\2}"),
        (r"(?<=\d) ?(km|m|cm|ft|mi)/(hr|h|sec|s|min)(?![a-zA-Z])", r"\\text{ \1/\2}"),
        (r"\\not *=|!=|<>", r"\\ne "),
        (r"<=|=<", r"\\le "),
        (r">=", r"\\ge "),
        (r"\^ ?\{ *\\circ *\}", r"^\\circ "),
        (r"\*\*", "^"),
        # 7th, 13 in base seven.
        (r"\^ ?\{? ?\\(?:text[a-z]*|mathrm|mbox) ?\{ ?(st|nd|rd|th) ?\} ?\}?", r"\\text{ \1}"),
        (r"_ ?\{? ?\\(?:text[a-z]*|mathrm|mbox) ?\{ ?(?:base )?(\w+) ?\} ?\}?", _in_base),
        (r"(?<=[0-9A-F]) ?(?:\\text[a-z]* ?\{)? ?\(? ?(?:in )?base ?\}? ?(\w+) ?\)? ?\}?$", _in_base),
        # ]1, 2[ is (1, 2), and (-\infty, 1) U (2, 3) a union.
        (r"(?<!\\sqrt)([\[\]])([^\[\](){};]*,[^\[\](){};]*)([\[\]])", _half_open),
        (r"(?<=[)\]}]) ?U ?(?=[(\[]|\\\{)", r"\\cup "),
        (r"\+ ?/ ?-", r"\\pm "),
        # 0.(3) and 0.333...
        (r"(?<=\d)\.(\d*)\( ?(\d+) ?\)(?![\d.])", r".\1\\overline{\2}"),
        (r"(?<=\d)\.(\d*?)(\d{1,6}?)\2\2+ ?(?:\.{3}|\\[lc]?dots)", r".\1\\overline{\2}"),
        (r"\\(?:bar|dot) ?(?:\{(\d)\}|(\d))", r"\\overline{\1\2}"),
    )
]


def looks(text: str) -> str:
    """The text without what only changes its looks, in ASCII as far as that goes."""
    text = _characters(text)
    for pattern, replacement in _LOOKS:
        text = pattern.sub(replacement, text)
    return text.strip()


# ------------------------------------------------------------------------------------------ tokens


class Token(NamedTuple):
    kind: str
    r""" "number", "letter", "word", "joint" ("and", "or"), "bound" ("or more"), "command", "matrix", "sign" (the rest)."""
    text: str
    blank: bool = False
    """There is white space in front of it."""
    cells: tuple[tuple[tuple[Token, ...], ...], ...] = ()


Tokens: TypeAlias = Sequence[Token]

_TOKEN = re.compile(
    r"""(?P<blank>\s*)(?:
      \\begin\s*\{(?P<environment>[a-zA-Z]+\*?)\}(?P<body>.*?)\\end\s*\{(?P=environment)\}
    | \\(?:text[a-z]*|mbox|hbox)\s*\{(?P<prose>(?:[^{}]|\{[^{}]*\})*)\}
    | \\(?P<font>mathrm|mathbf|mathit|mathsf|mathnormal|operatorname\*?|rm)\s*\{(?P<set_in>[^{}]*)\}
    | (?P<command>\\(?:[a-zA-Z]+|.))
    | (?P<number>
        (?<![\d.])(?<!\d,)[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?(?![0-9]|,[0-9])
        | (?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+(?![0-9.]))?)
    | (?P<letters>(?:(?:twen|thir|for|fif|six|seven|eigh|nine)ty-)?[a-zA-Z]+(?:'(?=[a-z]))?[a-zA-Z]*)
    | (?P<sign>.)
    )""",
    re.VERBOSE | re.DOTALL,
)
_PROSE = re.compile(
    r"(?P<blank>\s*)(?:(?P<dotted>[a-zA-Z](?:\.[a-zA-Z])+\.?)|(?P<word>[^\W\d_]+(?:['-][^\W\d_]+)*)|(?P<other>[^\W_]|\S))"
)
MATRICES = words_in("matrix pmatrix bmatrix Bmatrix smallmatrix array psmallmatrix bsmallmatrix")
_AMBIGUOUS = re.compile(r"[0-9]+[eE][+-]?[1-9][0-9]*")


def _tokens(text: str, *, whole: bool) -> list[Token]:
    """The tokens of a text. `whole`: what may be one number is one."""
    found: list[Token] = []
    for match in _TOKEN.finditer(text):
        found.extend(_made(match, found[-1] if found else None, whole=whole))
    return found


def _made(match: re.Match[str], before: Token | None, *, whole: bool) -> Iterator[Token]:
    blank = bool(match["blank"])
    if match["environment"]:
        yield _environment(match, blank, whole=whole)
    elif match["prose"] is not None:
        yield from _prose(match["prose"], blank, before, whole=whole)
    elif match["font"]:
        yield from _set_in(match, blank, before, whole=whole)
    elif match["command"]:
        yield Token("command", match["command"], blank)
    elif match["number"]:
        yield from _number_tokens(match["number"], blank, whole=whole and not _is_pair(match))
    elif match["letters"]:
        yield from _letters(match, blank, before)
    else:
        yield Token("sign", match["sign"], blank)


def _is_pair(match: re.Match[str]) -> bool:
    """Whether a number with commas is all that some brackets hold, for (100,101) is a point."""
    start, end = match.span("number")
    return re.search(r"(?:\(|\[|\\\{) ?-?$", match.string[max(0, start - 4) : start]) is not None and (
        re.match(r" ?(?:\)|\]|\\\})", match.string[end : end + 3]) is not None
    )


def _number_tokens(text: str, blank: bool, *, whole: bool) -> Iterator[Token]:
    # Nobody writes a list as 1,000.
    if whole or ",0" in text or not ("," in text or _AMBIGUOUS.fullmatch(text)):
        yield Token("number", text.replace(",", ""), blank)
        return
    for part in re.findall(r"[0-9.]+|.", text):
        kind = "number" if part[0].isdigit() else "letter" if part.isalpha() else "sign"
        yield Token(kind, part, blank and part == text[: len(part)])


def _letters(match: re.Match[str], blank: bool, before: Token | None) -> Iterator[Token]:
    """A run of letters in mathematics: a word, a function, or variables."""
    text = match["letters"]
    small = text.lower()
    behind = before is not None and (before.kind in ("number", "word") or before.text in ("}", ")"))
    unit = len(text) > 1 and (small in UNITS or text in UNITS or text in SHORT_UNITS)
    if behind and unit:
        yield Token("word", text, blank)
    elif text in FUNCTIONS:
        yield Token("command", f"\\{text}", blank)
    elif function := next((name for name in _PREFIXES if text.startswith(name) and len(text) - len(name) == 1), None):
        yield Token("command", f"\\{function}", blank)
        yield Token("letter", text[len(function) :])
    elif len(text) > 3 or small in PLAIN_WORDS or small in _LONG_VOCABULARY or _is_short_word(match, blank, before):
        yield Token("word", text, blank)
    else:
        yield from (Token("letter", letter, blank and i == 0) for i, letter in enumerate(text))


def _is_short_word(match: re.Match[str], blank: bool, before: Token | None) -> bool:
    """Whether two or three letters are a word ("at least", "3 pm", "5 red cars") and no product (ad - bc)."""
    small = match["letters"].lower()
    if len(small) not in (2, 3):
        return False
    if before is not None and before.kind == "word":
        return blank
    if before is not None and before.kind == "number" and small in ("am", "pm"):
        return blank
    next_word = re.match(r" [a-zA-Z]{2,}", match.string[match.end() :])
    return next_word is not None and (small in _VOCABULARY or len(next_word[0]) > 4)


_PREFIXES = ("sqrt", "sin", "cos", "tan", "cot", "sec", "csc", "log", "ln")
_VOCABULARY = frozenset(
    CHANGING | PERCENT | set(SCALES) | set(NUMBERS) | HEDGES | {word for words in PHRASES for word in words}
)
_LONG_VOCABULARY = frozenset(word for word in _VOCABULARY if len(word) > 2) - {"bc", "ad"}


def _prose(text: str, blank: bool, before: Token | None, *, whole: bool) -> Iterator[Token]:
    r"""What is in a \text{}: words, and numbers among them."""
    bare = text.strip()
    if len(bare) == 1 and bare in "ie" and bare == text and not blank and before is not None and before.kind != "word":
        yield Token("letter", bare)
        return
    if re.search(r"\\(?!%)|[=^_{]", text):
        yield from (
            Token(t.kind, t.text, t.blank or (i == 0 and blank), t.cells) for i, t in enumerate(_tokens(text, whole=whole))
        )
        return
    at = 0
    while at < len(text):
        number = _TOKEN.match(text, at)
        if number and number["number"]:
            yield from _number_tokens(number["number"], blank or bool(number["blank"]), whole=whole)
            at, blank = number.end(), False
            continue
        match = _PROSE.match(text, at)
        if not match:
            break
        word = match["dotted"] or match["word"]
        yield Token("word" if word else "sign", word or match["other"], blank or bool(match["blank"]))
        at, blank = match.end(), False


def _set_in(match: re.Match[str], blank: bool, before: Token | None, *, whole: bool) -> Iterator[Token]:
    r"""What is in a \mathrm{}, a \mathbf{}: units and names of functions; else what is set is mathematics in another font."""
    font, text = match["font"], match["set_in"]
    bare = text.strip(" ~")
    # \mathrm{min}, \mathrm{sec}: units where nothing follows that they could be functions of.
    unit = bare in UNITS and before is not None and re.match(r" ?(?:$|[,;.)\]}^/])", match.string[match.end() :]) is not None
    if (bare in FUNCTIONS and not unit) or font.startswith("operatorname"):
        yield Token("command", f"\\{bare}" if bare in FUNCTIONS else f"\\operatorname{{{bare}}}", blank)
    elif font in ("mathrm", "rm") and (
        (len(bare) == 1 and bare in SINGLE_UNITS) or (len(bare) > 1 and re.fullmatch(r"[a-zA-Z][a-zA-Z. /]*", bare))
    ):
        yield from _prose(text.replace("~", " "), blank, before, whole=whole)
    else:
        tokens = _tokens(text, whole=whole)
        yield from (Token(t.kind, t.text, t.blank or (i == 0 and blank), t.cells) for i, t in enumerate(tokens))


def _environment(match: re.Match[str], blank: bool, *, whole: bool) -> Token:
    name, body = match["environment"], match["body"]
    if name == "array":
        body = re.sub(r"^\s*\{[^{}]*\}", "", body)
    rows = re.split(r"\\\\(?:\[[^\]]*\])?|\\cr(?![a-z])", body)
    while rows and not rows[-1].replace("\\hline", "").strip():
        rows.pop()
    cells = tuple(tuple(tuple(_merged(_tokens(cell, whole=whole))) for cell in re.split(r"(?<!\\)&", row)) for row in rows)
    return Token("matrix", name, blank, cells)


# ------------------------------------------------------------------------------------------ one spelling of mathematics

_ARGUMENTS = {r"\frac": 2, r"\binom": 2, r"\sqrt": 1, r"\overline": 1, r"\mathbb": 1, r"\vec": 1, r"\hat": 1, r"\widehat": 1}
_ARGUMENTS |= {r"\underline": 1, r"\dbinom": 2, r"\tbinom": 2, r"\bar": 1, r"\overrightarrow": 1, r"\mathcal": 1}


class _Speller:
    """Writes tokens as LaTeX in one spelling: braces around every argument, no blanks but those that part numbers."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = list(tokens)
        self._at = 0

    def all(self) -> str:
        parts: list[str] = []
        while self._at < len(self._tokens):
            parts.append(self._next(parts[-1] if parts else ""))
        return "".join(parts)

    def _next(self, before: str) -> str:
        token = self._tokens[self._at]
        self._at += 1
        text = token.text
        if token.kind == "number":
            return f" {text}" if before[-1:].isdigit() else text
        if token.kind == "matrix":
            return _environment_latex(token)
        if text in ("^", "_") and token.kind == "sign":
            return f"{text}{{{self._argument(script=True)}}}"
        if text in _ARGUMENTS:
            return self._call(text)
        if token.kind == "command" and text[-1:].isalpha() and self._at < len(self._tokens):
            return f"{text} " if self._tokens[self._at].text[:1].isalpha() else text
        return f" {text} " if token.kind == "word" else text

    def _call(self, name: str) -> str:
        option = ""
        if name == r"\sqrt" and self._peek() == "[":
            end = next((i for i in range(self._at, len(self._tokens)) if self._tokens[i].text == "]"), None)
            if end is not None:
                option = f"[{spelt(self._tokens[self._at + 1 : end])}]"
                self._at = end + 1
        if name == r"\sqrt" and self._at < len(self._tokens) and self._tokens[self._at].kind == "number":
            # TeX would take a digit, and nobody who writes \sqrt12 means that.
            return f"{name}{option}{{{self._argument(script=True)}}}"
        if name == r"\sqrt" and self._peek() == "(":
            return f"{name}{option}{{{self._in_round()}}}"
        arguments = "".join(f"{{{self._argument()}}}" for _ in range(_ARGUMENTS[name]))
        return f"{name.replace('dbinom', 'binom').replace('tbinom', 'binom')}{'' if option == '[2]' else option}{arguments}"

    def _peek(self) -> str:
        return self._tokens[self._at].text if self._at < len(self._tokens) else ""

    def _in_round(self) -> str:
        depth, start = 0, self._at
        while self._at < len(self._tokens):
            depth += {"(": 1, ")": -1}.get(self._tokens[self._at].text, 0)
            self._at += 1
            if depth == 0:
                return spelt(self._tokens[start + 1 : self._at - 1])
        return spelt(self._tokens[start:])

    def _argument(self, *, script: bool = False) -> str:
        """The next argument: what is in braces, one command with its own, a letter, a digit (all of a number in a script)."""
        if self._at >= len(self._tokens):
            return ""
        token = self._tokens[self._at]
        if token.text == "{":
            return self._in_braces()
        if token.kind == "number" and not script and len(token.text) > 1:
            self._tokens[self._at] = Token("number", token.text[1:])
            return token.text[0]
        if script and token.text in ("-", "+"):
            self._at += 1
            return token.text.replace("+", "") + self._argument(script=True)
        return self._next("").strip()

    def _in_braces(self) -> str:
        depth, start = 0, self._at
        while self._at < len(self._tokens):
            depth += {"{": 1, "}": -1}.get(self._tokens[self._at].text, 0)
            self._at += 1
            if depth == 0:
                return spelt(self._tokens[start + 1 : self._at - 1])
        return spelt(self._tokens[start + 1 :])


def spelt(tokens: Tokens) -> str:
    """Tokens as LaTeX in one spelling."""
    return _Speller(tokens).all()


def _environment_latex(token: Token) -> str:
    cells = r"\\".join("&".join(map(spelt, row)) for row in token.cells)
    name = "pmatrix" if token.text in MATRICES else token.text
    return f"\\begin{{{name}}}{cells}\\end{{{name}}}"


# ------------------------------------------------------------------------------------------ phrases

_MOST_WORDS = max(map(len, PHRASES))


def _merged(tokens: list[Token]) -> list[Token]:
    """With phrases that make a bound ("or more") as one token, so that their "or" parts nothing."""
    if not any(token.kind == "word" or token.text == "&" for token in tokens):
        return tokens
    found: list[Token] = []
    at = 0
    while at < len(tokens):
        for length in range(min(_MOST_WORDS, len(tokens) - at), 0, -1):
            words = tokens[at : at + length]
            meaning = PHRASES.get(tuple(token.text.lower() for token in words)) if words[0].kind == "word" else None
            behind = bool(found) and found[-1].kind != "bound"
            if meaning and _fits(meaning, behind=behind, ahead=at + length < len(tokens)):
                found.append(Token("bound", meaning, words[0].blank))
                break
        else:
            token, length = tokens[at], 1
            joint = {"and": "and", "or": "or", "&": "and"}.get(token.text.lower()) if token.kind in ("word", "sign") else None
            found.append(token._replace(kind="joint", text=joint) if joint else token)
        at += length
    return found


def _fits(meaning: str, *, behind: bool, ahead: bool) -> bool:
    return behind if meaning.startswith("behind") else ahead if meaning.startswith("before") else ahead or behind


def tokens_of(text: str, *, whole: bool) -> list[Token]:
    """The tokens of a text that went through `looks`, phrases that make a bound ("or more") as one.

    `whole`: what may be one number (1,234 and 2e-5) is one.
    """
    return _merged(_tokens(text, whole=whole))
