"""How close a large grid on a large cluster comes to what no schedule can beat, when much goes wrong.

    python benchmarks/scheduling/simulation.py [--smoke] [--models N] [--nights N] [--save] [--output FILE]

A grid of 500 models x 50 tasks x (three seeds of a soft prompt and zero-shot) on 125 nodes of 8 GPUs, simulated: the scheduler
is the one that runs on a cluster, the time, nodes and workers are made up. Models have 0.5 to 70 billion parameters and take 1,
2, 4 or 8 GPUs; three fifths of the tasks are closed-ended and short. Three kinds of nights:

    calm    everything takes as long as expected
    noisy   a model's cells take off from the expectation by a factor (spread 0.3), each cell by another
    bad     noisy; nodes fail as in arXiv 2407.21783, section 3.3.4 (419 interruptions in 54 days on 16,384 GPUs); 30 % of
            the nodes are spot instances, of which 5 % are lost in an hour with a notice of two minutes; workers die (2 %
            an hour), hang and are cut off (0.2 % each); 3 % of them take twice as long

The bound is that of the work as it really comes, at normal speed, on all GPUs, always there: stragglers, losses and more than
one start a model count against the scheduler. Beside it stand the same scheduler without estimates (all cells alike), and one
worker a model, longest model first and in the grid's order.
"""

from __future__ import annotations

import gc
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Benchmark, Ratio

if TYPE_CHECKING:
    from spt_fast.scheduling.messages import Job
    from spt_fast.scheduling.scheduler import Scheduler
    from spt_fast.scheduling.simulation import Outcome, Troubles

SIZES = ((0.5, 1), (1, 1), (1.5, 1), (3, 1), (4, 1), (7, 1), (8, 1), (8, 1), (14, 1), (32, 2), (70, 4), (70, 8))
"""Billions of parameters, and GPUs of a worker."""
SEEDS = 3
GPUS = 8
SCHEDULERS = ("spt-fast", "without estimates", "a worker a model, longest first", "a worker a model, in order")


def nights() -> dict[str, Troubles]:
    """What goes wrong, by name."""
    from spt_fast.scheduling.simulation import Troubles

    noisy = Troubles(noise=0.3, bias=0.3)
    bad = replace(
        noisy,
        node_losses=419 / (54 * 24) / (16384 / GPUS),
        spot=0.3,
        spot_losses=0.05,
        worker_losses=0.02,
        hangs=0.002,
        cut_offs=0.002,
        stragglers=0.03,
    )
    return {"calm": Troubles(), "noisy": noisy, "bad": bad}


def make_grid(models: int, tasks: int) -> tuple[Job, ...]:
    """Jobs with the seconds that a cell of such a model and task takes, roughly."""
    from spt_fast.scheduling.messages import Job, Piece

    dice = random.Random(0)
    sizes = [dice.lognormvariate(-0.7, 0.5) if task % 5 < 3 else dice.lognormvariate(0.5, 0.6) for task in range(tasks)]
    jobs = []
    for model in range(models):
        billions, gpus = dice.choice(SIZES)
        slow = billions / gpus
        pieces = []
        for task, size in enumerate(sizes):
            answer_s = (5 + 8 * slow) * size
            for seed in range(SEEDS):
                group = f"{task}-{seed}"
                pieces.append(Piece(key=f"{model}-{group}", group=group, train_s=8 + 6 * slow, answer_s=answer_s))
            pieces.append(Piece(key=f"{model}-{task}", group=None, answer_s=(2 + 2 * slow) * size))
        need = {"GPU": float(gpus), "CPU": 1.0}
        jobs.append(Job(name=f"m{model}", need=need, start_s=60 + 15 * slow, pieces=tuple(pieces)))
    return tuple(jobs)


def make_scheduler(name: str, jobs: Sequence[Job]) -> Scheduler:
    """One of `SCHEDULERS`."""
    from spt_fast.scheduling.limits import Limits
    from spt_fast.scheduling.scheduler import Scheduler

    if name in ("without estimates", "a worker a model, in order"):
        jobs = [
            replace(job, start_s=120.0, pieces=tuple(replace(piece, train_s=30.0, answer_s=30.0) for piece in job.pieces))
            for job in jobs
        ]
    return Scheduler(jobs, Limits(least_s=float("inf"))) if name.startswith("a worker") else Scheduler(jobs)


