"""Cells an hour with 1, 2 and 4 workers of one model on a Ray cluster, and what the driver spends on a cell.

    python benchmarks/scheduling/scaling.py [--smoke] [--cells N] [--cell-s S] [--save] [--output FILE]

As many Ray nodes of one CPU each as workers, all on this machine, and the engine that has no model: a cell sleeps for a fixed
time and needs next to no CPU, so that what is lost is lost by the executor and the scheduler. All workers share the cells of
one model, N for each of them, so that all runs take equally long. `efficiency` compares with one worker: from the start of the
run to its end, where workers start too (on a machine with fewer cores than workers they wait for each other there), and from
the first to the last cell that is done. What the driver spends on a cell is taken between those two as well: its processor
seconds, whatever for, and the part of the time in which it keeps what comes.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Benchmark, Ratio

if TYPE_CHECKING:
    from spt_fast.config import GridConfig
    from spt_fast.plan import Stage
    from spt_fast.worker.events import Event
    from spt_fast.worker.lease import Given

WORKERS = (1, 2, 4)
ROWS = 4
START_S = 5.0
"""Expected seconds of a worker's start. What starts really take, the scheduler learns from the first."""
NODE = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 100 * 2**20}


def grid_of(cells: int, cell_s: float, folder: Path) -> GridConfig:
    """So many cells of one model, equally long."""
    from spt_fast.config import FewShot, GridConfig, ModelConfig, TaskConfig

    return GridConfig(
        name="scaling",
        models=(ModelConfig(id="zoo/base-40"),),
        tasks=(TaskConfig(task="zoo-json"),),
        protocols=(FewShot(shots=1),),
        seeds=tuple(range(cells)),
        limit=ROWS,
        engine={"kind": "echo", "delay_s": cell_s / ROWS},
        output=folder,
    )


@dataclass(frozen=True)
class Mark:
    """Where the driver stands when a cell is done."""

    time_s: float
    cpu_s: float
    """Processor seconds of this process, all threads, until now."""
    keep_s: float
    """Of the time until now, in `_keep`."""


@dataclass
class Clock:
    """Notes when cells are done, and by whom."""

    keep_s: float = 0.0
    done: list[Mark] = field(default_factory=list)
    by: dict[int, list[float]] = field(default_factory=dict)
    """Worker -> when each of its cells was done."""

    @contextmanager
    def __call__(self, cells: object, before: int) -> Iterator[Clock]:
        yield self

    def show(self, stage: Stage, event: Event) -> None:
        """Take an event in."""
        from spt_fast.worker.events import CellDone

        if isinstance(event, CellDone):
            self.done.append(self.mark())
            self.by.setdefault(stage.worker, []).append(self.done[-1].time_s)

    def mark(self) -> Mark:
        """Now."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return Mark(time_s=time.perf_counter(), cpu_s=used.ru_utime + used.ru_stime, keep_s=self.keep_s)

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Time what the driver keeps while the context is open."""
        from spt_fast.driver.stages import StageRunner

        original = StageRunner.keep

        def keep(runner: StageRunner, stage: Stage, event: Event) -> Event:
            begin = time.perf_counter()
            kept = original(runner, stage, event)
            self.keep_s += time.perf_counter() - begin
            return kept

        StageRunner.keep = keep  # type: ignore[assignment, method-assign]
        try:
            yield
        finally:
            StageRunner.keep = original  # type: ignore[method-assign]


def measure(workers: int, cells: int, cell_s: float, folder: Path) -> dict[str, Any]:
    """One run on as many nodes as workers.

    Raises:
        SystemExit: a cell is not done, or a worker has done none.
    """
    from spt_fast.driver.run import run_cells
    from spt_fast.executors.ray.executor import RayExecutor
    from spt_fast.scheduling.estimates import Measured
    from spt_fast.store import Store

    class Expecting(RayExecutor):
        """Knows beforehand how long a cell takes, as in a grid of which some cells are done."""

        def run(self, stages: Sequence[Stage], earlier: Callable[[Stage], Given]) -> Generator[tuple[Stage, Event]]:
            costs = {"answer_s": cell_s, "engine_start_s": START_S}
            self.measured = [Measured(cell=cell, costs=costs) for stage in stages for cell in stage.cells]
            return super().run(stages, earlier)

    grid, clock = grid_of(cells, cell_s, folder), Clock()
    executor = Expecting("auto", Store(folder).log)
    start = clock.mark()
    with clock.keeping():
        result = run_cells(grid, watch=clock, executor=executor)
    end = clock.mark()
    if not result.complete:
        raise SystemExit(f"not all cells are done, so nothing is timed: {result.failures}")
    if len(clock.by) != workers:
        raise SystemExit(f"{workers} nodes, and cells were done by {len(clock.by)} workers")
    first, last = clock.done[0], clock.done[-1]
    return {
        "workers": workers,
        "cells": cells,
        "cells_of_each_worker": [len(times) for times in clock.by.values()],
        "first_cell_of_each_worker_s": [times[0] - start.time_s for times in clock.by.values()],
        "whole_s": end.time_s - start.time_s,
        "first_to_last_s": last.time_s - first.time_s,
        "cells_an_hour": 3600 * cells / (end.time_s - start.time_s),
        "cells_an_hour_first_to_last": 3600 * (cells - 1) / (last.time_s - first.time_s),
        "driver_cpu_s_a_cell": (last.cpu_s - first.cpu_s) / (cells - 1),
        "driver_keep_s_a_cell": (last.keep_s - first.keep_s) / (cells - 1),
        "driver_cpu_s_whole": end.cpu_s - start.cpu_s,
    }


def measure_all(counts: Sequence[int], cells: int, cell_s: float) -> list[dict[str, Any]]:
    """One run after the other, on a cluster that grows."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
    runs: list[dict[str, Any]] = []
    try:
        ray.init(address=cluster.address, namespace="spt-fast", log_to_driver=False, logging_level="ERROR")
        for count in counts:
            while len(cluster.worker_nodes) < count:
                cluster.add_node(**NODE)
            cluster.wait_for_nodes()
            with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
                found = measure(count, count * cells, cell_s, Path(folder) / "run")
            one = runs[0] if runs else found
            for name in ("cells_an_hour", "cells_an_hour_first_to_last"):
                found[name.replace("cells_an_hour", "efficiency")] = found[name] / count / (one[name] / one["workers"])
            runs.append(found)
            print(json.dumps(found), file=sys.stderr)
    finally:
        ray.shutdown()
        cluster.shutdown()
    return runs


def main() -> None:
    """Run with 1, 2 and 4 workers."""
    benchmark = Benchmark("scaling", __doc__, smoke="two workers, a few cells, in seconds", packages=("ray", "pyarrow"))
    parser = benchmark.parser
    parser.add_argument("--cells", type=int, default=32, help="of each worker")
    parser.add_argument("--cell-s", type=float, default=2.0, help="seconds that a cell sleeps")
    arguments = benchmark.start()
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)  # the nodes have it from us
    counts, cells, cell_s = ((2,), 8, 1.0) if arguments.smoke else (WORKERS, arguments.cells, arguments.cell_s)
    runs = measure_all(counts, cells, cell_s)
    ratios = [
        Ratio(
            what=f"cells an hour on a Ray cluster, {run['workers']} workers",
            against=f"{run['workers']} times one worker",
            value=run["efficiency_first_to_last"],
        )
        for run in runs[1:]
    ]
    benchmark.end({"cell_s": cell_s, "runs": runs}, ratios=ratios)


if __name__ == "__main__":
    main()
