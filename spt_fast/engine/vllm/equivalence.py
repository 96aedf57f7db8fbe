"""Proof, at an engine's start, that a faster way of asking gives what the plain way gives: the same requests, both ways.

What is faster leans on more of vLLM than its documentation promises. What may break it (another version, model runner,
attention backend, a plug-in that is missing in one process) cannot all be listed; that answers are equal can be seen.

Equal is what differs no more than the plain way does from itself. On a GPU a sum is rounded as the shape of its batch has it,
so the plain way is asked again in other batches: what it then says otherwise is the noise, of this model and on these tokens.
The other way is asked again too, and of each the mean is taken, in which there is less noise and as much of a fault. A way is
taken where its differences are of the noise's size, and where no completion parts from the plain one but at a near tie.
benchmarks/engine/equivalence.py shows how often that passes what is equal, and finds what is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TypeAlias

from spt_fast.engine.noise import Bound, Spread, bound, pooled, spread
from spt_fast.types import Answer, Completion, Generate, LogLikelihood, Position, Request, Sampling, Score

EXACT_NATS = 1e-3
"""Nats by which log-probabilities of one token may differ however small the noise: in float32 there is next to none."""
TIMES = 1.5
"""How many times the noise the differences of many tokens may be, as root mean squares (`engine.noise.bound`)."""
TIMES_TOLD = 1.25
"""How many times what is allowed other prompts must differ by; else a wrong one would not be seen."""

PLACES: tuple[Position, ...] = ("front", "after_bos")
LENGTH = 3
"""`P` of the soft prompts that prove."""
SHORT_PROMPTS = 4
OTHER_BATCHES = (4, 13)
"""Requests at once when the plain way is asked again, where the first time it is all: numbers that pad to other shapes."""

Ask: TypeAlias = Callable[[Sequence[Request], int | None], list[Answer]]
"""Answers to requests, so many at once or all (None), with nothing in the prefix cache."""


def prompts(*, vocab_size: int, block: int, most: int) -> list[tuple[int, ...]]:
    """Two prompts with the same beginning, longer than a block of the prefix cache where that is not long, and short ones, of
    which soft rows are most. An even number.

    Args:
        vocab_size: `V`.
        block: tokens of a block.
        most: tokens that a prompt may have.
    """
    longest = min(block + block // 2 + 3, 96, most)
    if longest < 1:
        return []
    ids = tuple(10 + 37 * i % max(1, min(vocab_size, 1000) - 10) for i in range(longest))
    short = [(ids[i % longest], ids[(i + 1) % longest])[:longest] for i in range(0, 2 * SHORT_PROMPTS, 2)]
    return [ids, *short[:2], (*ids[:-2], *ids[:2])[:longest], *short[2:]]


def scores(prompts: Sequence[tuple[int, ...]], *, end: int, keys: Sequence[str | None] = (None,)) -> list[Score]:
    """What is asked both ways: two options of one token and two of several, behind each prompt, soft prompt by soft prompt.

    Args:
        prompts: token ids.
        end: an end-of-sequence token, to be scored in the midst of an option like any other.
        keys: soft prompts that the engine holds, each in both places; None: without one.
    """
    first, last = prompts[0][0], prompts[0][-1]
    options = [(first,), (last,), (first, end, last), (last, first)]
    return [
        Score(token_ids=ids, continuation=option, soft_prompt=key, position=place)
        for key, ids, place, option in product(keys, prompts, PLACES if keys != (None,) else PLACES[:1], options)
    ]


def completions(prompts: Sequence[tuple[int, ...]], *, keys: Sequence[str]) -> list[Generate]:
    """Greedy completions of four tokens behind each soft prompt. They read the prefix cache however options are scored."""
    sampling = Sampling(max_tokens=4)
    return [
        Generate(token_ids=ids, sampling=sampling, soft_prompt=key, position=place)
        for key, ids, place in product(keys, prompts, PLACES)
    ]


def soft_tokens(prompt: Sequence[int]) -> list[tuple[int, ...]]:
    """The tokens whose embeddings are two soft prompts, `LENGTH` each, that no cache must mix up.

    Args:
        prompt: where they are taken from: its end, since what has the lowest ids may never have been trained.
    """
    ids = list(dict.fromkeys(reversed(prompt)))
    first, second = (tuple(ids[(start + i) % len(ids)] for i in range(LENGTH)) for start in (0, LENGTH))
    return [first, second if second != first else first[::-1]]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What comes of comparing a way with the plain one."""

    differs: str
    """Why it is not to be taken; empty: it gives what the plain one gives."""
    found: Spread
    """Its differences from the plain one; where there is noise, of their means."""
    noise: Spread | None
    """Those of the plain one from itself; None: there was no need to measure them."""

    def against(self, plain: str) -> str:
        """How far it is from the plain way, of this name, in words."""
        if not self.found.largest:
            return f"equal to {plain}"
        itself = "" if self.noise is None else f", which differs from itself by {self.noise}"
        return f"{self.found} nats from {plain}{itself}"


