"""`spt-fast doctor --gpu`: without a GPU one sentence; and the checks that a CPU has."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from spt_fast.cli import main
from spt_fast.engine.vllm.engine import SAME
from spt_fast.engine.vllm.start import WAYS
from spt_fast.models import memory
from spt_fast.qualify import machine
from spt_fast.qualify.checks import checks
from spt_fast.qualify.contract import Given
from spt_fast.qualify.processes import run_all

ON_GPU = memory.count_gpus() > 0


def doctor(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *arguments])
    return int(ended.value.code or 0)


@pytest.mark.skipif(ON_GPU, reason="there is a GPU")
def test_without_a_gpu_one_line_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor("--gpu") == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith("spt-fast: doctor --gpu: there is no NVIDIA driver here")


def test_gpus_that_are_hidden_are_told_from_gpus_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.missing_for_gpu() == "CUDA_VISIBLE_DEVICES hides all GPUs from this process; unset it"


@pytest.mark.parametrize(
    ("answer", "code", "missing"),
    [
        (
            "",
            9,
            "nvidia-smi is there and finds no GPU that it can talk to (nvidia-smi says: nothing, ",
        ),
        ("No devices were found", 6, "nvidia-smi is there and finds no GPU that it can talk to (nvidia-smi says: 'No devices"),
        ("NVIDIA L4", 0, "there is a GPU (NVIDIA L4), but PyTorch"),
    ],
)
def test_a_driver_without_a_gpu_and_a_pytorch_without_cuda_are_told(
    answer: str, code: int, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import metadata

    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\necho '{answer}'\nexit {code}\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    said = machine.missing_for_gpu()
    if code == 0 and "+cpu" not in metadata.version("torch"):
        assert said is None
    else:
        assert said is not None
        assert said.startswith(missing)


def test_its_other_options_go_with_gpu_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor("--minutes", "5") == 2
    assert "go with --gpu" in capsys.readouterr().err


def test_a_machine_without_a_compiler_or_with_one_that_does_not_work_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Given(device="cpu", size="tiny", scratch=str(tmp_path))
    assert machine.judge_compiler(machine.measure_compiler(given), given).state == "good"
    monkeypatch.setattr(machine, "LAUNCHER", "#error no module of Python")
    with pytest.raises(RuntimeError, match=r"does not compile a module of Python: .*#error no module of Python"):
        machine.measure_compiler(given)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(RuntimeError, match="there is no C compiler"):
        machine.measure_compiler(given)


def test_what_a_cpu_has_of_kernels_and_training_is_measured_and_judged(tmp_path: Path) -> None:
    """Here in one process: what processes are for is in test_processes.py."""
    given, said = Given(device="cpu", size="tiny", scratch=str(tmp_path)), {}
    for check in checks("tiny"):
        if check.name in ("memory", "rates", "training step") or check.name.startswith("kernel "):
            found = json.loads(json.dumps(check.run(given)))
            said[check.name] = (found, check.judge(found, given))
            given = replace(given, measured={**given.measured, check.name: found})
    assert len(said) == 6
    assert {name: verdict.state for name, (_, verdict) in said.items()} == dict.fromkeys(said, "good")
    kernel, _ = said["kernel linear_cross_entropy"]
    assert all(case["share_of_roofline"] > 0 and max(case["errors"]["ours"].values()) < 1e-5 for case in kernel["cases"])
    step, _ = said["training step"]
    assert 0 < step["share_of_matrix_rate"] < 2
    assert len(step["losses"]) == 13


@pytest.mark.slow
@pytest.mark.vllm
def test_an_engine_on_a_cpu_proves_each_of_its_ways(tmp_path: Path) -> None:
    asked = [check for check in checks("tiny") if check.name in ("vLLM, graphs", "vLLM, eager")]
    graphs, eager = run_all(asked, Given(device="cpu", size="tiny", scratch=str(tmp_path)), seconds=400)
    assert (graphs.state, graphs.said) == ("absent", "there is no GPU here")
    assert eager.state == "good", eager
    tried = eager.measured["tried"]
    assert {matter: set(ways) for matter, ways in tried.items()} == {matter: set(ways) for matter, ways in WAYS.items()}
    assert all(said in SAME for ways in tried.values() for said in ways.values()), tried
    assert set(eager.measured["to_tokens"]) == {"tokens", *WAYS["injection"]}
    assert set(eager.measured["questions_a_second"]) == set(WAYS["scoring"])
