"""Sweeps: format following and knowledge where a grid gives a setting of a protocol several values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, fields
from typing import Any

from spt_fast.analysis.cells import RunCell
from spt_fast.config import PAPER, SoftPromptConfig
from spt_fast.config.protocols import protocol_of
from spt_fast.report.cells import OverSeeds, SeedGroup, over_seeds
from spt_fast.report.grid import Grid
from spt_fast.report.parts import (
    Cell,
    Figure,
    Figures,
    Group,
    Linked,
    Part,
    Prose,
    Section,
    Table,
    colour,
    legend,
    samples_link,
)
from spt_fast.report.recorded import Recorded
from spt_fast.report.sections.overview import CLAIM
from spt_fast.report.words import ABSENT, counted, share, visible

MOST_FIGURES = 120
"""Of sweeps on a page."""
CALLED = {
    "length": "length (vectors)",
    "init": "start",
    "steps": "updates",
    "lr": "learning rate",
    "batch_size": "rows an update",
}
"""Settings that have a better name than their own; they come first, in this order."""
DECADE = 10
"""A numeric axis is logarithmic where its largest value is so many times its smallest."""

_BESIDE = frozenset({"evaluate_at", "repeat_rows"})
"""What follows other settings, and changes no vector of a step."""
_APART = frozenset({"from_task", "members"})
"""What has sections of its own."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A value of a swept setting, and the cells that have it."""

    name: str
    """The value in words."""
    value: float | None
    """The value, where it is a number."""
    paper: bool
    """Whether it is the paper's (arXiv 2606.12117) of a soft prompt."""
    place: SeedGroup


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Cells of a model, task and protocol that differ in one setting alone."""

    protocol: str
    """Without settings: `soft_prompt`."""
    setting: str
    """Its field."""
    beside: str
    """What tells this sweep from others of the setting: "init=vocabulary". Empty where there is one."""
    points: Sequence[Point]

    @property
    def numeric(self) -> bool:
        """Whether all values are numbers."""
        return all(point.value is not None for point in self.points)


def section(recorded: Recorded) -> Section | None:
    """Format following and knowledge against each swept setting; None where nothing is swept."""
    grid = recorded.by_place
    parts: list[Part] = []
    drawn = 0
    for task in grid.tasks:
        found = [(model, sweep) for model in grid.models for sweep in swept(grid, task, model)]
        for protocol, setting in dict.fromkeys((sweep.protocol, sweep.setting) for _, sweep in found):
            chosen = [(model, sweep) for model, sweep in found if (sweep.protocol, sweep.setting) == (protocol, setting)]
            shown = chosen[: MOST_FIGURES - drawn]
            drawn += len(shown)
            title = f"{visible(task)}: {_called(setting)}"
            title += "" if protocol == SoftPromptConfig.name else f" of {protocol}"
            parts.append(Figures(title=title, figures=[_figure(grid, task, model, sweep) for model, sweep in shown]))
            parts.append(_table(grid, title, chosen))
    if not parts:
        return None
    intro = (
        "Each table changes one setting and leaves the others alone: means over seeds, with the widest span of their 95% "
        "intervals. The paper's setting of the soft prompt (arXiv 2606.12117) is named so."
    )
    points = Prose(
        text="Large points are means over seeds, small ones the seeds. The dashed line is the paper's setting.", of_figures=True
    )
    parts = [Figures(figures=[], legend=legend(CLAIM)), Prose(text=intro), points, *parts]
    if drawn == MOST_FIGURES:
        parts.append(Prose(text=f"The first {counted(drawn, 'sweep')} are drawn; the tables have all.", of_figures=True))
    return Section(id="sweeps", title="Sweeps", parts=parts)


def swept(grid: Grid, task: str, model: str) -> list[Sweep]:
    """The sweeps of a model and task: of each setting, by what they have beside it; those nearest to the default first."""
    of_kind: dict[str, dict[SeedGroup, Mapping[str, Any]]] = {}
    for place in grid.places(task=task, model=model):
        kind = place.protocol.partition("[")[0]
        settings = next((cell.settings for cell in grid.at[place] if cell.status == "done" and cell.settings), None)
        if _fields(kind) and settings is not None:
            of_kind.setdefault(kind, {})[place] = settings
    return [sweep for kind, places in of_kind.items() for sweep in _of_protocol(kind, places)]


def _fields(kind: str) -> Mapping[str, Field[Any]]:
    """The settings of a protocol; none of one that is not installed."""
    return {each.name: each for each in fields(protocol_of(kind))}


def _of_protocol(kind: str, places: Mapping[SeedGroup, Mapping[str, Any]]) -> list[Sweep]:
    known = _fields(kind)
    varied = [name for name in known if name not in _BESIDE and _differ(places, places, name)]
    found: list[Sweep] = []
    for name in sorted(set(varied) - _APART, key=lambda name: _order(kind, name)):
        groups: dict[str, list[SeedGroup]] = {}
        for place, settings in places.items():
            rest = {k: v for k, v in settings.items() if k != name and k not in _BESIDE and not _goes_with(kind, k, name)}
            groups.setdefault(_key(rest), []).append(place)
        several = [own for own in groups.values() if _differ(places, own, name)]
        first = [own[0] for own in several]
        others = [k for k in varied if k != name and not _goes_with(kind, k, name) and _differ(places, first, k)]
        # What goes with another setting is said only where that does not tell the sweeps apart.
        mainly = [other for other in others if not any(_goes_with(kind, other, parent) for parent in others)]
        if len({tuple(_key(places[place].get(other)) for other in mainly) for place in first}) < len(several):
            mainly = others
        for own in sorted(several, key=lambda own: sum(not _is_default(kind, k, places[own[0]].get(k)) for k in others)):
            beside = ", ".join(f"{other}={_said(places[own[0]].get(other))}" for other in mainly)
            found.append(Sweep(protocol=kind, setting=name, beside=beside, points=_points(kind, name, own, places)))
    return found


def _differ(settings: Mapping[SeedGroup, Mapping[str, Any]], places: Iterable[SeedGroup], name: str) -> bool:
    return len({_key(settings[place].get(name)) for place in places}) > 1


def _points(kind: str, name: str, own: Sequence[SeedGroup], places: Mapping[SeedGroup, Mapping[str, Any]]) -> list[Point]:
    """By value, where all are numbers."""
    alike = [_said(places[place].get(name)) for place in own]
    points = []
    for place, said in zip(own, alike, strict=True):
        settings = places[place]
        with_ = [k for k in _fields(kind) if _goes_with(kind, k, name) and not _is_default(kind, k, settings.get(k))]
        more = ", ".join(f"{k}={_said(settings.get(k))}" for k in with_) if alike.count(said) > 1 else ""
        points.append(
            Point(
                name=f"{said} ({more})" if more else said,
                value=_number(settings.get(name)),
                paper=kind == SoftPromptConfig.name and _key(_papers(name)) == _key(settings.get(name)),
                place=place,
            )
        )
    return sorted(points, key=lambda point: point.value or 0.0) if all(p.value is not None for p in points) else points


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _goes_with(kind: str, name: str, other: str) -> bool:
    """Whether a setting means something only beside some values of another."""
    known = _fields(kind)
    return name in known and known[name].metadata.get("goes_with", ("",))[0] == other


def _papers(name: str) -> Any:
    """The paper's value of a setting of the soft prompt."""
    return PAPER.get(name, _fields(SoftPromptConfig.name)[name].default)


