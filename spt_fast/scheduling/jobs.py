"""The stages of a grid as the scheduler sees them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from spt_fast.plan import Stage, series
from spt_fast.scheduling.estimates import Estimates
from spt_fast.scheduling.messages import Job, Piece, Resources


def jobs(stages: Sequence[Stage], estimates: Estimates, *, gpu: bool) -> dict[str, Job]:
    """Stages as jobs, by names of their own, in their order. Those of a series whose soft prompts are carried wait in turn.

    Args:
        stages: their cells, whose order is kept.
        estimates: of how long they take.
        gpu: whether workers take GPUs; else a CPU core.
    """
    names = [f"{i} {stage.model.name}" for i, stage in enumerate(stages)]
    after = {names[i]: names[other] for i, other in series.before(stages).items()}
    return {
        name: job(name, stage, estimates, gpu=gpu, after=after.get(name)) for name, stage in zip(names, stages, strict=True)
    }


def job(name: str, stage: Stage, estimates: Estimates, *, gpu: bool, after: str | None = None) -> Job:
    """A stage as a job.

    Args:
        name: no other job's.
        stage: its cells, whose order is kept.
        estimates: of how long they take.
        gpu: whether its workers take GPUs; else a CPU core.
        after: the job before it in its series.
    """
    learns = stage.judge is None and not stage.rerun
    trains = learns and any(cell.protocol.learns for cell in stage.cells)
    parts = stage.model.pipeline_parallel
    return Job(
        name=name,
        need=need(stage, gpu=gpu),
        parts=parts,
        part=need(stage, gpu=gpu, parts=parts) if parts > 1 else {},
        start_s=estimates.start_s(stage.model, training=trains),
        pieces=tuple(_pieces(stage, estimates)),
        after=after,
    )


def need(stage: Stage, *, gpu: bool, parts: int = 1) -> Resources:
    """What a worker of a stage, or each of its parts, takes of a node: its GPUs, and a core for the process that feeds them."""
    if gpu:
        return {"GPU": stage.model.gpus / parts, "CPU": 1.0}
    return {"CPU": float(stage.model.pipeline_parallel // parts)}


def _pieces(stage: Stage, estimates: Estimates) -> Iterator[Piece]:
    if stage.rerun:  # all is learnt
        for cell in stage.cells:
            yield Piece(key=cell.key, group=None, answer_s=estimates.rerun_s(cell, stage.rerun))
        return
    learning = [cell for cell in stage.cells if stage.judge is None and cell.protocol.attaches != "nothing"]
    first = {cell.key: stage.first(cell) for cell in learning}
    # What cells start from is learnt once a worker: in even parts by all groups that start from it.
    starts = Counter(start.tuning_key for start in {cell.tuning_key: first[cell.key] for cell in learning}.values() if start)
    there = {cell.tuning_key for cell in learning}
    for cell in stage.cells:
        if cell.key not in first:
            yield Piece(key=cell.key, group=None, answer_s=estimates.answer_s(cell))
            continue
        train_s, start = estimates.train_s(cell), first[cell.key]
        if start is not None and start.tuning_key not in there:
            train_s += estimates.train_s(start) / starts[start.tuning_key]
        yield Piece(
            key=cell.key,
            group=cell.tuning_key,
            train_s=train_s,
            answer_s=estimates.answer_s(cell),
            carried=cell.key in stage.carried,
        )
