"""When the cells of a grid have been asked enough: what is to be known of each, and what that takes from elsewhere.

A worker reads no run folder. So what a question needs beside the cell's own rows is put into it here: of a policy what the rows
of the baseline came to, of an order those of the other models; and of the cells that belong to the same question and are done,
what theirs did. `StageRunner` hands it over when a worker gets the cells.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import NamedTuple

from spt_fast.analysis.cells import Place
from spt_fast.analysis.gate import Check, Policy
from spt_fast.analysis.runs import Run, open_run, read_run
from spt_fast.config import PREVIOUS, GridConfig, StopConfig
from spt_fast.config.grid import ACCEPTED, RANK
from spt_fast.config.strict import did_you_mean
from spt_fast.driver.policy import policy_for
from spt_fast.errors import ConfigError, StoreError
from spt_fast.models.hub import natural
from spt_fast.plan import Stage
from spt_fast.plan.cell import Cell
from spt_fast.scoring.metrics import EXACT_MATCH, FORMAT, KNOWLEDGE
from spt_fast.scoring.stopping import Part, Question, Scores, Stopping, refusal, rule
from spt_fast.store import Store

BEFORE = (PREVIOUS, ACCEPTED)
"""What `against` may be that stands for an earlier checkpoint of the series."""
NARROWED = (EXACT_MATCH, FORMAT, KNOWLEDGE)
"""What `width` is about."""
_NAMED = 5
"""Tasks that a sentence names."""


class _Group(NamedTuple):
    """Cells that differ in their seed alone."""

    model: str
    task: str
    protocol: str


@dataclass(frozen=True, kw_only=True)
class _Other:
    """What a group is held against."""

    run: Run
    model: str


class GridStopping:
    """What is to be known of the cells of one grid."""

    def __init__(self, config: GridConfig, cells: Sequence[Cell], store: Store | None, *, against: str | None = None) -> None:
        """
        Args:
            config: with `stop`.
            cells: all of the grid.
            store: the run folder; None: there is none yet.
            against: a model of the run folder that a policy is held against, whatever `stop` says.

        Raises:
            ConfigError: what is wrong with `stop`, in a sentence.
        """
        assert config.stop is not None
        self.config: StopConfig = config.stop
        self._store = store
        self._models = list(dict.fromkeys(cell.model.name for cell in cells))
        self._sources = {cell.model.name: cell.model.source for cell in cells}
        self._series = {cell.model.name: cell.model.series for cell in cells}
        members = {key for cell in cells for key in (each.key for each in cell.unjudged.members)}
        self._groups: dict[_Group, list[Cell]] = {}
        for cell in cells:
            # A vote is counted over all rows of its members.
            if not cell.unjudged.members and cell.key not in members:
                self._groups.setdefault(_Group(cell.model.name, cell.task.name, cell.label), []).append(cell)
        if config.judge is not None:
            raise ConfigError("stop: does not go with judge, which rules on cells that are done; leave one of them out")
        by_policy = self.config.by_policy and self.config.check
        self.policy = policy_for(cells, by_policy, place="stop.check") if by_policy else None
        self._check_policy()
        self._baseline = self._find_baseline() if against is None else against
        if against is None:
            self._check_models()

    @property
    def alpha(self) -> float:
        """Probability that what is said to be known is wrong."""
        return self.policy.alpha if self.policy is not None else self.config.alpha or Policy.alpha

    @cached_property
    def rule(self) -> str:
        """Hash of what is to be known, whatever it is held against."""
        checks = [asdict(check) for check in self.policy.checks] if self.policy is not None else None
        return rule({"alpha": self.alpha, "checks": checks, "width": self.config.width})

    def enough(self, store: Store) -> set[str]:
        """Keys of the cells that were stopped because what is to be known now was known."""
        found = set()
        for key in store.stopped.among(store.done()):
            try:
                if store.stopped.read(key).stopped.rule == self.rule:
                    found.add(key)
            except StoreError:
                continue  # it is asked on, and then kept anew
        return found

    def without_looks(self, rows: Mapping[str, int]) -> list[str]:
        """Of tasks that have no row more than are asked before the first look: that all are asked; in a sentence, or none.

        Args:
            rows: task -> test rows.
        """
        tasks = dict.fromkeys(group.task for group in self._groups if group.task in rows)
        checks = self.policy.checks if self.policy is not None else ()
        means = [
            {group.task for group in self._groups if group.task in rows and _is_about(check, group)}
            for check in checks
            if check.over == "mean"
        ]
        total = {
            task: max(sum(rows[each] for each in whole) for whole in [{task}, *(m for m in means if task in m)])
            for task in tasks
        }
        few = [f"{task} ({rows[task]:,} rows)" for task in tasks if total[task] <= self.config.least]
        if not few:
            return []
        more = f" and {len(few) - _NAMED:,} more" if len(few) > _NAMED else ""
        return [
            f"stop: can never act on {', '.join(few[:_NAMED])}{more}, all rows of which are asked before the first look, after "
            f"{self.config.least:,}; lower stop.least, and stop.block, the rows between two looks"
        ]

    def waves(self, stages: Sequence[Stage]) -> list[list[Stage]]:
        """Stages in an order in which each finds done what it is held against: those of one list may run at the same time."""
        if self.config.check == RANK or self.config.against in BEFORE:
            return [[stage] for stage in stages]
        first = [stage for stage in stages if isinstance(self._baseline, str) and stage.model.name == self._baseline]
        rest = [stage for stage in stages if stage not in first]
        return [wave for wave in (first, rest) if wave]

    def of(self, cells: Sequence[Cell]) -> dict[str, Stopping]:
        """When these cells have been asked enough, by key. One that is not there is asked all.

        Raises:
            StoreError: a file of what they are held against is damaged.
        """
        wanted = {cell.key for cell in cells}
        models = dict.fromkeys(cell.model.name for cell in cells)
        questions = [_asked_anew(each, wanted) for model in models for each in self._questions(model)]
        mine: dict[str, list[Question]] = {}
        for question in questions:
            for key in question.cells & wanted:
                mine.setdefault(key, []).append(question)
        together = _together(questions)
        return {
            key: Stopping(
                questions=tuple(found),
                together=together[key],
                rule=self.rule,
                block=self.config.block,
                least=self.config.least,
            )
            for key, found in mine.items()
        }

    # what is asked

    def _questions(self, model: str) -> Iterator[Question]:
        groups = [group for group in self._groups if group.model == model]
        if self.config.width is not None:
            yield from self._widths(groups)
        elif self.policy is None:
            yield from self._orders(groups)
        elif (other := self._other(model)) is not None:
            among = self._findings(model, other)
            found = [each for check in self.policy.checks for each in self._drops(check, groups, other)]
            for check, parts in found:
                yield Question(
                    kind="drop",
                    metric=check.metric,
                    parts=parts,
                    size=check.largest_drop,
                    alpha=self.alpha,
                    among=among,
                )

    def _widths(self, groups: Sequence[_Group]) -> Iterator[Question]:
        for group in groups:
            for cell in self._groups[group]:
                for metric in NARROWED:
                    part = Part(task=group.task, cells=(cell.key,))
                    yield Question(kind="width", metric=metric, parts=(part,), size=self.config.width or 0.0, alpha=self.alpha)

    def _orders(self, groups: Sequence[_Group]) -> Iterator[Question]:
        run = self._own
        for group in groups if run is not None else ():
            assert run is not None
            metric = KNOWLEDGE if self._groups[group][0].task.task.closed_ended else EXACT_MATCH
            parts = {
                model: part
                for model in self._models
                if model != group.model and (part := self._part(group, metric, _Other(run=run, model=model))) is not None
            }
            for model, part in parts.items():
                yield Question(kind="order", metric=metric, parts=(part,), alpha=self.alpha, among=len(parts), other=model)

    def _drops(self, check: Check, groups: Sequence[_Group], other: _Other) -> list[tuple[Check, tuple[Part, ...]]]:
        """The questions of a check, as the gate has findings."""
        mine = [group for group in groups if _matches(check, group, other.model)]
        parts = {group: self._part(group, check.metric, other) for group in mine}
        if check.over == "each":
            return [(check, (part,)) for part in parts.values() if part is not None]
        found = []
        for label in dict.fromkeys(group.protocol for group in mine):
            over = [parts[group] for group in mine if group.protocol == label]
            whole = tuple(part for part in over if part is not None)
            if len(whole) == len(over):  # else no number of rows decides it
                found.append((check, whole))
        return found

    def _findings(self, model: str, other: _Other) -> int:
        """How many findings the gate will have beside each other: of a run folder as the baseline, those of all its models."""
        assert self.policy is not None
        pairs = {model: other.model}
        if isinstance(self._baseline, Run):
            pairs = {name: found.model for name in self._models if (found := self._other(name)) is not None}
        count = 0
        for check in self.policy.checks:
            mine = [each for each in self._groups if each.model in pairs and _matches(check, each, pairs[each.model])]
            count += len(mine if check.over == "each" else {(each.model, each.protocol) for each in mine})
        return max(1, count)

    def _part(self, group: _Group, metric: str, other: _Other) -> Part | None:
        """What a group is asked beside what it is held against; None: that is not done, or lacks the metric."""
        rows = other.run.with_stopped().rows(other.model, group.task, group.protocol, metric)
        if rows is None:
            return None
        cells = self._groups[group]
        seeds = [cell.seed for cell in cells]
        shared = [seed for seed in rows.seeds if seed in seeds] if None not in (*rows.seeds, *seeds) else []
        if shared:
            rows, cells = rows.of(rows.examples, shared), [cell for cell in cells if cell.seed in shared]
        against = dict(zip(rows.examples, rows.values.mean(0).tolist(), strict=True))
        keys = tuple(cell.key for cell in cells)
        return Part(task=group.task, cells=keys, against=against, done=self._done(cells, metric))

    def _done(self, cells: Sequence[Cell], metric: str) -> Mapping[str, Scores]:
        run = self._own
        if run is None:
            return {}
        settled = self._store.settled() if self._store is not None else set()
        found = {}
        for cell in cells:
            if cell.key in settled:
                scored = run.scores(Place(cell.model.name, cell.task.name, cell.label, cell.seed))
                if metric in scored.values:
                    found[cell.key] = dict(zip(scored.examples, scored.values[metric].tolist(), strict=True))
        return found

    # what it is held against

    @property
    def _own(self) -> Run | None:
        """The run folder as it stands now."""
        try:
            return None if self._store is None else open_run(self._store)
        except ConfigError:
            return None

    def _other(self, model: str) -> _Other | None:
        """What a model is held against; None: nothing, or nothing that is done."""
        if isinstance(self._baseline, Run):
            names = self._baseline.models
            name = model if model in names else self._baseline.bases[0] if len(self._baseline.bases) == 1 else None
            return None if name is None else _Other(run=self._baseline, model=name)
        run = self._own
        if run is None:
            return None
        name = self._previous(model, run) if self._baseline is None else self._baseline
        return None if name is None or name == model else _Other(run=run, model=name)

    def _previous(self, model: str, run: Run) -> str | None:
        """The nearest earlier checkpoint of the series that is done whole; with `accepted`, of those that were accepted."""
        series = self._series.get(model)
        whole = {place.model for place in run.done} - {place.model for place in run.missing}
        if self.config.against == ACCEPTED:
            whole &= {str(each["checkpoint"]) for each in run.store.verdicts.read() if each.get("accepted")}
        theirs = [each for each in whole if series is not None and run.model(each).get("series") == series]
        return max((each for each in theirs if natural(each) < natural(model)), key=natural, default=None)

    def _find_baseline(self) -> Run | str | None:
        """A run folder; or the name of a model; None: the checkpoint before.

        Raises:
            ConfigError: it is neither.
        """
        named = self.config.against
        if named is None or named in BEFORE:
            if named is not None and not any(self._series.values()):
                raise ConfigError(
                    f"stop.against: {named} wants models that are checkpoints of a series (checkpoints: or a pattern of "
                    "revisions), and the grid has none; name a run folder or a model"
                )
            return None
        own = self._own
        known = dict.fromkeys([*self._models, *(own.models if own is not None else ())])
        exactly = [model for model in known if named in (model, self._sources.get(model))]
        matching = exactly or [model for model in known if fnmatchcase(model, named)]
        if len(matching) > 1:
            raise ConfigError(f"stop.against: {named!r} matches {len(matching)} models of the grid; name one of them")
        if matching:
            return matching[0]
        try:
            run = read_run(named)
        except ConfigError as e:
            close = did_you_mean(named, known)
            raise ConfigError(f"stop.against: {named} is no model of the grid{close or f', and {e}'}") from None
        if not set(self._models) & set(run.models) and len(run.bases) != 1:
            raise ConfigError(
                f"stop.against: {named} has {len(run.bases)} base models, and none by the name of one of the grid; "
                "name a folder with one"
            )
        return run

    def _check_policy(self) -> None:
        """
        Raises:
            ConfigError: what of a policy cannot be looked at again and again; or its alpha is not that of `stop`.
        """
        if self.policy is None:
            return
        if self.config.alpha not in (None, self.policy.alpha):
            raise ConfigError(
                f"stop.alpha: is {self.config.alpha:g}, and that of {self.config.check} is {self.policy.alpha:g}; leave it out"
            )
        for i, check in enumerate(self.policy.checks):
            if why := refusal(check.metric):
                raise ConfigError(
                    f"stop.check: {self.config.check}: checks[{i}]: {why}; leave the check out, or leave stop out to ask all"
                )

    def _check_models(self) -> None:
        """
        Raises:
            ConfigError: a check that is about no model that the grid is held against.
        """
        if self.policy is None or self._baseline is None:  # an earlier checkpoint, which may be still to come
            return
        names = self._baseline.models if isinstance(self._baseline, Run) else (self._baseline,)
        for i, check in enumerate(self.policy.checks):
            if not any(fnmatchcase(name, pattern) for name in names for pattern in check.models):
                raise ConfigError(
                    f"stop.check: {self.config.check}: checks[{i}].models: matches no model that is held against "
                    f"({', '.join(names)}); correct it, or leave it out"
                )


def _matches(check: Check, group: _Group, a_model: str) -> bool:
    return _is_about(check, group) and any(fnmatchcase(a_model, pattern) for pattern in check.models)


def _is_about(check: Check, group: _Group) -> bool:
    return all(
        any(fnmatchcase(name, pattern) for pattern in patterns)
        for name, patterns in ((group.task, check.tasks), (group.protocol, check.protocols))
    )


def _asked_anew(question: Question, keys: Collection[str]) -> Question:
    """The same, where these cells are to be asked: what they came to before is theirs to know."""
    parts = (
        replace(part, done={key: scores for key, scores in part.done.items() if key not in keys}) for part in question.parts
    )
    return replace(question, parts=tuple(parts))


def _together(questions: Collection[Question]) -> dict[str, str]:
    """Cells that share questions, directly or through others: key -> the same text for all of them."""
    found: dict[str, str] = {}
    for question in questions:
        joined = {found.get(key, key) for key in question.cells}
        name = min(joined)
        found = {key: name if known in joined else known for key, known in found.items()}
        found |= dict.fromkeys(question.cells, name)
    return found
