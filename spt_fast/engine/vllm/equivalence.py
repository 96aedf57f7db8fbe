"""Proof, at an engine's start, that a faster way of asking gives what the plain way gives: the same few requests, both ways.

What is faster leans on more of vLLM than its documentation promises. What may break it (another version, model runner,
attention backend, a plug-in that is missing in one process) cannot all be listed; that answers are equal can be seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

from spt_fast.types import Answer, Completion, Generate, LogLikelihood, Position, Sampling, Score

TOLERANCE = {4: 1e-3, 2: 0.25}
"""Nats by which log-probabilities of one token may differ, by the bytes of a model's number. In bfloat16 the same request
differs by 0.1 between batches of different shapes; what goes wrong goes wrong by whole nats."""

PLACES: tuple[Position, ...] = ("front", "after_bos")
LENGTH = 3
"""`P` of the soft prompts that prove."""


def prompts(*, vocab_size: int, block: int, most: int) -> list[tuple[int, ...]]:
    """Two prompts with the same beginning, longer than a block of the prefix cache where that is not long, and a short one.

    Args:
        vocab_size: `V`.
        block: tokens of a block.
        most: tokens that a prompt may have.
    """
    longest = min(block + block // 2 + 3, 96, most)
    ids = tuple(10 + 37 * i % max(1, min(vocab_size, 1000) - 10) for i in range(longest))
    return [prompt for prompt in (ids, (*ids[:-2], *ids[:2]), ids[:2]) if prompt]


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


def difference(plain: Sequence[Answer], fast: Sequence[Answer], *, itemsize: int, halves_differ: bool = False) -> str | None:
    """Why two sides are not the same, in words; None: they are.

    Args:
        plain: answers of the plain way.
        fast: answers of the other, in the same order.
        itemsize: bytes of a number of the model.
        halves_differ: the log-likelihoods of the first half are those of the second behind another soft prompt. Where vectors
            make no difference, nothing is proved by equal answers.
    """
    scored = [answer for answer in plain if isinstance(answer, LogLikelihood)]
    again = [answer for answer in fast if isinstance(answer, LogLikelihood)]
    pairs = [
        (one, other)
        for a, b in zip(scored, again, strict=True)
        for one, other in zip(a.token_logprobs, b.token_logprobs, strict=True)
    ]
    allowed = TOLERANCE[4 if itemsize >= 4 else 2]
    largest = max(abs(one - other) if math.isfinite(other) else math.inf for one, other in pairs)
    if not largest <= allowed:
        return f"log-probabilities differ by {largest:.3g}, more than {allowed:g}"
    if _written(plain) != _written(fast):
        return "greedy completions differ"
    half = len(scored) // 2
    if halves_differ and max(abs(a.total - b.total) for a, b in zip(scored[:half], scored[half:], strict=True)) < 4 * allowed:
        return "soft prompts make too little difference to this model to see it"
    return None


def _written(answers: Sequence[Answer]) -> list[tuple[object, ...]]:
    """What completions are, but for their text: where a prompt ends within a character, vLLM writes the text of placeholders at
    soft positions, too."""
    return [(answer.token_ids, answer.finish_reason) for answer in answers if isinstance(answer, Completion)]
