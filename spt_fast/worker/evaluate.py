"""EVALUATE: one engine for all cells of a stage, asked everything in one stream of requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from spt_fast.engine import config_of
from spt_fast.engine.base import Adapters, Engine, EngineConfig
from spt_fast.errors import SptError
from spt_fast.models import memory
from spt_fast.plan.cell import Cell
from spt_fast.prompts.lora import LoraAdapter
from spt_fast.types import Answer, Request
from spt_fast.worker.answers import CellAnswers, Slot
from spt_fast.worker.engine_loop import CellPlan, EngineLoop
from spt_fast.worker.events import Noticed
from spt_fast.worker.lease import More
from spt_fast.worker.positions import positions_of
from spt_fast.worker.questions import Questions, all_questions, questions
from spt_fast.worker.requests import requests_of
from spt_fast.worker.result import EngineUsed, result_of
from spt_fast.worker.stream import Stream
from spt_fast.worker.workspace import Workspace


class EvaluationPlan(CellPlan[Slot]):
    """What is asked of a cell, at each of its steps."""

    phase = "evaluate"
    answers: CellAnswers

    def __init__(self, cell: Cell, work: Workspace) -> None:
        super().__init__(cell, work.backlog)
        self._work = work

    @property
    def expected(self) -> int:
        """About how many requests a cell has, before its questions are rendered."""
        rows = self._work.rows.of(self.cell.task)
        task = self.cell.task.task
        methods = 1 if self._rerun or task.cloze is None else 3
        answers = 0 if self._rerun or task.closed_ended else 1
        return len(self._steps) * sum(1 + answers + methods * len(example.options) for example in rows.test)

    def build(self, engine: Engine) -> Sequence[tuple[Slot, Request]] | None:
        """The requests; what a person should know of them is told. None: they need an engine with more positions."""
        self.answers = CellAnswers(self.cell, self._steps, self._questions())
        needed = positions_of(self.answers.questions, self.cell)
        if engine.max_model_len < min(needed, engine.most_positions):
            self._work.positions.found(self.cell, needed)
            return None
        planned = list(requests_of(self.answers, engine, self._work.learnt.get(self.cell.key, {})))
        for _, request in planned:
            self.answers.count(request)
        if warning := self.answers.window.warning:
            self._work.backlog.emit(Noticed(key=self.cell.key, said=warning))
        return planned

    def take(self, place: Slot, answer: Answer) -> None:
        """Keep an answer."""
        self.answers.take(place, answer)

    @property
    def _rerun(self) -> bool:
        return bool(self._work.stage.rerun)

    @property
    def _steps(self) -> Sequence[int | None]:
        """Those that are asked: to see which answers flip, the one that tables show is enough."""
        return self.cell.steps[-1:] if self._rerun else self.cell.steps

    def _questions(self) -> Questions:
        """What is asked of a cell; of one that is asked again, only what may flip."""
        rows = self._work.rows.of(self.cell.task)
        if self._rerun:
            return Questions(questions(self.cell, rows, self._work.tokenizer, chat=self._work.chat))
        return all_questions(self.cell, rows, self._work.tokenizer, chat=self._work.chat)


class Evaluation(EngineLoop[EvaluationPlan]):
    """Evaluates the cells of a stage that need no training, or have theirs."""

    phase = "evaluate"

    def __init__(self, work: Workspace) -> None:
        config = config_of(work.model, work.stage.cells[0].engine)
        super().__init__(work.backlog, replace(config, nodes=work.stage.nodes, followers=work.backlog.lease.followers))
        self._work = work
        self._engine = EngineUsed()
        self._room = (0, 0)
        """Positions that the engine has, and could have."""

    def ready(self) -> bool:
        """Whether there is something to ask, and nothing to train before."""
        return super().ready() and not self._work.untrained()

    def config(self) -> EngineConfig:
        """How the next engine is started: with room for the adapters of the cells that are left."""
        memory.forget_peak()
        return replace(super().config(), adapters=self._adapters(), positions=self._positions())

    def suits(self, config: EngineConfig) -> bool:
        """Whether an engine that was started so has room for the adapters and the prompts of what is left."""
        wanted = self._adapters()
        has_room = wanted is None or (config.adapters is not None and config.adapters.has_room_for(wanted))
        there, most = self._room
        return has_room and min(self._positions() or 0, most) <= there

    def started(self, engine: Engine, seconds: float) -> None:
        """Take note of what it has cost to start, and what it is like."""
        self._room = engine.max_model_len, engine.most_positions
        self._work.shared_costs["engine_start_s"] = seconds
        if self.backoff.restarts:
            self._work.shared_costs["engine_out_of_memory"] = float(self.backoff.restarts)
        self._engine = EngineUsed(
            methods=engine.ways, proofs=engine.proofs, options=self.backoff.config.options, lowered=self.backoff.note
        )

    def plan(self, cell: Cell) -> EvaluationPlan:
        """What is asked of a cell."""
        return EvaluationPlan(cell, self._work)

    def receive(self, more: More) -> None:
        """Take further cells on."""
        self._work.receive(more)

    def finish(self, plan: EvaluationPlan, stream: Stream[EvaluationPlan]) -> None:
        """Score a cell."""
        self._work.costs[plan.cell.key]["answer_s"] = stream.since_last
        try:
            result = result_of(plan.answers, self._work, self._engine)
        except SptError as e:
            self.backlog.fail([plan.cell], e)
        else:
            self.backlog.done(plan.cell, result)

    def _positions(self) -> int | None:
        """What the longest request of the cells that are left needs, as far as that is known."""
        cells = self.backlog.left.values()
        return max((self._work.positions.of(cell, self._work.rows.of(cell.task)) for cell in cells), default=0) or None

    def _adapters(self) -> Adapters | None:
        """The LoRA adapters of the cells that are left, which an engine has to be started for."""
        learnt = (each for key in self.backlog.left for each in self._work.learnt.get(key, {}).values())
        found = {each.key: each for each in learnt if isinstance(each, LoraAdapter)}
        if not found:
            return None
        return Adapters(
            rank=max(each.rank for each in found.values()),
            targets=frozenset(target for each in found.values() for target in each.targets),
            count=len(found),
        )
