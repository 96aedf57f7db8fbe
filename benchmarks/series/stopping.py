"""How many rows `stop` saves, and how often it is wrong: nights in a simulation, looked at after every block of rows.

A night is a new model against an old one on the same rows: verdicts flip by chance, as many either way, and `drop` more are
lost. The policy allows 2 points at alpha 0.05. For each size of the drop, share of flips and number of rows:

* `pass` and `fail` of a gate that looks (`scoring.sequential`, and the test of a fixed number of rows for what no look
  decides), and of the fixed gate, which is asked all rows; `opposite`: one passes and the other fails;
* `wrong_at_looks`: passes of a drop of 2 points or more, or fails without a drop, at *any* look before the end. `pass` and
  `fail` have those at the end too. By the policy each is at most alpha;
* `saved`: the mean share of rows that were not asked. `oracle_saved`: the same of one who knows beforehand how many rows are
  gained and lost, and bets the best constant bet at all of alpha: a sequential probability ratio test against the least
  favourable truth, than which nothing needs fewer rows on average (Wald 1945, Annals of Mathematical Statistics 16, 117-186);
* `naive_wrong`: how often the fixed test, made again at every look, passes a drop of exactly 2 points.

Beside it, how wide intervals are that hold at every look: ours, and the empirical-Bernstein sequence of Waudby-Smith and Ramdas
(2024), theorem 2, with their predictable plug-in.
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats  # type: ignore[import-untyped]

from benchmarks.harness import Benchmark, Ratio
from spt_fast.analysis.paired import PairedDifference, paired_difference
from spt_fast.scoring.sequential import BEYOND, FAIL, LOOKS, PASS, PASSES, Change, Drop, Floats, Stream, Walk

Verdict: TypeAlias = Literal["pass", "fail", "undecided"]
ALPHA, LARGEST = 0.05, 0.02
BLOCK, LEAST = 50, 100
DROPS = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08)
FLIPS = (0.04, 0.10)
SIZES = (500, 1000, 2000, 5000)
WANTED = ((0.0, "without a change", 0.6), (5.0, "a drop of 5 points", 0.8))
"""Drop in points, what it is called, and the share of rows that is to be saved."""


def night(generator: np.random.Generator, rows: int, drop: float, flips: float) -> Floats:
    """A less B of each row."""
    draw = generator.random(rows)
    lost, gained = flips / 2 + drop, flips / 2
    return np.where(draw < lost, 1.0, np.where(draw < lost + gained, -1.0, 0.0))


def walk_of(values: Floats) -> Walk:
    """The rows of a night, as they are looked at."""
    return Walk([Stream(values=values, units=len(values), low=-1.0, high=1.0, variance=0.08)])


def best_bet(drop: float, flips: float, null: float, sign: float) -> float:
    """The constant bet whose W grows fastest, betting that the drop is above (sign 1) or below `null`."""
    values, shares = np.array([1.0, -1.0, 0.0]), np.array([flips / 2 + drop, flips / 2, 1 - flips - drop])

    def slowness(bet: float) -> float:
        return -float((shares * np.log1p(bet * sign * (values - null))).sum())

    return float(optimize.minimize_scalar(slowness, bounds=(0, 0.98), method="bounded").x)


def first(found: NDArray[np.bool_], looks: NDArray[np.int64], rows: int) -> int:
    """The first look at which something is so; `rows` where there is none."""
    return int(looks[found.argmax()]) if found.any() else rows


def told(values: Floats, drop: float, flips: float, bet: float, sizes: tuple[int, ...]) -> list[dict[str, float]]:
    """What one night came to, for each number of rows that it may have."""
    walk, level = walk_of(values), math.log(1 / (LOOKS * ALPHA))
    shares = {rows: Drop(walk=walk_of(values[:rows]), largest=LARGEST).passes for rows in sizes}
    passes = walk.log_wealth(LARGEST, [part * LARGEST for part in PASS], above=False)
    fails = walk.log_wealth(0.0, [part * LARGEST for part in FAIL], above=True)
    beyond = walk.log_wealth(LARGEST, [part * LARGEST for part in BEYOND], above=True)
    null, sign = (LARGEST, -1.0) if drop < LARGEST else (0.0, 1.0)
    oracle = np.cumsum(np.log1p(bet * sign * (values - null)))
    found = []
    for rows in sizes:
        looks = np.arange(LEAST, rows, BLOCK)
        at = looks - 1
        share = shares[rows]
        passed = first(passes[at] >= math.log(1 / (share * ALPHA)), looks, rows)
        failed = first((fails[at] >= level) & (beyond[at] >= math.log(2 / LOOKS)), looks, rows)
        fixed = paired_difference(values[:rows], np.zeros(rows), resamples=0)  # its change is minus the drop, nothing else
        whole = verdict(fixed)
        said = "pass" if passed < failed else "fail" if failed < rows else verdict(fixed, 1 - share, 1 - LOOKS)
        found.append(
            {
                "pass": said == "pass",
                "fail": said == "fail",
                "fixed_pass": whole == "pass",
                "fixed_fail": whole == "fail",
                "opposite": {said, whole} == {"pass", "fail"},
                "wrong_at_looks": (passed < rows and drop >= LARGEST) or (failed < rows and drop <= 0),
                "saved": 1 - min(passed, failed) / rows,
                "oracle_saved": 1 - first(oracle[at] >= math.log(1 / ALPHA), looks, rows) / rows,
                "naive_wrong": drop >= LARGEST and naive_pass(values[:rows], np.append(looks, rows)),
            }
        )
    return found


def verdict(fixed: PairedDifference, passes: float = 1.0, fails: float = 1.0) -> Verdict:
    """Of the fixed test, at these shares of alpha; with less than all, the estimate of a fail is a bound of level 1/2 too."""
    if -fixed.limits(1 - 2 * passes * ALPHA).low < LARGEST:
        return "pass"
    estimate = -fixed.change if fails == 1 else -fixed.limits(1 - fails).high
    return "fail" if estimate >= LARGEST and fixed.p_drop <= fails * ALPHA else "undecided"


def naive_pass(values: Floats, looks: NDArray[np.int64]) -> bool:
    """Whether a fixed test (normal, one-sided) that is made again at each look passes at any."""
    sums, squares = np.cumsum(values)[looks - 1], np.cumsum(values**2)[looks - 1]
    mean = sums / looks
    stderr = np.sqrt(np.maximum(squares / looks - mean**2, 1e-12) / looks)
    return bool((mean + stats.norm.isf(ALPHA) * stderr < LARGEST).any())


def nights(count: int, drop: float, flips: float, sizes: tuple[int, ...], seed: int) -> list[dict[str, Any]]:
    """A line for each number of rows."""
    generator = np.random.default_rng(seed)
    bet = best_bet(drop, flips, *((LARGEST, -1.0) if drop < LARGEST else (0.0, 1.0)))
    found = [told(night(generator, max(sizes), drop, flips), drop, flips, bet, sizes) for _ in range(count)]
    lines = []
    for i, rows in enumerate(sizes):
        mean = {name: round(float(np.mean([each[i][name] for each in found])), 4) for name in found[0][i]}
        lines.append({"rows": rows, "drop_points": 100 * drop, "flips": flips, "nights": count, **mean})
    return lines


def bernstein(values: Floats) -> float:
    """Width of the 95 % empirical-Bernstein sequence of values from -1 to 1, all looks intersected."""
    y, t = (values + 1) / 2, np.arange(1, len(values) + 1)
    means = (0.5 + np.cumsum(y)) / (t + 1)
    variances = (0.25 + np.cumsum((y - means) ** 2)) / (t + 1)
    old, before = np.concatenate([[0.5], means[:-1]]), np.concatenate([[0.25], variances[:-1]])
    bets = np.minimum(np.sqrt(2 * math.log(2 / ALPHA) / (before * t * np.log1p(t))), 0.5)
    reach = math.log(2 / ALPHA) + np.cumsum((y - old) ** 2 * (-np.log1p(-bets) - bets))
    centre, half = np.cumsum(bets * y) / np.cumsum(bets), reach / np.cumsum(bets)
    return float(2 * ((centre + half).min() - (centre - half).max()))


def widths(count: int, sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """How wide intervals of a difference are on nights without a change, in points."""
    generator, found = np.random.default_rng(9), []
    for flips in FLIPS:
        for rows in sizes:
            mine = [night(generator, rows, 0.0, flips) for _ in range(count)]
            ours = [high - low for low, high in (Change(walk=walk_of(values)).limits(1 - ALPHA) for values in mine)]
            kinds = {
                "ours": ours,
                "empirical_bernstein": [bernstein(values) for values in mine],
                "fixed": [2 * 1.96 * float(values.std()) / math.sqrt(rows) for values in mine],
            }
            means = {kind: round(100 * float(np.mean(each)), 3) for kind, each in kinds.items()}
            found.append({"rows": rows, "flips": flips, **means})
    return found


def ratios(lines: list[dict[str, Any]]) -> list[Ratio]:
    """What was wanted: rows saved, for few rows, for many, and for more; and the worst of all errors at most alpha."""
    found = [
        Ratio(
            what=f"rows saved, {what}, {line['rows']:,} rows, {100 * line['flips']:g} % flip",
            against="all rows",
            value=line["saved"],
            at_least=wanted,
        )
        for line in lines
        for drop, what, wanted in WANTED
        if line["drop_points"] == drop and line["rows"] in (500, 2000, 5000)
    ]
    for drop, said, wrong in ((0.0, "wrong fails without a drop", "fail"), (2.0, "wrong passes of a drop of 2 points", "pass")):
        worst = max(line[wrong] for line in lines if line["drop_points"] == drop)
        found.append(Ratio(what=f"{said}, at the worst", against="all nights", value=worst, at_most=ALPHA))
    return found


def main() -> None:
    """Simulate the nights."""
    benchmark = Benchmark("stopping", __doc__, smoke="20 nights of 500 rows, in seconds", packages=("numpy", "scipy"))
    benchmark.parser.add_argument("--nights", type=int, default=2000)
    arguments = benchmark.start()
    count, sizes = (20, (500,)) if arguments.smoke else (arguments.nights, SIZES)
    cases = [(drop, flips) for flips in FLIPS for drop in DROPS]
    lines = [line for i, (drop, flips) in enumerate(cases) for line in nights(count, drop, flips, sizes, seed=i)]
    policy = {
        "alpha": ALPHA,
        "allowed_points": 100 * LARGEST,
        "block": BLOCK,
        "least": LEAST,
        "looks": LOOKS,
        "looks_for_passes": PASSES,
    }
    benchmark.end({**policy, "nights": lines, "widths_points": widths(5 if count == 20 else 100, sizes)}, ratios=ratios(lines))


if __name__ == "__main__":
    main()
