"""report.md: the sections of a report for a log or a pull request. Figures are left out; their numbers stand in tables.

Names, reasons and completions may be hostile text: they appear as code spans, which do nothing, and in sentences with every
character escaped that means something.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from spt_fast.report.cells import SeedGroup, plain
from spt_fast.report.parts import Beside, Cell, Facts, Failures, Figures, Linked, Part, Prose, Scores, Section, Table
from spt_fast.report.tables import full, score
from spt_fast.report.words import Name, raw

MOST_ROWS = 300
"""Of a table; the page has more. Scores are all there."""

_MEANS_SOMETHING = re.compile(r"[\\`*{}\[\]<>#|~&@]|(?<!\w)_|_(?!\w)|:(?=//)|(?<=www)\.")
_INTERVAL = re.compile(r"\[([-+]?\d[\d.]*, [-+]?\d[\d.]*)\](?![(\[:])")


def markdown(name: str, sections: Sequence[Section]) -> str:
    """The report.

    Args:
        name: of the grid.
        sections: of the report.
    """
    parts = [f"# {code(name)}"]
    for section in sections:
        parts += [f"## {section.title}", *(text for part in section.parts for text in _shown(part))]
    return "\n\n".join(parts) + "\n"


def code(text: str, *, in_table: bool = False) -> str:
    """Text as a code span: one line, no control characters, fenced by more backticks than it has in a row."""
    shown = plain(raw(text)) or " "
    fence = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    pad = " " if "`" in (shown[0], shown[-1]) else ""
    span = f"{fence}{pad}{shown}{pad}{fence}"
    return span.replace("|", "\\|") if in_table else span


def escaped(text: str) -> str:
    """Text in which nothing is markup, a link or a person's name that is called."""
    text = _MEANS_SOMETHING.sub(lambda found: f"&#{ord(found[0])};", plain(raw(text)))
    return text.replace("&#64;", "&#64;&#8203;")  # a zero-width space, or it would call the person of that name


def _paragraph(text: str) -> str:
    """Text of a paragraph: as `escaped`, but an interval stays as it is, which is no link, and so does a single star, which
    begins nothing where nothing ends it."""
    kept = {"[": "\ue000", "]": "\ue001", "*": "\ue002"}  # of private use, so `plain` leaves them
    shown = plain(raw(text)).translate({ord(each): None for each in kept.values()})
    shown = _INTERVAL.sub(lambda found: f"{kept['[']}{found[1]}{kept[']']}", shown)
    if shown.count("*") == 1 and not shown.startswith("*"):
        shown = shown.replace("*", kept["*"])
    return escaped(shown).translate({ord(held): each for each, held in kept.items()})


def _shown(part: Part) -> Iterator[str]:
    """A part as paragraphs."""
    if isinstance(part, Prose):
        if not part.of_figures:
            yield _paragraph(part.text)
    elif isinstance(part, Facts):
        yield "\n".join(f"* {term}: {_cell(said, in_table=False)}" for term, said in part.facts)
    elif isinstance(part, Failures):
        yield f"### {part.title}"
        yield "\n".join(f"* {code(who)}: {code(why)}" for who, why in part.failures)
    elif isinstance(part, Scores):
        yield from _scores(part)
    elif isinstance(part, Table):
        yield from _table(part)
    elif isinstance(part, Beside):
        for each in part.parts:
            yield from _shown(each)
    else:
        assert isinstance(part, Figures)


def _scores(part: Scores) -> Iterator[str]:
    """A line a task and protocol."""
    for model, title in part.models:
        rows = []
        for task in part.tasks:
            for label in part.protocols:
                place = SeedGroup(model, task, label)
                found = [part.at.get((place, each.name)) for each in part.metrics]
                if found[0] is not None:
                    names = [code(name, in_table=True) for name in (task, label)]
                    rows.append(
                        [*names, score(found[0], full), *(score(each, full, alone=True) for each in found[1:]), _n(found[0])]
                    )
        yield f"### {code(model) if title == model else escaped(title)}"
        yield _grid(["task", "protocol", *(each.head for each in part.metrics), "n"], rows)
    if part.note:
        yield part.note


def _n(cell: Cell) -> str:
    """Rows behind a number, seed by seed."""
    return "/".join(map(str, sorted(set(cell.number.rows)))) if isinstance(cell, Linked) else ""


def _table(part: Table) -> Iterator[str]:
    """Titles of groups stand in a column of their own, and titles above columns in front of theirs."""
    above = [title for title, span in part.over for _ in range(span)] or [""] * len(part.head)
    head = [f"{over}: {name}" if over and name else over or name for over, name in zip(above, part.head, strict=True)]
    grouped = any(group.title for group in part.groups)
    lines = [([_name(group.title)] if grouped else []) + list(map(_cell, row)) for group in part.groups for row in group.rows]
    text = _grid([*([part.grouped] if grouped else []), *map(_name, head)], lines[:MOST_ROWS])
    more = f"\n\n{len(lines) - MOST_ROWS:,} more rows are in report.html." if len(lines) > MOST_ROWS else ""
    caption = escaped(part.caption)
    if part.folded:
        yield f"<details><summary>{caption}</summary>\n\n{text}{more}\n\n</details>"
    else:
        yield f"**{caption.rstrip('.')}**\n\n{text}{more}"


def _cell(cell: Cell, *, in_table: bool = True) -> str:
    if isinstance(cell, Name):
        return code(cell, in_table=in_table) if cell else ""
    if isinstance(cell, str):
        return escaped(cell)
    number = cell.number if isinstance(cell, Linked) else cell
    return escaped(number.text + (f" ({number.interval})" if number.interval else ""))


def _name(text: str) -> str:
    return code(text, in_table=True) if isinstance(text, Name) else escaped(text)


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(fields) + " |" for fields in lines)