class Watch:
    """How long each step of a scheduler takes, and how much of that Python's garbage collector."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.steps: list[tuple[float, float, float, str]] = []
        """Seconds, of which the collector's, at which time of the night, and what had happened."""
        self.collecting = self.since = 0.0
        handle = scheduler.handle

        def timed(observation: Any, now: float) -> Any:
            self.collecting = 0.0
            begin = time.perf_counter()
            actions = handle(observation, now)
            self.steps.append((time.perf_counter() - begin, self.collecting, now, type(observation).__name__))
            return actions

        scheduler.handle = timed  # type: ignore[method-assign]

    def collects(self, phase: str, _: Any) -> None:
        """What `gc.callbacks` are called with."""
        if phase == "start":
            self.since = time.perf_counter()
        else:
            self.collecting += time.perf_counter() - self.since

    def found(self) -> dict[str, Any]:
        """Milliseconds, and what the slowest steps were."""
        took = sorted(step[0] for step in self.steps)
        at = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
        return {
            "steps": len(took),
            "sum_s": round(sum(took), 2),
            "ms": {name: round(1e3 * took[min(len(took) - 1, int(len(took) * share))], 3) for name, share in at.items()},
            "max_without_collector_ms": round(1e3 * max(step[0] - step[1] for step in self.steps), 1),
            "slowest": [
                {"ms": round(1e3 * took, 1), "collector_ms": round(1e3 * gc_s, 1), "at_s": round(at_s), "after": after}
                for took, gc_s, at_s, after in sorted(self.steps, reverse=True)[:3]
            ],
        }


def watch(jobs: Sequence[Job], nodes: int, of: Troubles, seed: int, name: str) -> dict[str, Any]:
    """One night of one scheduler.

    Raises:
        SystemExit: a cell is missing, or was counted twice.
    """
    from spt_fast.scheduling.simulation import lower_bound, realised, simulate

    scheduler = make_scheduler(name, jobs)
    watched = Watch(scheduler)
    gc.callbacks.append(watched.collects)
    try:
        cluster = {f"n{i:03}": {"GPU": float(GPUS), "CPU": 96.0} for i in range(nodes)}
        outcome = simulate(jobs, cluster, troubles=of, seed=seed, scheduler=scheduler)
    finally:
        gc.callbacks.remove(watched.collects)
    cells = {piece.key for job in jobs for piece in job.pieces}
    if outcome.ended.keys() | outcome.failed.keys() != cells or set(outcome.ended.values()) != {1}:
        raise SystemExit(f"{name}, seed {seed}: cells are missing or were counted twice, so nothing is reported")
    bound_s = lower_bound(realised(jobs, of, seed), GPUS * nodes)
    return {
        "scheduler": name,
        "seed": seed,
        "hours": round(outcome.seconds / 3600, 3),
        "bound_hours": round(bound_s / 3600, 3),
        "ratio": round(outcome.seconds / bound_s, 4),
        **counts(outcome),
        "handle": watched.found(),
    }


def counts(outcome: Outcome) -> dict[str, Any]:
    """What of an outcome a table shows."""
    return {
        "gpu_hours": {
            "there": round(outcome.capacity_gpu_s / 3600),
            "held": round(outcome.gpu_s / 3600),
            "useful": round(outcome.useful_gpu_s / 3600),
        },
        "starts": outcome.starts,
        "moved_cells": outcome.moved,
        "lost_workers": outcome.lost_workers,
        "lost_nodes": outcome.lost_nodes,
        "done_twice": sum(times > 1 for times in outcome.done.values()),
        "failed": len(outcome.failed),
        "observations": outcome.observations,
    }


def main() -> None:
    """All kinds of nights with our scheduler, several of each; the others on one calm and one bad night."""
    benchmark = Benchmark("simulation", __doc__, smoke="20 models on 5 nodes, in seconds")
    parser = benchmark.parser
    parser.add_argument("--models", type=int, default=500, help="a quarter as many nodes")
    parser.add_argument("--nights", type=int, default=3, help="seeds of the nights on which something happens")
    arguments = benchmark.start()
    models, tasks = (20, 10) if arguments.smoke else (arguments.models, 50)
    jobs, nodes = make_grid(models, tasks), max(1, models // 4)
    result: dict[str, Any] = {
        "models": models,
        "cells": sum(len(job.pieces) for job in jobs),
        "nodes": nodes,
        "gpus": GPUS * nodes,
        "workers_of": {f"{gpus:g} GPUs": sum(job.need["GPU"] == gpus for job in jobs) for gpus in (1, 2, 4, 8)},
    }
    found: list[Ratio] = []
    for kind, of in nights().items():
        seeds = range(1 if kind == "calm" or arguments.smoke else arguments.nights)
        runs = [watch(jobs, nodes, of, seed, SCHEDULERS[0]) for seed in seeds]
        if kind != "noisy":
            runs += [watch(jobs, nodes, of, 0, name) for name in SCHEDULERS[1:]]
        for run in runs:
            print(f"{kind}, {run['scheduler']}: {run['hours']} h, {run['ratio']} times the bound", file=sys.stderr)
        ours = [run["ratio"] for run in runs if run["scheduler"] == SCHEDULERS[0]]
        ratios = {"median": statistics.median(ours), "worst": max(ours)}
        result[kind] = {"troubles": asdict(of), "ratio": ratios, "runs": runs}
        what = f"hours of a simulated night on {GPUS * nodes:,} GPUs, {kind}"
        found.append(Ratio(what=what, against="what no schedule can beat", value=ratios["median"]))
    benchmark.end(result, ratios=found)


if __name__ == "__main__":
    main()
