"""What a report is made from: the cells of a run, and what its rows say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from spt_fast.analysis.cells import RunCell
from spt_fast.prompts.meaning import Meaning, Placed, Probe
from spt_fast.report.grid import Grid

if TYPE_CHECKING:  # they compute with scipy, which is not imported to say what was said before
    from spt_fast.analysis.compare_types import Compared
    from spt_fast.analysis.faults import Told
    from spt_fast.analysis.ranking_types import Ranking


@dataclass(frozen=True, kw_only=True)
class Known:
    """A soft prompt of the run, and what the run folder tells of it."""

    placed: Placed = field(repr=False)
    meaning: Meaning | None = None
    probe: Probe | None = None


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What a report is made from."""

    name: str
    """Of the grid."""
    cells: Sequence[RunCell] = field(repr=False)
    """All of the grid, done or not."""
    grid: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """grid.yaml, as resolved."""
    said: str = ""
    """`report.summary` of the cells; empty: it is made."""
    rows: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    """What the run folder tells of each task's rows (rows/*.json)."""
    events: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    """events.jsonl: how many GPUs there were, and what each run was expected to take and took."""
    ranking: Ranking | None = None
    no_ranking: str = ""
    """Why there is none, in a sentence."""
    tests: Compared | None = None
    """Its protocols, against each other."""
    no_tests: str = ""
    """Why they are not compared, in a sentence."""
    compared: Compared | None = None
    """Another run, before this one."""
    series: Sequence[Told] = field(default=(), repr=False)
    """Checkpoints of training runs, and what has become of them."""
    verdicts: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    """What `watch` has said of them."""
    learnt: Sequence[Known] = field(default=(), repr=False)
    """Soft prompts, and what they lie next to."""
    learnt_left_out: int = 0
    """How many more there are."""

    @cached_property
    def by_place(self) -> Grid:
        """The cells by model, task and protocol."""
        return Grid(cells=self.cells, resolved=self.grid)

    @property
    def any_done(self) -> bool:
        """Whether anything was measured."""
        return any(cell.status == "done" for cell in self.cells)
