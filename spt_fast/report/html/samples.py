"""The samples that travel inside report.html: which of them, and how they are packed.

A large grid has far more than a page can carry. Those that are taken are the same whenever they are taken: half of the room
goes to rows whose form failed, half to the others, turn by turn over cells and verdicts, in the order of the rows' content
hashes, so that the same rows are there for every model and protocol.
"""

from __future__ import annotations

import base64
import gzip
import inspect
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spt_fast.report.words import visible
from spt_fast.scoring.metrics import ANSWER, spec
from spt_fast.tasks.answers import extractors

BLOCK = 256
"""Rows that are compressed together, and read by the page one after the other."""
MOST_CHARACTERS = 20_000
"""Of one text, in a page whose size is limited."""
ROOM_OF_A_ROW = 80
"""Bytes of a page that a row takes at the least: more rows than fit by that are not even read."""

FORM, KNOWS, CORRECT, CUT_OFF, JUDGED, FORM_BY_RULE, KNOWS_BY_RULE = (1 << i for i in range(7))
"""Bits of a row's verdicts; page.js has the same."""

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class CellVerdicts:
    """The rows of one cell at its last step: enough to choose from them."""

    examples: Sequence[str]
    """`[N]` content hashes."""
    format_ok: Bools
    """`[N]`"""
    knows: Bools
    """`[N]`"""
    correct: Bools
    """`[N]`"""
    flipped: Bools | None = None
    """`[N]` whether another run has other verdicts; None: there is none."""


