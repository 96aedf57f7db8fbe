"""What two checkpoints differ by beside what their rows tell: another order of the corpus, another start.

It is learnt from the series itself. Two things show it: falls from which the metric came back unnoticed, and how much the
checkpoints since a fall differ among themselves, which a step does not explain. Their variance in excess of their rows', as
DerSimonian and Laird (1986), Controlled Clinical Trials 7, 177-188, estimate it, is added to that of each test, with as many
degrees of freedom as it was learnt from (Satterthwaite 1946, Biometrics Bulletin 2, 110-114): where few checkpoints tell of
it, a fall must be the larger.

How many differences without excess the estimate begins with is a choice between two errors. With two, a fault of the zoo's run
that is four to five points large, behind which checkpoints differ by two, is found in 12 of 20 draws, and nothing is seen where
nothing is; with seven it is found in 20, and noise of two points in each task is taken for a fault in 5 to 7 % of series, noise
of one point in all tasks together in 24 to 29 % (`benchmarks/series/alarms.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from spt_fast.analysis.paired import PairedDifference
from spt_fast.analysis.pooled import Pooled

BEFORE, SHRINKAGE = 0.005, 7.0
"""What two checkpoints are taken to differ by before anything is known of it, and how many differences without excess its
estimate begins with."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Of the difference of two checkpoints, in the mean over tasks."""

    variance: float
    degrees_of_freedom: float = math.inf
    """From how many differences it was learnt; infinity: it was taken for granted."""

    def times(self, share: float) -> Noise:
        """That of something which varies by this share of it."""
        return replace(self, variance=share * self.variance)


def noise_of(quiet: Sequence[Pooled], low: Sequence[Pooled]) -> Noise:
    """What the checkpoints so far tell of it.

    Args:
        quiet: changes that are no fault; of them the falls count, for a rise is what training is for.
        low: changes from one healthy checkpoint to each of those since it fell.
    """
    tasks = len((*quiet, *low)[0].parts) if quiet or low else 1
    of_task = [_excess([each.parts[i] for each in quiet], [each.parts[i] for each in low]) for i in range(tasks)]
    count = sum(n for _, n in of_task)
    together, alone = _excess(quiet, low), (sum(square for square, _ in of_task), count)
    found = [
        Noise(variance=BEFORE**2 / (1 + count / tasks)),
        *(
            Noise(variance=max(0.0, squares / (n + SHRINKAGE)) / over, degrees_of_freedom=n + SHRINKAGE)
            for (squares, n), over in ((together, 1), (alone, tasks))
            if n
        ),
    ]
    return max(found, key=lambda each: each.variance)


def _excess(quiet: Sequence[Pooled | PairedDifference], low: Sequence[Pooled | PairedDifference]) -> tuple[float, int]:
    """Sum of squares in excess of what rows explain, in units of a difference of two checkpoints, and how many there are."""
    falls = [each for each in quiet if each.change < 0]
    squares, count = sum(each.change**2 - each.stderr**2 for each in falls), len(falls)
    if len(low) > 1:  # they share the checkpoint that they are held against, so among themselves they vary half as much
        mean, free = fmean(each.change for each in low), len(low) - 1
        squares += 2 * sum((each.change - mean) ** 2 for each in low) - free * fmean(each.stderr**2 for each in low)
        count += free
    return squares, count
