"""What a run has cost: seconds by phase, GPU-seconds, tokens, memory and money, and what it was expected to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from spt_fast.analysis.cells import RunCell
from spt_fast.config import PriceConfig

PHASES = {
    "load_s": "load",
    "train_s": "train",
    "engine_start_s": "engine start",
    "answer_s": "answer",
    "score_s": "score",
    "judge_engine_start_s": "judge start",
    "judge_s": "judge",
}
"""Cost of a cell -> how its phase is called."""
TOKENS = {
    "prompt_tokens": "prompt",
    "soft_positions": "soft",
    "cached_tokens": "from cache",
    "scored_tokens": "scored",
    "generated_tokens": "written",
    "train_positions": "trained on",
}
"""Cost of a cell -> what of its tokens it counts (`worker`)."""
OF_A_JUDGE = frozenset({"judge_engine_start_s", "judge_s"})
"""What a judge took stands on a line of its own."""
OF_A_WORKER = frozenset({"load_s", "engine_start_s"})
"""Every cell of a worker has these alike: they are counted once."""


def price_of(grid: Mapping[str, Any]) -> PriceConfig | None:
    """What grid.yaml, as resolved, says that machines cost; None where it says nothing."""
    price = grid.get("price")
    return PriceConfig(**price) if price else None


def money(price: PriceConfig, gpu_seconds: float) -> str:
    """What so many GPU-seconds cost: "12.34 USD", with four decimals where it is less than a hundredth."""
    value = gpu_seconds / 3600 * price.per_gpu_hour
    text = f"{value:,.2f}" if value >= 0.01 or value == 0 else f"{value:.4f}"
    return f"{text} {price.currency}".strip()


def at_its_stop(cell: RunCell) -> RunCell:
    """A stopped cell as one that is done with the rows that were asked: for who says that they are not all."""
    assert cell.stopped is not None
    result = cell.stopped.result
    return replace(cell, status="done", metrics=result.metrics, costs=result.costs, provenance=result.provenance)


def asked(cells: Iterable[RunCell]) -> list[RunCell]:
    """The cells that have cost something: those that are done, and as if they were, those that were stopped."""
    told = (cell if cell.stopped is None else at_its_stop(cell) for cell in cells)
    return [cell for cell in told if cell.status == "done"]


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What the cells of a model took that are done, or were stopped."""

    phases: Mapping[str, float]
    """Cost -> seconds."""
    tokens: Mapping[str, float]
    """Cost -> tokens or positions; what no cell tells is not there."""
    cells: int
    rows: int
    host_bytes: float
    """Peak memory of the worker process; 0 where it is not known."""
    gpu_bytes: float
    """Most memory of a GPU that was in use; 0 without one."""
    gpus: float
    """Of a worker; 0 where there is none, or nobody told of it."""

    @property
    def total(self) -> float:
        """Seconds of its workers."""
        return sum(self.phases.values())

    @property
    def gpu_seconds(self) -> float:
        """Seconds times GPUs; without a GPU those of the worker."""
        return self.total * (self.gpus or 1.0)


def spent(cells: Iterable[RunCell], gpus: float = 0.0) -> Spent:
    """Put the costs of a model's cells together.

    Args:
        cells: of one model.
        gpus: that its workers had.
    """
    done = asked(cells)
    phases = {}
    for name in PHASES:
        values = [value for cell in done if (value := cell.costs.get(name)) is not None and math.isfinite(value)]
        phases[name] = 0.0 if name in OF_A_JUDGE else math.fsum(set(values) if name in OF_A_WORKER else values)
    return Spent(
        phases=phases,
        tokens=tokens(done),
        cells=len(done),
        rows=_rows(done),
        host_bytes=_most(done, "rss_bytes"),
        gpu_bytes=_most(done, "gpu_bytes"),
        gpus=gpus,
    )


def spent_judging(cells: Iterable[RunCell], gpus: float = 0.0) -> Spent:
    """What judges took. One counts its seconds from its start, so those of its last cell are those of all."""
    judged = [cell for cell in cells if cell.status == "done" and "judge_s" in cell.costs]
    engines: dict[float, float] = {}
    for cell in judged:
        start = cell.costs.get("judge_engine_start_s", 0.0)  # tells one engine from the next
        engines[start] = max(cell.costs["judge_s"], engines.get(start, 0.0))
    phases = {**dict.fromkeys(PHASES, 0.0), "judge_engine_start_s": sum(engines), "judge_s": sum(engines.values())}
    return Spent(phases=phases, tokens={}, cells=len(judged), rows=_rows(judged), host_bytes=0, gpu_bytes=0, gpus=gpus)


