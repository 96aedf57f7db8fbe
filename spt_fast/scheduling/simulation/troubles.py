"""What goes wrong in a simulated run, and how often."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from spt_fast.scheduling.messages import Job

NOTICE_S = 120.0
"""From the notice that a spot node gets to its end."""


@dataclass(frozen=True, kw_only=True)
class Troubles:
    """How often things go wrong. Rates are per hour, of each."""

    node_losses: float = 0.0
    """Nodes that are gone from one moment to the next."""
    spot: float = 0.0
    """Share of the nodes that are spot instances."""
    spot_losses: float = 0.0
    """Spot nodes that are taken away, `NOTICE_S` after a notice."""
    back_s: float = 1200.0
    """A lost node is replaced after so long, on average."""
    worker_losses: float = 0.0
    """Workers that die."""
    hangs: float = 0.0
    """Workers that answer and do nothing any more."""
    cut_offs: float = 0.0
    """Workers that go on and are not heard any more."""
    stragglers: float = 0.0
    """Share of the workers that are slow."""
    slow: float = 2.0
    """How many times as long a slow one takes."""
    noise: float = 0.0
    """Spread of the time that a piece takes around what was expected: standard deviation of its logarithm."""
    bias: float = 0.0
    """Spread of a job's mean around what was expected, in the same way."""


def realised(jobs: Sequence[Job], troubles: Troubles, seed: int) -> tuple[Job, ...]:
    """The jobs as long as they really take in the run of a seed, whoever does them: what `lower_bound` is to be asked of.

    Args:
        jobs: as expected.
        troubles: `noise` and `bias`.
        seed: of the run.
    """
    dice = random.Random(seed)

    def times(sigma: float) -> float:
        return dice.lognormvariate(-(sigma**2) / 2, sigma) if sigma else 1.0

    found = []
    for job in jobs:
        start_s, bias = job.start_s * times(troubles.noise), times(troubles.bias)
        groups: dict[str | None, float] = {}
        pieces = []
        for piece in job.pieces:
            if piece.group not in groups:
                groups[piece.group] = bias * times(troubles.noise)
            train_s = piece.train_s * groups[piece.group]
            pieces.append(replace(piece, train_s=train_s, answer_s=piece.answer_s * bias * times(troubles.noise)))
        found.append(replace(job, start_s=start_s, pieces=tuple(pieces)))
    return tuple(found)


class Dice:
    """The chances of one run: the same seed, the same run."""

    def __init__(self, troubles: Troubles, seed: int) -> None:
        self.troubles = troubles
        self._random = random.Random(f"troubles {seed}")

    def after_s(self, per_hour: float) -> float:
        """Seconds until what happens so often happens."""
        return self._random.expovariate(per_hour / 3600)

    def share(self, share: float) -> bool:
        """Whether something is among the given share."""
        return self._random.random() < share

    def speed(self) -> float:
        """How many times as long as expected a new worker takes."""
        return self.troubles.slow if self.share(self.troubles.stragglers) else 1.0
