"""The stages of a grid as the scheduler sees them."""

from __future__ import annotations

from spt_fast.cell import Cell
from spt_fast.config import Learning, Vectors
from spt_fast.plan import Stage
from spt_fast.scheduling.estimates import Estimates
from spt_fast.scheduling.scheduler import Job, Piece, Resources


def job(name: str, stage: Stage, estimates: Estimates, *, gpu: bool) -> Job:
    """A stage as a job.

    Args:
        name: no other job's.
        stage: its cells, whose order is kept.
        estimates: of how long they take.
        gpu: whether its workers take GPUs; else a CPU core.
    """
    trains = stage.judge is None and any(isinstance(cell.protocol, Learning) for cell in stage.cells)
    return Job(
        name=name,
        need=need(stage, gpu=gpu),
        start_s=estimates.start_s(stage.model, training=trains),
        pieces=tuple(_piece(cell, estimates, judged=stage.judge is not None) for cell in stage.cells),
    )


def need(stage: Stage, *, gpu: bool) -> Resources:
    """What a worker of a stage takes of a node: its GPUs, and a core for the process that feeds them."""
    return {"GPU": stage.model.gpus, "CPU": 1.0} if gpu else {"CPU": 1.0}


def _piece(cell: Cell, estimates: Estimates, *, judged: bool) -> Piece:
    learns = not judged and isinstance(cell.protocol, Vectors | Learning)
    return Piece(
        key=cell.key,
        group=cell.tuning_key if learns else None,
        train_s=estimates.train_s(cell) if learns else 0.0,
        answer_s=estimates.answer_s(cell),
    )
