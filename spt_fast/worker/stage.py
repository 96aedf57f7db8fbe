"""The work of a stage, start to finish: one model, all its cells, the whole program on one page.

    TRAIN     load the frozen model once, train what cells need, free it     (train.py)
    EVALUATE  start one engine, ask everything of all cells, stop it         (evaluate.py)

Or, where the stage is a judge's: start one engine, ask it about the completions of all cells (judge.py).

On a GPU the two steps are two processes (`Do`): one trains and ends, with all that it held of the device, while the other reads
and imports what it evaluates with. That one has then never touched the device, which vLLM's own processes can be forked from.

A cell that fails says why and leaves the others alone. Nothing is written here: what happens goes to `emit`, and the driver
keeps it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Literal, TypeAlias

from spt_fast.engine import import_engine
from spt_fast.errors import SptError
from spt_fast.plan import Stage
from spt_fast.worker.backlog import Backlog
from spt_fast.worker.evaluate import Evaluation
from spt_fast.worker.events import Event
from spt_fast.worker.lease import Given, Lease, SoleLease
from spt_fast.worker.train import train
from spt_fast.worker.workspace import Workspace

Do: TypeAlias = Literal["all", "train", "evaluate"]
"""What a process does of a stage."""


def run_stage(
    stage: Stage,
    given: Given,
    emit: Callable[[Event], None],
    lease: Lease | None = None,
    do: Do = "all",
) -> bool:
    """Do the cells of one model; each ends in `CellDone` or `CellFailed`, but those that another worker is given meanwhile.

    Args:
        stage: the model and its cells.
        given: what earlier work has for its cells: what is trained, and what carried soft prompts start from.
        emit: told of what happens.
        lease: asked before cells are begun, and for more when nothing is left; None: no other worker has the model.
        do: what of it; where others train, it is handed what they have trained.

    Returns:
        Whether all cells have ended. Else others have to train for those that are left.
    """
    backlog = Backlog(stage, emit, lease or SoleLease())
    work = Workspace(backlog, given)
    try:
        evaluation = Evaluation(work)
        while backlog.left:  # again where the worker is given cells that need training
            work.prepare()
            handed = backlog.lease.wait_for_device(
                lambda: import_ahead(do, evaluation.backoff.config.kind, trains=bool(work.untrained()))
            )
            if handed is not None:
                work.take_over(handed)
            if do != "evaluate":
                train(work)
            if do == "train":
                break
            evaluation.run()
            if do == "evaluate":
                return not backlog.left
    except SptError as e:
        backlog.fail_all(e)
    return True


def import_ahead(do: Do, kind: str, *, trains: bool = True) -> None:
    """Import what comes next: it takes seconds, and no device. What cannot be imported is said where it is needed.

    Args:
        do: what of a stage the process does.
        kind: the engine's.
        trains: whether something is to be trained.
    """
    with suppress(Exception):
        if do != "evaluate" and trains:
            import_module("spt_fast.models.frozen_model")
        if do != "train":
            import_engine(kind)