def spent_on(cell: RunCell, model: Spent) -> float:
    """GPU-seconds of one cell: its own phases, and its part of what its model's cells have in common.

    Args:
        cell: a done one.
        model: what the done cells of its model took.
    """
    own = sum(cell.costs.get(name, 0.0) for name in ("train_s", "answer_s", "score_s"))
    shared = sum(model.phases[name] for name in OF_A_WORKER) / model.cells
    return (own + shared) * (model.gpus or 1.0)


def by_model(cells: Iterable[RunCell], gpus: Mapping[str, float]) -> dict[str, Spent]:
    """What the cells of each model took that are done, or were stopped; `gpus`: of its workers."""
    groups: dict[str, list[RunCell]] = {}
    for cell in cells:
        groups.setdefault(cell.model, []).append(cell)
    found = {model: spent(group, gpus.get(model, 0.0)) for model, group in groups.items()}
    return {model: each for model, each in found.items() if each.cells}


def tokens(cells: Iterable[RunCell]) -> dict[str, float]:
    """What cells tell of their tokens, summed up."""
    found: dict[str, float] = {}
    for cell in cells:
        for name in TOKENS:
            if name in cell.costs:
                found[name] = found.get(name, 0.0) + cell.costs[name]
    return found


def gpus_of(events: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """How many GPUs the workers of each model had, where the run tells."""
    found: dict[str, float] = {}
    for event in events:
        if event.get("event") == "worker" and event.get("gpus"):
            found[event["model"]] = max(found.get(event["model"], 0.0), float(event["gpus"]))
    return found


# What was expected, and what it became


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The estimate with which a run began."""

    seconds: float
    """To its end."""
    gpu_seconds: float
    """That its workers hold GPUs; on a CPU their own seconds."""
    basis: str
    """What it rests on, in words."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """One call of `run`, from its begin to its end, or to where it was killed."""

    began: float
    """Seconds since 1970."""
    seconds: float
    gpu_seconds: float
    """That its workers held GPUs, idle or not; on a CPU their own seconds."""
    to_do: int
    """Cells that it began with."""
    finished: bool
    """It went to its end."""
    on_gpus: bool
    expected: Expected | None = None
    """None: this version of spt-fast did not say yet, or it ended before."""


@dataclass
class _Books:
    """Of one session, while its events are read."""

    began: float
    to_do: int
    last: float
    seconds: float = 0.0
    on_gpus: bool = False
    finished: bool = False
    expected: Expected | None = None
    workers: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)
    """Of each that is there: since when, and how many GPUs it has."""

    def end(self, worker: tuple[str, int], now: float) -> None:
        since, gpus = self.workers.pop(worker, (now, 0.0))
        self.seconds += (now - since) * (gpus or 1.0)


def sessions(events: Iterable[Mapping[str, Any]]) -> Iterator[Session]:
    """The runs that events.jsonl tells of, in order. A worker that a killed run left behind ends with its last event."""
    books: _Books | None = None
    for event in events:
        now = float(event.get("time", 0.0))
        if event["event"] == "run":
            if books is not None:
                yield _closed(books)
            books = _Books(began=now, to_do=int(event.get("todo", 0)), last=now)
        if books is None:
            continue
        books.last = now
        worker = (str(event.get("model")), int(event.get("worker", 0)))
        match event["event"]:
            case "worker":
                gpus = float(event.get("gpus") or 0.0)
                books.end(worker, now)
                books.workers[worker] = (now, gpus)
                books.on_gpus = books.on_gpus or gpus > 0
            case "ended":
                books.end(worker, now)
            case "expected":
                told = {name: event[name] for name in ("seconds", "gpu_seconds", "basis")}
                books.expected = Expected(**told)
            case "end":
                books.finished = True
    if books is not None:
        yield _closed(books)


def _closed(books: _Books) -> Session:
    for worker in list(books.workers):
        books.end(worker, books.last)
    return Session(
        began=books.began,
        seconds=books.last - books.began,
        gpu_seconds=books.seconds,
        to_do=books.to_do,
        finished=books.finished,
        on_gpus=books.on_gpus,
        expected=books.expected,
    )


def unit(on_gpus: bool) -> str:
    """What machines' time is counted in."""
    return "GPU" if on_gpus else "worker"


def _rows(cells: Sequence[RunCell]) -> int:
    sizes = [metric.n * len(cell.metrics) for cell in cells if (metric := cell.metric("format_following")) is not None]
    return sum(sizes)


def _most(cells: Sequence[RunCell], ending: str) -> float:
    return max((value for cell in cells for name, value in cell.costs.items() if name.endswith(ending)), default=0.0)
