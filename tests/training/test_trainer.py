"""The trainer: the right loss, the right gradient, only the vectors, and the same again by the same seed."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from spt_fast.config import SoftPromptConfig
from spt_fast.errors import DataError, TrainingError
from spt_fast.models.frozen_model import FrozenModel
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.prompts.initialize import initialize
from spt_fast.training.batches import TuningRow
from spt_fast.training.rows import tuning_row
from spt_fast.training.trainer import learn, target_loss
from spt_fast.types import Position, TrainingStep
from tests.helpers.tiny import FAMILIES, tiny_config, tiny_model
from tests.helpers.with_peft import losses, with_peft

POSITIONS: tuple[Position, ...] = ("front", "after_bos", "end")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def model(llama: Path) -> FrozenModel:
    return FrozenModel.load(llama)


@pytest.fixture(scope="module")
def rows(llama: Path) -> list[TuningRow]:
    tokenizer = Tokenizer.load(llama)
    return [
        tuning_row(tokenizer, f"Question {i}{'?' * (i % 4)}\nAnswer:", f"{'ABCD'[i % 4]}. {'x' * (i % 3)}") for i in range(21)
    ]


def vectors(model: FrozenModel, length: int = 4, seed: int = 0) -> torch.Tensor:
    start = initialize(SoftPromptConfig.paper(length=length, init_std=0.5), model.hidden_size, seed)
    return torch.from_numpy(start).requires_grad_(True)


def loss_by_labels(model: FrozenModel, soft: torch.Tensor, rows: Sequence[TuningRow], position: Position) -> torch.Tensor:
    """The same loss the plain way: one row at a time, no padding, the model's own forward, labels and all logits."""
    total, count = torch.zeros(()), 0
    for row in rows:
        ids = torch.tensor([[*row.prompt_ids, *row.target_ids]])
        embedded = model.embed(ids)
        head = {"front": 0, "after_bos": 1, "end": len(row.prompt_ids)}[position]
        inputs = torch.cat([embedded[:, :head], soft[None], embedded[:, head:]], dim=1)
        labels = torch.full((1, inputs.shape[1]), -100)
        labels[0, -len(row.target_ids) :] = torch.tensor(row.target_ids)
        loss = model.module(inputs_embeds=inputs, labels=labels).loss
        total = total + loss * len(row.target_ids)
        count += len(row.target_ids)
    return total / count


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradient_are_those_of_the_models_own_forward_with_labels(
    family: str, position: Position, rows: list[TuningRow], tmp_path: Path
) -> None:
    model = FrozenModel.load(tiny_model(tmp_path, family))
    soft = vectors(model)
    ours = target_loss(model, soft, rows[:5], position, pad_id=258)
    theirs = loss_by_labels(model, soft, rows[:5], position)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    upstream = torch.tensor(0.37)
    (our_gradient,) = torch.autograd.grad(ours, [soft], upstream)
    (their_gradient,) = torch.autograd.grad(theirs, [soft], upstream)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-3, atol=1e-5)


def test_a_model_whose_head_is_unknown_has_the_same_loss(model: FrozenModel, rows: list[TuningRow]) -> None:
    slow = copy.copy(model)
    slow.head = None
    soft = vectors(model)
    torch.testing.assert_close(target_loss(slow, soft, rows[:5]), target_loss(model, soft, rows[:5]))


@pytest.mark.parametrize("position", POSITIONS)
def test_what_padding_holds_changes_neither_loss_nor_gradient(
    position: Position, model: FrozenModel, rows: list[TuningRow]
) -> None:
    soft = vectors(model)
    losses = [target_loss(model, soft, rows[:5], position, pad_id=pad) for pad in (0, 258)]
    gradients = [torch.autograd.grad(loss, [soft])[0] for loss in losses]
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(gradients[0], gradients[1])


def test_the_loss_is_taken_on_target_tokens_only(model: FrozenModel) -> None:
    """Prompts that the model finds very different add nothing: one target token, one number."""
    row = TuningRow(prompt_ids=(256, 65, 66), target_ids=(67,))
    soft = vectors(model)
    with torch.no_grad():
        inputs = torch.cat([soft[None], model.embed(torch.tensor([[256, 65, 66]]))], dim=1)
        expected = -model.module(inputs_embeds=inputs).logits[0, -1].log_softmax(-1)[67]
    torch.testing.assert_close(target_loss(model, soft, [row]).detach(), expected)


def test_embeddings_of_ten_real_tokens_as_soft_prompt_give_the_loss_of_the_text(model: FrozenModel) -> None:
    text = (256, *b"In France")
    row = TuningRow(prompt_ids=tuple(b" the capital is"), target_ids=tuple(b" Paris"))
    whole = TuningRow(prompt_ids=(*text, *row.prompt_ids), target_ids=row.target_ids)
    soft = model.embed(torch.tensor(text))
    assert soft.shape[0] == 10
    as_text = target_loss(model, soft[:0], [whole])
    torch.testing.assert_close(target_loss(model, soft, [row]), as_text, rtol=1e-6, atol=1e-6)


