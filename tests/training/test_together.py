"""Several soft prompts in one pass become what each becomes alone, and how many share a pass is measured."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from spt_fast.config import SoftPromptConfig
from spt_fast.errors import DataError, TrainingError
from spt_fast.models.frozen_model import FrozenModel
from spt_fast.training.at_once import PASSES, AtOnce
from spt_fast.training.batches import PASS_POSITIONS, PASS_POSITIONS_ON_CPU, TuningRow, cut_by_length, cut_evenly
from spt_fast.training.memory_plan import plan_of
from spt_fast.training.run import Share, TuningJob
from spt_fast.training.trainer import Tuned, learn, learn_many, losses_and_gradients, target_loss
from spt_fast.types import TrainingStep
from tests.helpers.cramped import cramped
from tests.helpers.tiny import tiny_model

CONFIGS = (
    SoftPromptConfig.paper(lr=0.01, steps=6, length=4, batch_size=5, init_std=0.5, evaluate_at=(0, 3)),
    SoftPromptConfig.paper(
        lr=0.02, steps=4, length=7, batch_size=8, init_std=0.5, max_grad_norm=0.1, schedule="cosine", warmup=1
    ),
    SoftPromptConfig.paper(lr=0.01, steps=7, length=2, batch_size=3, init_std=0.5, position="after_bos", betas=(0.8, 0.9)),
    SoftPromptConfig.paper(lr=0.01, steps=5, length=4, batch_size=4, optimizer="adafactor", init="uniform", encoder="mlp"),
    SoftPromptConfig.paper(lr=0.05, steps=40, length=4, batch_size=6, init_std=0.5, patience=4, check_every=2, held_out=5),
)
"""Other lengths, steps, batches, clipping, schedules, places, optimisers, encoders, and an early stop."""


def rows(seed: int) -> list[TuningRow]:
    """Those of one seed are about twice as long as those of the one before."""
    rng = random.Random(seed)
    return [
        TuningRow(
            prompt_ids=(256, *rng.choices(range(256), k=rng.randint(3, 6) * 2**seed)),
            target_ids=(*rng.choices(range(256), k=rng.randint(1, 9)), 257),
        )
        for _ in range(21)
    ]


def jobs(configs: Sequence[SoftPromptConfig] = CONFIGS) -> list[TuningJob]:
    return [TuningJob(rows=rows(i), config=config, seed=i) for i, config in enumerate(configs)]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def model(llama: Path) -> FrozenModel:
    return FrozenModel.load(llama)


def by_job(model: FrozenModel, wanted: Sequence[TuningJob], at_once: int) -> list[Tuned]:
    """What became of each job, in the order in which they were asked for."""
    found = {tuned.job: tuned for tuned in learn_many(model, wanted, at_once=at_once)}
    return [found[job] for job in wanted]


def assert_as_alone(model: FrozenModel, tuned: Tuned) -> None:
    expected = learn(model, tuned.job.rows, tuned.job.config, seed=tuned.job.seed)
    assert tuned.error is None
    assert tuned.prompts.keys() == expected.keys()
    for step, prompt in expected.items():
        np.testing.assert_allclose(tuned.prompts[step].vectors, prompt.vectors, rtol=0, atol=2e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2", "opt"])
def test_soft_prompts_of_all_kinds_become_in_company_what_they_become_alone(family: str, tmp_path: Path) -> None:
    """Gemma scales embeddings and caps logits, OPT projects and counts positions in its own way."""
    model = FrozenModel.load(tiny_model(tmp_path, family))
    together = by_job(model, jobs(), at_once=5)
    for tuned in together:
        assert_as_alone(model, tuned)
    assert {tuned.at_once for tuned in together} == {5}
    assert together[0].prompts[6].provenance["prompts_at_once"] == "5"


def test_one_by_one_is_the_same_to_the_last_bit(model: FrozenModel) -> None:
    for tuned in by_job(model, jobs(), at_once=1):
        expected = learn(model, tuned.job.rows, tuned.job.config, seed=tuned.job.seed)
        assert {step: prompt.key for step, prompt in tuned.prompts.items()} == {s: p.key for s, p in expected.items()}
        assert not any("prompts_at_once" in prompt.provenance for prompt in tuned.prompts.values())


def test_every_step_says_what_it_says_alone(model: FrozenModel) -> None:
    told: list[list[TrainingStep]] = [[], []]
    pair = [replace(job, on_step=steps.append) for job, steps in zip(jobs()[:2], told, strict=True)]
    by_job(model, pair, at_once=2)
    for job, steps in zip(pair, told, strict=True):
        alone: list[TrainingStep] = []
        learn(model, job.rows, job.config, seed=job.seed, on_step=alone.append)
        assert [step.step for step in steps] == [step.step for step in alone]
        assert [step.loss for step in steps] == pytest.approx([step.loss for step in alone], abs=1e-4)
        assert [step.grad_norm for step in steps] == pytest.approx([step.grad_norm for step in alone], rel=1e-3)


def test_one_that_has_ended_makes_room_and_jobs_are_asked_for_no_sooner(model: FrozenModel) -> None:
    configs = [SoftPromptConfig.paper(steps=steps, length=2, batch_size=2) for steps in (3, 8, 2, 4)]
    asked: list[int] = []

    def lazily() -> Iterator[TuningJob]:
        for i, job in enumerate(jobs(configs)):
            asked.append(i)
            yield job

    ended = []
    for tuned in learn_many(model, lazily(), at_once=2):
        ended.append((tuned.job.config.steps, len(asked)))
    # Steps 1 to 3 have the first and the second, 4 and 5 the third beside the second, then the fourth comes.
    assert ended == [(3, 2), (2, 3), (8, 4), (4, 4)]


def test_in_company_as_well_a_batch_is_cut_until_it_fits(model: FrozenModel) -> None:
    small, tried = cramped(model, 3)
    together = by_job(small, jobs(CONFIGS[:3]), at_once=3)
    assert max(tried) > 3
    for tuned in together:
        assert_as_alone(model, tuned)
    assert together[1].prompts[4].provenance["micro_batch"] in "123"


def test_one_that_fails_leaves_the_others_alone(model: FrozenModel) -> None:
    overflows = TuningJob(rows=rows(0), config=SoftPromptConfig.paper(lr=1000.0, weight_decay=1000.0, steps=9), seed=0)
    too_few = TuningJob(rows=rows(1), config=SoftPromptConfig.paper(patience=1, held_out=21), seed=0)
    found = by_job(model, [overflows, *jobs()[:2], too_few], at_once=4)
    assert re.fullmatch(r"step \d: the .*; a smaller lr than 1000 may help", str(found[0].error))
    assert isinstance(found[3].error, DataError)
    for tuned in found[1:3]:
        assert_as_alone(model, tuned)


def test_a_pass_that_fails_is_taken_again_one_by_one_and_only_the_culprit_fails(model: FrozenModel) -> None:
    long = TuningJob(rows=[TuningRow(prompt_ids=(65,) * 200, target_ids=(66, 257))] * 9, config=CONFIGS[0], seed=0)
    picky, _ = cramped(model, 100)
    hidden_at = picky.hidden_at

    def fails_on_long_rows(inputs_BTH: torch.Tensor, positions_N: torch.Tensor) -> torch.Tensor:
        if inputs_BTH.shape[1] > 150:
            raise RuntimeError("this kernel is not implemented for so long a row")
        return hidden_at(inputs_BTH, positions_N)

    picky.hidden_at = fails_on_long_rows  # type: ignore[method-assign,assignment]
    found = by_job(picky, [*jobs()[:2], long], at_once=3)
    assert isinstance(found[2].error, RuntimeError)
    for tuned in found[:2]:
        assert_as_alone(model, tuned)
        assert (
            tuned.prompts[max(tuned.prompts)].key
            == learn(model, tuned.job.rows, tuned.job.config, seed=tuned.job.seed)[max(tuned.prompts)].key
        )


def test_a_row_too_long_for_memory_fails_its_own_soft_prompt(model: FrozenModel) -> None:
    long = TuningJob(rows=[TuningRow(prompt_ids=(65,) * 200, target_ids=(66, 257))] * 9, config=CONFIGS[0], seed=0)
    small, _ = cramped(model, 100)
    plan_of(small).most_positions = plan_of(small).most_recomputed = 60
    small.hidden_at = lambda inputs_BTH, positions_N: (  # type: ignore[method-assign,misc,assignment]
        model.hidden_at(inputs_BTH, positions_N) if inputs_BTH.shape[1] < 150 else torch.empty(2**60)
    )
    found = by_job(small, [*jobs()[:2], long], at_once=3)
    assert isinstance(found[2].error, TrainingError)
    assert "out of memory with 5 tuning rows taken one by one, 201 tokens the longest" in str(found[2].error)
    for tuned in found[:2]:
        assert_as_alone(model, tuned)


def settled(passes_per_s: dict[int, float]) -> AtOnce:
    """After as much training as it takes, with passes of 1, 2, 4, ... prompts that are so fast."""
    chooser = AtOnce()
    for _ in range(100):
        most = chooser.most()
        chooser.saw(most, most * 100, 1 / passes_per_s[most])
    return chooser


@pytest.mark.parametrize(
    ("passes_per_s", "best"),
    [
        ({1: 10.0, 2: 10.0, 4: 9.0, 8: 4.6}, 4),  # full at four
        ({1: 10.0, 2: 5.2}, 1),  # 1.04 times as fast is noise
        ({1: 10.0, 2: 2.0}, 1),
        ({1: 10.0, 2: 10.0, 4: 10.0, 8: 10.0, 16: 10.0, 32: 1.0}, 16),
    ],
)
def test_more_share_a_pass_as_long_as_doubling_pays(passes_per_s: dict[int, float], best: int) -> None:
    assert settled(passes_per_s).chosen == best


def test_the_first_pass_of_a_number_and_one_slow_one_do_not_count() -> None:
    chooser = AtOnce()
    for most, seconds in [(1, [9, 1, 1, 1]), (2, [9, 1, 30, 1]), (4, [9, 4, 4, 4])]:
        assert chooser.most() == most
        for took in seconds:
            chooser.saw(most, most * 50, took)
    assert chooser.chosen == 2


def test_passes_that_differ_in_length_are_compared_by_their_positions() -> None:
    chooser = AtOnce()
    for i in range(PASSES + 1):
        chooser.saw(1, 100 * (i + 1), i + 1)
    for i in range(PASSES + 1):
        chooser.saw(2, 2000 * (i + 1), 20 * (i + 1))  # ten times as many, ten times as long: as fast as one by one
    assert chooser.chosen == 1


def test_where_there_are_too_few_nothing_is_decided_and_all_share_a_pass() -> None:
    chooser = AtOnce()
    for count in [1] * 4 + [2] * 4:
        chooser.saw(count, count * 100, 1.0)
    for _ in range(50):
        assert chooser.most() == 4
        chooser.saw(3, 300, 1.0)
    assert chooser.chosen is None


def test_what_was_best_is_measured_in_the_training_itself_and_remembered(
    model: FrozenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device that is no CPU, whatever is fastest there: the clock says that a pass takes a second."""
    ticks = iter(range(100_000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))
    monkeypatch.setattr("spt_fast.training.trainer.fills_up", lambda device: False)
    configs = [SoftPromptConfig.paper(steps=9, length=2, batch_size=2)] * 9
    assert plan_of(model).prompts_at_once is None
    same = [TuningJob(rows=rows(0), config=config, seed=i) for i, config in enumerate(configs)]
    try:
        found = list(learn_many(model, same))
        assert max(tuned.at_once for tuned in found) == 8
        for tuned in found:
            assert_as_alone(model, tuned)
    finally:
        plan_of(model).prompts_at_once = None


