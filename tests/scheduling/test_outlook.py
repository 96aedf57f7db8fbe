"""How long a grid is expected to take: one model after the other, or as the scheduler would share it out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spt_fast.config import SoftPromptConfig, ZeroShot
from spt_fast.plan import Stage
from spt_fast.scheduling import outlook
from spt_fast.scheduling.estimates import Estimates
from spt_fast.scheduling.jobs import job

from .test_estimates import JUDGE, MMLU, SEVEN, cell, measured

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
    assert sum(node["GPU"] for node in outlook.nodes(64).values()) == 64
    assert len(outlook.nodes(64)) == 8


def test_a_job_learns_once_for_the_cells_that_share_vectors_and_a_judge_learns_nothing() -> None:
    stage = STAGES[0]
    plain, tuned = job("j", stage, ESTIMATES, gpu=True).pieces
    assert (plain.group, plain.train_s) == (None, 0.0)
    assert (tuned.group, tuned.train_s) == (stage.cells[1].tuning_key, pytest.approx(2000.0))
    judged = replace(stage, model=JUDGE.model, cells=tuple(replace(each, judge=JUDGE) for each in stage.cells))
    assert [(piece.group, piece.train_s) for piece in job("j", judged, ESTIMATES, gpu=True).pieces] == [(None, 0.0)] * 2


def test_a_worker_takes_its_gpus_and_a_core_or_a_core_alone() -> None:
    shared = Stage(model=replace(SEVEN, gpus=0.5), cells=(cell(task=MMLU, protocol=ZeroShot()),))
    assert job("j", shared, ESTIMATES, gpu=True).need == {"GPU": 0.5, "CPU": 1.0}
    assert job("j", shared, ESTIMATES, gpu=False).need == {"CPU": 1.0}
