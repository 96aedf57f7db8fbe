"""Answers that depended on what else was in the batch, as users reported it, on the reference engine.

`tests/engine/test_endings.py` and `tests/inspection/test_verify.py` hold vLLM to it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from spt_fast.engine.base import EngineConfig
from spt_fast.engine.transformers import TransformersEngine
from spt_fast.types import Generate, Sampling
from tests.helpers.engine_requests import PLACES, generate, ids, score, soft
from tests.helpers.tiny import tiny_model

SHORT, LONG = ids(3), ids(60)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TransformersEngine]:
    folder = tiny_model(tmp_path_factory.mktemp("llama"), hidden_size=128)
    config = EngineConfig(kind="transformers", model=str(folder), options={"batch_size": 8, "device": "cpu"})
    with TransformersEngine(config) as started:
        yield started


def test_a_completion_that_stops_stops_no_other(engine: TransformersEngine) -> None:
    """bigscience-workshop/lm-evaluation-harness#124, EleutherAI/lm-evaluation-harness#873: a batch ended when its first
    completion came to a stop string, or the strings were looked for in as many tokens as the batch had rows. Right: each ends
    by its own strings, and is what it is alone."""
    prompts = [ids(5, seed) for seed in range(6)]
    free = engine.generate([generate(prompt, tokens=12) for prompt in prompts])
    stops = [answer.text[2:4] if n % 2 == 0 else "" for n, answer in enumerate(free)]
    asked = [
        Generate(token_ids=prompt, sampling=Sampling(max_tokens=12, stop=(stop,) if stop else ()))
        for prompt, stop in zip(prompts, stops, strict=True)
    ]
    together = engine.generate(asked)
    assert together == [engine.generate([request])[0] for request in asked]
    for answer, alone, stop in zip(together, free, stops, strict=True):
        assert answer.text == (alone.text[: alone.text.find(stop)] if stop else alone.text)
        assert len(answer.text) < len(alone.text) or not stop


@pytest.mark.parametrize("place", PLACES)
def test_soft_rows_stand_next_to_their_prompt_however_long_others_are(engine: TransformersEngine, place: str) -> None:
    """huggingface/peft#1093, #54: of prompts of different lengths, padding stood between the soft prompt and the shorter
    ones, and moved their positions. Right: a short prompt beside a long one is answered as it is alone."""
    where = next(known for known in PLACES if known == place)
    key = engine.add(soft(3))
    requests = [generate(prompt, key, where) for prompt in (SHORT, LONG)]
    assert engine.generate(requests) == [engine.generate([request])[0] for request in requests]
    scored = [score(prompt, key, where) for prompt in (SHORT, LONG)]
    alone = [engine.score([request])[0].token_logprobs for request in scored]
    together = [answer.token_logprobs for answer in engine.score(scored)]
    assert np.abs(np.array(together) - np.array(alone)).max() < 1e-4
    assert engine.generate([generate(SHORT)]) != engine.generate([generate(SHORT, key, where)]), "the rows do something"


def test_log_likelihoods_do_not_depend_on_the_order_of_requests(engine: TransformersEngine) -> None:
    """vllm-project/vllm#42019, #11778: log-likelihoods of prompts changed with the order in which they came, and with the
    batch. Right, in float32: they are the same to 1e-4."""
    asked = [score(ids(length, seed)) for seed, length in enumerate((2, 40, 7, 41, 3, 19, 19, 64, 5, 33, 12))]
    totals = np.array([answer.total for answer in engine.score(asked)])
    turned = np.array([answer.total for answer in engine.score(asked[::-1])])[::-1]
    alone = np.array([engine.score([request])[0].total for request in asked])
    assert np.abs(totals - turned).max() < 1e-4
    assert np.abs(totals - alone).max() < 1e-4
