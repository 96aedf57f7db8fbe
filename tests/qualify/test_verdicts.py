"""What was measured is judged: wrong is bad, slower than wanted is slow, and on a CPU nothing is too slow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spt_fast.qualify import machine, verdicts
from spt_fast.qualify.checks import checks
from spt_fast.qualify.contract import Given, Row
from spt_fast.qualify.table import as_json, last_line, line

GPU = Given(device="cuda", size="quick", scratch="", measured={"rates": {"product_flops_a_s": 1e12}})
CPU = replace(GPU, device="cpu")


def kernel(share: float | None, *, worse: bool = False, seconds: float = 1e-3) -> dict[str, Any]:
    errors = {"ours": {"loss": 1e-4, "gradient": 2e-3}, "eager": {"loss": 1e-4, "gradient": 1e-3}}
    case = {"case": "N48", "errors": errors, "worse": worse, "share_of_roofline": share, "seconds": {"ours": seconds}}
    return {"cases": [case]}


@pytest.mark.parametrize(
    ("found", "given", "state", "said"),
    [
        (kernel(0.9), GPU, "good", "0.90 of the roofline"),
        (kernel(0.5), GPU, "slow", "(wanted: 0.8)"),
        (kernel(0.5), CPU, "good", "0.50 of the roofline"),
        (kernel(0.5, seconds=1e-6), GPU, "good", "no case takes long enough"),
        (kernel(None), replace(GPU, measured={}), "good", "the rates of this machine were not measured"),
        (kernel(0.9, worse=True), GPU, "bad", "further from float64 than PyTorch: N48 (2.0e-03 against 1.0e-03)"),
    ],
)
def test_a_kernel_is_right_before_it_is_fast(found: dict[str, Any], given: Given, state: str, said: str) -> None:
    verdict = verdicts.kernel(found, given)
    assert verdict.state == state
    assert said in verdict.said


def step(**more: Any) -> dict[str, Any]:
    found = {"losses": [6.0, 5.0], "model": "1B", "dtype": "bfloat16", "examples_a_second": 80.0, "share_of_matrix_rate": 0.6}
    return {**found, "peak_bytes_above_the_idle_model": 2**30, **more}


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({}, "good"),
        ({"share_of_matrix_rate": 0.3}, "slow"),
        ({"share_of_matrix_rate": None}, "good"),
        ({"losses": [6.0, 6.0]}, "bad"),
        ({"losses": [6.0, float("nan")]}, "bad"),
    ],
)
def test_a_training_step_learns_before_it_is_fast(more: dict[str, Any], state: str) -> None:
    assert verdicts.training(step(**more), GPU).state == state


def engine(*, rows: str = "equal", to_tokens: float = 0.99, taken: str = "rows") -> dict[str, Any]:
    return {
        "start_s": 40.0,
        "taken": {"scoring": "forced", "injection": f"{taken} (rows: why)" if taken != "rows" else taken},
        "tried": {"scoring": {"forced": "equal", "prompt_logprobs": "plain"}, "injection": {"rows": rows, "mixed": "plain"}},
        "requests_a_second": {"tokens": 900.0, "rows": 890.0, "mixed": 700.0},
        "to_tokens": {"tokens": 1.0, "rows": to_tokens, "mixed": 0.8},
    }


@pytest.mark.parametrize(
    ("found", "state", "said"),
    [
        (engine(), "good", "injection: rows equal"),
        (engine(to_tokens=0.9), "slow", "0.90 of token prompts (wanted: 0.97)"),
        (engine(rows="log-probabilities differ by 3", taken="mixed"), "slow", "rows not (log-probabilities differ by 3)"),
        ({**engine(), "to_tokens": {"tokens": 1.0}}, "bad", "did not prove equal when it was tried again"),
    ],
)
def test_an_engine_is_good_where_its_fastest_ways_are_equal(found: dict[str, Any], state: str, said: str) -> None:
    verdict = verdicts.engine(found, GPU)
    assert verdict.state == state
    assert said in verdict.said


def driver(version: str, cuda: str = "13.0") -> dict[str, Any]:
    found = {"gpus": 1, "name": "NVIDIA A10", "compute_cap": "8.6", "driver_version": version, "torch": "2.13.0"}
    return {**found, "torch_cuda": cuda, "sum": 8.0}


def test_a_driver_is_held_against_the_cuda_of_pytorch() -> None:
    assert machine.judge_driver(driver("580.159"), GPU).state == "good"
    assert machine.judge_driver(driver("550.54", cuda="12.8"), GPU).state == "good"
    old = machine.judge_driver(driver("570.12"), GPU)
    assert old.state == "bad"
    assert "the driver is 570.12, and torch is built for CUDA 13.0, which needs 580" in old.said


def test_a_gpu_that_others_hold_part_of_is_bad() -> None:
    gib = 2**30
    found = {"gpu_free_bytes": 70 * gib, "gpu_total_bytes": 80 * gib, "host_bytes": 64 * gib, "disk_free_bytes": 64 * gib}
    verdict = machine.judge_memory(found, GPU)
    assert (verdict.state, verdict.said[:44]) == ("bad", "70.0 of 80.0 GiB of GPU memory are free; 64.")
    assert machine.judge_memory({**found, "gpu_free_bytes": 79 * gib}, GPU).state == "good"
    assert machine.room_for(96)(replace(GPU, measured={"memory": found})) is not None
    assert machine.room_for(24)(replace(GPU, measured={"memory": found})) is None


def test_what_is_to_be_mended_stands_in_the_table_and_all_numbers_in_the_json() -> None:
    rows = [
        Row(check="rates", state="good", said="copy 4.3 TB/s", mend="", measured={"copy_bytes_a_s": 4.3e12}, seconds=3.0),
        Row(check="vLLM, eager", state="bad", said="not done after 150 s", mend="report it", measured={}, seconds=150.0),
    ]
    shown = line(rows[1], checks("quick"))
    assert shown.startswith("BAD   vLLM, eager")
    assert "not done after 150 s -> report it" in shown
    assert last_line(rows) == "this machine does not do everything: 1 good, 1 bad; 153 s"
    written = as_json(rows, GPU)
    assert (written["passed"], written["checks"][0]["measured"]) == (False, {"copy_bytes_a_s": 4.3e12})


@pytest.mark.parametrize("size", ["tiny", "quick", "full"])
def test_every_check_has_a_name_of_its_own_and_a_function_that_its_process_finds(size: Any) -> None:
    from importlib import import_module

    found = checks(size)
    assert len({check.name for check in found}) == len(found)
    for check in found:
        assert getattr(import_module(check.run.__module__), check.run.__qualname__) is check.run
        assert check.mend
