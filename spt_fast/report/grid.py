"""The cells of a run as reports look at them: by place, seeds put together, and cut to what a page can hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from spt_fast.analysis.cells import RunCell
from spt_fast.config.protocols import protocol_of
from spt_fast.report.cells import SeedGroup, distinct, forms_of
from spt_fast.report.parts import GLYPHS, Cell, Group, Key, Linked, Table, look, samples_link
from spt_fast.report.words import ABSENT, measured, short_names, visible

MOST_PLACES = 700
"""Models x tasks x protocols on a page; results.csv has those beyond."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Cells by place."""

    cells: Sequence[RunCell] = field(repr=False)
    resolved: Mapping[str, Any] = field(repr=False)
    """grid.yaml."""

    @cached_property
    def at(self) -> Mapping[SeedGroup, Sequence[RunCell]]:
        """The cells of each place, by seed."""
        found: dict[SeedGroup, list[RunCell]] = {}
        for cell in self.cells:
            found.setdefault(SeedGroup(cell.model, cell.task, cell.protocol), []).append(cell)
        return found

    @cached_property
    def tasks(self) -> Sequence[str]:
        """All, in the grid's order."""
        return distinct(cell.task for cell in self.cells)

    @cached_property
    def forms(self) -> Mapping[str, str]:
        """Task -> the form of its answers in words, where the run tells."""
        return forms_of(self.resolved)

    @cached_property
    def protocols(self) -> Sequence[str]:
        """All labels, in the grid's order; controls last."""
        found = distinct(cell.protocol for cell in self.cells)
        return sorted(found, key=is_control)

    @cached_property
    def all_models(self) -> Sequence[str]:
        """Base models first, in the grid's order."""
        bases = distinct(cell.model for cell in self.cells if cell.partner_of is None)
        return [*bases, *(model for model in self.partner_of if model not in bases)]

    @cached_property
    def models(self) -> Sequence[str]:
        """Those that are shown: all, unless there are too many for a page."""
        return self.all_models[: max(1, MOST_PLACES // max(1, len(self.tasks) * len(self.protocols)))]

    @cached_property
    def partner_of(self) -> Mapping[str, str]:
        """Post-trained model -> its base model."""
        return {cell.model: cell.partner_of for cell in self.cells if cell.partner_of is not None}

    @cached_property
    def short(self) -> Mapping[str, str]:
        """Names of models as figures have them."""
        return short_names(self.all_models)

    def places(self, *, task: str | None = None, model: str | None = None) -> Iterator[SeedGroup]:
        """Places of the models that are shown, by model, task and protocol."""
        for each in self.models if model is None else [model]:
            for one in self.tasks if task is None else [task]:
                for protocol in self.protocols:
                    if (place := SeedGroup(each, one, protocol)) in self.at:
                        yield place

    def groups(self, rows_of: Callable[[str], Iterable[Sequence[Cell]]]) -> list[Group]:
        """The rows of a table by model; models without rows are left out.

        Args:
            rows_of: the rows of a model.
        """
        found = [(model, list(rows_of(model))) for model in self.models]
        return [Group(title=self.name(model), rows=rows) for model, rows in found if rows]

    def table(self, task: str, columns: Mapping[str, str], what: str) -> Table | None:
        """Metrics of a task by model and protocol; None where there are none.

        Args:
            columns: metric -> what stands above its numbers.
            what: they are, for the caption.
        """
        groups = self.groups(
            lambda model: [
                [visible(place.protocol), *(self.linked(place, name) for name in columns)]
                for place in self.places(task=task, model=model)
            ]
        )
        caption, head = f"{visible(task)}: {what}", ["protocol", *columns.values()]
        return Table(caption=caption, head=head, groups=groups) if columns and groups else None

    def look(self, model: str) -> dict[str, str]:
        """Colour and shape of a model; a partner has those of its base model."""
        known = self._places_in_order
        return look(known.get(self.partner_of.get(model, model), known[model]))

    def legend(self, models: Sequence[str]) -> list[Key]:
        """What colours and shapes of models stand for."""
        found = []
        for model in models:
            mine = self.look(model)
            found.append(Key(glyph=GLYPHS[mine["shape"]], colour=int(mine["colour"][7:-1]), text=self.short[model]))
        return found

    def name(self, model: str) -> str:
        """A model with whose partner it is."""
        base = self.partner_of.get(model)
        return visible(model) if base is None else f"{visible(model)} (post-trained counterpart of {visible(base)})"

    def said(self, place: SeedGroup) -> str:
        """A place as a tip begins: "Qwen3-8B, gsm8k, soft_prompt"."""
        return f"{self.short[place.model]}, {visible(place.task)}, {visible(place.protocol)}"

    def number(self, place: SeedGroup, metric: str) -> Cell:
        """A metric over the seeds of a place; a dash where it was not measured."""
        return measured(self.at.get(place, ()), metric, self.said(place)) or ABSENT

    def linked(self, place: SeedGroup, metric: str, **filters: str) -> Cell:
        """The same with a link to its samples; where nothing was measured, how the cell stands."""
        cells = self.at.get(place, ())
        found = measured(cells, metric, self.said(place))
        if found is None:
            return next(
                (status for status in ("failed", "stopped", "waiting") if any(cell.status == status for cell in cells)), ABSENT
            )
        return Linked(number=found, href=samples_link(**place._asdict(), **filters))

    @cached_property
    def _places_in_order(self) -> Mapping[str, int]:
        return {model: i for i, model in enumerate(self.all_models)}


def is_control(protocol: str) -> bool:
    """Whether a protocol is there to be compared with, not to be used."""
    return protocol_of(protocol).is_control
