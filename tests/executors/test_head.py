"""The head of a Ray cluster dies in the middle of a run: what is done is kept, and the same command goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from spt_fast.store import Store
from tests.helpers.tiny import tiny_model

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_a_head_that_dies_ends_the_run_with_the_sentence_that_resumes(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    tiny_model(tmp_path / "one", hidden_size=32, positions=4096)
    text = {
        "name": "g",
        "models": [str(tmp_path / "one")],
        "tasks": ["zoo-mcq", "zoo-json"],
        "protocols": ["zero_shot"],
        "limit": 4,
        "engine": {"kind": "echo", "delay_s": 0.5},
        "output": str(tmp_path / "ray"),
    }
    (tmp_path / "grid.yaml").write_text(json.dumps(text))
    # A cluster of its own: it is not there any more when this ends.
    node = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        command = [sys.executable, "-m", "spt_fast", "run", str(tmp_path / "grid.yaml"), "--address", cluster.address]
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as driver:
            assert driver.stderr is not None
            assert any(line.startswith("done") for line in driver.stderr)
            cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
            said = driver.stderr.read()
    finally:
        cluster.shutdown()
    assert driver.returncode == 130, said
    (last,) = said.strip().splitlines()[-1:]
    assert "interrupted (the head of the Ray cluster at" in last
    assert "1 of 2 cells are done and kept in" in last
    assert f"resume with: spt-fast run {tmp_path / 'grid.yaml'} --address" in last
    assert len(Store(tmp_path / "ray").done()) == 1
    assert (tmp_path / "ray" / "results.csv").is_file()
