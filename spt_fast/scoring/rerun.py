"""The same rows asked twice: how many completions, and how many verdicts, came out otherwise.

Greedy decoding is not the same answer twice: floating-point sums depend on what shares a batch (Horace He, "Defeating
nondeterminism in LLM inference", 2025), and where two tokens are nearly as likely the other one may be written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spt_fast.scoring.metrics import RERUN, spec
from spt_fast.scoring.statistics import proportion
from spt_fast.types import Metric, Sample

FLIPS: Mapping[str, str] = {"completion": "completion", **{name: spec(name).columns[0] for name in RERUN}}
"""What may come out otherwise, and the column of samples.parquet that it is in. `completion` is compared as text."""
_VERDICTS = tuple(spec(name).columns[0] for name in RERUN)
COLUMNS = ("example", *FLIPS.values(), "option_logprobs")
"""What of the first answers is wanted."""
MOST_FLIPPED = 20
"""Flipped rows of a cell that are kept with both completions."""


@dataclass(frozen=True, kw_only=True)
class Flipped:
    """A row whose completion or verdicts came out otherwise."""

    example: str
    what: tuple[str, ...]
    """Of `FLIPS`."""
    before: str
    """The completion that counts. Hostile text."""
    after: str
    """The completion when it was asked again. Hostile text."""


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """What came of asking some rows of one cell again, at its last step."""

    share: float
    """Of the test rows that were to be asked again."""
    n: int
    """Rows that were."""
    flips: Mapping[str, int]
    """What of `FLIPS` -> in how many of them it came out otherwise. Verdicts are the rules', judge or not."""
    largest_difference: float = math.nan
    """Of two log-likelihoods of the same option, in nats; NaN where there are no options."""
    flipped: tuple[Flipped, ...] = ()
    """The first `MOST_FLIPPED` of them, in the order of content hashes."""
    costs: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)

    def rate(self, what: str) -> Metric:
        """The share of rows that flipped, with its Wilson interval."""
        return flip_rate([self], what)


def sample_size(rows: int, share: float) -> int:
    """How many of a cell's rows are asked again: the share of them, rounded up, so that there is always one.

    They are the first ones: test rows stand in the order of their content hashes.
    """
    return min(rows, math.ceil(round(share * rows, 9)))


def rerun_of(before: Iterable[Mapping[str, Any]], after: Sequence[Sample], *, share: float, most: int = MOST_FLIPPED) -> Rerun:
    """Hold second answers against the first ones.

    Args:
        before: rows of samples.parquet at one step, with `COLUMNS`; more of them than were asked again.
        after: the same rows, asked again.
        share: that was to be asked again.
        most: flipped rows that are kept with both completions.
    """
    known = {row["example"]: row for row in before}
    pairs = [(known[sample.example], sample) for sample in after if sample.example in known]
    flips = dict.fromkeys(FLIPS, 0)
    flipped: list[Flipped] = []
    differences: list[float] = []
    for row, sample in pairs:
        # As the store keeps it: a lone surrogate does not come back.
        text = sample.completion.encode("utf-8", "replace").decode()
        now = {"completion": text, **{column: getattr(sample, column) for column in _VERDICTS}}
        what = tuple(name for name, column in FLIPS.items() if row[column] != now[column])
        for name in what:
            flips[name] += 1
        if what:
            flipped.append(Flipped(example=sample.example, what=what, before=row["completion"], after=text))
        both = zip(row["option_logprobs"] or (), sample.option_logprobs, strict=True)
        differences += [abs(a - b) for a, b in both if math.isfinite(a) and math.isfinite(b)]
    return Rerun(
        share=share,
        n=len(pairs),
        flips=flips,
        largest_difference=max(differences, default=math.nan),
        flipped=tuple(sorted(flipped, key=lambda each: each.example)[:most]),
    )


def flip_rate(reruns: Sequence[Rerun], what: str) -> Metric:
    """The share of rows that flipped over several cells, with the Wilson interval of as many independent rows.

    Args:
        reruns: of cells.
        what: of `FLIPS`.
    """
    flips, n = sum(each.flips[what] for each in reruns), sum(each.n for each in reruns)
    return proportion(what, [i < flips for i in range(n)])
