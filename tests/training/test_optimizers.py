"""Optimisers, schedules and early stop: those of the papers, compared with the implementations that people use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import peft
import pytest
import torch
from transformers.optimization import Adafactor, get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from spt_fast.config import Schedule, SoftPromptConfig
from spt_fast.errors import DataError
from spt_fast.models.frozen_model import FrozenModel
from spt_fast.prompts.initialize import initialize
from spt_fast.training import trainer
from spt_fast.training.batches import TuningRow
from spt_fast.training.memory_plan import plan_of
from spt_fast.training.optimizers import optimizer, rate
from spt_fast.training.run import TuningJob
from spt_fast.training.trainer import learn, learn_many, mean_loss, target_loss
from spt_fast.types import TrainingStep
from tests.helpers.tiny import tiny_model
from tests.helpers.with_peft import losses, with_peft

ROWS = [TuningRow(prompt_ids=(256, *b"Question", 63 + i, 58), target_ids=(65 + i % 4, *b"x" * (i % 3), 257)) for i in range(21)]
# Ten times as slow as Lester's, which makes rounding grow fast in so small a model.
GENTLE = SoftPromptConfig.paper(
    optimizer="adafactor",
    lr=0.03,
    weight_decay=1e-5,
    init="uniform",
    length=5,
    batch_size=6,
    steps=20,
    schedule="linear",
    warmup=4,
)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def model(llama: Path) -> FrozenModel:
    return FrozenModel.load(llama)


def test_adafactor_is_transformers_adafactor_without_scaling_in_pefts_prompt_tuning(llama: Path, model: FrozenModel) -> None:
    steps: list[TrainingStep] = []
    ours = learn(model, ROWS, GENTLE, seed=0, on_step=steps.append)[20]
    tuned = with_peft(llama, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5, prompt_tuning_init="RANDOM"))
    soft = tuned.prompt_encoder["default"].embedding.weight
    soft.data.copy_(torch.from_numpy(initialize(GENTLE, 64, 0)))
    expected = losses(
        tuned,
        ROWS,
        GENTLE,
        0,
        lambda learnt: Adafactor(learnt, lr=0.03, scale_parameter=False, relative_step=False, weight_decay=1e-5),
        factor=lambda step: rate(GENTLE, step),
    )
    assert [step.loss for step in steps] == pytest.approx(expected, abs=1e-4)
    torch.testing.assert_close(torch.from_numpy(ours.vectors.copy()), soft.detach(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(100, 64), (1, 64), (64,)])
def test_adafactor_takes_the_steps_of_transformers_adafactor_with_lesters_settings(shape: tuple[int, ...]) -> None:
    """The same gradients, of a scale that changes by orders; a bias is a vector."""
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(shape, generator=generator) - 0.5
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    config = SoftPromptConfig.paper(optimizer="adafactor", lr=0.3, weight_decay=1e-5)
    updates = [
        optimizer(config, [ours]),
        Adafactor([theirs], lr=0.3, scale_parameter=False, relative_step=False, weight_decay=1e-5),
    ]
    for step in range(40):
        gradient = torch.randn(shape, generator=generator) * 10.0 ** (step % 5 - 4)
        for parameter, update in zip((ours, theirs), updates, strict=True):
            parameter.grad = gradient.clone()
            update.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert (ours - start).abs().mean() > 0.3


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_rate_falls_as_that_of_transformers_does(schedule: Schedule) -> None:
    config = SoftPromptConfig.paper(schedule=schedule, warmup=10)
    theirs = {"linear": get_linear_schedule_with_warmup, "cosine": get_cosine_schedule_with_warmup}[schedule]
    update = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    expected = theirs(update, num_warmup_steps=10, num_training_steps=80)
    factors = []
    for _ in range(80):
        factors.append(expected.get_last_lr()[0])
        update.step()
        expected.step()
    # Transformers takes its first step with a rate of 0, which changes nothing; here the warm-up is one step ahead.
    assert [rate(config, step) for step in range(1, 11)] == pytest.approx([*factors[1:10], 1.0])
    assert [rate(config, step) for step in range(11, 81)] == pytest.approx(factors[10:])


def test_a_constant_rate_with_warm_up_does_not_depend_on_how_many_steps_there_are() -> None:
    short, long = SoftPromptConfig.paper(warmup=4, steps=8), SoftPromptConfig.paper(warmup=4, steps=80)
    assert [rate(short, step) for step in range(1, 9)] == [rate(long, step) for step in range(1, 9)]
    assert [rate(short, step) for step in range(1, 7)] == [0.25, 0.5, 0.75, 1, 1, 1]


def test_early_stop_ends_with_the_vectors_that_were_best_on_held_out_rows(model: FrozenModel) -> None:
    """A rate at which the loss soon rises again."""
    told: list[TrainingStep] = []
    points = tuple(range(0, 100, 3))
    config = SoftPromptConfig.paper(lr=0.05, steps=200, batch_size=6, patience=6, check_every=3, held_out=5, evaluate_at=points)
    rows = [TuningRow(prompt_ids=(256, *b"Question", 63 + i, 58), target_ids=(65 + i * 7 % 26, 257)) for i in range(21)]
    learnt = learn(model, rows, config, seed=0, on_step=told.append)
    stopped, best = told[-1].step, int(learnt[200].provenance["best_step"])
    assert 0 < best < stopped == best + 6 < 100
    assert {learnt[step].key for step in points if step >= stopped} == {learnt[200].key} == {learnt[best].key}
    # Until then they are those of a training without a stop.
    passed = [step for step in points if step < stopped]
    assert len({learnt[step].key for step in passed}) == len(passed)
    assert not any("best_step" in learnt[step].provenance for step in passed)


@pytest.mark.parametrize(
    ("shares", "best", "stopped"),
    [
        # All follow from step 4 on: six updates later is the end. Of the looks since, the one with the lowest loss counts.
        ({0: 0.2, 2: 0.6, 4: 1.0, 6: 1.0, 8: 1.0, 10: 1.0}, {4, 6, 8, 10}, 10),
        # It fell again: what was seen at step 2 is kept.
        ({0: 0.2, 2: 0.8, 4: 0.6, 6: 0.6, 8: 0.6}, {2}, 8),
        # Nobody follows yet, and the loss falls: that is no reason to stop.
        (dict.fromkeys(range(0, 13, 2), 0.0) | {12: 0.4, 14: 1.0, 16: 0.8, 18: 0.8, 20: 0.8}, {14}, 20),
    ],
)
def test_early_stop_on_format_waits_for_more_answers_in_form(
    shares: dict[int, float], best: set[int], stopped: int, model: FrozenModel
) -> None:
    looks = iter(shares.values())
    asked: set[tuple[int, ...]] = set()

    def following(vectors_PH: npt.NDArray[np.float32], chosen: Sequence[int]) -> list[bool]:
        assert vectors_PH.shape == (10, 64)
        asked.add(tuple(chosen))
        share = next(looks)
        return [i < round(share * len(chosen)) for i in range(len(chosen))]

    config = SoftPromptConfig.paper(
        lr=0.005, steps=50, batch_size=6, patience=6, check_every=2, held_out=5, patience_on="format", evaluate_at=(*shares,)
    )
    job = TuningJob(rows=ROWS, config=config, seed=0, following=following)
    (tuned,) = learn_many(model, [job])
    assert tuned.error is None
    last = tuned.prompts[50]
    assert len(asked) == 1
    assert len(asked.pop()) == 5
    assert int(last.provenance["steps_taken"]) == stopped
    assert int(last.provenance["best_step"]) in best
    assert float(last.provenance["held_out_format_following"]) == max(shares.values())
    assert next(looks, None) is None
    told = json.loads(last.provenance["held_out_checks"])
    assert {int(step): rows.count("1") / 5 for step, rows in told.items()} == shares
    expected = learn(model, ROWS, replace(config, patience_on="loss", patience=100), seed=0)
    if (step := int(last.provenance["best_step"])) < stopped:
        assert last.key == expected[step].key


def test_what_is_held_out_is_not_learnt(model: FrozenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    marked = [TuningRow(prompt_ids=(256, i), target_ids=(65, 257)) for i in range(20)]
    seen: set[int] = set()
    splice = trainer.splice

    def watched(model: FrozenModel, ids: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            seen.update(ids[:, len(vectors) + 1].tolist())
        return splice(model, ids, vectors)

    monkeypatch.setattr(trainer, "splice", watched)
    learn(model, marked, SoftPromptConfig.paper(patience=50, held_out=7, steps=12, batch_size=4), seed=0)
    assert len(seen) == 13
    with pytest.raises(DataError, match=r"of 20 tuning rows, 20 are to be held out; lower soft_prompt\.held_out"):
        learn(model, marked, SoftPromptConfig.paper(patience=50, held_out=20), seed=0)


def test_the_loss_on_held_out_rows_is_the_mean_over_their_tokens_whatever_the_batches(model: FrozenModel) -> None:
    vectors = torch.from_numpy(initialize(SoftPromptConfig.paper(length=3, init_std=0.5), 64, 0))
    expected = target_loss(model, vectors, ROWS).item()
    assert mean_loss(model, vectors, ROWS, 8) == pytest.approx(expected, abs=1e-5)
    plan_of(model).most_positions = 40
    try:
        assert mean_loss(model, vectors, ROWS, 8) == pytest.approx(expected, abs=1e-5)
    finally:
        plan_of(model).most_positions = None
