"""Uncertainty of proportions, and of differences between paired verdicts. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from spt_fast.types import Metric

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal distribution."""


def wilson(successes: float, n: float, z: float = Z_95) -> tuple[float, float]:
    """Score interval of a proportion: Wilson (1927), Journal of the American Statistical Association 22, 209-212.

    Right near 0 and 1, where the usual p +- z * stderr is not: 0 of 20 gives (0, 0.16). NaN for `n` = 0. What is counted need
    not be whole: rows that share a passage are worth fewer.
    """
    if n == 0:
        return math.nan, math.nan
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # The ends are exactly 0 and 1 there; rounding must not put the value outside its own interval.
    low = 0.0 if successes == 0 else min(p, max(0.0, centre - half))
    high = 1.0 if successes == n else max(p, min(1.0, centre + half))
    return low, high


def proportion(name: str, verdicts: Iterable[bool]) -> Metric:
    """The share of verdicts that are true, with sqrt(p (1 - p) / n) and the Wilson interval; NaN if there are none."""
    found = list(verdicts)
    n, successes = len(found), sum(found)
    p = successes / n if n else math.nan
    low, high = wilson(successes, n)
    stderr = math.sqrt(p * (1 - p) / n) if n else math.nan
    return Metric(name=name, value=p, n=n, stderr=stderr, ci_low=low, ci_high=high)


def mean(name: str, values: Iterable[float], least: float = 0.0, most: float = 1.0) -> Metric:
    """The mean of values in `least`..`most`, with s / sqrt(n) and the normal 95 % interval kept inside; NaN without values."""
    found = list(values)
    n = len(found)
    m = sum(found) / n if n else math.nan
    variance = sum((value - m) ** 2 for value in found) / (n - 1) if n > 1 else math.nan
    stderr = math.sqrt(variance / n) if n > 1 else math.nan
    reach = Z_95 * stderr
    low, high = (max(least, m - reach), min(most, m + reach)) if n > 1 else (least, most)
    return Metric(name=name, value=m, n=n, stderr=stderr, ci_low=low, ci_high=high)


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided p-value of the exact McNemar test, from the pairs that differ: `b` one way, `c` the other.

    Under the null hypothesis b ~ Binomial(b + c, 1/2): McNemar (1947), Psychometrika 12, 153-157. Integers throughout,
    so that it is exact for any number of pairs; 1 where no pair differs.
    """
    n = b + c
    tail = term = 1  # the binomial coefficients, from n over 0
    for i in range(min(b, c)):
        term = term * (n - i) // (i + 1)
        tail += term
    return min(1.0, tail / (1 << n - 1)) if n else 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Paired:
    """The same examples judged twice."""

    n: int
    gained: int
    """False before, true after."""
    lost: int
    """True before, false after."""

    @property
    def p(self) -> float:
        """Two-sided, exact McNemar."""
        return mcnemar_exact(self.gained, self.lost)

    @property
    def change(self) -> float:
        """Difference of the two proportions; NaN without pairs."""
        return (self.gained - self.lost) / self.n if self.n else math.nan


def paired(before: Mapping[str, bool], after: Mapping[str, bool]) -> Paired:
    """Compare verdicts by example, over the examples that both have."""
    both = before.keys() & after.keys()
    return Paired(
        n=len(both),
        gained=sum(after[key] and not before[key] for key in both),
        lost=sum(before[key] and not after[key] for key in both),
    )


def holm(p_values: Iterable[float], level: float = 0.05) -> int:
    """How many of several tests are significant together: Holm (1979), Scandinavian Journal of Statistics 6, 65-70."""
    ordered = sorted(p_values)
    for i, p in enumerate(ordered):
        if p * (len(ordered) - i) > level:
            return i
    return len(ordered)


def holm_adjusted(p_values: Iterable[float]) -> list[float]:
    """Each p-value as it counts among the others: at most `level` exactly where `holm` finds the test significant.

    Adjusted p-values of Holm's procedure, in the order given: Wright (1992), Biometrics 48, 1005-1013.
    """
    given = list(p_values)
    adjusted, largest = [0.0] * len(given), 0.0
    for i, place in enumerate(sorted(range(len(given)), key=given.__getitem__)):
        largest = max(largest, min(1.0, given[place] * (len(given) - i)))
        adjusted[place] = largest
    return adjusted


def saturation_step(curve: Mapping[int, Metric]) -> int | None:
    """The first step from which format following stays within the confidence interval of the last step.

    Args:
        curve: step -> metric, in any order. None where it is empty or the last is NaN.
    """
    if not curve:
        return None
    steps = sorted(curve)
    last = curve[steps[-1]]
    if math.isnan(last.value):
        return None
    settled = steps[-1]
    for step in reversed(steps):
        if not last.ci_low <= curve[step].value <= last.ci_high:
            break
        settled = step
    return settled