@dataclass(frozen=True, kw_only=True)
class SampleCell:
    """Where a row is from, as the page shows it."""

    key: str
    model: str
    task: str
    protocol: str
    seed: int | None
    closed_ended: bool | None


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Packed samples."""

    blocks: Sequence[str]
    """gzip in base64: first cells and beginnings of prompts, then rows."""
    shown: int
    total: int
    failures_shown: int
    """Rows whose form failed, in `shown`."""
    failures: int
    """Rows whose form failed, in `total`."""
    cells: int
    cells_left_out: int = 0
    """Of a grid with too many cells to look at each."""

    @property
    def size(self) -> int:
        """Bytes in the page."""
        return sum(map(len, self.blocks))

    @property
    def told(self) -> str:
        """Which samples these are, for a reader."""
        left_out = f", of {self.cells:,} of {self.cells + self.cells_left_out:,} cells," if self.cells_left_out else ""
        if self.shown == self.total:
            return f"All {self.total:,} rows of the last step{left_out} are in this file."
        return (
            f"{self.shown:,} of {self.total:,} rows of the last step{left_out} are in this file: {self.failures_shown:,} of "
            f"the {self.failures:,} whose form failed, and {self.shown - self.failures_shown:,} others, evenly over cells and "
            "verdicts, in the order of the rows' content hashes. `spt-fast report DIR --samples all` writes a file with all."
        )


def chosen(cells: Sequence[CellVerdicts], most: int | None = None) -> tuple[Ints, Ints]:
    """Which rows to take, best first.

    Args:
        cells: of the run.
        most: rows; None: all.

    Returns:
        `[M]` numbers of cells and `[M]` of rows in them: those that another run sees differently, then blocks of rows whose
        form failed and of others in turns.
    """
    if not cells:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    place = [_in_order(cell) for cell in cells]
    of_cell = np.repeat(np.arange(len(cells)), [len(rows) for rows, _, _ in place])
    of_row, kind, turn = (np.concatenate([each[i] for each in place]) for i in range(3))
    order = np.lexsort((of_cell, turn))  # turn by turn over the cells
    kinds = [order[kind[order] == i] for i in range(3)]
    taken = np.concatenate([kinds[0], *_in_turns(kinds[1], kinds[2])])[:most]
    return of_cell[taken], of_row[taken]


def _in_order(cell: CellVerdicts) -> tuple[Ints, Ints, Ints]:
    """Rows by content hash; what kind each is (0 flipped, 1 form failed, 2 others); its turn among those of its verdict."""
    rows = np.argsort(np.asarray(cell.examples, dtype=object).astype(str), kind="stable").astype(np.int64)
    form, knows, correct = (values[rows] for values in (cell.format_ok, cell.knows, cell.correct))
    kind = np.where(form, 2, 1)
    verdict = np.where(form, 1 + knows + 2 * correct.astype(np.int64), 0)
    if cell.flipped is not None:
        flipped = cell.flipped[rows]
        kind, verdict = np.where(flipped, 0, kind), np.where(flipped, 5, verdict)
    turn = np.zeros(len(rows), np.int64)
    for each in np.unique(verdict):
        alike = verdict == each
        turn[alike] = np.arange(alike.sum())
    return rows, kind.astype(np.int64), turn


def _in_turns(first: Ints, second: Ints) -> Iterator[Ints]:
    for i in range(max(math.ceil(len(first) / BLOCK), math.ceil(len(second) / BLOCK))):
        yield first[i * BLOCK : (i + 1) * BLOCK]
        yield second[i * BLOCK : (i + 1) * BLOCK]
    yield np.zeros(0, np.int64)


def pack(
    cells: Sequence[SampleCell],
    verdicts: Sequence[CellVerdicts],
    rows: Sequence[tuple[int, Mapping[str, Any]]],
    forms: Mapping[str, str] | None = None,
    *,
    room: int | None = None,
    cells_left_out: int = 0,
) -> Samples:
    """Pack rows, as many as there is room for.

    Args:
        cells: where rows are from.
        verdicts: of the same cells, for what is said of the whole.
        rows: number of the cell and row of samples.parquet, best first; `before`: what another run has for the row.
        forms: open-ended task -> the form of its answers in words.
        room: bytes; None: no limit, and no text is cut.
        cells_left_out: of the run, that were not looked at.
    """
    heads, head_of = _heads(rows)
    most = None if room is None else MOST_CHARACTERS
    about = {
        "cells": [vars(cell) for cell in cells],
        "heads": [_cut(head, most) for head in heads],
        "forms": dict(forms or {}),
        "rules": explained(row["rule"] for _, row in rows),
    }
    blocks, size, shown, failures = [_packed(about)], 0, 0, 0
    size = len(blocks[0])
    for i in range(0, len(rows), BLOCK):
        block = rows[i : i + BLOCK]
        packed = _packed([_row(cell, row, *head_of[cell], most) for cell, row in sorted(block, key=_alike)])
        size += len(packed)
        if room is not None and size > room:
            break
        blocks.append(packed)
        shown += len(block)
        failures += sum(not row["format_ok"] for _, row in block)
    return Samples(
        blocks=blocks,
        shown=shown,
        total=sum(len(cell.examples) for cell in verdicts),
        failures_shown=failures,
        failures=sum(int((~cell.format_ok).sum()) for cell in verdicts),
        cells=len(cells),
        cells_left_out=cells_left_out,
    )


def _alike(row: tuple[int, Mapping[str, Any]]) -> tuple[str, int]:
    """What has the same words in it stands together, where compression finds it."""
    return row[1]["example"], row[0]


def _heads(rows: Iterable[tuple[int, Mapping[str, Any]]]) -> tuple[list[str], dict[int, tuple[int, int]]]:
    """What the prompts of a cell begin with (worked examples, mostly), each kept once.

    Returns:
        The beginnings, and for each cell: which of them, and its length.
    """
    prompts: dict[int, list[str]] = {}
    for cell, row in rows:
        prompts.setdefault(cell, []).append(row["prompt"])
    heads: dict[str, int] = {"": 0}
    found = {}
    for cell, texts in prompts.items():
        first, last = min(texts), max(texts)  # what these two have in common, all between them have
        alike = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
        head = first[: first.rfind("\n", 0, alike) + 1] if len(texts) > 1 else ""
        found[cell] = (heads.setdefault(head, len(heads)), len(head))
    return list(heads), found


def _row(cell: int, row: Mapping[str, Any], head: int, skip: int, most: int | None) -> list[Any]:
    """A row as page.js reads it, without the empty fields at its end."""
    before = row.get("before")
    logprobs = [round(value, 3) if math.isfinite(value) else None for value in row["option_logprobs"] or ()]
    fields = [
        cell,
        row["example"],
        head,
        _cut(row["prompt"][skip:], most),
        _cut(row["completion"], most),
        _bits(row),
        row["target"],
        row["extracted"],
        row["rule"],
        list(row["answers"] or ()),
        row["chosen"],
        logprobs or None,
        _scores(row) or None,
        before and [_cut(before["completion"], most), _bits(before), before["extracted"], before["rule"], _span(before)],
        _span(row),
        list(row["options"] or ()) or None,
    ]
    while fields[-1] is None:
        fields.pop()
    return fields


def _scores(row: Mapping[str, Any]) -> dict[str, float]:
    """Its further scores, and the likelihood of its gold answer, under what they are called."""
    likelihood = {spec(name).head: row[name] for name in ANSWER if row.get(name) is not None}
    return {**dict(row["scores"] or ()), **likelihood}


def _span(row: Mapping[str, Any]) -> list[int] | None:
    """Where the extracted value stands, counted as JavaScript counts: a character beyond U+FFFF is two."""
    if not row["span"]:
        return None
    return [len(row["completion"][:end].encode("utf-16-le", "surrogatepass")) // 2 for end in row["span"]]


def explained(rules: Iterable[str | None]) -> dict[str, str]:
    """What rules of extraction look for, in the words of their own documentation; of a user's own rule nothing is known."""
    known = {rule: getattr(extractors, rule, None) for rule in rules if rule}
    words = {rule: inspect.getdoc(found) for rule, found in known.items() if callable(found)}
    return {rule: visible(" ".join(said.split("\n\n")[0].split()), 300) for rule, said in words.items() if said}


def _bits(row: Mapping[str, Any]) -> int:
    judged = row["format_by_rule"] is not None or row["knows_by_rule"] is not None
    told = (
        row["format_ok"],
        row["knows"],
        row["correct"],
        row["finish_reason"] == "length",
        judged,
        row["format_by_rule"],
        row["knows_by_rule"],
    )
    return sum(1 << i for i, each in enumerate(told) if each)


def _cut(text: str, most: int | None) -> str:
    if most is None or len(text) <= most:
        return text
    return f"{text[:most]}\n[{len(text) - most:,} more characters are in samples.parquet]"


def _packed(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()
