"""What a run has cost is told for its cells, its models and its sessions, beside what it was expected to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from spt_fast.analysis.cells import RunCell
from spt_fast.config import PriceConfig
from spt_fast.config.reader import parse_grid
from spt_fast.errors import ConfigError
from spt_fast.report import results_json
from spt_fast.report.checkpoint_costs import checkpoint_costs
from spt_fast.report.costs import by_model, gpus_of, money, price_of, sessions, spent_on
from spt_fast.store.results import StoredResult
from spt_fast.store.stopped import StoredStopped
from spt_fast.types import Metric, Stopped
from tests.helpers.reports import markdown

METRIC = Metric(name="format_following", value=0.5, n=10, stderr=0.1, ci_low=0.2, ci_high=0.8)
PRICE = PriceConfig(per_gpu_hour=3.6, currency="USD")
PRICED = {"price": {"per_gpu_hour": 3.6, "currency": "USD"}}
SHARED = {"load_s": 10.0, "engine_start_s": 30.0}
EVENTS: list[dict[str, Any]] = [
    {"time": 1000.0, "event": "run", "cells": 2, "todo": 2},
    {"time": 1000.0, "event": "expected", "seconds": 90.0, "gpu_seconds": 180.0, "basis": "a guess"},
    {"time": 1000.0, "event": "worker", "model": "m", "worker": 0, "where": "here", "gpus": 2.0},
    {"time": 1030.0, "event": "worker", "model": "m", "worker": 1, "where": "there", "gpus": 1.0},
    {"time": 1050.0, "event": "ended", "model": "m", "worker": 0},
    {"time": 1060.0, "event": "done", "key": "k"},  # and here it was killed
    {"time": 2000.0, "event": "run", "cells": 2, "todo": 1},
    {"time": 2000.0, "event": "worker", "model": "m", "worker": 0, "where": "here", "gpus": 2.0},
    {"time": 2010.0, "event": "ended", "model": "m", "worker": 0},
    {"time": 2012.0, "event": "end"},
]


def cell(task: str, costs: Mapping[str, float]) -> RunCell:
    return RunCell(model="m", task=task, protocol="zero_shot", metrics={None: [METRIC]}, costs=costs)


CELLS = [
    cell("a", {**SHARED, "train_s": 20.0, "answer_s": 5.0, "prompt_tokens": 100.0, "cached_tokens": 40.0}),
    cell("b", {**SHARED, "answer_s": 10.0, "score_s": 5.0, "prompt_tokens": 50.0, "generated_tokens": 7.0}),
]


def test_each_session_tells_what_it_was_expected_to_take_and_took() -> None:
    killed, finished = sessions(EVENTS)
    assert (killed.seconds, killed.gpu_seconds) == (60.0, 2 * 50 + 30)
    assert killed.expected is not None
    assert (killed.expected.seconds, killed.expected.gpu_seconds, killed.expected.basis) == (90.0, 180.0, "a guess")
    assert (killed.finished, killed.on_gpus, killed.to_do) == (False, True, 2)
    assert (finished.seconds, finished.gpu_seconds, finished.finished, finished.expected) == (12.0, 20.0, True, None)


def test_the_cells_of_a_model_share_what_it_took_as_a_whole() -> None:
    gpus = gpus_of(EVENTS)
    assert gpus == {"m": 2.0}
    model = by_model(CELLS, gpus)["m"]
    assert (model.total, model.gpu_seconds) == (80.0, 160.0)
    assert [spent_on(each, model) for each in CELLS] == [2 * (25 + 20), 2 * (15 + 20)]
    assert sum(spent_on(each, model) for each in CELLS) == model.gpu_seconds
    assert model.tokens == {"prompt_tokens": 150.0, "cached_tokens": 40.0, "generated_tokens": 7.0}


def test_without_a_gpu_the_seconds_of_workers_count_and_the_report_says_so() -> None:
    assert by_model(CELLS, {})["m"].gpu_seconds == 80.0
    on_cpu = [{**event, "gpus": 0.0} if event["event"] == "worker" else event for event in EVENTS]
    assert next(sessions(on_cpu)).gpu_seconds == 50 + 30
    text = markdown(CELLS, events=on_cpu, grid=PRICED)
    assert "There was no GPU: where others count GPU-seconds, these are worker-seconds" in text
    assert "| `m` | 2 | 20 | 10 s | 20 s | 30 s | 15 s | 5.0 s | 1 min 20 s | 80 | 40.0 | 0.08 USD |" in text


def test_report_md_has_the_price_of_models_and_of_runs() -> None:
    text = markdown(CELLS, events=EVENTS, grid=PRICED)
    assert "| 160 | 80.0 | 0.16 USD |" in text
    assert "| 2 | 1 min 30 s | 1 min 00 s | 180 | 130 | 0.18 USD | 0.13 USD |" in text
    assert "| 1 | \u2013 | 12 s | \u2013 | 20 | \u2013 | 0.02 USD |" in text


def test_results_json_has_the_gpu_seconds_and_the_price_of_each_cell() -> None:
    found = results_json(CELLS, name="g", events=EVENTS, price=PRICE)
    assert [(each["gpu_seconds"], each["price"]) for each in found["cells"]] == [(90.0, 0.09), (70.0, 0.07)]
    assert [each["price"] for each in found["runs"]] == [0.13, 0.02]
    assert found["runs"][0]["expected"] == {"seconds": 90.0, "gpu_seconds": 180.0, "basis": "a guess", "price": 0.18}
    assert "price" not in results_json(CELLS, name="g", events=EVENTS)["cells"][0]


@pytest.mark.parametrize(("seconds", "told"), [(3600, "3.60 USD"), (36e6, "36,000.00 USD"), (1, "0.0010 USD"), (0, "0.00 USD")])
def test_money_is_told_to_hundredths_and_what_is_less_to_four_decimals(seconds: float, told: str) -> None:
    assert money(PRICE, seconds) == told


def test_a_price_is_a_number_or_a_mapping() -> None:
    text = "name: g\nmodels: [m]\ntasks: [zoo-mcq]\nprice: "
    assert parse_grid(f"{text}2.5").price == PriceConfig(per_gpu_hour=2.5)
    assert parse_grid(f"{text}{{per_gpu_hour: 2, currency: EUR}}").price == PriceConfig(per_gpu_hour=2.0, currency="EUR")
    assert price_of({"price": {"per_gpu_hour": 2.0, "currency": "EUR"}}) == PriceConfig(per_gpu_hour=2.0, currency="EUR")
    assert price_of({}) is None


@pytest.mark.parametrize(
    ("price", "reason"),
    [
        ("dear", "price: must be a number"),
        ("-1", "price: must be a number from 0 to 1000000000, not -1"),
        (".inf", "price: must be a number"),
        ("{per_gpu_hour: 1, currency: '<b>'}", "price.currency: must be a word"),
        ("{currency: USD}", "price.per_gpu_hour: is missing"),
        ("{per_gpu_hours: 1}", "price: unknown key 'per_gpu_hours'; did you mean 'per_gpu_hour'?"),
    ],
)
def test_a_wrong_price_is_a_sentence(price: str, reason: str) -> None:
    with pytest.raises(ConfigError) as e:
        parse_grid(f"name: g\nmodels: [m]\ntasks: [zoo-mcq]\nprice: {price}")
    assert str(e.value).startswith(reason)


# A checkpoint of a series


def at(model: str, protocol: str, task: str, **costs: float) -> RunCell:
    shared = {"load_s": 1.0, "engine_start_s": 30.0}
    return RunCell(
        model=model, task=task, protocol=protocol, metrics={None: [METRIC]}, costs={**shared, "answer_s": 4.0, **costs}
    )


MODELS = [{"id": f"run/step-{n}", "series": "run/step-*"} for n in (1, 2, 3)] + [{"id": "other"}]


def test_a_checkpoint_is_told_by_phase_cold_and_carried_apart() -> None:
    cells = [
        *(at("run/step-1", "carried", task, train_s=40.0) for task in "ab"),
        *(at(f"run/step-{n}", "carried", task, train_s=5.0, carried_checkpoints=1.0) for n in (2, 3) for task in "ab"),
        *(at("run/step-1", "zero_shot", task) for task in "ab"),
        replace(at("run/step-2", "zero_shot", "a"), status="waiting"),
        at("other", "zero_shot", "a"),
    ]
    cold, carried, plain = checkpoint_costs(cells, MODELS)
    assert [(line.how, line.checkpoints, line.rows) for line in (cold, carried, plain)] == [
        ("cold", 1, 20.0),
        ("carried", 2, 20.0),
        ("", 1, 20.0),
    ]
    assert (cold.phases["train_s"], carried.phases["train_s"]) == (80.0, 10.0)
    assert (cold.phases["load_s"], cold.phases["engine_start_s"], cold.phases["answer_s"]) == (1.0, 30.0, 8.0)
    assert (cold.total, carried.total, plain.total) == (119.0, 49.0, 38.0)
    text = markdown(cells, grid={"models": MODELS})
    assert "| `run/step-*` | `carried` | cold | 1 | 20 | 1.0 s | 1 min 20 s | 30 s | 8.0 s | 1 min 59 s |" in text
    assert "| `run/step-*` | `carried` | carried | 2 | 20 | 1.0 s | 10 s | 30 s | 8.0 s | 49 s |" in text


def stopped(cell: RunCell, n: int, of: int) -> RunCell:
    metric = replace(METRIC, n=n)
    result = StoredResult(key="k", metrics={None: (metric,)}, costs=cell.costs, provenance={})
    told = Stopped(n=n, of=of, why="it is above 0.4", rule="r", looks=2, units=of, largest=1)
    kept = StoredStopped(result=result, stopped=told, stopped_at="2026-11-30T00:00:00Z")
    return replace(cell, status="stopped", metrics={}, costs={}, stopped=kept)


def test_what_was_stopped_has_cost_something_too_and_is_told_apart() -> None:
    whole = [at("run/step-1", "zero_shot", task) for task in "ab"]
    cells = [*whole, stopped(at("run/step-2", "zero_shot", "a"), 4, 10), at("run/step-2", "zero_shot", "b")]
    assert by_model(cells, {})["run/step-2"].phases["answer_s"] == 8.0
    done, partly = checkpoint_costs(cells, MODELS)
    assert [(line.stopped, line.rows, line.of) for line in (done, partly)] == [(False, 20.0, 20.0), (True, 14.0, 20.0)]
    text = markdown(cells, grid={"models": MODELS})
    assert "| `run/step-*` | `zero_shot` | stopped | 1 | 14 of 20 | 30 s | 8.0 s | 38 s |" in text
    only = [stopped(at("run/step-2", "zero_shot", task), 4, 10) for task in "ab"]
    assert "| `run/step-*` | `zero_shot` | stopped | 1 | 8 of 20 | 30 s | 8.0 s | 38 s |" in markdown(
        only, grid={"models": MODELS}
    )
    assert len(results_json(only, name="g")["stopped"]) == 2


def test_without_a_series_there_is_no_table_of_checkpoints() -> None:
    assert checkpoint_costs(CELLS, [{"id": "m"}]) == []
    assert "A checkpoint, by phase" not in markdown(CELLS, events=EVENTS)
