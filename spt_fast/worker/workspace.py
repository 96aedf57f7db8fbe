"""Workspace: what the steps of a stage share: its cells, their rows, what was trained, and what it has cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property

from spt_fast.errors import DataError, SptError
from spt_fast.models.identity import Model, require_resolved
from spt_fast.models.tokenizer import load_tokenizer, uses_chat
from spt_fast.plan import Stage
from spt_fast.plan.cell import Cell
from spt_fast.prompts.lora import Learnt
from spt_fast.prompts.meaning import Meaning
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.scoring.stopping import Stopping
from spt_fast.types import Stopped
from spt_fast.worker.backlog import Backlog
from spt_fast.worker.events import PhaseStarted
from spt_fast.worker.lease import Given, Handed, More, asking_of, learnt_of, starts_of
from spt_fast.worker.positions import Positions
from spt_fast.worker.questions import require_no_thought
from spt_fast.worker.rows import StageRows


class Workspace:
    """One stage while it is worked on."""

    def __init__(self, backlog: Backlog, given: Given) -> None:
        """`given`: what earlier work has for its cells."""
        self.backlog = backlog
        self.rows = StageRows(backlog)
        self.learnt: dict[str, Mapping[int, Learnt]] = {}
        """Cell key -> step -> what was trained."""
        self.starts: dict[str, SoftPrompt] = {}
        """Cell key -> what the vectors of a carried cell start from."""
        self.stopping: dict[str, Stopping] = {}
        """Cell key -> when it has been asked enough."""
        self.stopped: dict[str, Stopped] = {}
        """Cell key -> what was asked of it before."""
        self.costs: defaultdict[str, dict[str, float]] = defaultdict(dict)
        """By cell key."""
        self.shared_costs: dict[str, float] = {}
        """Of all cells together."""
        self.meanings: dict[str, Meaning] = {}
        """By the key of a soft prompt, what it lies next to in the vocabulary."""
        self._take(given)

    @property
    def stage(self) -> Stage:
        """Whose cells they are."""
        return self.backlog.stage

    @property
    def model(self) -> Model:
        """The model of the stage."""
        return self.stage.model

    def prepare(self) -> None:
        """Read the tokenizer and the rows.

        Raises:
            ModelError: there is no such model, or its tokenizer cannot be read.
        """
        self.backlog.emit(PhaseStarted(phase="load"))
        require_resolved(self.model)
        self.tokenizer = load_tokenizer(self.model)
        self.chat = uses_chat(self.model, self.tokenizer)
        self.positions = Positions(self.tokenizer, chat=self.chat)
        self._read_rows(list(self.backlog.left.values()))
        if self.stage.rerun:
            gone = DataError("what it has learnt is not in the run folder any more; do the cell again with --fresh")
            self.backlog.fail(self.untrained(), gone)

    def receive(self, more: More) -> None:
        """Take further cells on."""
        self.backlog.add(more.cells)
        self._take(more.given)
        self._read_rows(more.cells)

    def take_over(self, handed: Handed) -> None:
        """Go on from what others have done for these cells. One that should have been trained and was not is left to them."""
        self.learnt.update(learnt_of(handed.given))
        for key, costs in handed.costs.items():
            self.costs[key] |= costs
            self.shared_costs |= {what: cost for what, cost in costs.items() if what == "load_s"}
        gone = [key for key in self.backlog.left if key not in handed.left]
        for key in [*gone, *(cell.key for cell in self.untrained())]:
            self.backlog.left.pop(key, None)

    def untrained(self) -> list[Cell]:
        """The cells that are left and wait for what is trained for them."""
        left = self.backlog.left.values()
        return [cell for cell in left if cell.protocol.attaches != "nothing" and cell.key not in self.learnt]

    def last_learnt(self, cell: Cell) -> Learnt | None:
        """What was trained for a cell, as it is at the last step; None: nothing is."""
        steps = self.learnt.get(cell.key)
        return steps[max(steps)] if steps else None

    @cached_property
    def why_not_finite(self) -> str:
        """What is wrong with the model's weights, or that they are not to blame. Reads all of them."""
        from spt_fast.models import finite

        return finite.why(self.model.source, self.model.revision, self.model.dtype)

    def _take(self, given: Given) -> None:
        """Take on what earlier work has."""
        self.learnt.update(learnt_of(given))
        self.starts.update(starts_of(given))
        asked = asking_of(given)
        self.stopping.update((each.key, each.stopping) for each in asked if each.stopping is not None)
        self.stopped.update((each.key, each.stopped) for each in asked if each.stopped is not None)

    def _read_rows(self, cells: Sequence[Cell]) -> None:
        """Read the rows of cells; those whose rows or prompts are of no use fail."""
        self.rows.read(cells)
        for cell in (cell for cell in cells if cell.key in self.backlog.left):
            try:
                require_no_thought(cell.task.task, self.tokenizer, chat=self.chat)
                self.rows.require_few_left_out(cell.task)
            except SptError as e:
                self.backlog.fail([cell], e)
