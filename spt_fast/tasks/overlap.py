"""Near-duplicates: tuning and few-shot rows that share a long run of words with a test row.

The loader drops a tuning row whose question *is* a test row's (`rows.py`). This finds what is nearly one: the same words with
another number at the end, a passage that is in both splits. Nothing is dropped for it; it is counted and shown, because
published splits overlap as they are, and a reader of results should know by how much.

A row and a test row overlap where they share 13 words in a row, the measure of the GPT-3 paper (arXiv 2005.14165, appendix C)
and of lm-eval's decontamination: NFKC, small letters, words of letters and digits, whatever stands between them. What they do
differently is what fits short rows badly:

* Question, context and each option (without its letter) are texts of their own, so that no run goes on from one into the
  next: a subject in front of a stock phrase, or "true, true; false, false", would soon be 13 words. Overlaps are counted by
  which of them it was: one in the context alone may be a passage that the data set asks about in both splits.
* A row none of whose texts has 13 words is compared whole: question and options in any order, or context and question where
  there are no options. Below 5 words it is not compared.
* A run that more than 10 test texts have is a stock phrase, and no overlap: 27 words of instruction stand
  in front of every question of MMLU's moral scenarios.
* The instruction is the same for all rows, and the target is not what is asked: neither counts.

Scripts that are written without blanks (Chinese, Japanese, Thai) have few words in this sense; there, little is found.
"""

from __future__ import annotations

import hashlib
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal, TypeAlias

from spt_fast.tasks.base import SPLITS, Split, Task
from spt_fast.tasks.forms import LETTERS
from spt_fast.tasks.lengths import lengths
from spt_fast.tasks.rows import Rows
from spt_fast.types import Example

RUN = 13
"""Words in a row that make an overlap."""

LEAST = 5
"""Fewest words of a row that is compared whole."""

STOCK = 10
"""Most test texts that a run may be in; in more, it is a phrase of the data set."""

SHOWN = 20
"""Most pairs that are listed."""

_AT_ONCE = 8_000_000
"""Most characters of test rows whose runs are held at once (about 200 MB); more take another pass over the tuning rows."""

_WORD = re.compile(r"\w+")

Part: TypeAlias = Literal["question", "options", "context", "whole"]
PARTS: tuple[Part, ...] = ("question", "options", "whole", "context")
"""Of a row, what an overlap can be in; the more telling first."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A tuning or few-shot row, and a test row that it overlaps with."""

    split: Split
    row: str
    """`Example.key` of the tuning or few-shot row."""
    test: str
    """`Example.key` of the test row."""
    part: Part
    """Of the test row, what the words are in."""
    words: str
    """What they share, one blank between words."""


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """How far the tuning and few-shot rows of a task overlap with its test rows."""

    compared: Mapping[Split, int]
    """Rows that have enough words to be compared."""
    overlapping: Mapping[Split, int]
    """Rows with an overlap: tuning and few-shot rows with any test row, test rows with any of those."""
    parts: Mapping[Part, int]
    """Test rows by what the overlap is in; one may be in several."""
    stock_runs: int
    """Runs of words that were left out because many test rows have them."""
    pairs: tuple[Pair, ...]
    """The first of them, those in a question before those in a context."""


def near_duplicates(rows: Rows) -> NearDuplicates:
    """Compare tuning and few-shot rows with the test rows that were loaded (a limit leaves out the rest of them)."""
    mine: dict[Split, Sequence[Example]] = {"tuning": rows.tuning, "few_shot": rows.few_shot}
    compared: dict[Split, set[int]] = {split: set() for split in SPLITS}
    overlapping: dict[Split, set[int]] = {split: set() for split in SPLITS}
    parts: dict[Part, set[int]] = {part: set() for part in PARTS}
    pairs: dict[Part, list[Pair]] = {part: [] for part in PARTS}
    stock_runs = 0
    for start, block in _blocks(rows.test):
        wanted: set[int] = set()
        again: Counter[int] = Counter()
        for text in _texts(block):
            runs = set(text.runs())
            again.update(wanted & runs)
            wanted |= runs
            compared["test"].update(start + i for i in text.rows)
        stock = {run for run, times in again.items() if times >= STOCK}
        stock_runs += len(stock)
        wanted -= stock
        first: dict[int, tuple[Split, str]] = {}
        for split, examples in mine.items():
            for text in _texts(examples):
                compared[split].update(text.rows)
                if shared := wanted.intersection(text.runs()):
                    overlapping[split].update(text.rows)
                    for run in shared:
                        first.setdefault(run, (split, examples[text.rows[0]].key))
        for text in _texts(block):
            if (shared_words := _shared(text, first)) is None:
                continue
            rows_of_it = [start + i for i in text.rows]
            overlapping["test"].update(rows_of_it)
            parts[text.part].update(rows_of_it)
            if len(pairs[text.part]) < SHOWN:
                (split, row), words = shared_words
                test = block[text.rows[0]].key
                pairs[text.part].append(Pair(split=split, row=row, test=test, part=text.part, words=words))
    return NearDuplicates(
        stock_runs=stock_runs,
        compared={split: len(found) for split, found in compared.items()},
        overlapping={split: len(found) for split, found in overlapping.items()},
        parts={part: len(found) for part, found in parts.items()},
        pairs=tuple(pair for part in PARTS for pair in pairs[part])[:SHOWN],
    )


