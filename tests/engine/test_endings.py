"""How completions end, and what they are worth where logits are not finite: vLLM and Transformers say the same."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from spt_fast.engine.base import Engine, EngineConfig
from spt_fast.engine.transformers import TransformersEngine
from spt_fast.engine.vllm.engine import VllmEngine
from spt_fast.errors import ModelError
from spt_fast.types import Completion, Generate, Sampling
from tests.helpers.engine_requests import EOS, SMALL_SHARE, generate, ids, score, soft
from tests.helpers.tiny import tiny_model

pytestmark = pytest.mark.vllm
HARMED = 258
"""A token that nobody writes, whose embedding is not finite."""
PROMPT = ids(9)


def on_transformers(model: Path) -> TransformersEngine:
    return TransformersEngine(EngineConfig(kind="transformers", model=str(model), options={"device": "cpu"}))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ordinary tokens that it likes to write end a completion, as well as `</s>`."""
    folder = tiny_model(tmp_path_factory.mktemp("llama"), hidden_size=128)
    with on_transformers(folder) as engine:
        (free,) = engine.generate([generate(PROMPT, tokens=24)])
    config = json.loads((folder / "generation_config.json").read_text())
    config["eos_token_id"] = [EOS, free.token_ids[6], 5, free.token_ids[11]]
    (folder / "generation_config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][HARMED] = math.nan
    weights["lm_head.weight"][HARMED] = 0.0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def engines(model: Path) -> Iterator[tuple[Engine, Engine]]:
    settings = {"max_num_seqs": 4, "block_size": 32}
    with (
        VllmEngine(EngineConfig(gpus=SMALL_SHARE, model=str(model), options=settings)) as engine,
        on_transformers(model) as reference,
    ):
        yield engine, reference


def both(engines: tuple[Engine, Engine], *requests: Generate) -> list[Completion]:
    """The answers of both, which are equal, text and all."""
    ours, theirs = (engine.generate(requests) for engine in engines)
    assert ours == theirs
    return ours


def stopping(prompt: tuple[int, ...], *stop: str) -> Generate:
    return Generate(token_ids=prompt, sampling=Sampling(max_tokens=24, stop=stop))


def test_an_end_token_that_is_an_ordinary_one_is_no_part_of_the_text(engines: tuple[Engine, Engine], model: Path) -> None:
    (ended,) = both(engines, generate(PROMPT, tokens=24))
    assert ended.finish_reason == "stop"
    assert ended.token_ids[-1] in json.loads((model / "generation_config.json").read_text())["eos_token_id"]
    (shorter,) = both(engines, generate(PROMPT, tokens=len(ended.token_ids) - 1))
    assert shorter.finish_reason == "length"
    assert ended.text == shorter.text, "nothing but the end came behind"


def test_stop_strings_end_a_text_where_the_first_of_them_begins(engines: tuple[Engine, Engine]) -> None:
    prompts = [ids(9, seed) for seed in range(200)]
    free = engines[1].generate([generate(prompt, tokens=5) for prompt in prompts])
    prompt, text, at = next(
        (prompt, answer.text, at)
        for prompt, answer in zip(prompts, free, strict=True)
        for at in range(len(answer.text) - 2)
        if answer.text[: at + 3].isascii() and len({*answer.text[: at + 3]}) == at + 3
    )
    first, later, pair = text[at], text[at + 1], text[at : at + 2]
    stops = ((later, first), (first, later), (pair,), ("never", pair, text[at + 2]), (pair, first, later))
    for answer in both(engines, *(stopping(prompt, *stop) for stop in stops)):
        assert answer.finish_reason == "stop"
        assert answer.text == text[:at]


def test_many_prompts_lead_to_the_same_texts(engines: tuple[Engine, Engine]) -> None:
    keys = [{engine.add(soft(seed)) for engine in engines} for seed in (0, 1)]
    stops = ((), ("e", "a", "\n"), ("\ufffd",))
    requests = [
        Generate(token_ids=ids(length, seed), sampling=Sampling(max_tokens=16, stop=stop), soft_prompt=key)
        for length, seed in ((1, 0), (2, 1), (9, 2), (40, 3))
        for stop in stops
        for key in (None, *(key for (key,) in keys))
    ]
    answers = both(engines, *requests)
    assert {answer.finish_reason for answer in answers} == {"stop", "length"}
    assert all(answer.finite for answer in answers)


def test_answers_from_logits_that_are_not_finite_say_so(engines: tuple[Engine, Engine]) -> None:
    """The last to be asked: vLLM's cache on a CPU keeps NaN where others then read zero times it."""
    harmed = (PROMPT[0], HARMED, *PROMPT[1:])
    for engine in engines:
        assert all(answer.finite for answer in engine.generate([generate(PROMPT), generate(ids(5))]))
        assert all(answer.finite for answer in engine.score([score(PROMPT), score(ids(5))]))
        assert not engine.generate([generate(harmed)])[0].finite
        assert not engine.score([score(harmed)])[0].finite


def test_weights_of_nan_are_named_at_the_start_of_vllm(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path, hidden_size=128)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = math.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"model\.norm\.weight in model\.safetensors holds NaN"):
        VllmEngine(EngineConfig(gpus=SMALL_SHARE, model=str(folder)))