def test_after_bos_stands_behind_the_first_token(model: FrozenModel) -> None:
    text = tuple(b"In France")
    row = TuningRow(prompt_ids=(256, *b" the capital is"), target_ids=tuple(b" Paris"))
    whole = TuningRow(prompt_ids=(256, *text, *row.prompt_ids[1:]), target_ids=row.target_ids)
    soft = model.embed(torch.tensor(text))
    as_text = target_loss(model, soft[:0], [whole])
    behind = target_loss(model, soft, [row], "after_bos")
    torch.testing.assert_close(behind, as_text, rtol=1e-6, atol=1e-6)
    assert abs(target_loss(model, soft, [row], "front") - as_text) > 1e-3


def test_at_the_end_the_vectors_stand_between_a_prompt_and_its_answer(model: FrozenModel) -> None:
    text = tuple(b" of France is")
    row = TuningRow(prompt_ids=(256, *b"The capital"), target_ids=tuple(b" Paris"))
    longer = TuningRow(prompt_ids=(256, *b"Where does one find the capital, the town"), target_ids=tuple(b" Rome"))
    rows, soft = [row, longer], model.embed(torch.tensor(text))
    whole = [replace(each, prompt_ids=(*each.prompt_ids, *text)) for each in rows]
    as_text = target_loss(model, soft[:0], whole)
    torch.testing.assert_close(target_loss(model, soft, rows, "end"), as_text, rtol=1e-6, atol=1e-6)
    assert abs(target_loss(model, soft, rows, "after_bos") - as_text) > 1e-3


def test_a_prompt_of_bos_alone_is_predicted_from_the_last_vector(model: FrozenModel) -> None:
    row, soft = TuningRow(prompt_ids=(256,), target_ids=(65, 257)), vectors(model)
    ours = target_loss(model, soft, [row], "after_bos")
    torch.testing.assert_close(ours, loss_by_labels(model, soft, [row], "after_bos"))


@pytest.mark.parametrize("position", POSITIONS)
def test_the_loss_falls(position: Position, model: FrozenModel, rows: list[TuningRow]) -> None:
    steps: list[TrainingStep] = []
    config = SoftPromptConfig.paper(lr=0.05, steps=40, position=position)
    learn(model, rows, config, seed=0, on_step=steps.append)
    assert [step.step for step in steps] == list(range(1, 41))
    assert steps[-1].loss < steps[0].loss / 2
    assert all(step.grad_norm > 0 for step in steps)


def test_base_weights_are_bit_identical_afterwards(model: FrozenModel, rows: list[TuningRow]) -> None:
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    learn(model, rows, SoftPromptConfig.paper(lr=0.05, steps=5), seed=0)
    after = model.module.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in model.module.parameters())


def test_the_same_seed_gives_the_same_vectors_and_another_seed_others(model: FrozenModel, rows: list[TuningRow]) -> None:
    config = SoftPromptConfig.paper(lr=0.05, steps=6)
    keys = [learn(model, rows, config, seed=seed)[6].key for seed in (0, 0, 1)]
    assert keys[0] == keys[1]
    assert keys[0] != keys[2]


def test_learning_leaves_the_global_random_state_alone(model: FrozenModel, rows: list[TuningRow]) -> None:
    before = torch.get_rng_state()
    learn(model, rows, SoftPromptConfig.paper(steps=2), seed=0)
    assert torch.equal(before, torch.get_rng_state())


def test_checkpoints_are_the_vectors_of_their_steps(model: FrozenModel, rows: list[TuningRow]) -> None:
    config = SoftPromptConfig.paper(lr=0.05, steps=6, evaluate_at=(0, 3))
    learnt = learn(model, rows, config, seed=0, provenance={"task": "toy"})
    assert list(learnt) == [0, 3, 6]
    assert (learnt[0].vectors == initialize(config, 64, 0)).all()
    shorter = learn(model, rows, SoftPromptConfig.paper(lr=0.05, steps=3), seed=0)
    assert learnt[3].key == shorter[3].key
    assert learnt[3].provenance == {"task": "toy", "seed": "0", "position": "front", "step": "3"}


def test_the_master_copy_is_fp32_whatever_the_model(tmp_path: Path, rows: list[TuningRow]) -> None:
    """Updates far below bf16's resolution add up instead of being lost."""
    model = FrozenModel.load(tiny_model(tmp_path, dtype=torch.bfloat16))
    learnt = learn(model, rows, SoftPromptConfig.paper(lr=1e-6, steps=3, init_std=1.0, evaluate_at=(0,)), seed=0)
    moved = abs(learnt[3].vectors - learnt[0].vectors)
    assert (moved > 0).mean() > 0.9
    assert moved.max() < 1e-5


