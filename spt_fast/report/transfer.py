"""What soft prompts of one task do on another: learnt on A, asked B (Lester et al., arXiv 2104.08691, section 5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from spt_fast.analysis.cells import RunCell
from spt_fast.config.protocols import protocol_of
from spt_fast.report.cells import OverSeeds, by_model, distinct, of, over_seeds

PLAINLY = "zero_shot"
"""Stands where a task is named that was learnt on: the model by itself."""


@dataclass(frozen=True, kw_only=True)
class Transferred:
    """One field of the matrix."""

    learnt_on: str
    """A task, or `zero_shot`: nothing was learnt."""
    asked: str
    """The task that was asked."""
    shown: OverSeeds
    """Mean over seeds and the widest span of their 95 % intervals."""
    n: tuple[int, ...]
    """Test rows of each seed."""


@dataclass(frozen=True, kw_only=True)
class TransferMatrix:
    """Every soft prompt on every task it was asked on, its own among them, for one model and one choice of settings."""

    model: str
    settings: str
    """What the transfers' labels say beside `from`: "length=5"; empty where nothing."""
    sources: tuple[str, ...]
    """Tasks that were learnt on, in the order of the grid; those that the grid does not ask come last."""
    targets: tuple[str, ...]
    """Tasks that were asked, in the order of the grid."""
    cells: Mapping[tuple[str, str], Sequence[RunCell]] = field(repr=False)
    """(learnt on, asked) -> the cells, one a seed, done or not. The diagonal is the task's own soft prompt, where the grid has
    the one whose vectors the transfers carry."""
    plainly: Mapping[str, Sequence[RunCell]] = field(repr=False)
    """Task -> its zero-shot cells."""

    def at(self, learnt_on: str, asked: str, metric: str) -> Transferred | None:
        """A field; `learnt_on` may be `zero_shot`. None where it was not measured."""
        cells = self.plainly.get(asked, ()) if learnt_on == PLAINLY else self.cells.get((learnt_on, asked), ())
        shown = over_seeds(cells, metric)
        if shown is None:
            return None
        sizes = tuple(m.n for cell in cells if cell.status == "done" and (m := cell.metric(metric)) is not None)
        return Transferred(learnt_on=learnt_on, asked=asked, shown=shown, n=sizes)

    def values(self, metric: str) -> Iterator[Transferred]:
        """All fields that were measured, row by row, zero-shot first."""
        for learnt_on in (PLAINLY, *self.sources):
            for asked in self.targets:
                if (found := self.at(learnt_on, asked, metric)) is not None:
                    yield found


def transfer_matrices(cells: Sequence[RunCell]) -> list[TransferMatrix]:
    """The matrices of a grid, model by model; none where it has no `transfer` cells."""
    return [
        _matrix(model, settings, own)
        for model, own in by_model(cells).items()
        for settings in distinct(_route(cell)[1] for cell in own if protocol_of(cell.protocol).transfers)
    ]


def _route(cell: RunCell) -> tuple[str, str]:
    """The task that a transfer was learnt on, and the rest of its label: "transfer[from=a,length=5]" -> "a", "length=5"."""
    inside = cell.protocol.partition("[")[2].removesuffix("]")
    source, _, settings = inside.removeprefix("from=").partition(",")
    return source, settings


def _matrix(model: str, settings: str, own: Sequence[RunCell]) -> TransferMatrix:
    moved = [cell for cell in own if protocol_of(cell.protocol).transfers and _route(cell)[1] == settings]
    tasks = distinct(cell.task for cell in own)
    learnt_on = {_route(cell)[0] for cell in moved}
    sources = [*(task for task in tasks if task in learnt_on), *sorted(learnt_on.difference(tasks))]
    found: dict[tuple[str, str], list[RunCell]] = {}
    for cell in moved:
        found.setdefault((_route(cell)[0], cell.task), []).append(cell)
    for source in sources:
        if home := _home(source, [cell for cell in moved if _route(cell)[0] == source], own):
            found[source, source] = home
    return TransferMatrix(
        model=model,
        settings=settings,
        sources=tuple(sources),
        targets=tuple(task for task in tasks if any(asked == task for _, asked in found)),
        cells=found,
        plainly={task: [cell for cell in of(own, task=task) if protocol_of(cell.protocol).is_baseline] for task in tasks},
    )


def _home(source: str, moved: Sequence[RunCell], own: Sequence[RunCell]) -> list[RunCell]:
    """The soft-prompt cells of the source that have the very vectors that were moved: labels alone might mislead."""
    carried = {cell.provenance["soft_prompt"] for cell in moved if "soft_prompt" in cell.provenance}
    at_home = [cell for cell in of(own, task=source) if protocol_of(cell.protocol).is_treatment]
    label = next((cell.protocol for cell in at_home if cell.provenance.get("soft_prompt") in carried), None)
    return of(at_home, protocol=label) if label is not None else []
