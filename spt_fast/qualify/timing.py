"""Sides in turn, and medians with quartiles."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def in_turn(
    sides: Mapping[str, Callable[[], Any]], rounds: int, *, warm_up: int = 0, before: Callable[[], Any] = lambda: None
) -> dict[str, list[float]]:
    """Seconds of each side, round by round in turn, so that all see the same noise.

    Args:
        sides: by name.
        rounds: that count.
        warm_up: rounds before, that do not.
        before: called ahead of every run of a side, untimed.
    """
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for i in range(warm_up + rounds):
        for side, run in sides.items():
            before()
            begin = time.perf_counter()
            run()
            took = time.perf_counter() - begin
            if i >= warm_up:
                seconds[side].append(took)
    return seconds


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and number of values; the quartiles of one value are that value."""
    if len(values) == 1:
        q1 = q3 = values[0]
    else:
        q1, _, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": statistics.median(values), "q1": q1, "q3": q3, "n": len(values)}
