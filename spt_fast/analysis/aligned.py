"""The rows of one task at several checkpoints, side by side: some were asked all of them, some were stopped early."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spt_fast.analysis.cells import Place
from spt_fast.analysis.onset import Asking
from spt_fast.analysis.resampling import Floats
from spt_fast.analysis.runs import Rows, Run
from spt_fast.analysis.watched import stopped_of


class Aligned(NamedTuple):
    """The scores of one task at some checkpoints."""

    values: Floats
    """`[T, S, N]`; NaN: not asked at that checkpoint."""
    clusters: NDArray[np.int64]
    asking: Asking


def aligned(run: Run, models: Sequence[str], task: str, protocol: str, found: Sequence[Rows]) -> Aligned | None:
    """The rows that all checkpoints have which were asked all, under the seeds that all have, else their mean.

    Args:
        run: with its stopped cells.
        models: of the checkpoints.
        task: of the rows.
        protocol: a label.
        found: their rows.

    Returns:
        None where the checkpoints have no row in common.
    """

    stops = [next(iter(stopped_of(run, model, task, protocol)), None) for model in models]
    whole = [each for each, stop in zip(found, stops, strict=True) if stop is None]
    first = max(whole or found, key=lambda each: len(each.examples), default=None)
    if first is None:
        return None
    shared = set(first.examples).intersection(*(each.examples for each in whole))
    if not shared.intersection(*(each.examples for each in found)):
        return None
    rows = first.of([example for example in first.examples if example in shared])
    seeds = [seed for seed in first.seeds if all(seed in each.seeds for each in found)]
    in_all = next(((stop.of, stop.units, stop.largest) for stop in stops if stop is not None), None)
    asking = Asking(
        rows=rows.examples,
        task=task,
        groups=rows.groups,
        in_all=in_all,
        stopped=tuple(None if stop is None else stop.n for stop in stops),
        looked=tuple(
            stop is not None or _was_looked_at(run, model, task, protocol) for model, stop in zip(models, stops, strict=True)
        ),
    )
    return Aligned(np.stack([_on(each, rows.examples, seeds) for each in found]), rows.clusters, asking)


def _on(rows: Rows, examples: Sequence[str], seeds: Sequence[int | None]) -> Floats:
    """`[S, N]` the scores of these rows, NaN where they have none."""
    place = {example: i for i, example in enumerate(rows.examples)}
    there = [i for i, example in enumerate(examples) if example in place]
    kept = rows.of([examples[i] for i in there], seeds or None).values
    values = np.full((len(seeds) or 1, len(examples)), np.nan)
    values[:, there] = kept if seeds else kept.mean(0, keepdims=True)
    return values


def _was_looked_at(run: Run, model: str, task: str, protocol: str) -> bool:
    """Whether a cell was looked at that was then asked all rows; where the grid stops none, nothing hangs on it."""
    if not run.stopped and "stop" not in run.grid:
        return False
    return any(run.looked_at(Place(model, task, protocol, seed)) for seed in run.seeds(model, task, protocol))
