"""LoRA adapters in the engines: each request is answered by the model with its own adapter, or by the model as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from spt_fast.engine import open_engine
from spt_fast.engine.base import Adapters, Engine, EngineConfig
from spt_fast.errors import EngineError, ModelError
from spt_fast.prompts.lora import LoraAdapter
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.types import Generate, Sampling, Score
from tests.helpers.tiny import tiny_model

RANK, ALPHA = 4, 8
LAYERS = ("q_proj", "v_proj")
WIDTHS = {"q_proj": 64, "v_proj": 32}
ROOM = Adapters(rank=RANK, targets=frozenset(LAYERS), count=2)


def adapter(seed: int, *, rank: int = RANK, layers: tuple[str, ...] = LAYERS) -> LoraAdapter:
    """Random changes as large as the weights, of both layers of the tiny model."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for layer in range(2):
        for name in layers:
            where = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{where}.lora_A.weight"] = rng.normal(0, 0.2, (rank, 64)).astype(np.float32)
            tensors[f"{where}.lora_B.weight"] = rng.normal(0, 0.2, (WIDTHS[name], rank)).astype(np.float32)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": ALPHA, "target_modules": list(layers)}
    return LoraAdapter(tensors=tensors, config=config)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture
def engine(folder: Path) -> Iterator[Engine]:
    with open_engine(EngineConfig(kind="transformers", model=str(folder), adapters=ROOM)) as opened:
        yield opened


IDS, CONTINUATION = tuple(range(40, 70)), (65, 66, 67)
SCORE = Score(token_ids=IDS, continuation=CONTINUATION)
WRITE = Generate(token_ids=IDS, sampling=Sampling(max_tokens=6))


def test_requests_with_adapters_without_and_behind_a_soft_prompt_are_answered_each_as_if_alone(
    engine: Engine, folder: Path
) -> None:
    """Against weights that the changes were added to by hand."""
    learnt = [adapter(seed) for seed in (1, 2)]
    keys = [None, *(engine.add_adapter(each) for each in learnt)]
    soft = SoftPrompt(vectors=np.random.default_rng(0).normal(0, 0.3, (3, 64)).astype(np.float32))
    prompts = [None, engine.add(soft)]
    asked = [replace(SCORE, adapter=key, soft_prompt=prompt) for key in keys for prompt in prompts]
    found = [answer.token_logprobs for answer in engine.score(asked)]
    expected = []
    for changes in (None, *learnt):
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        if changes is not None:
            weights = dict(model.named_parameters())
            for name, tensor in changes.tensors.items():
                if "lora_A" in name:
                    b = changes.tensors[name.replace("lora_A", "lora_B")]
                    place = name.removeprefix("base_model.model.").replace("lora_A.weight", "weight")
                    weights[place].data += torch.tensor(b @ tensor) * (ALPHA / RANK)
        for vectors in (None, soft.vectors):
            embedded = model.get_input_embeddings()(torch.tensor([(*IDS, *CONTINUATION)]))
            if vectors is not None:
                embedded = torch.cat([torch.tensor(vectors)[None], embedded], dim=1)
            with torch.no_grad():
                logprobs = model(inputs_embeds=embedded).logits[0].log_softmax(-1)
            first = embedded.shape[1] - len(CONTINUATION) - 1
            expected.append([logprobs[first + i, token].item() for i, token in enumerate(CONTINUATION)])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert len({tuple(round(each, 3) for each in row) for row in expected}) == 6, expected
    written = {answer.token_ids for answer in engine.generate([replace(WRITE, adapter=key) for key in keys])}
    assert len(written) == 3


@pytest.mark.parametrize("kind", ["transformers", "echo"])
def test_an_adapter_that_nobody_has_given_is_refused(kind: str, folder: Path) -> None:
    with (
        open_engine(EngineConfig(kind=kind, model=str(folder), adapters=ROOM)) as engine,  # type: ignore[arg-type]
        pytest.raises(EngineError, match="the engine holds no LoRA adapter 0123; add it first"),
    ):
        engine.score([replace(SCORE, adapter="0123")])


@pytest.mark.parametrize("wrong", [adapter(1, rank=8), adapter(1, layers=("q_proj",))])
def test_an_engine_takes_the_adapters_that_it_was_started_for(wrong: LoraAdapter, folder: Path) -> None:
    small = Adapters(rank=4, targets=frozenset({"v_proj"}), count=1)
    with open_engine(EngineConfig(kind="echo", model=str(folder), adapters=small)) as engine:
        with pytest.raises(EngineError, match="was not started for the LoRA adapter"):
            engine.add_adapter(wrong)
        fitting = engine.add_adapter(adapter(1, layers=("v_proj",)))
        (changed,), (plain,) = (engine.score([replace(SCORE, adapter=key)]) for key in (fitting, None))
        assert changed != plain


def test_an_adapter_of_another_model_is_one_sentence(engine: Engine, tmp_path: Path) -> None:
    other = tiny_model(tmp_path / "wide", hidden_size=128)
    with (
        open_engine(EngineConfig(kind="transformers", model=str(other), adapters=ROOM)) as wide,
        pytest.raises(ModelError, match=r"the LoRA adapter \w+ does not fit"),
    ):
        wide.add_adapter(adapter(1))
