"""How the cells of a run are put together in reports: by model, task, protocol, over seeds."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from spt_fast.analysis.cells import OverSeeds as OverSeeds
from spt_fast.analysis.cells import RunCell
from spt_fast.analysis.cells import over_seeds as over_seeds
from spt_fast.scoring.rerun import Rerun

_ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def of(
    cells: Iterable[RunCell],
    *,
    model: str | None = None,
    task: str | None = None,
    protocol: str | None = None,
) -> list[RunCell]:
    """The cells of a model, task or protocol (by label)."""
    return [
        cell
        for cell in cells
        if model in (None, cell.model) and task in (None, cell.task) and protocol in (None, cell.protocol)
    ]


def by_model(cells: Iterable[RunCell]) -> dict[str, list[RunCell]]:
    """The cells of each model, in the order of the models' first appearance."""
    found: dict[str, list[RunCell]] = {}
    for cell in cells:
        found.setdefault(cell.model, []).append(cell)
    return found


def distinct(values: Iterable[str]) -> list[str]:
    """Each once, in the order of their first appearance."""
    return list(dict.fromkeys(values))


def forms_of(resolved: Mapping[str, Any]) -> dict[str, str]:
    """Task -> the form of its answers in words, where grid.yaml as resolved tells."""
    return {task["task"]: task["form"] for task in resolved.get("tasks") or () if task.get("form")}


def plain(text: str) -> str:
    """Text on one line without control characters: a failure may quote what a model wrote, escape sequences and all."""
    text = _ESCAPE_SEQUENCE.sub("", text)
    kept = (" " if unicodedata.category(ch) in ("Cc", "Cf", "Cs", "Zl", "Zp") else ch for ch in text)
    return " ".join("".join(kept).split())


def title(cell: RunCell) -> str:
    """How a person is told of it: "zoo/base-40 · zoo-mcq · soft_prompt · seed 0"."""
    return cell.place.title


def failures(cells: Iterable[RunCell]) -> list[tuple[str, str]]:
    """Who failed, and why: cells of one model that failed of the same are named together."""
    alike: dict[tuple[str, str], list[RunCell]] = {}
    for cell in cells:
        if cell.status == "failed":
            alike.setdefault((cell.model, cell.reason or cell.kind), []).append(cell)
    return [
        (title(group[0]) if len(group) == 1 else f"{model} · {len(group)} cells", reason)
        for (model, reason), group in alike.items()
    ]


class SeedGroup(NamedTuple):
    """Cells that differ in their seed alone."""

    model: str
    task: str
    protocol: str


def asked_again(cells: Iterable[RunCell]) -> dict[SeedGroup, list[Rerun]]:
    """What came of asking rows again, over the seeds of a place; of those where it was done."""
    found: dict[SeedGroup, list[Rerun]] = {}
    for cell in cells:
        if cell.rerun is not None:
            found.setdefault(SeedGroup(cell.model, cell.task, cell.protocol), []).append(cell.rerun)
    return found


def largest_difference(reruns: Iterable[Rerun]) -> float:
    """Of two log-likelihoods of an option, in nats; NaN where there are no options."""
    return max((each.largest_difference for each in reruns if not math.isnan(each.largest_difference)), default=math.nan)


def headline(cells: Sequence[RunCell], model: str) -> str:
    """A model's name, with whose partner it is."""
    partner = next((cell.partner_of for cell in of(cells, model=model) if cell.partner_of), None)
    return f"{model} (post-trained counterpart of {partner})" if partner else model
