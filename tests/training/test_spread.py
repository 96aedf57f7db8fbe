"""A model that is spread over several GPUs: fake tensors, which have a device and no numbers, stand for what is where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from spt_fast.config import Lora
from spt_fast.models import lora
from spt_fast.models.frozen_model import FrozenModel
from spt_fast.models.lora import RandomState, gpus_of
from spt_fast.training.batches import OwnedRow, TuningRow
from spt_fast.training.run import Share
from spt_fast.training.trainer import _alone, _together
from tests.helpers.tiny import tiny_model

ELSEWHERE = torch.device("meta")
"""Stands for the last GPU; a machine without any can fake no two of them."""


@pytest.fixture
def fake() -> FakeTensorMode:
    return FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv())


def spread_out(model: FrozenModel, fake: FakeTensorMode) -> FrozenModel:
    """The model, with its untied head on another device than its embeddings and layers."""
    for name, weight in list(model.module.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        moved = fake.from_tensor(weight.data).to(ELSEWHERE if owner == "lm_head" else "cpu")
        setattr(model.module.get_submodule(owner), leaf, torch.nn.Parameter(moved, requires_grad=False))
    assert model.head is not None
    model.head = replace(model.head, weight=model.module.get_output_embeddings().weight)
    return model


@pytest.mark.parametrize("shares", [1, 2])
def test_a_loss_is_where_the_embeddings_are_although_the_head_is_elsewhere(
    shares: int, fake: FakeTensorMode, tmp_path: Path
) -> None:
    model = FrozenModel.load(tiny_model(tmp_path, tie_word_embeddings=False))
    rows = [TuningRow(prompt_ids=(256, *range(3 + i)), target_ids=(65, 257)) for i in range(4)]
    with fake:
        spread_out(model, fake)
        vectors = [torch.zeros(3, model.hidden_size, requires_grad=True) for _ in range(shares)]
        asked = [Share(rows=rows, vectors_PH=vectors_PH, position="front") for vectors_PH in vectors]
        owned = [OwnedRow(row=row, owner=i, length=3, position="front") for i in range(shares) for row in rows]
        total = sum(len(row.target_ids) for row in rows)
        alone = shares == 1
        loss = _alone(model, asked[0], owned, total, 0) if alone else _together(model, asked, owned, [total] * shares, 0)
        assert model.head is not None
        assert model.head.weight.device == ELSEWHERE
        assert loss.device == model.device != ELSEWHERE
        for gradient_PH in torch.autograd.grad(loss.sum(), vectors):
            assert gradient_PH.device == model.device


class FakeGpus:
    """The random states of two GPUs: what `torch.cuda` tells of them, with a CPU's generators behind it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.generators = tuple(torch.Generator().manual_seed(100 + i) for i in range(2))
        monkeypatch.setattr(torch.cuda, "default_generators", self.generators)
        monkeypatch.setattr(torch.cuda, "get_rng_state", lambda gpu: self.generators[gpu].get_state())
        monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, gpu: self.generators[gpu].set_state(state))

    def dropped(self, gpu: int) -> list[float]:
        """What a dropout there draws."""
        return torch.rand(4, generator=self.generators[gpu]).tolist()


def test_dropout_on_a_gpu_is_drawn_by_seed_and_leaves_its_random_state_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = FakeGpus(monkeypatch)
    before = [each.get_state() for each in gpus.generators]
    drawn = []
    for seed in (7, 7, 8):
        random = RandomState(seed, gpus=[0, 1])
        steps = []
        for _ in range(2):
            with random.own():
                steps.append((gpus.dropped(0), gpus.dropped(1), torch.rand(2).tolist()))
            gpus.dropped(0)  # somebody else draws in between
            gpus.generators[0].set_state(before[0])
        drawn.append(steps)
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0][0] != drawn[0][1], "a second step goes on where the first has ended"
    assert all(torch.equal(each.get_state(), state) for each, state in zip(gpus.generators, before, strict=True))


def test_a_lora_draws_its_dropout_by_seed_on_the_gpus_that_its_weights_are_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus, model = FakeGpus(monkeypatch), FrozenModel.load(tiny_model(tmp_path))
    monkeypatch.setattr(lora, "gpus_of", lambda module: [0, 1] if module is model.module else [])
    drawn = []
    for seed in (7, 7, 8):
        learning = lora.LearningLora(model, Lora(rank=2, dropout=0.5, steps=1, batch_size=2), seed)
        with learning.training():
            drawn.append(gpus.dropped(0) + gpus.dropped(1))
        learning.close()
        gpus.dropped(0)  # somebody else draws in between
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_gpus_that_something_is_drawn_on_are_those_of_the_weights() -> None:
    with FakeTensorMode():
        weights = [
            torch.nn.Parameter(torch.empty(2, device=where), requires_grad=False) for where in ("cuda:1", "cpu", "cuda:0")
        ]
        assert gpus_of(torch.nn.ParameterList(weights)) == [0, 1]
    assert gpus_of(torch.nn.Linear(2, 2)) == []
