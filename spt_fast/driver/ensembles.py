"""Ensembles: what their members answered, put together. Nothing is asked of a model here."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from spt_fast.driver.keep import keep
from spt_fast.driver.stages import Shows
from spt_fast.errors import ConfigError, DamagedError, DataError, ScoringError, boundary
from spt_fast.plan import Stage
from spt_fast.plan.cell import Cell
from spt_fast.scoring.ensemble import ensemble_metrics, majority_vote
from spt_fast.scoring.methods import METHODS, commonest, knowledge_told
from spt_fast.scoring.settling import of_samples
from spt_fast.store import Store
from spt_fast.types import CellResult, Example, Sample
from spt_fast.version import version
from spt_fast.worker.events import CellDone, CellFailed, Event

THEIRS = ("fingerprint", "source", "chat_template", "chat_date", "seam", "rows", "platform", "tuning")
"""Of the members' provenance, what is the same for all."""


def vote(cells: Sequence[Cell], named: Collection[str], store: Store, shows: Shows) -> None:
    """Put the answers of ensembles together: here, for all that it takes is in the run folder.

    Args:
        cells: the ensembles.
        named: keys of the cells of the grid.
        store: the run folder.
        shows: is told of each.
    """
    examples: dict[str, dict[str, Example]] = {}
    for cell in cells:
        stage = Stage(model=cell.model, cells=(cell,))
        event: Event
        try:
            if cell.task.name not in examples:
                examples = {cell.task.name: examples_of(cell)}  # of one task at a time
            members = [store.cell_result(member.key) for member in cell.members]
            event = CellDone(key=cell.key, result=voted(cell, members, examples[cell.task.name], named))
        except (ConfigError, DataError, ScoringError, DamagedError) as e:
            event = CellFailed(key=cell.key, kind=type(e).__name__, reason=str(e))
        shows.show(stage, keep(stage, event, store))


def examples_of(cell: Cell) -> dict[str, Example]:
    """The test rows of a cell by key.

    Raises:
        DataError, ConfigError: they cannot be read.
    """
    return {example.key: example for example in cell.task.read().test}


def voted(
    cell: Cell, members: Sequence[CellResult], examples: Mapping[str, Example], elsewhere: Collection[str] = ()
) -> CellResult:
    """What an ensemble comes to.

    Args:
        cell: of the ensemble.
        members: the results of `cell.members`, in that order.
        examples: the test rows by key.
        elsewhere: keys of members that are cells of the grid themselves, so that their seconds are counted there.

    Raises:
        DataError: a row is not there any more.
        ScoringError: members were asked different rows, or the task's rules fail on a value.
    """
    began = time.perf_counter()
    task = cell.task.task
    metrics = {}
    samples: list[Sample] = []
    methods = [member.provenance.get("knowledge_best", "") for member in members]
    best = commonest([method for method in METHODS if method in methods for _ in range(methods.count(method))])
    with boundary(ScoringError, f"{task.name}: putting an ensemble's answers together"):
        for step in cell.steps:
            of_members = [[sample for sample in member.samples if sample.step == step] for member in members]
            if len({tuple(sample.example for sample in rows) for rows in of_members}) != 1:
                raise ScoringError(f"{task.name}: the members of the ensemble were asked different rows; run it with --fresh")
            together = [
                majority_vote(task, _row(task.name, ballots[0].example, examples), ballots, best)
                for ballots in zip(*of_members, strict=True)
            ]
            metrics[step] = ensemble_metrics(together, of_members)
            samples += together
        if (settled := of_samples(samples, {})) is not None:
            metrics[cell.steps[-1]] += (settled,)
        told = (
            {"knowledge_best": best, **knowledge_told(together, metrics[step], task.random_baseline)}
            if task.closed_ended
            else {}
        )
    hidden = [each for member, each in zip(cell.members, members, strict=True) if member.key not in elsewhere]
    costs = {what: _total(hidden, what) for what in ("train_s", "answer_s")}
    costs |= {what: _total(members, what) for what in ("trained_parameters", "stored_parameters", "stored_bytes")}
    return CellResult(
        metrics=metrics,
        samples=tuple(samples),
        costs={**costs, "score_s": time.perf_counter() - began},
        provenance={
            **{name: members[0].provenance[name] for name in THEIRS if name in members[0].provenance},
            **told,
            "members": " ".join(each.key for each in cell.members),
            "soft_prompts": " ".join(each.provenance.get("soft_prompt", "") for each in members),
            "spt-fast": version(),
        },
    )


def _total(results: Sequence[CellResult], what: str) -> float:
    return sum(each.costs.get(what, 0.0) for each in results)


def _row(task: str, key: str, examples: Mapping[str, Example]) -> Example:
    if key not in examples:
        raise DataError(f"{task}: row {key} is not among the test rows any more; run it with --fresh")
    return examples[key]
