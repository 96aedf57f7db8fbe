"""The tests themselves on a machine with a GPU: one process, engines that leave room for each other and can be looked into."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("gpus", "jobs"), [("", 2), ("/dev/nvidia0", 1), ("/dev/nvidia0 /dev/nvidia1", 1)])
def test_one_process_tests_where_there_is_a_gpu(gpus: str, jobs: int) -> None:
    command = ["make", "--no-print-directory", "--dry-run", "test", f"GPUS={gpus}"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"--numprocesses={jobs} " in told


def test_every_engine_that_a_test_starts_leaves_room_for_others_on_a_gpu() -> None:
    started = [
        (path.name, line.strip())
        for path in (ROOT / "tests").rglob("test_*.py")
        for line in path.read_text().splitlines()
        if re.search(r"\bVllmEngine\(EngineConfig\(", line)
    ]
    assert len(started) > 5
    assert [each for each in started if "gpus=SMALL_SHARE" not in each[1]] == []


@pytest.mark.parametrize(("visible", "expected"), [("0", "0"), ("", "None")])
def test_engines_of_tests_are_in_their_own_process_on_a_gpu_too(visible: str, expected: str) -> None:
    code = "import os, tests.conftest; print(os.environ.get('VLLM_ENABLE_V1_MULTIPROCESSING'))"
    environment = {name: value for name, value in os.environ.items() if name != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    environment |= {"CUDA_VISIBLE_DEVICES": visible}
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == expected
