"""What does a checkpoint of a series cost, cold and carried, and do the numbers stay? Is a planted fault found where it is?

    spt-fast zoo build --run run --run run-data-fault --run run-form-fault
    python benchmarks/series/series.py --folder DIR [--sides cold,carried-10] [--parts cost,faults] [--smoke] [--save]

Twelve checkpoints x four tasks (../grids/series.yaml). A side is a way to get their soft prompts: `cold`, 80 updates from the
vocabulary; `carried-N`, N updates from the soft prompt of the checkpoint before; `stopped`, 10 updates so, and rows asked until
the policy is decided, as `spt-fast watch` does it. What is compared is asked of the same rows:

* cost: seconds by phase, updates, rows, and the gate of each checkpoint against the last that was accepted;
* bias: a side less the cold one, the mean over checkpoints and tasks of the same rows, clustered by fact, with its interval;
* faults: what is said of each of the three runs, and in 20 draws of what was asked: a draw takes one of the seeds of the soft
  prompts and nine of ten facts, or, harsher, as many facts with replacement. Samples are drawn anew, and not asked anew: greedy
  answers of the same prompts are the same.

A side's checkpoints are run one by one, as they would come, the sides in turn. DIR holds a run folder a side, and what is done
there is not done again; its seconds, in clock.jsonl, are those of the time when it was done.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import ROOT, Benchmark, Ratio
from spt_fast import plan, zoo
from spt_fast.analysis.faults import Told, told
from spt_fast.analysis.gate import gate_runs, parse_policy
from spt_fast.analysis.onset import ALPHA, Trajectory, follow
from spt_fast.analysis.paired import paired_difference
from spt_fast.analysis.plain import plain_values
from spt_fast.analysis.runs import Rows, Run, read_run
from spt_fast.analysis.series import Followed, followed, series_of, share_of_level
from spt_fast.config import GridConfig, ModelConfig, Protocol, SoftPromptConfig, ZeroShot
from spt_fast.config.documents import plain_values as plain_values_of
from spt_fast.config.reader import load_grid
from spt_fast.driver.run import run_cells
from spt_fast.report.costs import OF_A_WORKER, PHASES, by_model
from spt_fast.scoring.metrics import FORMAT, KNOWLEDGE

GRID = ROOT / "benchmarks" / "grids" / "series.yaml"
RUNS = ("run", "run-data-fault", "run-form-fault")
FOLLOWED = 10
"""Updates of the carried soft prompts by which the runs are followed."""
DRAWS = 20
KEPT = 0.9
"""Share of the facts that a draw without replacement takes."""
METRICS = ("format_following", "knowledge", "answer_bits_per_byte")
CHECKS = """checks:
  - {metric: knowledge, protocols: "soft_prompt*", largest_drop: 0.02, over: mean}
  - {metric: format_following, protocols: "soft_prompt*", largest_drop: 0.02, over: mean}
