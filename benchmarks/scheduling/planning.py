"""Seconds that a large grid takes beside its models: planned, kept cell by cell, run again with nothing left to do.

    python benchmarks/scheduling/planning.py [--smoke] [--models N] [--save] [--output FILE]

A grid of N model folders x 40 tasks x five cells (zero-shot; few-shot and soft prompt with two seeds each): 100,000 cells for
the 500 models that are the default. No model is loaded: the folders hold a config and a few numbers, and the results that the
run folder is filled with are made up, 100 examples a cell, in the very form in which a run writes them. The files are in the
page cache when they are read.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import ROOT, Benchmark

if TYPE_CHECKING:
    from spt_fast.plan.cell import Cell
    from spt_fast.types import CellResult

TASKS, EXAMPLES, KEPT = 40, 100, 200
GRID = """\
name: large
models:
  - {{id: models, checkpoints: "*"}}
tasks: [{tasks}]
protocols:
  - zero_shot
  - few_shot: {{shots: 5}}
  - soft_prompt: {{length: 10, steps: 80, evaluate_at: [0, 10, 20, 40, 80]}}
seeds: [0, 1]
limit: {limit}
output: {output}
"""


def build(folder: Path, models: int) -> Path:
    """The model folders and the grid that names them."""
    for i in range(models):
        model = folder / "models" / f"step-{i}"
        model.mkdir(parents=True)
        (model / "config.json").write_text('{"model_type": "llama", "hidden_size": 2}')
        (model / "tokenizer.json").write_text('{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}')
        header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
        (model / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<2f", i, 1.0))
    from spt_fast import tasks
    from spt_fast.tasks.multiple_choice import INSTRUCTIONS, has_forms

    ours = list(tasks.names())
    names = [*ours, *(f"{name}:{form}" for name in ours if has_forms(tasks.get(name)) for form in INSTRUCTIONS)]
    grid = folder / "grid.yaml"
    text = GRID.format(tasks=", ".join(f"{name!r}" for name in names[:TASKS]), limit=EXAMPLES, output=folder / "run")
    grid.write_text(text)
    return grid


def made_up(cell: Cell) -> CellResult:
    """A result of the size that real ones have."""
    from spt_fast.types import CellResult, Metric, Sample

    names = ("format_following", "knowledge", "exact_match", "given_format", "knowledge_per_byte")
    metrics = tuple(Metric(name=name, value=0.53, n=EXAMPLES, stderr=0.05, ci_low=0.431, ci_high=0.627) for name in names)
    samples = tuple(
        Sample(
            example=f"{i:016x}",
            step=step,
            prompt=f"Question {i}: " + "what is it that was asked for here, and of whom? " * 4 + "\nAnswer:",
            completion=" B. Paris",
            finish_reason="stop",
            target="B. Paris",
            extracted="B. Paris",
            rule="option",
            format_ok=i % 2 == 0,
            knows=i % 3 == 0,
            correct=i % 6 == 0,
            answers=("B. Paris",),
            option_logprobs=(-3.25, -1.5 - i / 7, -4.0, -8.0),
            chosen=1,
            chosen_per_byte=1,
            knows_per_byte=i % 3 == 0,
        )
        for step in cell.steps
        for i in range(EXAMPLES)
    )
    provenance = dict.fromkeys(("spt_fast", "torch", "transformers", "vllm", "device", "rows"), "1.2.3")
    costs = {"load_s": 3.0, "train_s": 12.0, "engine_start_s": 30.0, "evaluate_s": 4.0}
    return CellResult(metrics=dict.fromkeys(cell.steps, metrics), samples=samples, costs=costs, provenance=provenance)


def fill(run: Path, cells: Sequence[Cell]) -> None:
    """All cells done: the files that `put_result` writes for one cell of each protocol, in every cell's folder."""
    from spt_fast.store import CHECKSUM, Store
    from spt_fast.store.results import checksum

    patterns: dict[str, tuple[Cell, dict[str, bytes]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for cell in cells:
            if cell.label not in patterns:
                Store(Path(scratch)).put_result(cell, made_up(cell))
                written = {file.name: file.read_bytes() for file in (Path(scratch) / "cells" / cell.key).iterdir()}
                patterns[cell.label] = (cell, written)
    for cell in cells:
        folder = run / "cells" / cell.key
        folder.mkdir(parents=True)
        pattern, files = patterns[cell.label]
        (folder / "samples.parquet").write_bytes(files["samples.parquet"])
        data = json.loads(files["result.json"].replace(pattern.key.encode(), cell.key.encode()))
        (folder / "result.json").write_text(json.dumps({**data, CHECKSUM: checksum(data)}))


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """How long it takes, and what comes of it."""
    begin = time.perf_counter()
    came = work()
    return time.perf_counter() - begin, came


def command(*arguments: str | Path) -> tuple[float, str]:
    """`spt-fast ...` as a user has it, start of the interpreter included: seconds, and what it prints.

    Raises:
        SystemExit: it does not end well.
    """
    line = [sys.executable, "-m", "spt_fast", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
    took, done = seconds(lambda: subprocess.run(line, capture_output=True, text=True, check=False, env=environment, cwd=ROOT))
    if done.returncode:
        raise SystemExit(f"{' '.join(line)}: {done.stderr}")
    return took, done.stdout


def plan_it(grid: Path) -> tuple[dict[str, float], list[Cell]]:
    """From the file to the stages of an empty run folder."""
    from spt_fast import plan
    from spt_fast.config.reader import load_grid
    from spt_fast.store import Store

    took: dict[str, float] = {}
    took["load_grid"], config = seconds(lambda: load_grid(grid))
    took["expand"], cells = seconds(lambda: plan.expand(config))
    took["keys"], keys = seconds(lambda: {cell.key for cell in cells})
    if len(keys) != len(cells):
        raise SystemExit("two cells have one key, so nothing is timed")
    took["stages"], _ = seconds(lambda: plan.stages(cells, Store(config.folder).done()))
    took["tuning_keys"], _ = seconds(lambda: {cell.tuning_key for cell in cells})
    took["all"] = sum(took[what] for what in ("load_grid", "expand", "keys", "stages"))
    return took, cells


def keep(folder: Path, cells: Sequence[Cell]) -> dict[str, Any]:
    """What the driver does with a result when it comes, a cell at a time."""
    from spt_fast.driver import keep as keeping
    from spt_fast.plan import Stage
    from spt_fast.store import Store
    from spt_fast.worker.events import CellDone

    store = Store(folder / "kept")
    store.lock()
    stage = Stage(model=cells[0].model, cells=tuple(cells))  # all of them: a stage may be as large as a grid
    took: dict[str, list[float]] = {}
    for cell in cells[:KEPT]:
        event = CellDone(key=cell.key, result=made_up(cell))
        took.setdefault(cell.label, []).append(seconds(partial(keeping.keep, stage, event, store))[0])
    store.close()
    probe = folder / "probe"

    def sync() -> None:
        with probe.open("wb") as file:
            file.write(b"0" * 4096)
            file.flush()
            os.fsync(file.fileno())

    found: dict[str, Any] = {
        label: {"cells": len(each), "rows": EXAMPLES * len(next(c for c in cells if c.label == label).steps)}
        | {"median": statistics.median(each), "most": max(each)}
        for label, each in took.items()
    }
    found["one_fsync_of_this_disk"] = statistics.median(seconds(sync)[0] for _ in range(20))
    return found


def again(grid: Path, run: Path) -> dict[str, float]:
    """The grid again with all of it done: the library's call, and the commands."""
    from spt_fast.driver.run import run_cells

    took: dict[str, float] = {}
    took["run_grid"], result = seconds(lambda: run_cells(grid))
    if not result.complete:
        raise SystemExit("not all cells are done, so nothing is timed")
    took["run_and_write_tables"], first = command("run", grid)
    took["run"], second = command("run", grid)
    if first != second:
        raise SystemExit("the second time it said something else")
    took["status"], _ = command("status", run)
    return took


def main() -> None:
    """Plan, keep, run again."""
    packages = ("numpy", "pyarrow", "pyyaml", "rich")
    benchmark = Benchmark("planning", __doc__, smoke="400 cells, in seconds", packages=packages)
    parser = benchmark.parser
    parser.add_argument("--models", type=int, default=500, help="how many model folders; 200 cells each")
    parser.add_argument("--folder", type=Path, help="where to work (some 2 GB); a temporary folder")
    arguments = benchmark.start()
    folder = Path(tempfile.mkdtemp(prefix="planning-", dir=arguments.folder))
    result: dict[str, Any] = {}
    try:
        grid = build(folder, 2 if arguments.smoke else arguments.models)
        result["plan_s"], cells = plan_it(grid)
        result["cells"] = len(cells)
        print(f"{len(cells)} cells planned: {result['plan_s']}", file=sys.stderr)
        result["keep_s_a_cell"] = keep(folder, cells)
        print(f"kept: {result['keep_s_a_cell']}", file=sys.stderr)
        fill(folder / "run", cells)
        print("filled", file=sys.stderr)
        result["all_done_s"] = again(grid, folder / "run")
        print(f"all done: {result['all_done_s']}", file=sys.stderr)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    benchmark.end(result)


if __name__ == "__main__":
    main()
