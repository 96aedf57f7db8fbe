"""What a checkpoint of a series is expected to take from beginning to end: cold, and carried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from spt_fast.config import Protocol, ShuffledLabels, SoftPromptConfig, ZeroShot
from spt_fast.models.identity import Model
from spt_fast.plan import Stage
from spt_fast.scheduling import checkpoint
from spt_fast.scheduling.estimates import Estimates
from tests.helpers.estimated import GSM8K, MMLU, SEVEN, cell

ESTIMATES = Estimates(gpu=True)
MODELS = [replace(SEVEN, name=f"run/step-{n}", fingerprint=f"sha256:{n}", series="run/step-*") for n in (9, 10)]


def stage(*protocols: Protocol, models: Sequence[Model] = MODELS) -> Stage:
    cells = [cell(model, task, protocol) for model in models for task in (MMLU, GSM8K) for protocol in protocols]
    ((name, found),) = checkpoint.of_series(cells)
    assert name == "run/step-*"
    return found


def test_the_last_checkpoint_of_a_series_is_reckoned_with_all_its_cells() -> None:
    found = stage(ZeroShot(), SoftPromptConfig())
    assert (found.model.name, len(found.cells)) == ("run/step-10", 4)
    assert list(checkpoint.of_series([cell(SEVEN, MMLU, SoftPromptConfig())])) == []


def test_where_nothing_is_carried_it_is_reckoned_what_carrying_would_save() -> None:
    of = stage(ZeroShot(), SoftPromptConfig(init="normal", init_std=0.02))
    cold, carried = checkpoint.reckoned(of, ESTIMATES)
    assert (cold.how, carried.how) == ("cold, 80 updates", "carried, 10 updates")
    assert cold.seconds == ESTIMATES.stage(of)
    assert carried.seconds.train_s == pytest.approx(cold.seconds.train_s / 8)
    assert replace(carried.seconds, train_s=0.0) == replace(cold.seconds, train_s=0.0)


def test_a_cold_start_of_what_is_carried_is_reckoned_with_all_its_updates() -> None:
    cold, carried = checkpoint.reckoned(stage(SoftPromptConfig(init_from="previous", steps=20)), ESTIMATES)
    assert (cold.how, carried.how) == ("cold, 80 + 20 updates", "carried, 20 updates")
    assert cold.seconds.train_s == pytest.approx(5 * carried.seconds.train_s)


def test_where_rows_stop_the_least_that_is_asked_is_reckoned() -> None:
    of = stage(SoftPromptConfig(init_from="previous", steps=20))
    _, carried, least = checkpoint.reckoned(of, ESTIMATES, least=100)
    assert least.how == "carried, and stopped at the first look (100 rows)"
    cells = [replace(each, task=replace(each.task, limit=100)) for each in of.cells]
    assert least.seconds.answer_s == pytest.approx(sum(map(ESTIMATES.answer_s, cells)))
    assert least.seconds.answer_s < carried.seconds.answer_s / 5
    assert replace(least.seconds, answer_s=0.0) == replace(carried.seconds, answer_s=0.0)


def test_what_was_stopped_so_far_says_what_stopping_takes() -> None:
    of = stage(SoftPromptConfig(init_from="previous", steps=20))
    _, carried, stopped = checkpoint.reckoned(of, ESTIMATES, stopped=(0.25, 8))
    assert stopped.how == "carried, and stopped after 25 % of the rows, as 8 cells were"
    assert stopped.seconds == replace(carried.seconds, answer_s=carried.seconds.answer_s / 4)


def test_what_cannot_be_carried_or_gains_nothing_by_it_is_not_reckoned() -> None:
    for protocols in ([ZeroShot()], [SoftPromptConfig(steps=10)], [SoftPromptConfig(encoder="mlp")]):
        assert checkpoint.reckoned(stage(*protocols), ESTIMATES) == []
    (of, _) = checkpoint.reckoned(stage(SoftPromptConfig(), ShuffledLabels(steps=40)), ESTIMATES)
    assert of.how == "cold, 40 to 80 updates"