"""
POLICY = parse_policy(plain_values_of(CHECKS))
STOPPED = "stopped"
"""The side that is carried, and asks rows until the policy is decided."""
BLOCK, LEAST = 20, 40
"""Rows of a task between two looks, and before the first."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """A way to evaluate a series."""

    name: str
    protocol: SoftPromptConfig
    beside: tuple[Protocol, ...] = ()
    """Protocols that are asked with it, and not counted."""

    @property
    def updates(self) -> tuple[int, int]:
        """Of a cell of the first checkpoint, and of one of each later checkpoint."""
        steps = self.protocol.steps
        return (steps + self.protocol.cold_steps if self.protocol.carried else steps), steps


def sides(*, smoke: bool) -> dict[str, Side]:
    """By name; for a smoke test with few updates."""
    cold = SoftPromptConfig(steps=2 if smoke else 80)
    carried = [
        SoftPromptConfig(init_from="previous", steps=steps, cold_steps=2 if smoke else 80)
        for steps in ((1,) if smoke else (5, 10, 20))
    ]
    found = [
        Side(name="cold", protocol=cold),
        *(
            Side(name=f"carried-{each.steps}", protocol=each, beside=(ZeroShot(),) if each.steps == FOLLOWED or smoke else ())
            for each in carried
        ),
    ]
    return {side.name: side for side in found}


def grid_of(run: str, side: Side, folder: Path, *, smoke: bool, seeds: tuple[int, ...] = (0,)) -> GridConfig:
    """A side of a training run; for a smoke test three models of the package play the checkpoints."""
    grid = replace(
        load_grid(GRID),
        name=f"{run}-{side.name}",
        models=(ModelConfig(id=f"zoo/{run}", checkpoints="step-*"),),
        protocols=(*side.beside, side.protocol),
        seeds=seeds,
        output=folder / run / side.name,
        engine={"kind": "transformers"},
    )
    if not smoke:
        return grid
    weights = ROOT / "spt_fast" / "zoo" / "weights"
    return replace(grid, models=(ModelConfig(id=str(weights), checkpoints="base-*"),), tasks=grid.tasks[::2], limit=8)


def checkpoints(grid: GridConfig) -> list[str]:
    """Their names, in order."""
    return list(dict.fromkeys(cell.model.name for cell in plan.expand(grid)))


def in_turn(grids: Mapping[str, GridConfig], clock: Path) -> dict[str, Run]:
    """Each side's run folder, run as far as it is not done: checkpoint by checkpoint, as they come, and the sides in turn.

    What a checkpoint takes is added to `clock`: seconds, and those of the processor in all processes, which tell more where a
    machine is shared.
    """
    told = clocked(clock)
    for model in checkpoints(next(iter(grids.values()))):
        for name, grid in grids.items():
            print(f"{model}: {name}", file=sys.stderr, flush=True)
            began, used = time.perf_counter(), processor_seconds()
            result = run_cells(grid, only={"model": model})
            if result.failures:
                raise SystemExit(f"{model}, {name}: {len(result.failures)} cells failed; see {grid.folder}")
            if (grid.name, model) not in told:
                taken = {"wall_s": time.perf_counter() - began, "processor_s": processor_seconds() - used}
                _add(clock, {"side": grid.name, "model": model, **taken})
    return {name: read_run(grid.folder) for name, grid in grids.items()}


def watched(run: str, side: Side, folder: Path, clock: Path, *, smoke: bool) -> Run:
    """The run folder of a watch over the series, which asks rows until the policy is decided against the last accepted one.

    What the whole watch takes is added to `clock`.
    """
    tasks = [task.task for task in load_grid(GRID).tasks]
    first = ROOT / "spt_fast" / "zoo" / "weights" / "base-*"
    if not smoke:
        first = next(iter(zoo.find_checkpoints(run).values())).with_name("step-*")
    steps, cold = side.protocol.steps, side.protocol.cold_steps
    grid = {
        "name": f"{run}-stopped",
        "tasks": tasks[::2] if smoke else tasks,
        "protocols": [{"soft_prompt": {"init_from": "previous", "steps": steps, "cold_steps": cold}}],
        "limit": 8 if smoke else None,
        "engine": {"kind": "transformers"},
        "stop": {"check": "policy.yaml", "against": "accepted", "block": BLOCK, "least": LEAST},
        "output": str(folder / run / "stopped"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.yaml").write_text(CHECKS, encoding="utf-8")
    (file := folder / "watch.yaml").write_text(json.dumps(grid), encoding="utf-8")
    print(f"{run}: stopped", file=sys.stderr, flush=True)
    began, used = time.perf_counter(), processor_seconds()
    done = subprocess.run([sys.executable, "-m", "spt_fast", "watch", str(first), str(file), "--once"], check=False)
    if done.returncode not in (0, 1, 3):
        raise SystemExit(f"spt-fast watch ended with exit code {done.returncode}; see above")
    if (grid["name"], "all") not in clocked(clock):
        taken = {"wall_s": time.perf_counter() - began, "processor_s": processor_seconds() - used}
        _add(clock, {"side": grid["name"], "model": "all", **taken})
    return read_run(folder / run / "stopped")


def stopped(run: Run, whole: Mapping[str, float]) -> dict[str, Any]:
    """What the watch has asked of each checkpoint, what that took, and what it said; of the whole watch, each has its share."""
    cells = [cell for cell in run.cells(reruns=False) if cell.status in ("done", "stopped")]
    found = []
    said = run.store.verdicts.read()
    for each in said:
        mine = [cell for cell in cells if cell.model == each["checkpoint"]]
        taken = {name: [cell.costs[cost] for cell in mine if cost in cell.costs] for cost, name in PHASES.items()}
        shared = {PHASES[cost] for cost in OF_A_WORKER}
        seconds = {name: sum(set(some)) if name in shared else sum(some) for name, some in taken.items() if any(some)}
        found.append(
            {
                "model": each["checkpoint"],
                "against": each["baseline"],
                "verdict": each["verdict"],
                "rows": {cell.task: cell.stopped.stopped.n if cell.stopped else None for cell in mine},
                "requests": sum(cell.costs.get("requests", 0.0) for cell in mine),
                "seconds": seconds,
                "total_s": sum(seconds.values()),
                **{name: value / len(said) for name, value in whole.items()},
                "findings": each["findings"],
            }
        )
    return {"side": STOPPED, "checkpoints": found}


def share(grid: GridConfig, other: GridConfig) -> None:
    """Give a run folder what another has done of the same checkpoints: a fork is evaluated from where it leaves its run."""
    for cell in plan.expand(grid):
        done, mine = (Path(folder) / "cells" / cell.key for folder in (other.folder, grid.folder))
        if done.is_dir() and not mine.is_dir():
            shutil.copytree(done, mine)


def clocked(clock: Path) -> dict[tuple[str, str], dict[str, float]]:
    """Side and checkpoint -> what it took when it was done."""
    lines = clock.read_text(encoding="utf-8").splitlines() if clock.is_file() else []
    return {(line.pop("side"), line.pop("model")): line for line in map(json.loads, lines)}


def processor_seconds() -> float:
    """Of this process and of all that it has started and that have ended."""
    mine, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return mine.ru_utime + mine.ru_stime + others.ru_utime + others.ru_stime


def _add(clock: Path, told: Mapping[str, Any]) -> None:
    clock.parent.mkdir(parents=True, exist_ok=True)
    with clock.open("a", encoding="utf-8") as file:
        file.write(json.dumps(told) + "\n")


def cost(run: Run, side: Side, taken: Mapping[tuple[str, str], Mapping[str, float]]) -> list[dict[str, Any]]:
    """Of each checkpoint: seconds by phase and in all, updates and requests."""
    found = []
    cells = [cell for cell in run.cells(only_done=True, reruns=False) if cell.protocol == label_of(run)]
    for place, (model, spent) in enumerate(by_model(cells, {}).items()):
        mine = [cell for cell in cells if cell.model == model]
        found.append(
            {
                "model": model,
                "seconds": {name: spent.phases[cost] for cost, name in PHASES.items() if spent.phases[cost]},
                "total_s": spent.total,
                **taken[run.name, model],
                "updates": side.updates[place > 0] * len(mine),
                "requests": sum(cell.costs.get("requests", 0.0) for cell in mine),
                "rows": spent.rows,
            }
        )
    return found


def verdicts(run: Run) -> list[dict[str, Any]]:
    """Each checkpoint against the last that the policy let pass."""
    accepted, *later = run.models
    found = []
    for model in later:
        gate = gate_runs(run, run, POLICY, a_model=accepted, b_model=model)
        told = {
            f"{each.metric} ({each.protocol})": {"drop": each.drop, "upper": each.bounds.high, "verdict": each.verdict}
            for each in gate.findings
        }
        found.append({"model": model, "against": accepted, "verdict": gate.verdict, "checks": told})
        if gate.verdict == "pass":
            accepted = model
    return found


def tasks_of(run: Run) -> list[str]:
    """In the grid's order."""
    return [task["task"] for task in run.grid["tasks"]]