class Trial:
    """What the ways of a matter are tried with, and what the plain one answers."""

    def __init__(self, asked: Sequence[Request], plainly: Ask, *, step: float) -> None:
        """
        Args:
            asked: the log-likelihoods are an even number; the first half of them are those of the second behind other prompts,
                or other soft prompts. Where these make no difference, nothing is proved by equal answers.
            plainly: asks the plain way.
            step: from 1 to the next number of the model's dtype.
        """
        self.asked, self.step, self._plainly = asked, step, plainly
        self.plain = plainly(asked, None)

    def judge(self, ask: Ask) -> Verdict:
        """Whether a way gives what the plain one gives, as far as that gives it itself.

        The noise is measured where the two differ by more than the last bits of an answer.
        """
        fast = ask(self.asked, None)
        found, noise = spread(_scored(self.plain, fast)), None
        if not self._allowed(None).holds(found):
            noise = self.noise
            found = spread(_scored(_mean(self._plain_runs), _mean([fast, *self._in_other_batches(ask)])))
        return Verdict(differs=self._difference(fast, found, noise, self._allowed(noise)), found=found, noise=noise)

    @cached_property
    def noise(self) -> Spread:
        """What the plain way differs from itself."""
        runs = self._plain_runs
        return pooled([spread(_scored(one, other)) for i, one in enumerate(runs) for other in runs[:i]])

    @cached_property
    def _plain_runs(self) -> list[Sequence[Answer]]:
        return [self.plain, *self._in_other_batches(self._plainly)]

    def _in_other_batches(self, ask: Ask) -> Iterator[Sequence[Answer]]:
        """The same answers, asked for again from the end, fewer at once."""
        return (ask(self.asked[::-1], few)[::-1] for few in OTHER_BATCHES)

    def _allowed(self, noise: Spread | None) -> Bound:
        """How far a way may be from the plain one; where there is noise, the mean of its answers from that of the other's."""
        answers = [answer for answer in self.plain if isinstance(answer, LogLikelihood)]
        exact, found = (bound(each, answers, step=self.step, times=TIMES) for each in ([], [] if noise is None else [noise]))
        of_mean = found.rms / math.sqrt(1 + len(OTHER_BATCHES))
        return Bound(rms=max(EXACT_NATS, exact.rms, of_mean), largest=max(EXACT_NATS, found.largest))

    def _difference(self, fast: Sequence[Answer], found: Spread, noise: Spread | None, allowed: Bound) -> str:
        """Why two sides are not the same, in words; empty: they are."""
        if not (math.isfinite(allowed.rms) and allowed.holds(found)):
            return f"log-probabilities differ by {found}, and the noise is {noise}"
        if (gap := self._parted(fast, allowed.largest)) is not None:
            return f"greedy completions differ where tokens are {gap:.2g} nats apart, and the noise is {noise or 0}"
        scored = [answer for answer in self.plain if isinstance(answer, LogLikelihood)]
        half = len(scored) // 2
        if not spread(zip(scored[:half], scored[half:], strict=True)).rms >= TIMES_TOLD * allowed.rms:
            return f"other prompts make too little difference to this model to see it (the noise is {noise or 0})"
        return ""

    def _parted(self, fast: Sequence[Answer], near: float) -> float | None:
        """How far apart two tokens are, by the plain way, of which each side has taken one; None: they are near a tie."""
        for request, one, other in zip(self.asked, self.plain, fast, strict=True):
            if not (isinstance(request, Generate) and isinstance(one, Completion) and isinstance(other, Completion)):
                continue
            at = next((i for i, (a, b) in enumerate(zip(one.token_ids, other.token_ids, strict=False)) if a != b), None)
            if at is not None:
                gap = self._gap(request, one.token_ids[:at], (one.token_ids[at], other.token_ids[at]))
                if not gap <= near:
                    return gap
            elif (len(one.token_ids), one.finish_reason) != (len(other.token_ids), other.finish_reason):
                return math.inf
        return None

    def _gap(self, request: Generate, until: tuple[int, ...], tokens: tuple[int, int]) -> float:
        asked = [
            Score(
                token_ids=(*request.token_ids, *until),
                continuation=(token,),
                soft_prompt=request.soft_prompt,
                position=request.position,
            )
            for token in tokens
        ]
        first, second = (answer.total for answer in self._plainly(asked, None) if isinstance(answer, LogLikelihood))
        return abs(first - second)


def _mean(runs: Sequence[Sequence[Answer]]) -> list[Answer]:
    """The log-likelihoods of several runs, token by token their mean; of completions the first run's."""
    found: list[Answer] = []
    for answers in zip(*runs, strict=True):
        scored = [answer.token_logprobs for answer in answers if isinstance(answer, LogLikelihood)]
        mean = tuple(sum(each) / len(each) for each in zip(*scored, strict=True))
        found.append(LogLikelihood(token_logprobs=mean) if scored else answers[0])
    return found


def _scored(one: Sequence[Answer], other: Sequence[Answer]) -> Iterator[tuple[LogLikelihood, LogLikelihood]]:
    for a, b in zip(one, other, strict=True):
        if isinstance(a, LogLikelihood) and isinstance(b, LogLikelihood):
            yield a, b
