"""The grid benchmark: its peers are given what ours is, and sides that do not agree are not timed."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from benchmarks.grid import crossover, grid
from benchmarks.grid.peers import prompt_tuning
from spt_fast.config import SoftPromptConfig
from spt_fast.models.tokenizer import load_tokenizer
from spt_fast.scoring.statistics import proportion
from spt_fast.tasks.rows import load_rows
from spt_fast.training.batches import batches
from spt_fast.training.rows import tuning_row
from spt_fast.types import Metric


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> list[grid.Job]:
    folder = tmp_path_factory.mktemp("grid")
    file = folder / "grid.yaml"
    file.write_text(grid.SMOKE.replace("zoo/base-40", "zoo/base-40, zoo/base-70"))
    return grid.jobs_of(file, folder / "cells")


def test_cells_that_differ_in_model_and_seed_only_are_alike(jobs: list[grid.Job]) -> None:
    assert [(job.kind, job.alike, job.soft) for job in jobs] == 2 * [
        ("zoo-mcq, zero_shot", 2, False),
        ("zoo-mcq, soft_prompt", 2, True),
    ]


def test_a_peers_batches_are_token_by_token_those_of_ours(jobs: list[grid.Job]) -> None:
    job = jobs[1]
    protocol, task = job.cell.protocol, job.cell.task.task
    assert isinstance(protocol, SoftPromptConfig)
    tokenizer = load_tokenizer(job.cell.model)
    rows = [
        tuning_row(tokenizer, task.template.prompt(example), example.target)
        for example in load_rows(task, limit=job.cell.task.limit, need={"test", "tuning"}).tuning
    ]
    theirs = AutoTokenizer.from_pretrained(job.setting["model"])
    taken = prompt_tuning.read_rows(job.setting["tuning"])
    assert len(taken) == protocol.steps * protocol.batch_size
    for step, ours in zip(range(protocol.steps), batches(rows, protocol.batch_size, seed=0), strict=False):
        batch = prompt_tuning.collate(theirs, taken[step * protocol.batch_size : (step + 1) * protocol.batch_size])
        for row, ids, labels, mask in zip(ours, batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
            assert tuple(ids[mask.bool()].tolist()) == (*row.prompt_ids, *row.target_ids)
            assert tuple(labels[labels != prompt_tuning.IGNORED].tolist()) == row.target_ids


@pytest.mark.parametrize("task", ["zoo-mcq", "zoo-short", "zoo-json"])
def test_peers_score_all_that_ours_scores(task: str, tmp_path: Path) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text(grid.SMOKE.replace("zoo-mcq", task))
    job, *_ = grid.jobs_of(file, tmp_path / "cells")
    rows = prompt_tuning.read_rows(job.setting["test"]) + prompt_tuning.read_rows(job.setting["beside"])
    assert sum(len(row["options"]) for row in rows) == job.questions.count(last=True) - len(job.questions.test) > 0


def test_real_rows_come_from_the_folder_that_the_command_line_names(tmp_path: Path) -> None:
    (tmp_path / "data" / "triviaqa").mkdir(parents=True)
    for split, count in (("train", 40), ("validation", 3)):
        asked = [f"Which number follows {place}, in {split}?" for place in range(count)]
        rows = [{"question": each, "answer": {"value": str(k), "aliases": [str(k)]}} for k, each in enumerate(asked)]
        (tmp_path / "data" / "triviaqa" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    wanted = argparse.Namespace(models="zoo/base-40", tasks="triviaqa", data=str(tmp_path / "data"), steps=1, limit=2)
    file = tmp_path / "grid.yaml"
    file.write_text(grid.real_grid(wanted))
    jobs = grid.jobs_of(file, tmp_path / "cells")
    assert [(job.cell.label, job.cell.seed) for job in jobs] == [
        ("zero_shot", None),
        ("few_shot", 0),
        ("few_shot", 1),
        ("soft_prompt", 0),
        ("soft_prompt", 1),
    ]
    assert all("in validation?" in question.prompt for job in jobs for question in job.questions.test)
    assert [len(job.questions.test) for job in jobs] == [2] * 5
    assert len(prompt_tuning.read_rows(jobs[3].setting["tuning"])) == 8


def test_a_completion_ends_at_its_end_token_or_its_stop_and_else_was_cut_off(jobs: list[grid.Job]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(jobs[0].setting["model"])
    ids = tokenizer(" B. bread", add_special_tokens=False)["input_ids"]
    more = tokenizer("\n\nQuestion", add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    stopped = {"completion": " B. bread", "finish_reason": "stop"}
    assert prompt_tuning.finish(tokenizer, [*ids, end, end], "\n\n") == stopped
    assert prompt_tuning.finish(tokenizer, [*ids, *more], "\n\n") == stopped
    assert prompt_tuning.finish(tokenizer, ids, "\n\n") == {**stopped, "finish_reason": "length"}


def metrics(value: float) -> dict[str, Metric]:
    return {name: proportion(name, [i < round(100 * value) for i in range(100)]) for name in grid.COMPARED}


def test_sides_that_agree_are_reported_with_how_far_they_are_apart(jobs: list[grid.Job]) -> None:
    ours = {job.cell.key: metrics(0.5) for job in jobs}
    found = grid.compare(ours, {**ours, jobs[0].cell.key: metrics(0.52)}, jobs)
    assert found["zero_shot"]["knowledge"]["mean"] == pytest.approx(0.01)
    assert found["zero_shot"]["knowledge"]["farthest"] == pytest.approx(0.02)
    assert found["soft_prompt"]["exact_match"] == {"mean": 0, "farthest": 0, "in": jobs[1].cell.title, "cells": 2}


@pytest.mark.parametrize(
    ("label", "theirs", "said"),
    [
        ("zero_shot", 0.56, r"zero_shot: knowledge 0\.560, ours 0\.500"),
        ("zero_shot", 0.54, r"zero_shot: knowledge differs by \+0\.040 in the mean"),
        ("soft_prompt", 0.72, r"seed 0: knowledge 0\.720, ours 0\.500"),
        ("soft_prompt", 0.66, r"soft_prompt: knowledge differs by \+0\.160 in the mean"),
    ],
)
def test_sides_that_do_not_agree_are_not_reported(jobs: list[grid.Job], label: str, theirs: float, said: str) -> None:
    ours = {job.cell.key: metrics(0.5) for job in jobs}
    other = {job.cell.key: metrics(theirs if job.cell.label == label else 0.5) for job in jobs}
    with pytest.raises(SystemExit, match=said):
        grid.compare(ours, {key: {**ours[key], "knowledge": found["knowledge"]} for key, found in other.items()}, jobs)


def test_learnt_vectors_may_differ_by_chance(jobs: list[grid.Job]) -> None:
    ours = {job.cell.key: metrics(0.5) for job in jobs}
    other = {job.cell.key: metrics(0.6 if job.soft else 0.5) for job in jobs}
    assert grid.compare(ours, other, jobs)["soft_prompt"]["knowledge"]["mean"] == pytest.approx(0.1)


def test_answers_of_a_peer_are_scored_as_ours_are(jobs: list[grid.Job], tmp_path: Path) -> None:
    job = replace(jobs[0], folder=tmp_path)
    examples = [question.example for question in job.questions.test]
    right = [example.gold for example in examples]
    answers = [
        {
            "completion": f" {example.options[gold]}",
            "finish_reason": "length" if i == 0 else "stop",
            "option_logprobs": [-1.0 if k == gold else -2.0 for k in range(4)],
        }
        for i, (example, gold) in enumerate(zip(examples, right, strict=True))
        if gold is not None
    ]
    wrong = [[-2.0 if k == gold else -1.0 for k in range(4)] for gold in right[:2]]
    cloze = [*wrong, *(answer["option_logprobs"] for answer in answers[2:])]
    job.answers("process").write_text(json.dumps({"rows": answers, "beside": [*cloze, *wrong]}))
    found = grid.metrics_of(job, "process")
    assert found["knowledge"].value == 1
    assert found["knowledge_cloze"].value == 6 / 8  # what stands behind the test rows is of other rows
    assert found["format_following"].value == found["exact_match"].value == 7 / 8  # one was cut off


@pytest.mark.parametrize(
    ("times", "turn"),
    [((0.5, 1.0, 2.0), 10.0), ((0.5, 2.0, 4.0), math.sqrt(10)), ((2.0, 3.0, 4.0), None), ((0.5, 2.0, 0.5), None)],
)
def test_the_crossover_lies_where_the_lead_changes_once(times: tuple[float, ...], turn: float | None) -> None:
    sizes = (1, 10, 100)
    results = {str(n): {"parameters": n, "times_faster_than_script": each} for n, each in zip(sizes, times, strict=True)}
    assert crossover.crossover(results) == (None if turn is None else pytest.approx(turn))
