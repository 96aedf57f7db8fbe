"""The likelihood of the gold answer: bits per byte, and its lead over the other options.

    bits per byte   -log2 p(answer | prompt) / UTF-8 bytes of the answer
    margin          ln p(right option | prompt) - ln p(likeliest wrong option | prompt)

Bytes, because tokens are each model's own. The space in front of an answer is in its likelihood, since tokens have it, and is
not counted among its bytes: it is the prompt's (Magnusson et al., Paloma, arXiv 2312.10523, count bytes for the same reason).

Which likelihood. Closed-ended tasks: of the option's text behind the question alone (cloze), which needs no request of its own,
and whose text is the same whatever letters a prompt lists; where a task has no cloze form, of the option as it is asked.
Open-ended tasks: of the texts of `tasks.gold` behind the task's own prompt.

A mean over rows weighs each answer alike, as Heineman et al. (arXiv 2508.13144) and OLMES do; the ratio of all bits to all
bytes would be that of the long answers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GoldScores:
    """The log-likelihoods of one row's gold answers, natural logarithms."""

    texts: tuple[str, ...] = ()
    """`[A]`; empty: none was asked."""
    logprobs: tuple[float, ...] = ()
    """`[A]`"""

    @property
    def bits_per_byte(self) -> float | None:
        """Of the likeliest answer, of equal ones the first; None where there is none, or it has no bytes or no likelihood."""
        if not self.logprobs:
            return None
        best = max(range(len(self.texts)), key=self.logprobs.__getitem__)
        size, logprob = utf8_bytes(self.texts[best]), self.logprobs[best]
        return -logprob / (math.log(2) * size) if size and math.isfinite(logprob) else None


def utf8_bytes(text: str) -> int:
    """Bytes of a text; half a surrogate pair, which UTF-8 has not, counts as one."""
    return len(text.encode("utf-8", "replace"))


def margin(texts: Sequence[str], logprobs: Sequence[float], gold: int | None) -> float | None:
    """By how much the right option is likelier than any with another text, in nats: above nought where it is chosen.

    None where there is no such option, or a likelihood is nought.

    Args:
        texts: `[K]` of the options.
        logprobs: `[K]` of these.
        gold: the right one.
    """
    if gold is None or not all(map(math.isfinite, logprobs)):
        return None
    others = [value for text, value in zip(texts, logprobs, strict=True) if text != texts[gold]]
    return logprobs[gold] - max(others) if others else None
