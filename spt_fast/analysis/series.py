"""Checkpoints of one training run, in order: what was measured at each, and whether something has fallen and stays down.

Knowledge is followed where the form of an answer does not hide it: behind a soft prompt on all tasks, else by the likelihood
of the options of closed-ended tasks. The form is followed under each protocol. So a fault of the form alone can be told from
one of knowledge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import PurePath
from typing import Any, Literal, TypeAlias

from spt_fast.analysis.aligned import aligned
from spt_fast.analysis.onset import ALPHA, Course, Trajectory, follow
from spt_fast.analysis.pooled import Pooled
from spt_fast.analysis.runs import Run
from spt_fast.config.protocols import protocol_of
from spt_fast.models.hub import natural
from spt_fast.models.trained import trained_for
from spt_fast.scoring.metrics import FORMAT, KNOWLEDGE

OF_FORM = 0.05
"""The form of a base model comes and goes: of it, less than five points are no fault."""
KNOWLEDGE_SHARE = 0.8
"""Of the level; the rest is for the form, whose faults are large."""
FEWEST = 3
"""Checkpoints of a series that is followed."""

Unit: TypeAlias = Literal["tokens", "steps", "checkpoint"]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model of a series."""

    model: str
    """As the run folder has it: "run7/step-1000"."""
    name: str
    """Within the series: "step-1000"."""
    steps: int | None = None
    tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Series:
    """The checkpoints of one training run that a run folder has something of, in natural order."""

    name: str
    """Its pattern: "/checkpoints/run7/step-*"."""
    checkpoints: tuple[Checkpoint, ...]

    def __len__(self) -> int:
        return len(self.checkpoints)

    @property
    def short_name(self) -> str:
        """ "run7/step-*": of a pattern of files no more than the folder before it."""
        parts = PurePath(self.name).parts
        wild = next((i for i, part in enumerate(parts) if set(part) & set("*?[")), len(parts) - 1)
        return "/".join(parts[max(1, wild - 1) :]) if PurePath(self.name).is_absolute() and len(parts) > 1 else self.name

    @cached_property
    def unit(self) -> Unit:
        """What it is counted in: what is known of all checkpoints, and grows."""
        for unit in ("tokens", "steps"):
            known = [getattr(each, unit) for each in self.checkpoints]
            if None not in known and all(a < b for a, b in pairwise(known)):
                return "tokens" if unit == "tokens" else "steps"
        return "checkpoint"

    @property
    def positions(self) -> tuple[int, ...]:
        """Of its checkpoints, in that unit."""
        if self.unit == "checkpoint":
            return tuple(range(1, len(self) + 1))
        return tuple(getattr(each, self.unit) for each in self.checkpoints)


@dataclass(frozen=True, kw_only=True)
class Followed:
    """One metric of a series under one protocol, over tasks."""

    what: Literal["knowledge", "form"]
    protocol: str
    tasks: tuple[str, ...]
    at: tuple[int, ...]
    """Which checkpoints of the series have it, of all these tasks."""
    trajectory: Trajectory = field(repr=False)
    course: Course
    """Its checkpoints are counted within `at`."""

    @property
    def first(self) -> int | None:
        """The checkpoint of the series from which it is fallen or undecided."""
        return None if self.course.first is None else self.at[self.course.first]

    @property
    def reference(self) -> int:
        """The last healthy checkpoint of the series."""
        return self.at[self.course.reference]

    @property
    def change(self) -> Pooled:
        """From the last healthy checkpoint to the mean of those since it began; of a healthy one, to nothing."""
        tail = self.course.tail(len(self.at))
        return self.trajectory.change(self.course.reference, tail) if tail else Pooled(parts=())

    @property
    def stopped(self) -> dict[int, tuple[int, int]]:
        """Checkpoint of the series that was stopped early -> rows that it was asked, and that there are, over tasks."""
        asking = self.trajectory.asking
        early = [i for i in range(len(self.at)) if any(each.stopped[i] is not None for each in asking)]
        return {
            self.at[i]: (sum(each.rows_at(i) for each in asking), sum(each.asked.sizes[0] for each in asking)) for i in early
        }

    def stays(self, change: Pooled) -> bool:
        """Whether a change rules out a fall that matters."""
        return change.limits(0.95).low > -self.trajectory.allowed

    def change_since(self, reference: int, first: int) -> Pooled:
        """From one checkpoint of the series, or the last before it that has it, to the mean of those from `first` on."""
        before = [i for i, at in enumerate(self.at) if at <= reference]
        after = [i for i, at in enumerate(self.at) if at >= first]
        return self.trajectory.change(before[-1], after) if before and after else Pooled(parts=())


def series_of(run: Run) -> list[Series]:
    """The series of a run folder that have something done, or stopped early, of at least `FEWEST` checkpoints."""
    done = {place.model for place in (*run.done, *run.stopped)}
    found: dict[str, list[Any]] = {}
    for model in run.grid["models"]:
        if model.get("series") and model["id"] in done:
            found.setdefault(model["series"], []).append(model)
    return [Series(name=name, checkpoints=_checkpoints(some)) for name, some in found.items() if len(some) >= FEWEST]


