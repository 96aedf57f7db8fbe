"""The gold answer as text: what its likelihood is asked of (`answer_bits_per_byte`).

Open-ended tasks have a target, which is what a model should write, and gold answers, which are all values that count as right.

    target                        what is given       what is scored
    Paris                                             Paris, or another of the gold answers
    {"answer": "bread"}           {"answer": "        bread, or another of the gold answers
    90 + 2 = 92\\n#### 92                              the whole of it

A lead-in that all rows share says nothing of the answer: it is the form, so it is given, and the form is not measured. What
differs from row to row in front of the answer is a working, which is a part of the answer: behind it, the answer is a copy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from spt_fast.tasks.base import Task
from spt_fast.types import Example

MOST_ANSWERS = 4
"""Gold answers of a row whose likelihood is asked: the target's, and the next ones as they are published."""
MOST_LOOKED_AT = 256
"""Targets that tell what the form in front of an answer is."""


@dataclass(frozen=True, kw_only=True)
class Gold:
    """The gold answer of one row."""

    texts: tuple[str, ...]
    """What is scored: one text, or several of which the likeliest counts; none where the row's target is empty."""
    given: str = ""
    """What stands in front of each, and is not."""


def lead_in(task: Task, examples: Sequence[Example]) -> str | None:
    """What stands in front of the answer in most targets; None: it differs, and the whole target is the answer.

    Args:
        task: open-ended; its extractor says where in a target the answer stands.
        examples: rows of it, of any split; of equal targets nothing can be told.
    """
    looked_at = examples[:MOST_LOOKED_AT]
    leads = Counter(None if found is None else found[0] for found in (_parted(task, example) for example in looked_at))
    lead, often = leads.most_common(1)[0] if leads else (None, 0)
    alike = lead and len({example.target for example in looked_at}) < 2
    return None if alike or 2 * often <= len(looked_at) else lead


def gold_of(task: Task, example: Example, lead: str | None) -> Gold:
    """What is scored of a row, and behind what.

    Args:
        task: open-ended.
        example: the row.
        lead: of `lead_in`.
    """
    parted = None if lead is None else _parted(task, example)
    if parted is None or parted[0] != lead:
        return Gold(texts=(example.target,) if example.target.strip() else ())
    return Gold(texts=distinct((parted[1], *example.answers)), given=parted[0])


def distinct(texts: Sequence[str]) -> tuple[str, ...]:
    """The first `MOST_ANSWERS` of these that are not empty; of texts that differ in case or white space alone the first."""
    found: dict[str, str] = {}
    for text in texts:
        found.setdefault(" ".join(text.split()).casefold(), text.strip())
    return tuple(text for alike, text in found.items() if alike)[:MOST_ANSWERS]


def _parted(task: Task, example: Example) -> tuple[str, str] | None:
    """A target as what stands in front of the answer, and the answer; None: the extractor finds none in it."""
    if task.library is not None or example.target in example.answers:
        return "", example.target
    try:
        read = task.read(example.target, example)
    except Exception:  # a user's own code: what is wrong with it is told where completions are scored
        return None
    if read is None:
        return None
    start, end = read.span
    return example.target[:start], example.target[start : end if start else None]