@pytest.mark.parametrize("pass_positions", [PASS_POSITIONS, PASS_POSITIONS_ON_CPU])
@pytest.mark.parametrize("most_rows", [2, 3, 12])
def test_rows_are_cut_where_it_computes_least(most_rows: int, pass_positions: int) -> None:
    """Against all ways to cut them."""
    rng = random.Random(most_rows)
    for _ in range(20):
        widths = sorted((rng.choice([10, 60, 300, 1200]) + rng.randrange(40) for _ in range(9)), reverse=True)

        def cost(sizes: Sequence[int], widths: Sequence[int] = widths) -> int:
            begins = [sum(sizes[:i]) for i in range(len(sizes))]
            return sum(pass_positions + size * widths[begin] for begin, size in zip(begins, sizes, strict=True))

        ways = [
            [b - a for a, b in zip((0, *cuts), (*cuts, 9), strict=True)]
            for count in range(9)
            for cuts in combinations(range(1, 9), count)
        ]
        least = min(cost(way) for way in ways if max(way) <= most_rows)
        found = cut_by_length(widths, most_rows, pass_positions)
        assert sum(found) == 9
        assert max(found) <= most_rows
        assert cost(found) == least


def test_on_a_cpu_the_rows_of_one_batch_are_cut_where_padding_would_cost_more_than_a_pass(model: FrozenModel) -> None:
    """Loss and gradient are those of the whole batch, and nothing says that memory was short."""
    config = SoftPromptConfig.paper(lr=0.01, steps=3, length=4, init_std=0.5, batch_size=4)
    uneven = [TuningRow(prompt_ids=(256, *range(n)), target_ids=(n, 257)) for n in (4, 100, 6, 90)]
    roomy, tried = cramped(model, 99)
    found = learn(roomy, uneven, config, seed=0)[3]
    assert tried == [2, 2] * 3
    assert "micro_batch" not in found.provenance
    shares = [Share(vectors_PH=torch.full((4, model.hidden_size), 0.3, requires_grad=True), rows=uneven)]
    ((loss, gradient),), _ = losses_and_gradients(model, shares)
    expected = target_loss(model, shares[0].vectors_PH, uneven)
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, [shares[0].vectors_PH])[0], rtol=1e-4, atol=1e-6)


def test_rows_cut_evenly_are_all_there() -> None:
    assert [cut_evenly(8, 8), cut_evenly(7, 3), cut_evenly(4, 2)] == [[8], [3, 3, 1], [2, 2]]