def _is_default(kind: str, name: str, value: Any) -> bool:
    known = _fields(kind)
    return name in known and _key(known[name].default) == _key(value)


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _said(value: Any) -> str:
    if isinstance(value, dict):  # a task, as a cell's content has it
        value = value.get("name", "")
    if isinstance(value, float):
        return f"{value:g}"
    return (
        "none" if value is None else visible("/".join(map(str, value)) if isinstance(value, list | tuple) else str(value), 60)
    )


def _order(kind: str, name: str) -> tuple[int, int]:
    known = list(CALLED)
    return (known.index(name) if name in known else len(known), list(_fields(kind)).index(name))


def _called(setting: str) -> str:
    return CALLED.get(setting, setting.replace("_", " "))


# Figures


def _figure(grid: Grid, task: str, model: str, sweep: Sweep) -> Figure:
    rows = list(_rows(grid, sweep))
    label = f"{grid.short[model]}, {visible(task)}: format following and knowledge by {_called(sweep.setting)}"
    if sweep.beside:
        label += f", {sweep.beside}"
    title = grid.short[model] + (f" \u00b7 {sweep.beside}" if sweep.beside else "")
    if not sweep.numeric:
        return Figure(drawing="named", rows=rows, label=label, caption=title)
    values = sorted({point.value for point in sweep.points if point.value is not None})
    log = values[0] > 0 and values[-1] >= DECADE * values[0]
    paper = _number(_papers(sweep.setting)) if sweep.protocol == SoftPromptConfig.name else None
    note = ""
    if paper is not None and values[0] <= paper <= values[-1]:
        told = f"the paper's setting: {_called(sweep.setting)} {paper:g}"
        rows.append({"x": paper, "measure": "", "seed": None, "paper": told, "colour": "var(--ink-2)"})
    elif paper is not None:
        note = f"the paper's is {paper:g}"
    x: Mapping[str, Mapping[str, Any]] = {"scale": {"type": "log" if log else "linear"}, "axis": {"values": values}}
    return Figure(drawing="sweep", rows=rows, label=label, x=x, caption=title, note=note)


