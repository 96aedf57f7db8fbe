"""Requests that a prefix cache could mix up."""

from __future__ import annotations

import numpy as np

from spt_fast.engine.transformers import TransformersEngine
from spt_fast.engine.vllm.engine import VllmEngine
from spt_fast.types import Score
from tests.helpers.engine_requests import PLACES, generate, ids, score, soft


def logprobs(engine: VllmEngine | TransformersEngine, requests: list[Score]) -> np.ndarray:
    return np.array([answer.token_logprobs for answer in engine.score(requests)])


def check_interleaved(engine: VllmEngine) -> None:
    """Equal lengths, equal token ids, the same prompts again and again: all that a prefix cache could mix up."""
    keys = [engine.add(soft(1)), engine.add(soft(2))]
    asked = [generate(ids(80, seed), key, place) for seed in (0, 0, 1) for place in PLACES for key in (*keys, None)]
    alone = [engine.generate([request])[0].token_ids for request in asked]
    together = [answer.token_ids for answer in engine.generate(asked)]
    assert together == alone
    assert len({*alone[:3]}) == 3, "each soft prompt must lead to an answer of its own"
    scored = [score(request.token_ids, request.soft_prompt, request.position) for request in asked]
    each = np.concatenate([logprobs(engine, [request]) for request in scored])
    assert np.abs(logprobs(engine, scored) - each).max() < 1e-4
