"""Every benchmark runs, and its numbers come with the hardware, versions, commit and command they were taken with.

The dear ones start engines or a cluster, or import vLLM in several processes, a quarter of a minute to two minutes each: they
run where SPT_FAST_BENCHMARKS=all asks for them, and with `make bench SMOKE=1`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHEAP = {
    "kernels/kernels.py": "share_of_roofline",
    "real/noise.py": "knowledge_best",
    "real/real.py": "format_following",
    "report/large.py": "report_html_s",
    "scheduling/planning.py": "all_done_s",
    "scheduling/simulation.py": "ratio",
    "series/alarms.py": "alarms_at_the_end",
    "series/chain.py": "worst_wrong_pass",
    "series/stopping.py": "oracle_saved",
    "training/step.py": "times_faster_than_peft",
    "tuning/starts.py": "above_the_best",
}
"""Each with what its numbers are there for."""
DEAR = {
    "engine/equivalence.py": "passes_at_noise",
    "engine/injection.py": "full_to_rows",
    "engine/option_scoring.py": "times_faster_than",
    "engine/prompt_embeds.py": "times_faster_than_peft",
    "gpu/qualify.py": "share_of_matrix_rate",
    "grid/crossover.py": "times_faster_than_script",
    "grid/grid.py": "process_a_cell",
    "lm_eval/equal.py": "likelihoods",
    "lm_eval/grid.py": "done_before_the_kill",
    "lm_eval/speed.py": "times_faster_than",
    "ranking/ladder.py": "pairs_decided_rightly",
    "scheduling/scaling.py": "efficiency_first_to_last",
    "series/carried.py": "carried_less_cold",
    "series/replay.py": "alike",
    "series/series.py": "against_cold",
    "startup/several_gpus.py": "to_first_request",
    "startup/startup.py": "times_faster",
    "tuning/zoo.py": "ensembles_at_least_their_mean_member",
}
EVERYTHING = os.environ.get("SPT_FAST_BENCHMARKS") == "all"
dear = pytest.mark.skipif(not EVERYTHING, reason="dear; SPT_FAST_BENCHMARKS=all asks for it")


def test_every_benchmark_is_in_the_list() -> None:
    found = {path.relative_to(ROOT / "benchmarks").as_posix() for path in (ROOT / "benchmarks").glob("*/*.py")}
    measures_nothing = {"gpu/carry.py", "budget/budget.py"}  # test_carry.py, test_budget.py
    assert found == {*CHEAP, *DEAR, *measures_nothing}


@pytest.mark.slow
@pytest.mark.parametrize("benchmark", [*CHEAP, *(pytest.param(name, marks=dear) for name in DEAR)])
def test_a_benchmark_runs_and_says_where_its_numbers_come_from(benchmark: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / benchmark), "--smoke", "--output", str(tmp_path / "out.json")]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert run.returncode == 0, run.stderr
    written = json.loads((tmp_path / "out.json").read_text())
    assert {"date", "command", "commit", "hardware", "versions"} <= set(written)
    assert {**CHEAP, **DEAR}[benchmark] in json.dumps(written)