def _checkpoints(models: Sequence[Any]) -> tuple[Checkpoint, ...]:
    """In natural order, called by the last part of their names where that tells them apart."""
    names = [model["id"] for model in models]
    last = {name: name.rstrip("/").rpartition("/")[2].rpartition("@")[2] for name in names}
    called = last if len(set(last.values())) == len(names) else {name: name for name in names}
    trained = {model["id"]: model.get("trained") or trained_for(model["id"]) for model in models}
    return tuple(
        Checkpoint(model=name, name=called[name], steps=trained[name].get("steps"), tokens=trained[name].get("tokens"))
        for name in sorted(names, key=natural)
    )


def followed(run: Run, series: Series, *, alpha: float = ALPHA) -> list[Followed]:
    """Follow knowledge and the form along a series.

    Args:
        run: the run folder.
        series: of it.
        alpha: of all that is followed together.

    Raises:
        StoreError: a file is damaged.
    """
    run = run.with_stopped()
    wanted = [*_knowledge(run, series), *(("form", label, _tasks(run, series, label)) for label in _protocols(run, series))]
    tracks = [(what, label, track) for what, label, tasks in wanted if (track := _track(run, series, what, label, tasks))]
    return [
        Followed(
            what="knowledge" if what == "knowledge" else "form",
            protocol=label,
            tasks=track.tasks,
            at=track.at,
            trajectory=track.trajectory,
            course=follow(track.trajectory, alpha=alpha * share_of_level([name for name, _, _ in tracks], what)),
        )
        for what, label, track in tracks
    ]


def share_of_level(followed: Sequence[str], what: str) -> float:
    """Of the level, for one of the things that are followed.

    Args:
        followed: `Followed.what` of each.
        what: of this one.
    """
    of_its_kind = 1.0 if len(set(followed)) == 1 else KNOWLEDGE_SHARE if what == "knowledge" else 1 - KNOWLEDGE_SHARE
    return of_its_kind / followed.count(what)


def _knowledge(run: Run, series: Series) -> list[tuple[str, str, list[str]]]:
    """Under which protocol knowledge is followed, and on which tasks."""
    labels = _protocols(run, series)
    treatments = [label for label in labels if protocol_of(label).is_treatment]
    if treatments:
        return [("knowledge", treatments[0], _tasks(run, series, treatments[0]))]
    for label in labels[:1]:
        tasks = _tasks(run, series, label)
        by_likelihood = [task for task in tasks if run.closed_ended(task)]
        return [("knowledge", label, by_likelihood or tasks)]
    return []


def _protocols(run: Run, series: Series) -> list[str]:
    """The first label of each kind of protocol, but for controls, transfers and ensembles."""
    first: dict[str, str] = {}
    for place in run.done:
        kind = protocol_of(place.protocol)
        if not kind.is_control and not kind.transfers and kind.name != "ensemble" and place.model in _models(series):
            first.setdefault(kind.name, place.protocol)
    return list(first.values())


def _models(series: Series) -> set[str]:
    return {each.model for each in series.checkpoints}


def _tasks(run: Run, series: Series, protocol: str) -> list[str]:
    there = (place for place in run.done if place.protocol == protocol and place.model in _models(series))
    return list(dict.fromkeys(place.task for place in there))


@dataclass(frozen=True, kw_only=True)
class _Track:
    tasks: tuple[str, ...]
    at: tuple[int, ...]
    trajectory: Trajectory


def _track(run: Run, series: Series, what: str, protocol: str, tasks: Iterable[str]) -> _Track | None:
    """The rows that all checkpoints have, and of those that were stopped early the ones that were asked; None where no two
    checkpoints have any in common.

    A task that fewer than half of the checkpoints have is left out, and then each checkpoint that lacks one of the tasks.
    """
    metric = KNOWLEDGE if what == "knowledge" else FORMAT
    rows = {task: [run.rows(each.model, task, protocol, metric) for each in series.checkpoints] for task in tasks}
    measured = sum(any(of[i] is not None for of in rows.values()) for i in range(len(series)))
    rows = {task: of for task, of in rows.items() if 2 * sum(each is not None for each in of) >= measured}
    at = tuple(i for i in range(len(series)) if rows and all(of[i] is not None for of in rows.values()))
    models = [series.checkpoints[i].model for i in at]
    found = {
        task: aligned(run, models, task, protocol, [each for i in at if (each := of[i]) is not None])
        for task, of in rows.items()
    }
    tracks = {task: each for task, each in found.items() if each is not None}
    if len(at) < 2 or not tracks:
        return None
    asking = tuple(each.asking for each in tracks.values())
    of_form = {"least": OF_FORM, "allowed": OF_FORM} if what == "form" else {}
    trajectory = Trajectory(
        values=tuple(each.values for each in tracks.values()),
        clusters=tuple(each.clusters for each in tracks.values()),
        asking=asking if any(each.is_watched for each in asking) else (),
        **of_form,
    )
    return _Track(tasks=tuple(tracks), at=at, trajectory=trajectory)
