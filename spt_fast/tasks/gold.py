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

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from spt_fast.tasks.base import Task
from spt_fast.types import Example

MOST_ANSWERS = 4
"""Gold answers of a row whose likelihood is asked."""
_WORD, _ODD = re.compile(r"\w+"), re.compile(r"[^\w ]|  ")
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
    """The first of these and the most usual of the others, `MOST_ANSWERS` in all; empty ones are left out.

    Lists of answers are long and in no order: TriviaQA's for Mars have "Fourth planet", "Mars surface features", "Mars", "Mars
    (planet)" and twenty more. What most of the others have in them as whole words is what people say. Of the same words the
    plainest spelling is taken: with the least besides letters and digits, and neither all capitals nor all small.
    """
    answers = list(dict.fromkeys(filter(None, (text.strip() for text in texts))))
    plainest: dict[str, str] = {}
    for text in sorted(answers, key=lambda text: (len(_ODD.findall(text)), text.isupper() or text.islower())):
        plainest.setdefault(_words(text), text)
    usual = sorted(
        dict.fromkeys(map(_words, answers)), key=lambda words: -sum(words in other for other in map(_words, answers))
    )
    return tuple(dict.fromkeys([*answers[:1], *(plainest[words] for words in usual)]))[:MOST_ANSWERS]


def _words(text: str) -> str:
    """The words of a text, a blank around each; of a text without words itself."""
    return f" {' '.join(_WORD.findall(text.casefold())) or text} "


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