def label_of(run: Run) -> str:
    """What the folder calls its soft prompts."""
    return next(place.protocol for place in run.done if place.protocol.startswith("soft_prompt"))


def rows_of(run: Run, metric: str, task: str) -> Rows:
    """`[T, N]`: the same rows of a task at every checkpoint, the mean over seeds."""
    protocol = label_of(run)
    found = [run.rows(model, task, protocol, metric) for model in run.models]
    kept = [each for each in found if each is not None]
    shared = [example for example in kept[0].examples if all(example in each.examples for each in kept[1:])]
    rows = [each.of(shared) for each in kept]
    return replace(rows[0], values=np.stack([each.values.mean(0) for each in rows]), seeds=tuple(range(len(rows))))


def bias(cold: Run, other: Run) -> list[dict[str, Any]]:
    """Other less cold, later checkpoints only: over all tasks, and of each.

    Rows that ask for the same fact, at any checkpoint and in any task, are one cluster.
    """
    found = []
    for metric in METRICS:
        parts = {task: (rows_of(cold, metric, task), rows_of(other, metric, task)) for task in tasks_of(cold)}
        aligned = {
            task: (a.of([e for e in a.examples if e in set(b.examples)]), b.of([e for e in a.examples if e in set(b.examples)]))
            for task, (a, b) in parts.items()
        }
        chosen = {**{task: [task] for task in aligned}, "all": list(aligned)}
        for what, names in chosen.items():
            before = np.concatenate([aligned[name][0].values[1:].mean(0) for name in names])
            after = np.concatenate([aligned[name][1].values[1:].mean(0) for name in names])
            facts = [fact for name in names for fact in aligned[name][0].groups]
            clusters = np.unique(facts, return_inverse=True)[1]
            change = paired_difference(before[None], after[None], clusters)
            found.append(
                {
                    "metric": metric,
                    "task": what,
                    "cold": change.before,
                    "other": change.after,
                    "change": change.change,
                    "low": change.interval.low,
                    "high": change.interval.high,
                    "rows": change.rows,
                    "facts": change.clusters,
                }
            )
    return found


