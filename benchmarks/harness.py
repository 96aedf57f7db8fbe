"""What all benchmarks have in common: arguments, where the numbers come from, sides in turn, medians, and the result file.

    benchmark = Benchmark("training-step", __doc__, smoke="one tiny case, in seconds", packages=("torch", "peft"))
    benchmark.parser.add_argument("--steps", type=int, default=10)
    arguments = benchmark.start()
    seconds = in_turn(sides, rounds=5)  # after the sides were seen to give the same result
    benchmark.end(result, timings=[Timing(case="bf16", side=side, values=each) for side, each in seconds.items()], ratios=[...])

The result file is what the page and the table of docs/speed.md are made of (`benchmarks/page.py`): `timings` and `ratios` look
alike in all files, `result` is the benchmark's own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from spt_fast.qualify.timing import in_turn as in_turn
from spt_fast.qualify.timing import spread as spread

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What one side took of one case, round by round."""

    case: str
    side: str
    values: Sequence[float]
    unit: str = "s"

    def summary(self) -> dict[str, Any]:
        """The median and the quartiles beside it, as the result file has them."""
        return {"case": self.case, "side": self.side, "unit": self.unit, **spread(self.values)}


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A line of the table in docs/speed.md: one side against another in the same run."""

    what: str
    """Is measured, with its unit of work: "option scoring, questions/s"."""
    against: str
    """The other side."""
    value: float
    """Of medians."""
    at_least: float | None = None
    """What it is to reach; None: nothing was promised."""
    at_most: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the target is met; None: there is none."""
        if self.at_least is None and self.at_most is None:
            return None
        return (self.at_least is None or self.value >= self.at_least) and (self.at_most is None or self.value <= self.at_most)


class Benchmark:
    """One run of a benchmark, from its command line to its result file."""

    def __init__(
        self, name: str, description: str | None, *, smoke: str, packages: Sequence[str] = (), on_gpu: bool = False
    ) -> None:
        """Make the command line.

        Args:
            name: of the result file, results/<device>/<name>.json.
            description: the benchmark's own docstring.
            smoke: what `--smoke` does.
            packages: whose versions count; those that are not installed are left out.
            on_gpu: it uses a GPU where there is one.
        """
        self.name, self.packages, self.on_gpu = name, packages, on_gpu
        self.parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.parser.add_argument("--smoke", action="store_true", help=smoke)
        self.parser.add_argument("--save", action="store_true", help=f"write benchmarks/results/<device>/{name}.json")
        self.parser.add_argument("--output", type=Path, help="also write the JSON here")

    def start(self) -> argparse.Namespace:
        """Read the command line, and note what the machine is like before the benchmark keeps it busy.

        Libraries are kept from talking and from the Hub; what the user has set stays.
        """
        self.arguments = self.parser.parse_args()
        if self.arguments.smoke and self.arguments.save:
            self.parser.error("--save keeps real numbers, and --smoke makes none; leave one of them out")
        for name, value in {"HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}.items():
            os.environ.setdefault(name, value)
        warnings.simplefilter("ignore")
        self.about = about()
        return self.arguments

    def end(self, result: Mapping[str, Any], *, timings: Sequence[Timing] = (), ratios: Sequence[Ratio] = ()) -> None:
        """Print the result as JSON, keep it where it is to be kept, and say the ratios on stderr.

        What is saved keeps the ratios of all earlier runs that were saved there, under `earlier`.
        """
        gpu = _gpu() if self.on_gpu else None  # only now: asking takes torch
        written = {
            **self.about,
            "hardware": {**self.about["hardware"], "gpu": gpu},
            "versions": versions(self.packages),
            "ratios": [asdict(ratio) for ratio in ratios],
            "timings": [timing.summary() for timing in timings],
            "result": _without_places(result),
        }
        for ratio in ratios:
            print(f"{ratio.what}: {ratio.value:.2f} x {ratio.against}{_target(ratio)}", file=sys.stderr)
        print(json.dumps(written, indent=2))
        device = "cpu" if gpu is None else re.sub(r"[^a-z0-9]+", "-", gpu.lower())
        for file in (self.arguments.output, RESULTS / device / f"{self.name}.json" if self.arguments.save else None):
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps({**written, "earlier": earlier(file)}, indent=2) + "\n")


def earlier(file: Path) -> list[dict[str, Any]]:
    """Of the runs that a result file tells of: where each was made, and its ratios; the oldest first."""
    if not file.exists():
        return []
    written = json.loads(file.read_text())
    kept: list[dict[str, Any]] = written.get("earlier", [])
    ratios = [{name: ratio[name] for name in ("what", "against", "value")} for ratio in written["ratios"]]
    where = {name: written[name] for name in ("date", "commit", "hardware", "load_before") if name in written}
    return [*kept, {**where, "ratios": ratios}] if ratios else kept


def draw(spec: dict[str, Any]) -> str:
    """An SVG of a Vega-Lite figure, without the role of each mark: a tenth of the file, and its label says more."""
    import vl_convert

    return re.sub(r' aria-roledescription="[^"]*"', "", str(vl_convert.vegalite_to_svg(spec))) + "\n"


def about() -> dict[str, Any]:
    """Where numbers come from: date, command, commit, hardware."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", ".", ":!benchmarks/results")  # which `make bench` writes one by one
    script = Path(sys.argv[0]).resolve()
    named = script.relative_to(ROOT) if script.is_relative_to(ROOT) else script.name
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", str(named), *map(without_place, sys.argv[1:])]),
        "commit": git("rev-parse", "HEAD") + ("+changes" if changed else ""),
        "hardware": {"cpu": _cpu(), "cores": os.cpu_count(), "threads": os.environ.get("OMP_NUM_THREADS")},
        "load_before": os.getloadavg(),
    }


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Of Python and those of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in ("spt-fast", *packages):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _target(ratio: Ratio) -> str:
    if ratio.reached is None:
        return ""
    wanted = f"at least {ratio.at_least:g}" if ratio.at_least is not None else f"at most {ratio.at_most:g}"
    return f" (wanted: {wanted}{'' if ratio.reached else '; MISSED'})"


def without_place(argument: str) -> str:
    """An argument as another machine can repeat it: folders by their names, not by where they lie here."""
    return ",".join(f"DIR/{Path(each).name}" if each.startswith("/") else each for each in argument.split(","))


def _without_places(value: Any) -> Any:
    """What is to be written, with folders by their names wherever they stand in it."""
    if isinstance(value, Mapping):
        return {key: _without_places(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_places(each) for each in value]
    return without_place(value) if isinstance(value, str) else value


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
