"""Thinking in front of an answer (`<think>...</think>18`): what stands in a thought is no answer, whatever it looks like."""

from __future__ import annotations

import re

_NAME = r"(?:[a-z]+:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?)"
_OPENS = re.compile(rf"<{_NAME}>|\[think\]|\u25c1think\u25b7|<\|begin_of_thought\|>", re.IGNORECASE)
_CLOSES = re.compile(rf"</{_NAME}>|\[/think\]|\u25c1/think\u25b7|<\|end_of_thought\|>", re.IGNORECASE)


def answer_start(text: str) -> int:
    """Where a completion's answer begins: behind its last thought, 0 where it has none, its end where a thought is not closed.

    A thought that the prompt has opened is closed all the same: what stands in front of `</think>` was thought.
    """
    closed = max((found.end() for found in _CLOSES.finditer(text)), default=0)
    return len(text) if _OPENS.search(text, closed) else closed


def opens_thought(prompt: str) -> bool:
    """Whether a prompt ends by opening a thought, as some chat templates do: a completion then begins inside it."""
    return any(not prompt[found.end() :].strip() for found in _OPENS.finditer(prompt))


def answer_of(text: str, prompt: str = "") -> str:
    """What stands behind a completion's thought; nothing where the thought that it began in never ends."""
    if opens_thought(prompt) and not _CLOSES.search(text):
        return ""
    return text[answer_start(text) :]
