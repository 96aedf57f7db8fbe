"""Valid text -> text that is nearly valid: what people, editors, programs and broken disks make of a file. Seeded."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

NASTY = (
    *(
        ".nan",
        ".inf",
        "-.inf",
        "NaN",
        "1e400",
        "1e30",
        "-0.0",
        "-1",
        "0",
        "1.5",
        "2147483648",
        "9223372036854775808",
        "0x7fffffff",
    ),
    *(
        "9" * 400,
        "9" * 5000,
        "true",
        "null",
        "~",
        "[]",
        "{}",
        "''",
        "010",
        "1:30",
        "2026-01-01",
        "=",
        "<<",
        "auto",
        "all",
        "paper",
    ),
    *(
        '"\\0"',
        '"\\e[2J"',
        '"\\ud800"',
        '"\\u202e"',
        '"a\\nb"',
        "'{date}'",
        "'{nothing}'",
        "'{0}'",
        "'%s'",
        "'*'",
        "'[a'",
        "'**'",
    ),
    *("..", "../..", "/", "~root", "~nobody-at-all/x", "a" * 256, "a/" * 2500, "file:///", "memory://x", "::", "💥", "é" * 200),
    *("!!int ''", "!!binary Zw==", "!!set {a}", "!!python/none x", "*a", "&a [*a]", "[[[[[[]]]]]]", "[1, 2]", "[[1], [1]]"),
    *(
        "{a: 1}",
        "{1: 2}",
        "zoo-mcq",
        "zoo/base-40",
        "soft_prompt",
        "task.yaml",
        "'('",
        "'(a+)+'",
        "'(?P<a>'",
        "-",
        ",",
        "\x00",
        "\x1b",
    ),
)


def mutated(text: str, draw: random.Random, others: tuple[str, ...] = NASTY) -> str:
    """The text after one to four changes."""
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4))):
        text = draw.choice(_TEXT)(text, draw, others)
    return text


def mutated_bytes(data: bytes, draw: random.Random) -> bytes:
    """The bytes after one to four changes."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(len(data) + 1)
        change = draw.randrange(4)
        if change == 0:
            data = data[:at]
        elif change == 1:
            data = data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]
        elif change == 2:
            data = data[:at] + draw.randbytes(draw.randrange(1, 9)) + data[at:]
        else:
            data = data[:at] + data[at + draw.randrange(1, 64) :]
    return data


_VALUE = re.compile(r"(?<=[:,\[ ])(?!\s)[^\s,:\[\]{}]+")
_KEY = re.compile(r"[\w-]+(?=\"?:)")


def _value(text: str, draw: random.Random, others: tuple[str, ...]) -> str:
    found = list(_VALUE.finditer(text))
    return _replaced(text, draw.choice(found), draw.choice(others)) if found else draw.choice(others)


def _key(text: str, draw: random.Random, others: tuple[str, ...]) -> str:
    """A key as another one, or as something else."""
    found = list(_KEY.finditer(text))
    if not found:
        return text
    return _replaced(text, draw.choice(found), draw.choice((*(each[0] for each in found), *others)))


def _replaced(text: str, found: re.Match[str], by: str) -> str:
    return text[: found.start()] + by + text[found.end() :]


def _line(text: str, draw: random.Random, others: tuple[str, ...]) -> str:
    """A line again, gone, or deeper."""
    lines = text.split("\n")
    at, to = draw.randrange(len(lines)), draw.randrange(len(lines))
    change = draw.randrange(4)
    if change == 0:
        del lines[at]
    elif change == 1:
        lines.insert(to, lines[at])
    elif change == 2:
        lines[at] = " " * draw.randrange(1, 4) + lines[at]
    else:
        lines[at], lines[to] = lines[to], lines[at]
    return "\n".join(lines)


def _span(text: str, draw: random.Random, others: tuple[str, ...]) -> str:
    at = draw.randrange(len(text) + 1)
    cut = draw.choice((0, 0, 1, 4, 20))
    return text[:at] + draw.choice(("", *others, *"[]{}:,&*!#\"'|\n\t ")) + text[at + cut :]


def _end(text: str, draw: random.Random, others: tuple[str, ...]) -> str:
    return text[: draw.randrange(len(text) + 1)]


Change = Callable[[str, random.Random, tuple[str, ...]], str]
_TEXT: tuple[Change, ...] = (_value, _value, _value, _key, _key, _line, _span, _end)