def report(task: Task, rows: Rows) -> dict[str, Any]:
    """What the rows of a task are, as JSON has it: for people who read results, and for those who repeat them."""
    return {
        "task": task.name,
        "version": task.version,
        "content": rows.content,
        "licence": task.licence,
        "splits": {split: _split(getattr(rows, split)) for split in SPLITS},
        "dropped": dict(rows.dropped),
        "losses": rows.losses.plain(),
        "lengths": lengths(task, rows.test),
        "near_duplicates": asdict(near_duplicates(rows)),
    }


def words_of(text: str) -> list[str]:
    """The words of a text as they are compared: letters and digits; NFKC, small letters, no combining marks."""
    if not text.isascii():
        # Marks are no letters to `\w`: left in, every vowel sign of Hindi would end a word.
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
        if marks := set(text) & _marks():
            text = text.translate(dict.fromkeys(map(ord, marks)))
    return _WORD.findall(text.lower().replace("_", " "))


@dataclass(frozen=True, slots=True)
class _Text:
    """A text of one row, or of all rows that share it."""

    rows: Sequence[int]
    part: Part
    words: list[str]

    def runs(self) -> Iterable[int]:
        """A hash of every run of words; they are compared within one process only."""
        if self.part == "whole":
            return (hash((self.part, *self.words)),)
        return map(hash, zip(*(self.words[i:] for i in range(RUN)), strict=False))

    def words_from(self, first: int, end: int) -> str:
        """The words of the runs number `first` to `end`, the last left out."""
        return " ".join(self.words if self.part == "whole" else self.words[first : end - 1 + RUN])


def _shared(text: _Text, first: Mapping[int, tuple[Split, str]]) -> tuple[tuple[Split, str], str] | None:
    """Whose the first run of `text` is that others have too, and the words from there on that are the same one's."""
    hits = [first.get(run) for run in text.runs()]
    owner = next(filter(None, hits), None)
    if owner is None:
        return None
    at = hits.index(owner)
    end = next((i for i in range(at, len(hits)) if hits[i] != owner), len(hits))
    return owner, text.words_from(at, end)


def _texts(examples: Sequence[Example]) -> Iterator[_Text]:
    """Everything of some rows that is compared."""
    contexts: dict[str, list[int]] = {}
    for i, example in enumerate(examples):
        contexts.setdefault(example.context, []).append(i)
    short: dict[str, list[str]] = {}
    for context, rows in contexts.items():
        words = words_of(context)
        if len(words) >= RUN:
            yield _Text(rows, "context", words)
        else:
            short[context] = words
    for i, example in enumerate(examples):
        question, *options = map(words_of, (example.question, *_options(example)))
        texts = [_Text((i,), "options" if n else "question", words) for n, words in enumerate([question, *options])]
        if long := [text for text in texts if len(text.words) >= RUN]:
            yield from long
        elif options or example.context in short:
            asked = [*question, *(word for option in sorted(options) for word in option)]
            whole = asked if options else [*short[example.context], *asked]
            if len(whole) >= LEAST:
                yield _Text((i,), "whole", whole)


def _options(example: Example) -> Iterator[str]:
    for letter, option in zip(LETTERS, example.listing or example.options, strict=False):
        yield option.removeprefix(f"{letter}. ")


def _blocks(examples: Sequence[Example]) -> Iterator[tuple[int, Sequence[Example]]]:
    """Rows in their order, in blocks of so many characters, each with the index of its first row."""
    start, size = 0, 0
    contexts: set[str] = set()
    for i, example in enumerate(examples):
        more = len(example.question) + sum(map(len, example.options))
        more += 0 if example.context in contexts else len(example.context)
        if size + more > _AT_ONCE and i > start:
            yield start, examples[start:i]
            start, size = i, 0
            contexts.clear()
        size += more
        contexts.add(example.context)
    yield start, examples[start:]


def _split(examples: Sequence[Example]) -> dict[str, Any]:
    keys = "\n".join(example.key for example in examples)
    return {"rows": len(examples), "content": hashlib.sha256(keys.encode()).hexdigest()[:16]}


@cache
def _marks() -> frozenset[str]:
    return frozenset(ch for ch in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(ch).startswith("M"))
