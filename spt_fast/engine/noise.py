"""How far log-probabilities may differ between two right implementations: by what one of them differs from itself.

In half precision a sum is rounded at every layer, and how depends on the shape of the batch and on the order of the sum. So
the same model says other numbers in another batch, and all the more so in another program. How large that noise is depends on
the model, on the prompt and on how unlikely a token is, and cannot be said beforehand; but it can be measured, on the very
same tokens.

Two numbers are held against it. The root mean square over many tokens is steady, and a fault that changes what the model reads
shows in it although no single token is beyond doubt. The largest difference shows a fault of few tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spt_fast.types import LogLikelihood

TIMES, TIMES_OF_FEW = 2.0, 4.0
"""How many times the noise the differences of `n` tokens may be, as root mean squares: `TIMES + TIMES_OF_FEW / sqrt(n)`. On
SmolLM2-135M in bfloat16, vLLM and Transformers differed by 0.9 to 1.2 times their noise of 0.06 nats (largest 0.32); behind a
soft prompt with two swapped rows by 2.5 to 2.9 times, with one more BOS by 3 to 6, with rows one place off by 6 to 8."""
TIMES_LARGEST = 2.5
"""How many times the largest difference of one token may be what it is among the noise."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Differences of log-probabilities of the same tokens, in nats."""

    n: int
    """Tokens."""
    rms: float
    """Their root mean square."""
    largest: float

    def __str__(self) -> str:
        return f"{self.rms:.2g} (largest {self.largest:.2g})"


@dataclass(frozen=True, kw_only=True)
class Bound:
    """How large differences may be, in nats."""

    rms: float
    largest: float

    def holds(self, found: Spread) -> bool:
        """Whether differences are within it."""
        return found.rms <= self.rms and found.largest <= self.largest

    def __str__(self) -> str:
        return f"{self.rms:.2g} (largest {self.largest:.2g})"


def apart(one: LogLikelihood, other: LogLikelihood) -> list[float]:
    """Differences token by token; infinite where one has other tokens than the other, or what is no number."""
    if len(one.token_logprobs) != len(other.token_logprobs):
        return [math.inf]
    pairs = zip(one.token_logprobs, other.token_logprobs, strict=True)
    return [abs(a - b) if math.isfinite(a) and math.isfinite(b) else math.inf for a, b in pairs]


def spread(pairs: Iterable[tuple[LogLikelihood, LogLikelihood]]) -> Spread:
    """How far two lists of answers to the same requests are apart."""
    found = [each for one, other in pairs for each in apart(one, other)]
    return Spread(n=len(found), rms=_rms(found), largest=max(found, default=0.0))


def pooled(spreads: Sequence[Spread]) -> Spread:
    """Several together."""
    n = sum(each.n for each in spreads)
    rms = math.sqrt(sum(each.n * each.rms**2 for each in spreads) / max(1, n))
    return Spread(n=n, rms=rms, largest=max((each.largest for each in spreads), default=0.0))


def bound(noise: Sequence[Spread], answers: Iterable[LogLikelihood], *, step: float, times: float = TIMES) -> Bound:
    """How far differences may go.

    The noise is taken to be no less than what rounding a log-probability of that size to the dtype does by itself: an eighth of
    a step in the mean, half a step for one token. What an engine says in two batches may be equal to the last bit.

    Args:
        noise: what implementations differ from themselves, on the same tokens.
        answers: of one of them.
        step: from 1 to the next number of the dtype (`torch.finfo(dtype).eps`).
        times: how many times the noise the differences of many tokens may be, as root mean squares.
    """
    sizes = [max(1.0, abs(each)) for answer in answers for each in answer.token_logprobs if math.isfinite(each)]
    times += TIMES_OF_FEW / math.sqrt(max(1, len(sizes)))
    return Bound(
        rms=times * max([step / 8 * _rms(sizes), *(each.rms for each in noise)]),
        largest=TIMES_LARGEST * max([step / 2 * max(sizes, default=1.0), *(each.largest for each in noise)]),
    )


def _rms(values: Sequence[float]) -> float:
    return math.sqrt(sum(each * each for each in values) / len(values)) if values else 0.0
