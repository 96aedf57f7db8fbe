"""The page: sections and samples, and a policy under which nothing else can run or be fetched."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import resources
from typing import Any

from spt_fast.report.cells import SeedGroup
from spt_fast.report.html.figures import draw
from spt_fast.report.html.samples import Samples
from spt_fast.report.parts import Cell, Group, Scores, Section, Table
from spt_fast.report.words import ABSENT, visible

MOST_BYTES = 5_000_000
"""Of a page whose size is limited."""
LEAST_ROOM = 500_000
"""Bytes for samples, however large the rest is."""
MOST_COLUMNS = 12
"""Numbers side by side that a screen has room for."""


def html(name: str, sections: Sequence[Section], samples: Callable[[int], Samples]) -> str:
    """The page.

    Args:
        name: of the grid.
        sections: of the report.
        samples: packs samples into so many bytes.
    """
    body = _template("parts.html").module.body(sections)
    style, script = _file("page.css"), _file("page.js")
    # Samples fill what the rest leaves.
    rest = len((body + style + script).encode()) + 20_000
    packed = samples(max(LEAST_ROOM, MOST_BYTES - rest))
    text: str = _template("page.html").render(
        name=visible(name),
        sections=sections,
        body=body,
        samples=packed,
        style=style,
        script=script,
        policy=_policy(style, script),
    )
    return text


def matrix(scores: Scores) -> Table:
    """Models x tasks under each protocol, as many models as fit: the page's layout of scores.

    All metrics where that makes few columns, or else those of the claim.
    """
    shown = scores.metrics if len(scores.metrics) * len(scores.tasks) <= MOST_COLUMNS else scores.metrics[:2]
    groups = []
    for model, title in scores.models[: scores.fit]:
        rows: list[list[Cell]] = []
        for protocol in scores.protocols:
            places = [SeedGroup(model, task, protocol) for task in scores.tasks]
            if any((place, each.name) in scores.at for place in places for each in shown):
                numbers = [scores.at.get((place, each.name), ABSENT) for place in places for each in shown]
                rows.append([visible(protocol), *numbers])
        groups.append(Group(title=title, rows=rows))
    return Table(
        caption=scores.caption,
        over=[("", 1), *((visible(task), len(shown)) for task in scores.tasks)],
        head=["protocol", *([each.head for each in shown] * len(scores.tasks))],
        groups=groups,
    )


def _policy(style: str, script: str) -> str:
    """A content security policy: this style and this script, and nothing else whatever; no text becomes markup."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hash(script)}",
            f"style-src {_hash(style)}",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@lru_cache
def _file(name: str) -> str:
    """Of this package."""
    return resources.files("spt_fast.report.html").joinpath(name).read_text(encoding="utf-8")


@lru_cache
def _template(name: str) -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {"draw": draw, "matrix": matrix}
    return environment.from_string(_file(name))
