"""The form of closed-ended answers: options with letters ("B. Paris"), letters alone, or texts alone.

A reader of "A. the like poles repel", where that text is B's, says: the form is there, and the letter is not the text's. So
form is one thing (`in_form_asked`) and that letter and text belong together another (`bound`); exact match needs both.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

NEAR = 0.8
"""Likeness of two texts (difflib's ratio, 0 to 1) from which one is the other with a word left out or changed."""
MORE_WORDS = 2
"""Words that may stand behind an option's text, or be more than the longest option has; a sentence is more."""

_LETTERED = re.compile(r"([A-Z])\.[ \t]+(\S.*)")
_SENTENCE_BEHIND = re.compile(r"[.!?][\"')\]]*\s+\S")


def written(options: Sequence[str]) -> str:
    """How options are written: "" with letter and text ("B. Paris"), as most tasks have it; "letter"; or "text"."""
    letters = LETTERS[: len(options)]
    if tuple(option[:3] for option in options) == tuple(f"{letter}. " for letter in letters):
        return ""
    return "letter" if "".join(options) == letters else "text"


def bare_texts(options: Sequence[str]) -> tuple[str, ...]:
    """Options without their letters; none where they are letters alone."""
    how = written(options)
    return () if how == "letter" else tuple(options) if how else tuple(option[3:] for option in options)


def in_form_asked(text: str, options: Sequence[str]) -> bool:
    """Whether `text`, stripped of outer white space, has the form of an answer, right or wrong.

    Options with letters: the letter of one of them, a full stop, a blank and a text, which need not be that letter's, nor quite
    that of any option. Not in form: the letter alone or with another mark, a second line, a second option, an explanation or
    another sentence behind, a text that is longer than any option by more than `MORE_WORDS` words and a quarter. Other options:
    one of them as it is.
    """
    if text in options:
        return True
    found = _LETTERED.fullmatch(text)
    if written(options) or found is None or found[1] not in LETTERS[: len(options)]:
        return False
    return _is_a_text(found[2].rstrip(), bare_texts(options))


def in_form_unlisted(text: str, options: Sequence[str]) -> bool:
    """Whether `text`, stripped of outer white space, is written as an option would be, where the prompt shows none of them.

    No model can know their words, nor quite how long they are, so those do not count: it is one line, where the options are,
    with words, and at most `MORE_WORDS` longer than twice the longest option.
    """
    lines = max(len(option.splitlines()) for option in options)
    longest = max(len(option.split()) for option in options)
    short = len(text.splitlines()) <= lines and len(text.split()) <= 2 * longest + MORE_WORDS
    return text in options or (short and bool(re.search(r"\w", text)))


def bound(text: str, options: Sequence[str]) -> bool | None:
    """Whether the text behind the letter is that letter's, of an answer that is in form; None: options without letters."""
    return None if written(options) else text.strip() in options


def _is_a_text(said: str, texts: Sequence[str]) -> bool:
    """Whether what stands behind a letter is one text: an option's, one much like it, or another as short and simple."""
    if any(_alike(said, text) for text in texts):
        return True
    if not re.search(r"\w", said) or _second_option(said, texts) or _SENTENCE_BEHIND.search(said):
        return False
    words, longest = len(said.split()), max(len(text.split()) for text in texts)
    behind = [words - len(text.split()) for text in texts if _plain(said).startswith(f"{_plain(text)} ")]
    return words <= 1.25 * longest + MORE_WORDS and min(behind, default=0) <= MORE_WORDS


def _alike(said: str, text: str) -> bool:
    a, b = _plain(said), _plain(text)
    if not a or not b:
        return said == text
    # The ratio of two texts is at most that of their lengths.
    possible = 2 * min(len(a), len(b)) / (len(a) + len(b)) >= NEAR and len(a.split()) <= len(b.split()) + MORE_WORDS
    return a == b or (possible and difflib.SequenceMatcher(None, a, b, autojunk=False).ratio() >= NEAR)


def _second_option(said: str, texts: Sequence[str]) -> bool:
    letters = LETTERS[: len(texts)]
    return said in letters or re.search(rf"(?:^|\s|\()[{letters}][.):](?:\s|$)", said) is not None


def _plain(text: str) -> str:
    """A text as it is compared: neither case, nor white space, nor punctuation at its ends count."""
    return " ".join(text.casefold().split()).strip(" .,;:!?\"'")
