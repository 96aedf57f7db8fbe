"""Does it bias the gate that its baseline was itself stopped early? Series of checkpoints in a simulation, as `watch` has them.

Rows are asked in one order, so an early pass is a pass on the rows where the accepted checkpoint happened to do well, and the
next one is held against it on these. A row is known, unknown, or open: an open one is right with a probability of its own at
each checkpoint anew, so that what a checkpoint gained by luck the next one loses. That is the worst case: where flips stay,
luck does too. At each checkpoint of a series two candidates are held against the last accepted one: one that is as good, which
is accepted if it passes, and one that is exactly `LARGEST` worse, which the series does not go on with. Three ways:

* `fixed`: all rows of all checkpoints are asked; the test of a fixed number of rows;
* `complete`: stopped where it is decided, and a checkpoint that is accepted is asked the rest before the next one;
* `watch`: it stays stopped. The next checkpoint is held against it on its rows. Where these do not decide, the rest of it is
  asked, and the gate looks again, as `spt_fast.watch` does.

By the policy, at most alpha of the candidates that are as good may fail, and at most alpha of the others pass, at all looks of
a night together; `worst_wrong_*` are those of the checkpoint of the series where they were most. `behind_stopped` counts the
nights whose baseline was stopped when they began.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from benchmarks.harness import Benchmark, Ratio
from benchmarks.series.stopping import ALPHA, BLOCK, FLIPS, LARGEST, LEAST, Verdict, verdict, walk_of
from spt_fast.analysis.paired import paired_difference
from spt_fast.scoring.sequential import BEYOND, FAIL, LOOKS, PASS, Drop, Floats, Stream, Walk

Way: TypeAlias = Literal["fixed", "complete", "watch"]
WAYS: tuple[Way, ...] = ("fixed", "complete", "watch")
SIZES = (500, 2000)
CHECKPOINTS = 12
LEVEL = 0.6
"""Share of the rows that each checkpoint knows."""


def abilities(generator: np.random.Generator, rows: int, flips: float) -> Floats:
    """Of each row the probability that a checkpoint has it right. Of two checkpoints a share of `flips` differs."""
    is_open = generator.random(rows) < 3 * flips  # 2 p (1 - p) is a third in the mean, where p is anything from 0 to 1
    known = (generator.random(rows) < (LEVEL - 1.5 * flips) / (1 - 3 * flips)).astype(float)
    return np.where(is_open, generator.random(rows), known)


def asked(generator: np.random.Generator, ability: Floats, drop: float) -> Floats:
    """What a checkpoint comes to that has lost so much."""
    right = generator.random(len(ability)) < ability
    return (right & (generator.random(len(ability)) >= drop / LEVEL)).astype(float)


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """The last accepted checkpoint, and how many of its rows were asked."""

    values: Floats = field(repr=False)
    rows: int

    @property
    def is_stopped(self) -> bool:
        return self.rows < len(self.values)


@dataclass(frozen=True, kw_only=True)
class Night:
    """What a night came to."""

    verdict: Verdict
    rows: int
    """Of the new checkpoint that were asked."""
    rest: int = 0
    """Of the old one that were asked beside."""


def stopped(values: Floats, rows: int) -> tuple[Verdict, int]:
    """What the first look says that decides anything, and after how many rows; undecided where none does.

    Args:
        values: `[M]` A less B of the rows that both can be asked.
        rows: that there are in all.
    """
    looks = np.arange(LEAST, rows, BLOCK)
    at = looks[looks <= len(values)] - 1
    drop = Drop(walk=Walk([Stream(values=values, units=rows, low=-1.0, high=1.0, variance=0.08)]), largest=LARGEST)
    passes, fails, beyond = wealth(drop.walk)
    passed = passes[at] >= math.log(1 / (drop.passes * ALPHA))
    failed = (fails[at] >= math.log(1 / (LOOKS * ALPHA))) & (beyond[at] >= math.log(2 / LOOKS))
    decided = passed | failed
    if not decided.any():
        return "undecided", rows
    first = int(decided.argmax())
    return "pass" if passed[first] else "fail", int(looks[first])


def wealth(walk: Walk) -> tuple[Floats, Floats, Floats]:
    """The stakes on a pass, on a drop, and on one that is larger than is allowed."""
    return (
        walk.log_wealth(LARGEST, [part * LARGEST for part in PASS], above=False),
        walk.log_wealth(0.0, [part * LARGEST for part in FAIL], above=True),
        walk.log_wealth(LARGEST, [part * LARGEST for part in BEYOND], above=True),
    )


def at_the_end(values: Floats) -> Verdict:
    """What the gate says where all rows of both were asked, and were looked at (`analysis.watched.WatchedDrop`)."""
    walk = walk_of(values)
    passes, fails, beyond = (float(each[-1]) for each in wealth(walk))
    share = Drop(walk=walk, largest=LARGEST).passes
    fixed = paired_difference(values, np.zeros(len(values)), resamples=0)
    if passes >= math.log(1 / (share * ALPHA)) or verdict(fixed, 1 - share, 1 - LOOKS) == "pass":
        return "pass"
    fell = fails >= math.log(1 / (LOOKS * ALPHA)) or fixed.p_drop <= (1 - LOOKS) * ALPHA
    more = beyond >= math.log(2 / LOOKS) or -fixed.limits(LOOKS).high >= LARGEST
    return "fail" if fell and more else "undecided"


def night(way: Way, accepted: Accepted, new: Floats) -> Night:
    """A checkpoint against the last accepted one."""
    drop, rows = accepted.values - new, len(new)
    if way == "fixed":
        return Night(verdict=verdict(paired_difference(drop, np.zeros(rows), resamples=0)), rows=rows)
    said, count = stopped(drop[: accepted.rows], rows)
    if said != "undecided":
        return Night(verdict=said, rows=count)
    return Night(verdict=at_the_end(drop), rows=rows, rest=rows - accepted.rows)


def series(generator: np.random.Generator, rows: int, flips: float) -> list[dict[str, Any]]:
    """What each night of one series came to, each way."""
    ability = abilities(generator, rows, flips)
    first = asked(generator, ability, 0.0)
    accepted = {way: Accepted(values=first, rows=rows) for way in WAYS}
    found = []
    for number in range(2, CHECKPOINTS + 1):
        good, bad = asked(generator, ability, 0.0), asked(generator, ability, LARGEST)
        for way in WAYS:
            old = accepted[way]
            mine, theirs = night(way, old, good), night(way, old, bad)
            rest = 0
            if mine.verdict == "pass":
                accepted[way] = Accepted(values=good, rows=rows if way == "complete" else mine.rows)
                rest = accepted[way].rows - mine.rows
            elif mine.rest:
                accepted[way] = replace(old, rows=rows)
            found.append(
                {
                    "way": way,
                    "checkpoint": number,
                    "behind_stopped": old.is_stopped,
                    "passed": mine.verdict == "pass",
                    "wrong_fail": mine.verdict == "fail",
                    "wrong_pass": theirs.verdict == "pass",
                    "asked": (mine.rows + mine.rest + rest) / rows,
                }
            )
    return found


def summed(nights: Sequence[dict[str, Any]], rows: int, flips: float, way: Way) -> dict[str, Any]:
    """A line of the table."""
    mine = [each for each in nights if each["way"] == way]
    stopped_ones = [each for each in mine if each["behind_stopped"]]
    of = {number: [each for each in mine if each["checkpoint"] == number] for number in range(2, CHECKPOINTS + 1)}
    found: dict[str, Any] = {"rows": rows, "flips": flips, "way": way, "nights": len(mine), "behind_stopped": len(stopped_ones)}
    for what in ("wrong_fail", "wrong_pass"):
        found[what] = share(mine, what)
        found[f"worst_{what}"] = max(share(each, what) for each in of.values())
        found[f"{what}_behind_stopped"] = share(stopped_ones, what) if stopped_ones else None
    return {**found, "passed": share(mine, "passed"), "asked": share(mine, "asked")}


def share(nights: Sequence[dict[str, Any]], what: str) -> float:
    """The mean, with four digits."""
    return round(float(np.mean([each[what] for each in nights])), 4)


def simulated(count: int, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """A line for each number of rows, share of flips and way."""
    lines = []
    for i, (rows, flips) in enumerate((rows, flips) for rows in sizes for flips in FLIPS):
        generator = np.random.default_rng((19, i))
        nights = [each for _ in range(count) for each in series(generator, rows, flips)]
        lines += [summed(nights, rows, flips, way) for way in WAYS]
    return lines


def ratios(lines: Sequence[dict[str, Any]]) -> list[Ratio]:
    """The worst of all errors."""
    return [
        Ratio(
            what=f"{said} in a series whose accepted checkpoints stay stopped, at the worst checkpoint",
            against="all nights",
            value=max(line[f"worst_{wrong}"] for line in lines if line["way"] == "watch"),
            at_most=ALPHA,
        )
        for said, wrong in (("wrong fails without a drop", "wrong_fail"), ("wrong passes of a drop of 2 points", "wrong_pass"))
    ]


def main() -> None:
    """Simulate the series."""
    benchmark = Benchmark("chain", __doc__, smoke="3 series of 500 rows, in seconds", packages=("numpy", "scipy"))
    benchmark.parser.add_argument("--series", type=int, default=2000)
    arguments = benchmark.start()
    lines = simulated(3 if arguments.smoke else arguments.series, SIZES[:1] if arguments.smoke else SIZES)
    policy = {"alpha": ALPHA, "allowed_points": 100 * LARGEST, "block": BLOCK, "least": LEAST, "checkpoints": CHECKPOINTS}
    benchmark.end({**policy, "series": lines}, ratios=ratios(lines))


if __name__ == "__main__":
    main()
