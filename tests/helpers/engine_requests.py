"""Soft prompts and requests for the tests of engines."""

from __future__ import annotations

import numpy as np

from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.types import Generate, Position, Sampling, Score

H = 128
SMALL_SHARE = 0.25
"""Of a GPU, that an engine of a test asks for: another may be open beside it. On a CPU it says nothing."""
BOS, EOS = 256, 257
LENGTHS = (1, 2, 7, 33, 70)
PLACES: tuple[Position, ...] = ("front", "after_bos", "end")


def soft(seed: int, *, length: int = 10, hidden_size: int = H, scale: float = 0.2) -> SoftPrompt:
    """A random soft prompt."""
    vectors = np.random.default_rng(seed).normal(scale=scale, size=(length, hidden_size))
    return SoftPrompt(vectors=vectors.astype(np.float32))


def ids(length: int, seed: int = 0) -> tuple[int, ...]:
    """BOS and random bytes, `length` tokens together."""
    return (BOS, *np.random.default_rng(1000 * seed + length).integers(32, 127, length - 1).tolist())


def generate(token_ids: tuple[int, ...], key: str | None = None, place: Position = "front", *, tokens: int = 8) -> Generate:
    """A greedy completion."""
    return Generate(token_ids=token_ids, sampling=Sampling(max_tokens=tokens), soft_prompt=key, position=place)


def score(token_ids: tuple[int, ...], key: str | None = None, place: Position = "front") -> Score:
    """The log-likelihood of three bytes."""
    return Score(token_ids=token_ids, continuation=(65, 66, 67), soft_prompt=key, position=place)
