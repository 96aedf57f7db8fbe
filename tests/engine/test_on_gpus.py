"""The tests themselves on a machine with a GPU: one process, engines that leave room for each other and can be looked into."""

from __future__ import annotations

import ast
import os
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


def settings_of_engines(text: str) -> list[str]:
    """What the engines of vLLM are started with in a test file: as it stands there, or under the name that it has before."""
    nodes = list(ast.walk(ast.parse(text)))
    named = {ast.unparse(node.targets[0]): ast.unparse(node.value) for node in nodes if isinstance(node, ast.Assign)}
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "VllmEngine"]
    return [named.get(settings, settings) for settings in (ast.unparse(call.args[0]) for call in calls if call.args)]


def test_every_engine_that_a_test_starts_leaves_room_for_others_on_a_gpu() -> None:
    files = (ROOT / "tests").rglob("test_*.py")
    started = [(path.name, settings) for path in files for settings in settings_of_engines(path.read_text())]
    assert len(started) > 12
    assert [each for each in started if "gpus=SMALL_SHARE" not in each[1]] == []


@pytest.mark.parametrize(("visible", "expected"), [("0", "0"), ("", "None")])
def test_engines_of_tests_are_in_their_own_process_on_a_gpu_too(visible: str, expected: str) -> None:
    code = "import os, tests.conftest; print(os.environ.get('VLLM_ENABLE_V1_MULTIPROCESSING'))"
    environment = {name: value for name, value in os.environ.items() if name != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    environment |= {"CUDA_VISIBLE_DEVICES": visible}
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == expected
