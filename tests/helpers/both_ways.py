"""vLLM's ways, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from spt_fast.engine.vllm.engine import VllmEngine
from spt_fast.engine.vllm.start import PLAIN
from spt_fast.types import LogLikelihood, Position, Score
from tests.helpers.engine_requests import EOS, PLACES, ids, soft

OPTIONS: tuple[tuple[int, ...], ...] = ((65,), (66,), (65, 66, 67), (65, 66), (70, EOS, 71, 72), (EOS,), tuple(range(40, 60)))
SETTINGS = {"max_num_seqs": 16, "max_model_len": 256, "kv_cache_memory_bytes": 1 << 24}


def options_of(prompt: tuple[int, ...], key: str | None = None, place: Position = "front") -> list[Score]:
    return [Score(token_ids=prompt, continuation=option, soft_prompt=key, position=place) for option in OPTIONS]


def everything(keys: Sequence[str | None]) -> list[Score]:
    """Prompts of less than a block, of whole blocks, one beginning for two, as few-shot prompts have it; each key and place."""
    shots = ids(70, seed=7)
    prompts = (ids(3), ids(64), (*shots, *ids(9)[1:]), (*shots, *ids(30)[1:]))
    return [each for prompt in prompts for key in keys for place in PLACES for each in options_of(prompt, key, place)]


def numbers(answers: Sequence[LogLikelihood]) -> np.ndarray:
    return np.concatenate([answer.token_logprobs for answer in answers])


@contextmanager
def ways(engine: VllmEngine, **chosen: str) -> Iterator[None]:
    """An engine that goes about it in these ways, with nothing in its prefix cache before and after."""
    assert engine._engine is not None
    before, engine._ways = engine._ways, {**engine._ways, **chosen}
    engine._engine.reset_prefix_cache()
    try:
        yield
    finally:
        engine._ways = before
        engine._engine.reset_prefix_cache()


def plainly(engine: VllmEngine, requests: Sequence[Score]) -> np.ndarray:
    """What the plain way of scoring of the same engine says."""
    with ways(engine, scoring=PLAIN["scoring"]):
        return numbers(engine.score(requests))


def check_equal(engine: VllmEngine, *, seeds: Sequence[int] = (0,)) -> None:
    """Forced options behind virtual tokens, with nothing in the prefix cache and with all in it, are those that the prompt's
    log-probabilities give."""
    keys = [engine.add(soft(seed, hidden_size=engine.hidden_size)) for seed in seeds]
    asked = everything([None, *keys])
    plain = plainly(engine, asked)
    engine.forget()
    for _ in range(2):
        assert np.abs(numbers(engine.score(asked)) - plain).max() < 1e-5
