"""What a chat template makes of a prompt: whether all of it is there, of which day it is, whether its cue opens a thought.

Text only: no tokenizer, no model.
"""

from __future__ import annotations

import html
import json
import re
from datetime import datetime

SWITCHES = (
    {"enable_thinking": False},
    {"thinking": False},
    {"enable_reasoning": False},
    {"reasoning": False},
    {"think": False},
    {"thinking_mode": "off"},
    {"reasoning_effort": "none"},
    {"thinking_budget": 0},
)
"""What chat templates call the switch of their thoughts: settings that may turn them off, the most common first."""


class Clock:
    """Stands for `strftime_now`, the clock of chat templates: always midnight of one day; counts how often it is asked."""

    def __init__(self, day: str) -> None:
        """Stop at a day, as in 2024-07-26."""
        self._now = datetime.fromisoformat(day)
        self.asked = 0

    def __call__(self, form: str) -> str:
        """That time, in a form of `strftime`."""
        self.asked += 1
        return self._now.strftime(form)


def is_found(text: str, rendered: str) -> bool:
    """Whether a text stands in a rendered prompt: all of its words in order, with nothing between them but white space.

    A template may strip the text, fold its white space, or write it as JSON or HTML do: the model still reads all of it. What
    is cut off, taken out or put in between is not found, nor are words that are run together.
    """
    if text in rendered:
        return True
    words, there = _one_space(text), _one_space(rendered)
    as_json = (_one_space(json.dumps(text.strip(), ensure_ascii=ascii)[1:-1]) for ascii in (False, True))
    return words in there or words in html.unescape(there) or any(form in there for form in as_json)


def first_missing(text: str, rendered: str, most: int = 60) -> str:
    """Where a text that is not found in a rendered prompt stops being there: what comes next of it, in one line."""
    words, there = _one_space(text).split(" "), _one_space(rendered)
    low, high = 0, len(words)
    while low + 1 < high:  # so many of the words are there, and so many are not
        middle = (low + high) // 2
        low, high = (middle, high) if " ".join(words[:middle]) in there else (low, middle)
    return " ".join(words[low:])[:most]


def open_thought(cue: str) -> str | None:
    """The marker of a thought that a cue opens and does not close: `<think>`, `[THINK]`, `<|channel|>analysis`; None: none.

    Args:
        cue: what a template writes behind the question.
    """
    opened: list[str] = []
    for marker in _MARKER.finditer(cue):
        if not _CLOSES.match(marker[0]):
            opened.append(" ".join(marker[0].split()))
        elif opened:
            opened.pop()
    spoken = _SPOKEN.search(cue)
    return opened[0] if opened else spoken[0].strip() if spoken else None


def has_thought(text: str) -> bool:
    """Whether there is a marker of a thought in a text, opened or closed."""
    return _MARKER.search(text) is not None


_WORD = r"(?:think|thought|reason|reflect|analys|ponder|scratch_?pad|inner|cot\b)"
_CHANNEL = rf"<\|?channel\|?>\s*{_WORD}\w*|<\|?channel\|?>\s*final|<channel\|>|<\|end\|>"
_MARKER = re.compile(rf"{_CHANNEL}|[<\[◁«][^<>\[\]◁▷«»\n]*?{_WORD}[^<>\[\]◁▷«»\n]*[>\]▷»]", re.IGNORECASE)
_CLOSES = re.compile(
    r"<\|?channel\|?>\s*final|<channel\|>|<\|end\|>|[<\[◁«]\W*(?:/|end|close|stop|no)|[^>\]▷»]*(?:_end|suffix)", re.IGNORECASE
)
_SPOKEN = re.compile(
    r"(?:(?:^|\n)\W*(?:my )?(?:thoughts?|thinking|reasoning|analysis)\W*:\W*|think[^.\n]{0,20}step.by.step\W*"
    r"|(?<=[>\]])\s*(?:thoughts?|thinking|reasoning|analysis)\s*)$",
    re.IGNORECASE,
)
"""A cue may also be in words: "Thought:", "Let's think step by step.", a special token and "thought"."""


def _one_space(text: str) -> str:
    return " ".join(text.split())