def means(run: Run) -> list[dict[str, Any]]:
    """Each metric of each checkpoint, the mean over tasks, and of each task."""
    found = []
    for i, model in enumerate(run.models):
        values = {
            metric: {task: float(rows_of(run, metric, task).values[i].mean()) for task in tasks_of(run)} for metric in METRICS
        }
        found.append(
            {
                "model": model,
                **{metric: {**each, "mean": float(np.mean(list(each.values())))} for metric, each in values.items()},
            }
        )
    return found


def costs(found: Mapping[str, Run], known: Mapping[str, Side], clock: Path) -> Iterator[dict[str, Any]]:
    """Of each side: what it took, what it says, and how far that is from the cold one."""
    cold, taken = found["cold"], clocked(clock)
    for name, run in found.items():
        yield {
            "side": name,
            "checkpoints": cost(run, known[name], taken),
            "scores": means(run),
            "verdicts": verdicts(run),
            "against_cold": bias(cold, run) if name != "cold" else None,
        }


def seconds(told: Sequence[dict[str, Any]], what: str) -> dict[str, float]:
    """Mean of a checkpoint, the first left out, which has nothing to carry from."""
    return {
        each["side"]: float(np.mean([c[what] for c in each["checkpoints"][1:]]))
        for each in told
        if what in each["checkpoints"][0]
    }


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Which facts, one more than once where they are drawn with replacement, and which of the seeds."""

    how: str
    facts: tuple[str, ...]
    seed: int

    @classmethod
    def of(cls, facts: Sequence[str], number: int, *, replacement: bool) -> Draw:
        rng = np.random.default_rng((number, replacement))
        count = len(facts) if replacement else round(KEPT * len(facts))
        chosen = rng.choice(len(facts), size=count, replace=replacement)
        how = "as many facts, with replacement" if replacement else "nine of ten facts"
        return cls(how=how, facts=tuple(facts[i] for i in sorted(chosen)), seed=number)

    def line(self, run: Run, line: Followed, alpha: float) -> Followed:
        """What was followed, as this draw shows it."""
        values, clusters = [], []
        for task, of in zip(line.tasks, line.trajectory.values, strict=True):
            rows = run.rows(run.models[0], task, line.protocol, KNOWLEDGE if line.what == "knowledge" else FORMAT)
            assert rows is not None
            assert len(rows.groups) == of.shape[2] == len(set(rows.groups)), "a row a fact, the same at every checkpoint"
            place = {fact: i for i, fact in enumerate(rows.groups)}
            kept = [place[fact] for fact in self.facts if fact in place]
            values.append(of[:, [self.seed % of.shape[1]]][:, :, kept])
            clusters.append(np.arange(len(kept)))
        trajectory = Trajectory(values=values, clusters=clusters)
        return replace(line, trajectory=trajectory, course=follow(trajectory, alpha=alpha))


def draws(run: Run) -> Iterator[tuple[str, Told]]:
    """What is said of the run's series: as it is, and in each draw of what was asked."""
    (series,) = series_of(run)
    lines = followed(run, series)
    yield "all rows", told(series, lines)
    seen = [run.scores(place) for place in run.done if place.model == run.models[0]]
    facts = sorted({fact for scored in seen for fact in scored.groups})
    whats = [line.what for line in lines]
    for number, replacement in product(range(DRAWS), (False, True)):
        draw = Draw.of(facts, number, replacement=replacement)
        yield draw.how, told(series, [draw.line(run, line, ALPHA * share_of_level(whats, line.what)) for line in lines])


