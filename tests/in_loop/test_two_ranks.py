"""Two processes of a training, by gloo: under DDP, and under `fully_shard` in bfloat16 with gradients reduced in float32."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from spt_fast import evaluate_in_loop, zoo
from tests.in_loop.ranks import SETTINGS, TASKS


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    program = [sys.executable, "-m", "tests.in_loop.ranks"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    both = [subprocess.Popen([*program, str(rank), str(folder)], env=environment, cwd=root) for rank in (0, 1)]
    try:
        assert [each.wait(timeout=240) for each in both] == [0, 0]
    finally:
        for each in both:
            each.kill()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ddp", "mixed"])
def test_weights_are_bit_for_bit_those_of_a_training_without(told: list[dict[str, Any]], how: str) -> None:
    assert [each[how]["same"] for each in told] == [True, True]
    died = dict.fromkeys(TASKS, "training: RuntimeError: in the middle of a backward pass")
    assert [each[how]["died"] for each in told] == [died, died]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ddp", "mixed"])
def test_every_rank_is_told_the_same(told: list[dict[str, Any]], how: str) -> None:
    one, other = (each[how] for each in told)
    assert (one["metrics"], one["prompts"]) == (other["metrics"], other["prompts"])
    assert one["failed"] == other["failed"] == [{}, {}]
    assert one["metrics"][0].keys() == one["metrics"][1].keys()
    assert one["prompts"][0] != one["prompts"][1]


@pytest.mark.slow
def test_ranks_together_are_told_what_one_process_is(told: list[dict[str, Any]]) -> None:
    path = zoo.find("zoo/base-40")
    model = AutoModelForCausalLM.from_pretrained(path, dtype="float32")
    alone = evaluate_in_loop(model, AutoTokenizer.from_pretrained(path), TASKS, **SETTINGS).metrics
    first = told[0]["ddp"]["metrics"][0]
    assert first == pytest.approx(dict(alone), abs=2e-4)
    # In bfloat16, and in other batches: the form is a matter of whole tokens.
    mixed = told[0]["mixed"]["metrics"][0]
    assert mixed["spt/zoo-mcq/format_following"] == alone["spt/zoo-mcq/format_following"]
    assert mixed["spt/zoo-mcq/answer_bits_per_byte"] == pytest.approx(alone["spt/zoo-mcq/answer_bits_per_byte"], rel=0.1)
