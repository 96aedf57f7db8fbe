"""The work of a stage, start to finish: one model, all its cells, the whole program on one page.

    TRAIN     load the frozen model once, train what cells need, free it     (train.py)
    EVALUATE  start one engine, ask everything of all cells, stop it         (evaluate.py)

Or, where the stage is a judge's: start one engine, ask it about the completions of all cells (judge.py).

A cell that fails says why and leaves the others alone. Nothing is written here: what happens goes to `emit`, and the driver
keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module

from spt_fast.engine import import_engine
from spt_fast.errors import SptError
from spt_fast.plan import Stage
from spt_fast.prompts.lora import Learnt
from spt_fast.worker.backlog import Backlog
from spt_fast.worker.evaluate import Evaluation
from spt_fast.worker.events import Event
from spt_fast.worker.lease import Lease, SoleLease
from spt_fast.worker.train import train
from spt_fast.worker.workspace import Workspace


def run_stage(
    stage: Stage,
    trained: Mapping[str, Mapping[int, Learnt]],
    emit: Callable[[Event], None],
    lease: Lease | None = None,
) -> None:
    """Do the cells of one model; each ends in `CellDone` or `CellFailed`, but those that another worker is given meanwhile.

    Args:
        stage: the model and its cells.
        trained: cell key -> step -> what an earlier run has trained.
        emit: told of what happens.
        lease: asked before cells are begun, and for more when nothing is left; None: no other worker has the model.
    """
    backlog = Backlog(stage, emit, lease or SoleLease())
    work = Workspace(backlog, trained)
    try:
        evaluation = Evaluation(work)
        while backlog.left:  # again where the worker is given cells that need training
            work.prepare()
            backlog.lease.wait_for_device(lambda: _import_ahead(work, evaluation))
            train(work)
            evaluation.run()
    except SptError as e:
        backlog.fail_all(e)


def _import_ahead(work: Workspace, evaluation: Evaluation) -> None:
    """Import what comes next: it takes seconds, and no device. What cannot be imported is said where it is needed."""
    with suppress(Exception):
        if work.untrained():
            import_module("spt_fast.models.frozen_model")
        import_engine(evaluation.backoff.config.kind)
