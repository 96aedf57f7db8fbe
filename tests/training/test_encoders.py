"""Encoders: PEFT's networks, learnt as PEFT learns them, and nothing of them in what is kept."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch

from spt_fast.config import Encoder, SoftPromptConfig
from spt_fast.models.frozen_model import FrozenModel
from spt_fast.prompts.initialize import initialize
from spt_fast.training.batches import TuningRow
from spt_fast.training.encoders import encoder
from spt_fast.training.memory_plan import plan_of
from spt_fast.training.trainer import learn
from spt_fast.types import TrainingStep
from tests.helpers.tiny import tiny_model
from tests.helpers.with_peft import losses, with_peft

KINDS: tuple[Encoder, ...] = ("mlp", "lstm")
ROWS = [TuningRow(prompt_ids=(256, *b"Question", 63 + i, 58), target_ids=(65 + i % 4, *b"x" * (i % 3), 257)) for i in range(21)]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def model(llama: Path) -> FrozenModel:
    return FrozenModel.load(llama)


def config(kind: Encoder, steps: int = 20) -> SoftPromptConfig:
    return SoftPromptConfig.paper(
        encoder=kind, encoder_hidden=48, init_std=1.0, length=5, batch_size=6, lr=0.003, steps=steps, weight_decay=0.1
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_equals_that_of_pefts_prompt_encoder(kind: Encoder, llama: Path, model: FrozenModel) -> None:
    asked = config(kind)
    steps: list[TrainingStep] = []
    ours = learn(model, ROWS, asked, seed=3, on_step=steps.append)[20]
    settings = peft.PromptEncoderConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=5, encoder_reparameterization_type=kind.upper(), encoder_hidden_size=48
    )
    tuned = with_peft(llama, settings)
    theirs = tuned.prompt_encoder["default"]
    start = torch.from_numpy(initialize(asked, 64, 3))
    network = dict(encoder(asked, start, 3).state_dict())
    theirs.load_state_dict({"embedding.weight": network.pop("inputs_PH"), **network})
    expected = losses(
        tuned, ROWS, asked, 3, lambda learnt: torch.optim.AdamW(learnt, lr=0.003, betas=(0.9, 0.999), weight_decay=0.1)
    )
    assert [step.loss for step in steps] == pytest.approx(expected, abs=1e-4)
    assert steps[-1].loss < steps[0].loss
    with torch.no_grad():
        vectors = theirs(torch.arange(5)[None])[0]
    torch.testing.assert_close(torch.from_numpy(ours.vectors.copy()), vectors, rtol=0, atol=1e-4)
    # What PEFT itself would hand to the model from its saved adapter is what we keep.
    torch.testing.assert_close(tuned.get_prompt_embedding_to_save("default"), vectors.cpu(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_only_vectors_are_kept_and_step_0_is_what_the_network_makes_of_the_start(kind: Encoder, model: FrozenModel) -> None:
    before = torch.get_rng_state()
    asked = SoftPromptConfig.paper(encoder=kind, init_std=1.0, length=3, steps=2, evaluate_at=(0,))
    learnt = learn(model, ROWS, asked, seed=0)
    start = torch.from_numpy(initialize(asked, 64, 0))
    assert {prompt.vectors.shape for prompt in learnt.values()} == {(3, 64)}
    with torch.no_grad():
        made = encoder(asked, start, 0)()
    torch.testing.assert_close(torch.from_numpy(learnt[0].vectors.copy()), made)
    assert learn(model, ROWS, asked, seed=0)[2].key == learnt[2].key
    assert learn(model, ROWS, asked, seed=1)[0].key != learnt[0].key
    assert torch.equal(before, torch.get_rng_state())


def test_micro_batches_change_nothing_for_an_encoder(model: FrozenModel) -> None:
    whole = learn(model, ROWS, config("mlp", 4), seed=0)[4]
    plan_of(model).most_positions = 40
    try:
        parts = learn(model, ROWS, config("mlp", 4), seed=0)[4]
    finally:
        plan_of(model).most_positions = None
    assert parts.provenance["micro_batch"] != "6"
    torch.testing.assert_close(
        torch.from_numpy(parts.vectors.copy()), torch.from_numpy(whole.vectors.copy()), rtol=0, atol=1e-5
    )
