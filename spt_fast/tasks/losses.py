"""Test rows that are not scored: how many, of how many, and why. None is lost in silence.

A row is not scored for one of three reasons, which are told apart:

* It is **left out**: a question of the task that cannot be scored, for want of its answer, its text or an option. Such rows are
  lost to the task, and their share is held against what the grid allows (`allow_left_out`).
* It is **no question of the task**, by the task's design: SQuAD 2.0's questions without an answer are none of SQuAD 1.1's. Such
  rows are counted and told, and are no part of the share, for nothing is missing from what the task measures.
* It is **cut off** to be learnt from, where a data set has test rows only.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from spt_fast.errors import DataError
from spt_fast.tasks.base import LeftOut

WARN_SHARE = 0.01
"""A greater share of rows that are left out is warned of; a smaller one is told."""

WARNING = "warning: "

_NEEDED_BY = {"tuning": "tuning", "few_shot": "shots"}


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Rows that are not scored for one reason."""

    why: str
    """In words that stand behind their number: "with no answer"."""
    rows: int
    first: str
    """Where the first of them is: "marc/test.jsonl, line 4, column 'label'"."""


@dataclass(frozen=True, kw_only=True)
class Losses:
    """What became of the test rows that were found."""

    found: int = 0
    """Rows that were read."""
    left_out: tuple[Loss, ...] = ()
    """Questions of the task that cannot be scored."""
    by_design: tuple[Loss, ...] = ()
    """Rows that are no questions of the task."""
    cut: Mapping[str, int] = field(default_factory=dict)
    """Split -> test rows that are cut off for it."""

    @property
    def lost(self) -> int:
        """How many are left out."""
        return _total(self.left_out)

    @property
    def questions(self) -> int:
        """Of the rows that were found, the questions of the task."""
        return self.found - _total(self.by_design)

    @property
    def share(self) -> float:
        """Of the task's questions, those that are left out; 0 where there are none."""
        return self.lost / self.questions if self.questions else 0.0

    def told(self, task: str) -> list[str]:
        """A sentence for each of the three reasons that there is, the rows that are lost first."""
        sentences = []
        if self.left_out:
            sentences.append(f"{WARNING if self.share > WARN_SHARE else ''}{self._lost(task)}")
        if self.by_design:
            some = f"{_total(self.by_design):,} of {self.found:,} test rows"
            sentences.append(f"{task}: {some} are no question of the task, and are not scored: {_listed(self.by_design)}")
        if self.cut:
            some = f"{sum(self.cut.values()):,} of {self.found:,} test rows"
            parts = " and ".join(f"{rows:,} for {_NEEDED_BY[split]}" for split, rows in self.cut.items())
            sentences.append(f"{task}: {some} are cut off, {parts}; a grid with zero_shot alone cuts nothing")
        return sentences

    def refusal(self, task: str, allowed: float) -> str | None:
        """Why the task's cells fail, where a greater share is left out than the grid allows; else None."""
        if self.share <= allowed:
            return None
        enough = math.ceil(100 * self.share) / 100
        return (
            f"{self._lost(task)}; at most {percent(allowed)} may be: fix the rows, or give the task "
            f"allow_left_out: {enough:g} in the grid"
        )

    def require(self, task: str, allowed: float) -> None:
        """Refuse rows of which a greater share is left out than the grid allows.

        Raises:
            DataError: says how many are left out, and why.
        """
        if (refusal := self.refusal(task, allowed)) is not None:
            raise DataError(refusal)

    def _lost(self, task: str) -> str:
        some = f"{self.lost:,} of {self.questions:,} test rows ({percent(self.share)})"
        return f"{task}: {some} are left out: {_listed(self.left_out)} (the first: {self.left_out[0].first})"

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "lost": self.lost, "share": self.share}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Losses:
        """From `plain`."""
        left_out, by_design = (tuple(Loss(**each) for each in plain[name]) for name in ("left_out", "by_design"))
        return cls(found=plain["found"], left_out=left_out, by_design=by_design, cut=plain["cut"])


class Count:
    """Counts rows as they are read."""

    def __init__(self) -> None:
        self._found = 0
        self._left_out: dict[tuple[str, bool], Loss] = {}

    def take(self, place: str, left_out: LeftOut | None) -> None:
        """Count a row that is asked, or left out."""
        self._found += 1
        if left_out is not None:
            where = f"{place}, column {left_out.column!r}" if left_out.column else place
            kind = (left_out.why, left_out.by_design)
            seen = self._left_out.get(kind, Loss(why=left_out.why, rows=0, first=where))
            self._left_out[kind] = replace(seen, rows=seen.rows + 1)

    @property
    def left_out(self) -> int:
        """How many are not asked, for whatever reason."""
        return _total(self._left_out.values())

    def losses(self, cut: Mapping[str, int]) -> Losses:
        """What it came to; `cut`: split -> rows that are cut off for it."""
        kinds: dict[bool, list[Loss]] = {False: [], True: []}
        for (_, by_design), loss in self._left_out.items():
            kinds[by_design].append(loss)
        return Losses(found=self._found, left_out=tuple(kinds[False]), by_design=tuple(kinds[True]), cut=dict(cut))


def told(reports: Iterable[Mapping[str, Any]], scored: Collection[str]) -> list[str]:
    """What is to be told of test rows that are not scored, the warnings first.

    Args:
        reports: what a run folder has of the rows of tasks (rows/*.json).
        scored: names of the tasks whose test rows are asked; of others there may be reports too.
    """
    known = ((report["task"], report.get("losses")) for report in reports if report["task"] in scored)
    sentences = [each for task, plain in known if plain for each in Losses.of(plain).told(task)]
    return sorted(sentences, key=lambda each: not each.startswith(WARNING))


def unused(report: Mapping[str, Any]) -> int:
    """Rows of all splits that are neither learnt from, shown nor scored, of a report on a task's rows."""
    plain = report.get("losses")
    losses = Losses.of(plain) if plain else Losses()
    dropped: int = sum(report["dropped"].values())
    return dropped + losses.lost + losses.found - losses.questions


def percent(share: float) -> str:
    """5%, 0.3%; never 0% of what is more, nor 100% of what is less."""
    text = f"{100 * share:.1f}".removesuffix(".0")
    if text == "0" and share > 0:
        return "less than 0.1%"
    return "more than 99.9%" if text == "100" and share < 1 else f"{text}%"


def _total(losses: Iterable[Loss]) -> int:
    return sum(loss.rows for loss in losses)


def _listed(losses: Sequence[Loss]) -> str:
    return ", ".join(f"{loss.rows:,} {loss.why}" for loss in losses)
