"""Short texts as answers: when two are the same (SQuAD, NQ-open, TriviaQA), and how much of one is in the other (F1).

The normalisations are those of the published evaluation scripts, but for two things:

* A text that is nothing but articles and punctuation ("A", "The The", "!!!") is left as it is, in small letters. The scripts
  make it empty, and so equal to every other such text.
* The sign and the decimal point of a number stay: "-5" (with any dash) is not 5, and "3.14" is not 314, as the scripts have it.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from spt_fast.types import Example

_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = re.escape(string.punctuation)
_DASHES = "\\-\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"
# A word that is one number, with punctuation around it and a unit at its end: "(-5)", "$3.14.", "3.6m". Not "1990-91".
_NUMBER = re.compile(
    rf"[{_PUNCTUATION}]*?(?P<sign>[{_DASHES}]?)\$?(?P<whole>[0-9]+(?:,[0-9]{{3}})*)"
    rf"(?:\.(?P<fraction>[0-9]+))?(?P<unit>[^\s\d{_PUNCTUATION}]*)[{_PUNCTUATION}]*"
)
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_BLANK_FOR_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation + "\u2018\u2019\u00b4", " "))


def normalise_squad(text: str) -> str:
    """Small letters, no ASCII punctuation, no English articles, single blanks: evaluate-v1.1.py of SQuAD.

    NQ-open is compared by it as well.
    """
    return _without_articles(text, _without_punctuation(text.lower(), _NO_PUNCTUATION))


def normalise_triviaqa(text: str) -> str:
    """As SQuAD's, but punctuation, some typographic quotes among it, becomes a blank: triviaqa_evaluation.py of TriviaQA.

    So "Spider-Man" is "spider man", and "so_called" is "so called".
    """
    return _without_articles(text, _without_punctuation(text.lower(), _BLANK_FOR_PUNCTUATION))


def _without_punctuation(text: str, table: Mapping[int, str | int | None]) -> str:
    """A text whose punctuation is as `table` has it, but for the sign and the decimal point of a number."""
    words = text.split()
    return " ".join(_word(word, before, table) for before, word in zip(["", *words], words, strict=False))


def _word(word: str, before: str, table: Mapping[int, str | int | None]) -> str:
    found = _NUMBER.fullmatch(word)
    if not found:
        return word.translate(table)
    sign = "-" if found["sign"] and not before[-1:].isdecimal() else ""  # "1990 -1995" is no negative number
    whole, unit = found["whole"].translate(table), found["unit"].translate(table)
    point = f".{found['fraction']}" if found["fraction"] else ""
    return f"{sign}{whole}{point}{unit}"


def _without_articles(text: str, bare: str) -> str:
    return " ".join(_ARTICLE.sub(" ", bare).split()) or " ".join(text.lower().split())


def squad_exact_match(value: str, answers: Iterable[str]) -> bool:
    """Whether `value` is one of `answers` after SQuAD's normalisation."""
    return normalise_squad(value) in map(normalise_squad, answers)


def squad_f1(value: str, answers: Iterable[str], normalise: Callable[[str], str] = normalise_squad) -> float:
    """F1 of the words that `value` and an answer share, each word as often as it stands in both; the best of `answers`.

    No answers: 0.
    """
    words = normalise(value).split()
    return max((_overlap(words, normalise(answer).split()) for answer in answers), default=0.0)


def _overlap(words: list[str], wanted: list[str]) -> float:
    shared = sum((Counter(words) & Counter(wanted)).values())
    # 2PR / (P + R) with P = shared / len(words) and R = shared / len(wanted).
    return 2 * shared / (len(words) + len(wanted)) if shared else 0.0


def f1(value: str, example: Example) -> float:
    """`squad_f1` against the example's answers, as a score of a task."""
    return squad_f1(value, example.answers)


def triviaqa_f1(value: str, example: Example) -> float:
    """The same after TriviaQA's normalisation."""
    return squad_f1(value, example.answers, normalise_triviaqa)
