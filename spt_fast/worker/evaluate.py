"""EVALUATE: one engine for all cells of a stage, asked everything in one stream of requests."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from spt_fast.engine import config_of
from spt_fast.engine.base import Adapters, Engine, EngineConfig
from spt_fast.errors import SptError
from spt_fast.models import memory
from spt_fast.plan.cell import Cell
from spt_fast.prompts.lora import Learnt, LoraAdapter
from spt_fast.scoring.metrics import value_of
from spt_fast.scoring.stopping import Asked, Scores, at_every_look
from spt_fast.types import Answer, CellResult, Kept, Request, Stopped
from spt_fast.worker.answers import CellAnswers, Slot
from spt_fast.worker.engine_loop import CellPlan, EngineLoop
from spt_fast.worker.events import Noticed
from spt_fast.worker.lease import More
from spt_fast.worker.positions import positions_of
from spt_fast.worker.questions import Questions, all_questions, choosing_rows, questions
from spt_fast.worker.requests import requests_of
from spt_fast.worker.result import EngineUsed, result_of, samples_at
from spt_fast.worker.stream import Stream
from spt_fast.worker.together import Together
from spt_fast.worker.workspace import Workspace


class EvaluationPlan(CellPlan[Slot]):
    """What is asked of a cell, at each of its steps."""

    phase = "evaluate"
    answers: CellAnswers

    def __init__(self, cell: Cell, work: Workspace, together: Together | None = None) -> None:
        super().__init__(cell, work.backlog)
        self._work = work
        self.together: Together | None = together
        self.stopped: Stopped | None = None
        """That it was asked enough before all was asked."""
        self.ends: Sequence[int] = ()
        self.whole_blocks = 0
        self._requests: dict[Slot, Request] = {}
        """That wait for their answers, of a cell that is asked in blocks."""
        self._block_of: dict[Slot, int] = {}
        self._missing: list[int] = []
        """Answers that each block waits for."""
        self._scores: dict[str, dict[str, float]] = {}
        self._scored = 0
        """Blocks that `_scores` has."""

    @property
    def key(self) -> str:
        """Of the cell."""
        return self.cell.key

    @property
    def expected(self) -> int:
        """About how many requests a cell has, before its questions are rendered."""
        rows, task, steps = self._work.rows.of(self.cell.task), self.cell.task.task, len(self._steps)
        methods = 1 if self._rerun or task.cloze is None else 3
        answers = 0 if self._rerun or task.closed_ended else 1
        of_tests = steps * sum(1 + answers + methods * len(example.options) for example in rows.test)
        if self._rerun or not task.closed_ended:
            return of_tests
        choosing, _ = choosing_rows(self.cell, rows)
        return of_tests + (steps + methods - 1) * sum(len(example.options) for example in choosing)

    def begin(self, engine: Engine) -> Sequence[tuple[Slot, Request]] | None:
        """Claim the cell and build its requests."""
        found = super().begin(engine)
        if found is None and self.together is not None:
            self.together.leave(self.key)  # the others are not to wait for it
        return found

    def build(self, engine: Engine) -> Sequence[tuple[Slot, Request]] | None:
        """The requests; what a person should know of them is told. None: they need an engine with more positions."""
        self.answers = CellAnswers(self.cell, self._steps, self._questions())
        needed = positions_of(self.answers.questions, self.cell)
        if engine.max_model_len < min(needed, engine.most_positions):
            self._work.positions.found(self.cell, needed)
            return None
        kept = self._kept()
        planned = self._all(engine) if self.together is None else self._in_blocks(engine, self.together, kept)
        for slot, request in planned:
            if self.together is None or slot in kept:
                self.answers.count(request)
        for slot, answer in kept.items():
            self.answers.take(slot, answer)
        if warning := self.answers.window.warning:
            self._work.backlog.emit(Noticed(key=self.cell.key, said=warning))
        left = [(slot, request) for slot, request in planned if slot not in kept]
        if self.together is not None:
            self._requests = dict(left)
            self._close_blocks()
            self.together.join(self)
        return left

    def _all(self, engine: Engine) -> list[tuple[Slot, Request]]:
        return list(requests_of(self.answers, engine, self._learnt))

    def _in_blocks(self, engine: Engine, together: Together, kept: Collection[Slot]) -> list[tuple[Slot, Request]]:
        """The requests block by block; those of the rows to choose by stand in the first."""
        planned: dict[Slot, Request] = {}
        tests, all_rows = len(self.answers.questions.test), len(self.answers.questions.all_rows)
        ends = []
        for number, block in enumerate(together.blocks):
            rows = [*(range(tests, all_rows) if number == 0 else ()), *block[self.cell.task.name]]
            new = {slot: each for slot, each in requests_of(self.answers, engine, self._learnt, rows) if slot not in planned}
            planned |= new
            waiting = [slot for slot in new if slot not in kept]
            self._block_of |= dict.fromkeys(waiting, number)
            self._missing.append(len(waiting))
            ends.append(sum(self._missing))
        self.ends = ends
        return list(planned.items())

    def take(self, place: Slot, answer: Answer) -> None:
        """Keep an answer."""
        self.answers.take(place, answer)
        if self.together is not None:
            self.answers.count(self._requests.pop(place))
            self._missing[self._block_of.pop(place)] -= 1
            self._close_blocks()
            if not self._requests:
                self.together.leave(self.key)  # there is nothing left to stop

    @property
    def looks(self) -> int:
        """How often it was looked whether it was asked enough."""
        return 0 if self.together is None else self.together.looks

    def settled(self) -> Collection[EvaluationPlan]:
        """Look, where this was the last answer to a block; the plans that were asked enough."""
        if self.together is None:
            return ()
        return [member for member in self.together.look() if isinstance(member, EvaluationPlan)]

    def _close_blocks(self) -> None:
        while self.whole_blocks < len(self._missing) and not self._missing[self.whole_blocks]:
            self.whole_blocks += 1

    def scores(self, metric: str, blocks: int) -> Scores:
        """What the rows of so many blocks count in a metric, at the last step."""
        assert self.together is not None
        step = self._steps[-1]
        best = self.answers.choice().method if self.cell.task.task.closed_ended and self._scored < blocks else "listed"
        wanted = {each.metric for each in self.together.questions}
        while self._scored < blocks:
            rows = self.together.blocks[self._scored][self.cell.task.name]
            samples, _ = samples_at(self.answers.of(rows), self._work.rows.of(self.cell.task), step, best) if rows else ((), ())
            for name in wanted:
                found = {sample.example: value for sample in samples if (value := value_of(name, sample)) is not None}
                self._scores.setdefault(name, {}).update(found)
            self._scored += 1
        return self._scores[metric]

    def stop(self, blocks: int, why: str, looks: int) -> None:
        """The cell was asked enough."""
        assert self.together is not None
        asked = self.together.tasks[self.cell.task.name]
        rows = sorted(row for block in self.together.blocks[:blocks] for row in block[self.cell.task.name])
        self.answers = self.answers.of(rows)
        self.stopped = Stopped(
            n=len(rows),
            of=asked.sizes[0],
            why=why,
            rule=self.together.stopping[self.key].rule,
            looks=looks,
            units=asked.sizes[1],
            largest=asked.sizes[2],
            questions=self._digest,
            answers=tuple(Kept(slot.step, slot.what, slot.i, slot.k, answer) for slot, answer in self.answers.answers.items()),
        )

    def told(self, result: CellResult) -> CellResult:
        """The result of a cell; of one that was stopped, as it is kept."""
        if self.stopped is None or self.together is None:
            return result
        asked = self.together.tasks[self.cell.task.name]
        samples = {step: [sample for sample in result.samples if sample.step == step] for step in result.metrics}
        questions = self.together.stopping[self.key].questions
        metrics = {step: at_every_look(found, samples[step], asked, questions) for step, found in result.metrics.items()}
        return replace(result, metrics=metrics, stopped=self.stopped)

    def _kept(self) -> dict[Slot, Answer]:
        """What was answered before the cell was stopped, where the same would be asked now."""
        stopped = self._work.stopped.get(self.key)
        if stopped is None or self._rerun or stopped.questions != self._digest:
            return {}
        return {Slot(each.step, each.what, each.i, each.k): each.answer for each in stopped.answers}  # type: ignore[arg-type]

    @property
    def _digest(self) -> str:
        """Hash of all that is asked, and behind what."""
        learnt = [self._learnt[step].key for step in sorted(self._learnt)]
        return self.answers.questions.digest(self._steps, learnt)

    @property
    def _learnt(self) -> Mapping[int, Learnt]:
        return self._work.learnt.get(self.cell.key, {})

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

    def plans(self, cells: Sequence[Cell]) -> list[EvaluationPlan]:
        """What is asked of cells: first of those that are asked in blocks."""
        stopping = {} if self._work.stage.rerun else self._work.stopping
        groups: dict[str, list[Cell]] = {}
        for cell in cells:
            if cell.key in stopping:
                groups.setdefault(stopping[cell.key].together, []).append(cell)
        found = []
        for group in groups.values():
            tasks = {cell.task.name: Asked.of(cell.task.name, self._work.rows.of(cell.task).test) for cell in group}
            together = Together({cell.key: stopping[cell.key] for cell in group}, tasks)
            found += [EvaluationPlan(cell, self._work, together) for cell in group]
        return [*found, *(EvaluationPlan(cell, self._work) for cell in cells if cell.key not in stopping)]

    def receive(self, more: More) -> None:
        """Take further cells on."""
        self._work.receive(more)

    def finish(self, plan: EvaluationPlan, stream: Stream[EvaluationPlan]) -> None:
        """Score a cell."""
        self._work.costs[plan.cell.key]["answer_s"] = stream.since_last
        try:
            result = plan.told(result_of(plan.answers, self._work, self._engine, looks=plan.looks))
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
