"""How many soft prompts are learnt in one pass: as many as were measured to be worth it."""

from __future__ import annotations

import statistics

PASSES = 3
"""Passes of each number that are timed, behind one that is not: the first of a shape prepares what the others find."""
GAIN = 1.1
"""A doubling must learn so many times as fast to be kept: below it are the noise, and memory that is taken for nothing."""


class AtOnce:
    """1, 2, 4, ... soft prompts at once while each doubling pays, then the best of these numbers for good.

    All that is measured are steps of the training itself. What is compared is seconds a position that is not padding,
    because rows differ in length from batch to batch.
    """

    def __init__(self, chosen: int | None = None) -> None:
        """`chosen`: so many at most, and nothing is measured."""
        self.chosen = chosen
        """The answer, as soon as there is one."""
        self._trying = 1
        self._seen: list[float] = []
        self._best = (1, float("inf"))

    def most(self) -> int:
        """How many the next pass is to have, where there are so many."""
        return self._trying if self.chosen is None else self.chosen

    def saw(self, count: int, positions: int, seconds: float) -> None:
        """Take note of a pass.

        Args:
            count: soft prompts that it had. With fewer than `most` it tells nothing: there were no more.
            positions: of their rows and vectors, without padding.
            seconds: from its start to its end, the updates included.
        """
        if self.chosen is not None or count < self._trying:
            return
        self._seen.append(seconds / positions)
        if len(self._seen) <= PASSES:
            return
        pace = statistics.median(self._seen[1:])
        self._seen = []
        if self._best[1] < pace * GAIN:
            self.chosen = self._best[0]
            return
        self._best = (self._trying, pace)
        self._trying *= 2

    def settle(self, count: int) -> None:
        """Go on with so many at most."""
        self.chosen = count