def test_a_gradient_is_clipped_to_the_norm_asked_for(model: FrozenModel, rows: list[TuningRow]) -> None:
    """Adam's first step forgets the scale of the gradient, its later ones do not."""
    plain = learn(model, rows, SoftPromptConfig.paper(lr=0.05, steps=4), seed=0)[4]
    wide = learn(model, rows, SoftPromptConfig.paper(lr=0.05, steps=4, max_grad_norm=1e6), seed=0)[4]
    steps: list[TrainingStep] = []
    tight = SoftPromptConfig.paper(lr=0.05, steps=4, max_grad_norm=1e-3)
    clipped = learn(model, rows, tight, seed=0, on_step=steps.append)[4]
    assert plain.key == wide.key
    assert plain.key != clipped.key
    assert steps[0].grad_norm > 1e-3  # reported as it was before


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma2"])
def test_every_step_equals_pefts_prompt_tuning(family: str, rows: list[TuningRow], tmp_path: Path) -> None:
    import peft

    folder = tiny_model(tmp_path, family)
    config = SoftPromptConfig.paper(lr=0.01, steps=20, length=5, batch_size=6, weight_decay=0.1)
    steps: list[TrainingStep] = []
    model = FrozenModel.load(folder)
    ours = learn(model, rows, config, seed=3, on_step=steps.append)[20]
    tuned = with_peft(folder, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5, prompt_tuning_init="RANDOM"))
    soft = tuned.prompt_encoder["default"].embedding.weight
    soft.data.copy_(torch.from_numpy(initialize(config, soft.shape[1], 3)))
    theirs = losses(
        tuned, rows, config, 3, lambda learnt: torch.optim.AdamW(learnt, lr=0.01, betas=(0.9, 0.999), weight_decay=0.1)
    )
    assert [step.loss for step in steps] == pytest.approx(theirs, abs=1e-4)
    torch.testing.assert_close(torch.from_numpy(ours.vectors.copy()), soft.detach(), rtol=0, atol=1e-4)


def test_a_loss_that_is_not_a_number_stops_with_a_sentence(rows: list[TuningRow]) -> None:
    module: Any = transformers.AutoModelForCausalLM.from_config(tiny_config("llama"))
    model = FrozenModel(module)
    module.lm_head.weight.data[7] = math.nan
    with pytest.raises(TrainingError, match=r"^step 1: the loss is nan; the weights are damaged: lm_head.weight holds NaN"):
        learn(model, rows, SoftPromptConfig.paper(steps=3), seed=0)


def test_a_loss_that_overflows_before_anything_was_learnt_is_put_down_to_the_dtype(rows: list[TuningRow]) -> None:
    module: Any = transformers.AutoModelForCausalLM.from_config(tiny_config("llama"))
    model = FrozenModel(module.to(torch.bfloat16))
    module.lm_head.weight.data.fill_(3e38)
    with pytest.raises(TrainingError, match=r"^step 1: .* numbers overflow in bfloat16; set dtype: float32 for this model$"):
        learn(model, rows, SoftPromptConfig.paper(steps=3), seed=0)


def test_vectors_that_overflow_stop_with_a_sentence(model: FrozenModel, rows: list[TuningRow]) -> None:
    config = SoftPromptConfig.paper(lr=1000.0, weight_decay=1000.0, steps=9)
    with pytest.raises(TrainingError, match=r"^step \d: the .*; a smaller lr than 1000 may help$"):
        learn(model, rows, config, seed=0)


def test_no_rows_are_refused(model: FrozenModel) -> None:
    with pytest.raises(DataError, match="there are no rows to tune on"):
        learn(model, [], SoftPromptConfig.paper(), seed=0)


def test_a_row_longer_than_the_model_is_refused(model: FrozenModel) -> None:
    row = TuningRow(prompt_ids=(65,) * 503, target_ids=(65,))
    with pytest.raises(DataError, match="503 tokens and 10 soft positions do not fit the model's 512 positions"):
        learn(model, [row], SoftPromptConfig.paper(), seed=0)
    fits = TuningRow(prompt_ids=(65,) * 502, target_ids=(65,))
    learn(model, [fits], SoftPromptConfig.paper(steps=1), seed=0)


def test_ids_of_another_models_tokenizer_are_refused(model: FrozenModel) -> None:
    row = TuningRow(prompt_ids=(65,), target_ids=(5000,))
    with pytest.raises(DataError, match="token id 5000 is outside the model's vocabulary of 272"):
        learn(model, [row], SoftPromptConfig.paper(), seed=0)


def test_an_empty_prompt_is_refused_behind_bos(model: FrozenModel) -> None:
    row = TuningRow(prompt_ids=(), target_ids=(65,))
    with pytest.raises(DataError, match="after_bos needs a first token"):
        learn(model, [row], SoftPromptConfig.paper(position="after_bos"), seed=0)