PLANTED = {"run": ("none", None), "run-data-fault": ("knowledge", 6), "run-form-fault": ("form", 6)}
"""The fault of each run, and the checkpoint that it begins at, counted from 0."""


def faults(name: str, run: Run) -> dict[str, Any]:
    """How often what is said of a run is what was planted in it."""
    found: dict[str, list[Told]] = {}
    for how, each in draws(run):
        found.setdefault(how, []).append(each)
    fault, onset = PLANTED[name]
    return {
        "run": name,
        "planted": {"fault": fault, "checkpoint": None if onset is None else onset + 1},
        "sentence": found["all rows"][0].sentence,
        "draws": {
            how: {
                "of": len(some),
                "right_fault": sum(each.fault == fault for each in some),
                "right_checkpoint": sum(each.onset == onset for each in some),
                "both": sum((each.fault, each.onset) == (fault, onset) for each in some),
                "said_to_have_a_fault": sum(each.fault not in ("none", "undecided") for each in some),
                "said": dict(Counter(f"{each.fault} from {each.onset_name}" for each in some)),
            }
            for how, some in found.items()
        },
    }


SECONDS = {"total_s": "all phases", "processor_s": "processor seconds, imports among them"}
"""What is held against the cold side; the first takes a machine that nobody else is at work on."""


def ratios(told: Sequence[dict[str, Any]]) -> list[Ratio]:
    """The table's lines: a checkpoint cold and complete, against each other side."""
    found = []
    for what, words in SECONDS.items():
        cold, *others = seconds(told, what).items()
        found += [
            Ratio(
                what=f"a checkpoint of four tasks, {name}: {words}",
                against="cold and complete",
                value=cold[1] / each,
                at_least=4.0 if name == STOPPED and what == "total_s" else None,
            )
            for name, each in others
        ]
    return found


def main() -> None:
    """Run the sides, hold them against each other, and look for the faults."""
    benchmark = Benchmark(
        "series", __doc__, smoke="three models of the package, two tasks, eight rows", packages=("torch", "transformers")
    )
    add = benchmark.parser.add_argument
    add("--folder", type=Path, default=ROOT / "runs" / "series", help="where run folders are kept [runs/series]")
    add("--sides", default="cold,carried-5,carried-10,carried-20,stopped", help="ways to evaluate a series [all]")
    add("--runs", default=",".join(RUNS), help="training runs in which to look for faults, the one without first [all three]")
    add("--seeds", default="0", help="seeds of the soft prompts by which faults are looked for [0]")
    arguments = benchmark.start()
    smoke = arguments.smoke
    known = sides(smoke=smoke)
    seeds = tuple(int(seed) for seed in arguments.seeds.split(","))
    with tempfile.TemporaryDirectory(prefix="series-") as scratch:
        folder = Path(scratch) if smoke else arguments.folder
        wanted = [*known, STOPPED] if smoke else arguments.sides.split(",")
        side = known["carried-1" if smoke else f"carried-{FOLLOWED}"]
        grids = {name: grid_of("run", known[name], folder, smoke=smoke) for name in wanted if name != STOPPED}
        sides_told = list(costs(in_turn(grids, folder / "clock.jsonl"), known, folder / "clock.jsonl"))
        if STOPPED in wanted:
            run = watched("run", side, folder, folder / "clock.jsonl", smoke=smoke)
            sides_told.append(stopped(run, clocked(folder / "clock.jsonl")[run.name, "all"]))
        names = ["run"] if smoke else list(filter(None, arguments.runs.split(",")))
        followed_by = {name: grid_of(name, side, folder, smoke=smoke, seeds=seeds) for name in names}
        found = []
        for name, grid in followed_by.items():
            if name != "run":
                share(grid, followed_by["run"])
            found.append(faults(name, in_turn({name: grid}, folder / "clock.jsonl")[name]))
    benchmark.end(plain_values({"sides": sides_told, "faults": found}), ratios=ratios(sides_told))


if __name__ == "__main__":
    main()