def _rows(grid: Grid, sweep: Sweep) -> Iterator[dict[str, Any]]:
    """What a figure shows: a row a mean and one a seed, where there are several."""
    for known in CLAIM:
        for point in sweep.points:
            cells = grid.at[point.place]
            found = over_seeds(cells, known.name)
            if found is None:
                continue
            name = point.name + (" (paper)" if point.paper else "")
            at = {
                "x": point.value,
                "name": name,
                "measure": known.words,
                "colour": colour(known.colour),
                "shape": known.shape,
                "paper": None,
            }
            what = f"{_called(sweep.setting)} {point.name}: {known.words}"
            tip = share(found, _sizes(cells, known.name), what).tip
            yield {**at, "seed": None, "value": found.value, "low": found.low, "high": found.high, "tip": tip}
            for cell in cells:
                metric = cell.metric(known.name)
                if found.seeds > 1 and cell.status == "done" and metric is not None:
                    yield {
                        **at,
                        "seed": cell.seed,
                        "value": metric.value,
                        "tip": f"{what} {metric.value:.3f}, seed {cell.seed}",
                    }


def _sizes(cells: Sequence[RunCell], measure: str) -> list[int]:
    return [m.n for cell in cells if cell.status == "done" and (m := cell.metric(measure)) is not None]


def _table(grid: Grid, title: str, chosen: Sequence[tuple[str, Sweep]]) -> Table:
    """The numbers behind the figures of a setting: a column a value."""
    setting = chosen[0][1].setting
    names = {point.name: point for _, sweep in chosen for point in sweep.points}
    order = (
        sorted(names, key=lambda name: names[name].value or 0.0) if all(sweep.numeric for _, sweep in chosen) else list(names)
    )
    groups = []
    for model, sweep in chosen:
        places = {point.name: point.place for point in sweep.points}
        rows: list[list[Cell]] = []
        for known in CLAIM:
            row: list[Cell] = [known.words]
            for name in order:
                cells = grid.at[places[name]] if name in places else ()
                found: OverSeeds | None = over_seeds(cells, known.name)
                if found is None:
                    row.append(ABSENT)
                else:
                    number = share(found, _sizes(cells, known.name), f"{_called(setting)} {name}: {known.words}")
                    row.append(Linked(number=number, href=samples_link(**places[name]._asdict())))
            rows.append(row)
        whose = grid.name(model) + (f" \u00b7 {sweep.beside}" if sweep.beside else "")
        groups.append(Group(title=whose, rows=rows))
    head = ["metric", *(name + (" (paper)" if names[name].paper else "") for name in order)]
    return Table(caption=title, head=head, groups=groups, folded=True)
