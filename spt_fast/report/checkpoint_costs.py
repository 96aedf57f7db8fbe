"""What a checkpoint of a series has cost, by phase: cold, carried, stopped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spt_fast.analysis.cells import RunCell
from spt_fast.report.costs import OF_A_JUDGE, OF_A_WORKER, PHASES, asked

ITS_PHASES = tuple(phase for phase in PHASES if phase not in OF_A_JUDGE)
"""What a checkpoint has by itself."""


@dataclass(frozen=True, kw_only=True)
class CheckpointCost:
    """The mean over checkpoints that were asked alike, all tasks and seeds of a protocol."""

    series: str
    protocol: str
    how: str
    """`cold`, `carried`; empty: nothing is learnt."""
    stopped: bool
    """Whether cells were asked no further than was needed."""
    checkpoints: int
    rows: float
    """Asked, of all tasks and seeds together."""
    of: float
    """Rows that there are."""
    phases: Mapping[str, float]
    """Cost -> seconds, as if the protocol were the only one."""

    @property
    def total(self) -> float:
        """Seconds."""
        return sum(self.phases.values())


def checkpoint_costs(cells: Sequence[RunCell], models: Iterable[Mapping[str, Any]]) -> list[CheckpointCost]:
    """Of each series and protocol, a line for each way in which its checkpoints were asked.

    A checkpoint counts where all that a protocol asks of it is done, or was stopped.

    Args:
        cells: of a run.
        models: of grid.yaml, as resolved.
    """
    series = {model["id"]: model["series"] for model in models if model.get("series")}
    groups: dict[tuple[str, str], dict[str, list[RunCell]]] = {}
    for cell in cells:
        if cell.model in series:
            groups.setdefault((series[cell.model], cell.protocol), {}).setdefault(cell.model, []).append(cell)
    return [line for (name, protocol), by_model in groups.items() for line in _lines(name, protocol, by_model)]


def _lines(series: str, protocol: str, by_model: Mapping[str, Sequence[RunCell]]) -> Iterator[CheckpointCost]:
    alike: dict[tuple[str, bool], list[Sequence[RunCell]]] = {}
    for cells in by_model.values():
        told = asked(cells)
        if len(told) == len(cells):
            alike.setdefault((_how(told), any(cell.stopped is not None for cell in told)), []).append(told)
    for (how, stopped), some in alike.items():
        yield CheckpointCost(
            series=series,
            protocol=protocol,
            how=how,
            stopped=stopped,
            checkpoints=len(some),
            rows=_mean([sum(map(_asked, cells)) for cells in some]),
            of=_mean([sum(map(_rows, cells)) for cells in some]),
            phases={phase: _mean([_seconds(cells, phase) for cells in some]) for phase in ITS_PHASES}
            | ({} if how else {"load_s": 0.0}),  # the load is for those that learn
        )


def _how(cells: Sequence[RunCell]) -> str:
    if not any(cell.costs.get("train_s") for cell in cells):
        return ""
    return "carried" if all(cell.costs.get("carried_checkpoints") for cell in cells) else "cold"


def _asked(cell: RunCell) -> int:
    found = cell.metric("format_following")
    return 0 if found is None else found.n


def _rows(cell: RunCell) -> int:
    return _asked(cell) if cell.stopped is None else cell.stopped.stopped.of


def _seconds(cells: Sequence[RunCell], phase: str) -> float:
    values = [value for cell in cells if math.isfinite(value := cell.costs.get(phase, 0.0))]
    # Of several workers of a model, the one that took longest.
    return max(values, default=0.0) if phase in OF_A_WORKER else math.fsum(values)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
