"""A policy that is to be applied to a grid: what of it can never be decided is known before any work."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from spt_fast.analysis.gate import Check, Policy, load_policy
from spt_fast.config.strict import did_you_mean
from spt_fast.errors import ConfigError
from spt_fast.plan.cell import Cell
from spt_fast.scoring.metrics import OF_MEMBERS, STEPS_TO_FORMAT, members, spec, table


def policy_for(cells: Sequence[Cell], file: str | os.PathLike[str], *, place: str) -> Policy:
    """The policy in a file, all checks of which can be made on the cells of a grid.

    Args:
        cells: all of the grid.
        file: YAML.
        place: where the file is named, for messages: `--policy`, `stop.check`.

    Raises:
        ConfigError: it cannot be read; or a check is of a metric that no cell has, or matches no cell.
    """
    alike = {(cell.task.name, cell.label): cell for cell in cells}  # models and seeds have the same
    try:
        policy = load_policy(file)
    except ConfigError as e:
        raise e.within(place) from None
    for i, check in enumerate(policy.checks):
        if why := _misfit(check, alike):
            raise ConfigError(f"{place}: {file}: checks[{i}]{why}")
    return policy


def _misfit(check: Check, cells: Mapping[tuple[str, str], Cell]) -> str:
    """Why a check can never be made, as the end of a sentence; empty: it can."""
    name = check.metric
    if not any(_is_known(name, cell) for cell in cells.values()):
        known = dict.fromkeys(each for cell in cells.values() for each in _names(cell))
        return f".metric: no metric {name!r}{did_you_mean(name, known) or '; choose from ' + ', '.join(known)}"
    mine = [cell for (task, label), cell in cells.items() if _one_of(task, check.tasks) and _one_of(label, check.protocols)]
    if not mine:
        return ": matches nothing in the grid; correct its tasks or protocols"
    if not any(_has(cell, name) for cell in mine):
        return f": nothing that it matches has the metric {name}; correct its metric, tasks or protocols"
    return ""


def _one_of(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _names(cell: Cell) -> list[str]:
    """Names of metrics that are known before a cell is done."""
    return [*table(), *cell.task.task.scores, *members(OF_MEMBERS)]


def _is_known(name: str, cell: Cell) -> bool:
    return name in _names(cell) or _of_library(name, cell)


def _of_library(name: str, cell: Cell) -> bool:
    """Whether it may be a library's own, like lm_eval/acc: which these are is known when an answer is scored."""
    return cell.task.task.library is not None and "/" in name


def _has(cell: Cell, name: str) -> bool:
    """Whether a cell may have a metric."""
    task = cell.task.task
    if name in members(OF_MEMBERS):
        return bool(cell.unjudged.members)
    if name == STEPS_TO_FORMAT:
        return cell.protocol.learns
    if name not in table():
        return name in task.scores or _of_library(name, cell)
    kind = spec(name).tasks
    return {"judged": cell.judge is not None}.get(kind, task.closed_ended or not kind.startswith("closed-ended"))
