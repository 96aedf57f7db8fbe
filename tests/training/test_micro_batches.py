"""A batch that memory has no room for is worked on in parts, and nothing else changes."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from spt_fast.config import SoftPromptConfig
from spt_fast.errors import TrainingError
from spt_fast.models.frozen_model import FrozenModel
from spt_fast.models.layers import layers_of
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.training.batches import TuningRow
from spt_fast.training.memory_plan import plan_of
from spt_fast.training.rows import tuning_row
from spt_fast.training.run import Share
from spt_fast.training.trainer import learn, losses_and_gradients, target_loss
from spt_fast.types import TrainingStep
from tests.helpers.cramped import cannot_allocate, cramped, out_of_memory
from tests.helpers.tiny import tiny_model

CONFIG = SoftPromptConfig.paper(lr=0.01, steps=5, length=4, init_std=0.5, evaluate_at=(0, 2))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def model(llama: Path) -> FrozenModel:
    return FrozenModel.load(llama)


@pytest.fixture(scope="module")
def rows(llama: Path) -> list[TuningRow]:
    """Prompts and targets of very different lengths: a mean of means would not be the mean."""
    tokenizer = Tokenizer.load(llama)
    return [tuning_row(tokenizer, f"Question {i}{'?' * (i % 7)}\nAnswer:", "x" * (1 + i * i % 23)) for i in range(24)]


@pytest.mark.parametrize(("most", "fail"), [(8, out_of_memory), (4, cannot_allocate), (2, out_of_memory), (1, out_of_memory)])
def test_vectors_are_the_same_however_few_rows_fit(
    most: int, fail: Callable[[], None], model: FrozenModel, rows: list[TuningRow]
) -> None:
    whole: list[TrainingStep] = []
    parts: list[TrainingStep] = []
    expected = learn(model, rows, CONFIG, seed=0, on_step=whole.append)
    small, tried = cramped(model, most, fail)
    found = learn(small, rows, CONFIG, seed=0, on_step=parts.append)
    for step in (0, 2, 5):
        np.testing.assert_allclose(found[step].vectors, expected[step].vectors, rtol=0, atol=1e-5)
    assert abs(expected[5].vectors - expected[0].vectors).max() > 0.01
    assert [step.loss for step in parts] == pytest.approx([step.loss for step in whole], abs=1e-5)
    assert [step.grad_norm for step in parts] == pytest.approx([step.grad_norm for step in whole], rel=1e-4)
    assert max(size for size in tried if size <= most) == most


def test_a_batch_that_fits_is_worked_on_whole_and_says_nothing(model: FrozenModel, rows: list[TuningRow]) -> None:
    roomy, tried = cramped(model, math.inf)
    learnt = learn(roomy, rows, CONFIG, seed=0)
    assert tried == [8] * 5
    assert "micro_batch" not in learnt[5].provenance


def test_the_provenance_says_how_small_the_micro_batches_were(model: FrozenModel, rows: list[TuningRow]) -> None:
    learnt = learn(cramped(model, 2)[0], rows, CONFIG, seed=0)
    assert {step: prompt.provenance.get("micro_batch") for step, prompt in learnt.items()} == {0: None, 2: "2", 5: "2"}


def test_what_fits_is_remembered_for_the_rest_and_for_the_next_soft_prompt(model: FrozenModel) -> None:
    alike = [TuningRow(prompt_ids=(256, *range(40 + i % 3)), target_ids=(65, 257)) for i in range(24)]
    small, tried = cramped(model, 2)
    learn(small, alike, CONFIG, seed=0)
    assert tried == [8, 4] + [2] * 4 * 5
    learn(small, alike, CONFIG, seed=1)
    assert tried[2:] == [2] * 4 * 10


def test_shorter_rows_are_still_taken_together(model: FrozenModel) -> None:
    small, tried = cramped(model, 4)
    long = [TuningRow(prompt_ids=(65,) * 100, target_ids=(66, 257))] * 8
    short = [TuningRow(prompt_ids=(65,) * 5, target_ids=(66, 257))] * 4
    vectors = torch.zeros(4, model.hidden_size, requires_grad=True)
    assert losses_and_gradients(small, [Share(vectors_PH=vectors, rows=long)])[1] == 4
    assert losses_and_gradients(small, [Share(vectors_PH=vectors, rows=short)])[1] == 4
    assert tried == [8, 4, 4, 4]


def test_a_batch_that_no_halving_divides_loses_no_row(model: FrozenModel, rows: list[TuningRow]) -> None:
    small, tried = cramped(model, 3)
    vectors = torch.full((4, model.hidden_size), 0.3, requires_grad=True)
    ((loss, gradient),), size = losses_and_gradients(small, [Share(vectors_PH=vectors, rows=rows[:7])])
    expected = target_loss(model, vectors, rows[:7])
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, [vectors])[0], rtol=1e-4, atol=1e-6)
    assert (size, tried[0], sum(tried[1:])) == (3, 7, 7)
    assert max(tried[1:]) == 3


def test_a_row_that_does_not_fit_alone_fails_with_the_numbers(model: FrozenModel, rows: list[TuningRow]) -> None:
    small, tried = cramped(model, 0)
    said = (
        r"^out of memory with 8 tuning rows taken one by one, \d+ tokens the longest, and 4 soft positions "
        r"\(\d+\.\d of \d+\.\d GiB of memory are free without it: CUDA out of memory\. Tried to allocate 2\.00 GiB\.\)"
    )
    with pytest.raises(TrainingError, match=said):
        learn(small, rows, CONFIG, seed=0)
    assert tried == [8, 4, 2, 1] * 2  # keeping all activations, and keeping few


def test_other_errors_are_not_tried_again(model: FrozenModel, rows: list[TuningRow]) -> None:
    def wrong() -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    small, tried = cramped(model, 0, wrong)
    with pytest.raises(RuntimeError, match="shapes"):
        learn(small, rows, CONFIG, seed=0)
    assert tried == [8]


def kept_bytes(model: FrozenModel, rows: list[TuningRow]) -> int:
    """Of what a forward pass keeps for its backward pass, the weights left out."""
    weights = {parameter.data_ptr() for parameter in model.module.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    vectors = torch.zeros(4, model.hidden_size, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = target_loss(model, vectors, rows)
    assert loss.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_activations_computed_twice_give_the_same_gradient_and_far_fewer_are_kept(
    family: str, rows: list[TuningRow], tmp_path: Path
) -> None:
    """GPT-2 with dropout, which must stay off."""
    dropout = {"resid_pdrop": 0.5, "attn_pdrop": 0.5} if family == "gpt2" else {}
    model = FrozenModel.load(tiny_model(tmp_path, family, layers=6, **dropout))
    vectors = torch.full((4, model.hidden_size), 0.3, requires_grad=True)
    found = []
    for way in (nullcontext(), model.recomputing()):
        with way:
            loss = target_loss(model, vectors, rows[:8])
            found.append((loss.detach(), torch.autograd.grad(loss, [vectors])[0], kept_bytes(model, rows[:8])))
    (loss, gradient, kept), (same_loss, same_gradient, kept_less) = found
    assert torch.equal(loss, same_loss)
    assert torch.equal(gradient, same_gradient)
    assert gradient.abs().max() > 0
    assert kept_less < kept / 3
    assert not any("forward" in vars(layer) for layer in model.module.modules())


def test_rows_that_do_not_fit_one_by_one_are_learnt_with_activations_computed_twice(model: FrozenModel) -> None:
    """Long rows want it, short ones not; what was found out is remembered."""
    long = [TuningRow(prompt_ids=(65 + i % 7,) * 100, target_ids=(66, 257)) for i in range(8)]
    short = [TuningRow(prompt_ids=(65 + i % 7,) * 5, target_ids=(66, 257)) for i in range(8)]
    small, tried = cramped(model, math.inf)
    hidden_at = small.hidden_at

    def by_positions(inputs_BTH: Tensor, positions_N: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Room for 90 positions whose activations are kept, and for five times as many whose are not."""
        recomputes = any("forward" in vars(layer) for layer in layers_of(model.module))
        hidden_NH = hidden_at(inputs_BTH, positions_N, mask_BT)
        if inputs_BTH.shape[:2].numel() > 90 * (5 if recomputes else 1):
            out_of_memory()
        return hidden_NH

    small.hidden_at = by_positions  # type: ignore[method-assign]
    for rows in (long, short):
        found = learn(small, rows, CONFIG, seed=0)[5]
        np.testing.assert_allclose(found.vectors, learn(model, rows, CONFIG, seed=0)[5].vectors, rtol=0, atol=1e-5)
    assert tried[:6] == [8, 4, 2, 1, 8, 4]
    assert tried[6 : 6 + 2 * 5 - 1] == [4] * 9  # the other half of the first step, then four steps
    assert 8 in tried[15:]
    assert plan_of(small).recompute_from == 105
