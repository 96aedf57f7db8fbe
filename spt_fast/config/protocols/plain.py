"""The model by itself: the question alone, or behind worked examples."""

from __future__ import annotations

from dataclasses import dataclass, field

from spt_fast.config.protocols.base import Protocol
from spt_fast.config.ranges import whole


@dataclass(frozen=True, kw_only=True)
class ZeroShot(Protocol):
    """The instruction and the question, nothing else."""

    name = "zero_shot"
    in_words = "asked plainly"
    is_baseline = True


@dataclass(frozen=True, kw_only=True)
class FewShot(Protocol):
    """Worked examples in front of the question, drawn from the few-shot rows by seed."""

    name = "few_shot"
    in_words = "with worked examples in front"
    seeded = True

    shots: int = field(default=5, metadata=whole(least=1, most=10_000))
    """Number of examples in front of each question."""
