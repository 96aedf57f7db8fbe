"""What a machine with a GPU must have besides it."""

from __future__ import annotations

from pathlib import Path

import pytest

from spt_fast.cli import doctor
from spt_fast.models import gpu_needs
from spt_fast.models.gpu_needs import compiler_fault, driver_fault


@pytest.mark.parametrize(
    ("driver", "cuda", "good"),
    [
        ("580.65.06", "13.0", True),
        ("580.95.05", "13.2", True),
        ("580", "13.0", True),
        ("600.10", "13.0", True),
        ("570.86.15", "13.0", False),
        ("550.54.15", "13.0", False),
        ("550.54.15", "12.9", True),
        ("525.60.13", "12.9", True),
        ("470.223.02", "12.4", False),
        ("470.223.02", "11.8", True),
        ("570.86.15", "99.0", True),  # not known: nothing to say against it
        ("[N/A]", "13.0", True),
        ("580.95.05", "", True),
    ],
)
def test_an_old_driver_is_told_from_one_that_runs_what_torch_is_built_for(driver: str, cuda: str, good: bool) -> None:
    fault = driver_fault(driver, cuda)
    assert (fault == "") is good
    assert good or fault.endswith("or newer: install a newer driver")


def test_a_driver_that_is_too_old_is_told_with_the_one_that_is_needed() -> None:
    assert driver_fault("570.86.15", "13.0") == (
        "the driver is 570.86.15, and torch is built for CUDA 13.0, which needs 580.65.06 or newer: install a newer driver"
    )


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_triton_needs_a_compiler_and_pythons_header(tmp_path: Path) -> None:
    include = tmp_path / "include"
    include.mkdir()
    bare = {"PATH": str(tmp_path / "bin")}
    assert compiler_fault(bare, str(include)) == "there is no C compiler, which Triton needs: install gcc"
    named = {**bare, "CC": "no-such-cc -O2"}
    assert compiler_fault(named, str(include)).startswith("CC is 'no-such-cc -O2', and there is no such compiler")
    assert compiler_fault({**bare, "CC": ""}, str(include)).startswith("CC is '', and there is no such compiler")
    gcc = executable(tmp_path / "bin" / "gcc")
    for environment in (bare, {**bare, "CC": str(gcc)}, {**bare, "CC": "gcc"}):
        fault = compiler_fault(environment, str(include))
        assert fault == f"there is no {include / 'Python.h'}, which Triton needs: install Python's header files (python3-dev)"
    (include / "Python.h").touch()
    assert compiler_fault(bare, str(include)) == ""


def test_the_version_of_cuda_is_read_without_importing_torch() -> None:
    import torch

    assert gpu_needs.cuda_of_torch() == torch.version.cuda


def fake_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, driver: str) -> Path:
    """A machine with two GPUs and this driver, as nvidia-smi tells it; returns that program."""
    smi = executable(folder / "bin" / "nvidia-smi")
    smi.write_text(f'#!/bin/sh\nfor i in 1 2; do echo "NVIDIA A10, 23028 MiB, {driver}"; done\n')
    monkeypatch.setenv("PATH", f"{smi.parent}:/usr/bin:/bin")
    monkeypatch.setattr(doctor, "_version", lambda name: "2.13.0")
    monkeypatch.setattr(gpu_needs, "cuda_of_torch", lambda: "13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return smi


def test_doctor_finds_an_old_driver_bad_and_a_missing_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_smi(tmp_path, monkeypatch, "570.86.15")
    monkeypatch.setattr(gpu_needs, "compiler_fault", lambda: "there is no C compiler")
    gpu, compiler = doctor._device()
    assert (gpu.state, gpu.what) == ("bad", "GPU")
    assert gpu.said.startswith("2 x NVIDIA A10, 23028 MiB, but the driver is 570.86.15, and torch is built for CUDA 13.0")
    assert (compiler.what, compiler.state, compiler.said) == ("compiler", "bad", "there is no C compiler")


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ("echo No devices were found; exit 6", "none that can be used (nvidia-smi says: 'No devices were found'); "),
        ("echo has failed >&2; exit 9", "none that can be used (nvidia-smi says: 'has failed'); "),
        ("exit 0", "none that can be used (nvidia-smi says: nothing, and ends with exit code 0); "),
        ("exec sleep 60", "none that can be used (nvidia-smi has not answered for 0 s); "),
    ],
)
def test_doctor_says_in_the_drivers_words_why_it_finds_no_gpu(
    answers: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_smi(tmp_path, monkeypatch, "").write_text(f"#!/bin/sh\n{answers}\n")
    monkeypatch.setattr(gpu_needs, "SMI_S", 0.1 if "sleep" in answers else 30.0)
    (finding,) = doctor._device()
    assert finding.said.startswith(expected)


def test_doctor_says_that_gpus_are_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_smi(tmp_path, monkeypatch, "580.95.05")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (finding,) = doctor._device()
    assert finding.said.startswith("2 x NVIDIA A10, 23028 MiB, which CUDA_VISIBLE_DEVICES hides; ")


def test_a_program_that_cannot_be_run_is_why_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_smi(tmp_path, monkeypatch, "").write_bytes(b"\x7fELF")
    assert gpu_needs.ask_driver("name") == ([], "nvidia-smi cannot be run: Exec format error")


def test_doctor_finds_a_machine_with_all_it_needs_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_smi(tmp_path, monkeypatch, "580.95.05")
    monkeypatch.setattr(gpu_needs, "compiler_fault", lambda: "")
    gpu, compiler = doctor._device()
    assert (gpu.state, gpu.said) == ("good", "2 x NVIDIA A10, 23028 MiB, driver 580.95.05")
    assert (compiler.state, compiler.said) == ("good", "a C compiler and Python.h, for Triton")
