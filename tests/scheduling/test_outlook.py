"""How long a grid is expected to take: one model after the other, or as the scheduler would share it out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spt_fast.config import SoftPromptConfig, ZeroShot
from spt_fast.plan import Stage, series
from spt_fast.scheduling import outlook
from spt_fast.scheduling.estimates import Estimates
from spt_fast.scheduling.jobs import job
from tests.helpers.estimated import GSM8K, JUDGE, MMLU, SEVEN, SQUAD, cell, measured

STAGES = [
    Stage(model=model, cells=(cell(model), cell(model, protocol=SoftPromptConfig())))
    for model in (replace(SEVEN, name=f"some/m{i}-7b", fingerprint=f"commit:{i}") for i in range(4))
]
ESTIMATES = Estimates(
    [
        measured(each, answer_s=1000.0, engine_start_s=50.0, load_s=10.0, **more)
        for each, more in ((STAGES[0].cells[0], {}), (STAGES[0].cells[1], {"train_s": 2000.0}))
    ],
    gpu=True,
)
"""Of each stage: 60 s of start, 2,000 s of learning, twice 1,000 s of asking."""


def test_on_one_machine_models_go_one_after_the_other() -> None:
    expected = outlook.on_one_machine(STAGES, ESTIMATES, gpu=True)
    assert expected.seconds == pytest.approx(4 * 4060)
    assert expected.gpu_hours == pytest.approx(4 * 4060 / 3600)
    assert outlook.on_one_machine(STAGES, ESTIMATES, gpu=False).gpu_hours == 0.0


def test_gpus_of_a_model_cost_hours_each() -> None:
    two = [replace(STAGES[0], model=replace(STAGES[0].model, gpus=2.0))]
    expected = outlook.on_one_machine(two, ESTIMATES, gpu=True)
    assert expected.gpu_hours == pytest.approx(2 * expected.seconds / 3600)


def test_on_as_many_gpus_as_models_a_grid_takes_as_long_as_one_model() -> None:
    room = {f"n{i}": {"GPU": 2.0, "CPU": 8.0} for i in range(2)}
    expected = outlook.on_cluster(STAGES, ESTIMATES, room, gpu=True)
    assert 4060 <= expected.seconds < 1.05 * 4060
    assert expected.gpu_hours == pytest.approx(4 * 4060 / 3600, rel=0.05)
    assert expected.impossible == ()


def test_one_gpu_of_a_cluster_takes_as_long_as_one_machine() -> None:
    expected = outlook.on_cluster(STAGES, ESTIMATES, {"n": {"GPU": 1.0, "CPU": 8.0}}, gpu=True)
    assert expected.seconds == pytest.approx(4 * 4060, rel=0.05)


def test_what_no_node_could_hold_is_said_and_the_rest_is_expected_still() -> None:
    wide = replace(STAGES[0], model=replace(STAGES[0].model, gpus=4.0))
    expected = outlook.on_cluster([wide, STAGES[1]], ESTIMATES, {"n": {"GPU": 2.0, "CPU": 8.0}}, gpu=True)
    (sentence,) = expected.impossible
    assert sentence == "some/m0-7b: a worker needs 4 GPUs of one node, and the largest node has 2"
    assert expected.gpu_hours == pytest.approx(4060 / 3600, rel=0.05)


def test_a_cluster_of_so_many_gpus_has_them_on_nodes_of_eight() -> None:
    assert sum(node["GPU"] for node in outlook.nodes_of_eight(64).values()) == 64
    assert len(outlook.nodes_of_eight(64)) == 8


def test_a_job_learns_once_for_the_cells_that_share_vectors_and_a_judge_learns_nothing() -> None:
    stage = STAGES[0]
    plain, tuned = job("j", stage, ESTIMATES, gpu=True).pieces
    assert (plain.group, plain.train_s) == (None, 0.0)
    assert (tuned.group, tuned.train_s) == (stage.cells[1].tuning_key, pytest.approx(2000.0))
    judged = replace(stage, model=JUDGE.model, cells=tuple(replace(each, judge=JUDGE) for each in stage.cells))
    assert [(piece.group, piece.train_s) for piece in job("j", judged, ESTIMATES, gpu=True).pieces] == [(None, 0.0)] * 2


def test_groups_that_start_from_the_same_vectors_take_even_parts_of_learning_those() -> None:
    starting = SoftPromptConfig(init="soft_prompt", init_from="squad", steps=40)
    of = Stage(model=SEVEN, cells=tuple(cell(task=task, protocol=starting, starts_on=SQUAD) for task in (MMLU, GSM8K)))
    pieces = job("j", of, ESTIMATES, gpu=True).pieces
    assert sum(piece.train_s for piece in pieces) == pytest.approx(ESTIMATES.stage(of).train_s)
    assert all(piece.train_s > ESTIMATES.train_s(each) for piece, each in zip(pieces, of.cells, strict=True))


def test_a_model_cut_into_stages_needs_a_node_for_each_where_none_could_hold_it() -> None:
    model = replace(SEVEN, tensor_parallel=4, pipeline_parallel=2, gpus=8.0)
    large = Stage(model=model, cells=(cell(model, MMLU, ZeroShot()),))
    made = job("j", large, ESTIMATES, gpu=True)
    assert (made.need, made.parts, made.part) == ({"GPU": 8.0, "CPU": 1.0}, 2, {"GPU": 4.0, "CPU": 1.0})
    made = job("j", large, ESTIMATES, gpu=False)
    assert (made.need, made.parts, made.part) == ({"CPU": 2.0}, 2, {"CPU": 1.0})
    four = {f"n{i}": {"GPU": 4.0, "CPU": 8.0} for i in range(3)}
    expected = outlook.on_cluster([large], ESTIMATES, four, gpu=True)
    assert expected.impossible == ()
    assert expected.gpu_hours == pytest.approx(8 * expected.seconds / 3600, rel=0.05)
    (sentence,) = outlook.on_cluster([large], ESTIMATES, {"n": {"GPU": 4.0, "CPU": 8.0}}, gpu=True).impossible
    assert "a worker needs 4 GPUs of each of 2 nodes, and there is room for 1 of these parts" in sentence


def test_a_worker_takes_its_gpus_and_a_core_or_a_core_alone() -> None:
    shared = Stage(model=replace(SEVEN, gpus=0.5), cells=(cell(task=MMLU, protocol=ZeroShot()),))
    assert job("j", shared, ESTIMATES, gpu=True).need == {"GPU": 0.5, "CPU": 1.0}
    assert job("j", shared, ESTIMATES, gpu=False).need == {"CPU": 1.0}


def test_a_series_that_carries_soft_prompts_learns_one_after_the_other_and_is_asked_at_once() -> None:
    protocol = SoftPromptConfig(init_from="previous", steps=40)
    models = [replace(SEVEN, name=f"run/step-{i}", fingerprint=f"commit:{i}", series="run/step-*") for i in range(4)]
    found = [Stage(model=model, cells=(cell(model, protocol=protocol),)) for model in models]
    of = series.with_cold(found, {})
    each = [ESTIMATES.stage(stage) for stage in of]
    assert each[0].train_s == pytest.approx(3 * each[1].train_s)  # 80 steps and 40, then 40
    room = {"n": {"GPU": 8.0, "CPU": 64.0}}
    learning = sum(one.start_s + one.train_s for one in each)
    expected = outlook.on_cluster(of, ESTIMATES, room, gpu=True).seconds
    assert expected == pytest.approx(learning + each[-1].answer_s, rel=0.05)
    apart = outlook.on_cluster([replace(s, model=replace(s.model, series=None)) for s in of], ESTIMATES, room, gpu=True).seconds
    assert apart < expected
