"""JUDGE: one engine judges the completions of all cells that wait for it, start to finish.

Two requests a completion, knowledge and format, all cells in one stream; then the metrics anew. As in stage.py, a cell that
fails says why and leaves the others alone, and nothing is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from spt_fast.engine import config_of
from spt_fast.engine.base import Engine
from spt_fast.errors import DataError, ModelError, ScoringError, SptError, boundary
from spt_fast.models.identity import require_resolved
from spt_fast.models.tokenizer import load_tokenizer, uses_chat
from spt_fast.plan import Stage
from spt_fast.plan.cell import Cell
from spt_fast.scoring import judge_prompts
from spt_fast.scoring.judge_prompts import NO, QUESTIONS, YES, Question, Ruling
from spt_fast.scoring.metrics import judged_aggregate
from spt_fast.scoring.settling import of_samples
from spt_fast.types import Answer, CellResult, Completion, Metric, Request, Sample
from spt_fast.worker.backlog import Backlog
from spt_fast.worker.engine_loop import CellPlan, EngineLoop
from spt_fast.worker.events import Event, PhaseStarted
from spt_fast.worker.judge_requests import JudgeRequests
from spt_fast.worker.lease import Lease, More, SoleLease
from spt_fast.worker.questions import thought_of
from spt_fast.worker.stream import Stream

Place: TypeAlias = tuple[int, Question]
"""Which sample of a cell, and what is to be decided of it."""


def run_judging(
    stage: Stage, results: Mapping[str, CellResult], emit: Callable[[Event], None], lease: Lease | None = None
) -> None:
    """Have the stage's judge rule on its cells; each ends in `CellDone` or `CellFailed`.

    Args:
        stage: the judge and the cells.
        results: cell key -> the cell's result by the task's rules, samples included.
        emit: told of what happens.
        lease: asked before a cell is begun, and for more when nothing is left; None: no other worker has this judge.
    """
    backlog = Backlog(stage, emit, lease or SoleLease(), blame=f"judge {stage.model.name}: ")
    try:
        judging = Judging(backlog, dict(results))
        judging.prepare()
        judging.run()
    except SptError as e:  # of the judge, not of one cell
        backlog.fail_all(e)


class JudgePlan(CellPlan[Place]):
    """What the judge is asked of a cell's completions."""

    phase = "judge"

    def __init__(self, cell: Cell, judging: Judging) -> None:
        super().__init__(cell, judging.backlog)
        self._judging = judging
        self._places = to_decide(judging.results[cell.key])
        self.verdicts: dict[Place, bool] = {}

    @property
    def expected(self) -> int:
        """How many requests there are."""
        return len(self._places)

    def build(self, engine: Engine) -> Sequence[tuple[Place, Request]]:
        """One request for each thing to decide."""
        requests, samples = self._judging.requests, self._judging.results[self.cell.key].samples
        return [((i, what), requests.of(self.cell.task, samples[i], what, engine)) for i, what in self._places]

    def take(self, place: Place, answer: Answer) -> None:
        """Keep a verdict.

        Raises:
            ModelError: the judge's logits are not finite.
            ScoringError: it is no verdict.
        """
        assert isinstance(answer, Completion)
        if not answer.finite:
            from spt_fast.models import finite

            model = self._judging.backlog.stage.model
            why = finite.why(model.source, model.revision, model.dtype)
            raise ModelError(f"logits are not finite (NaN or infinite): {why}")
        self.verdicts[place] = _verdict(answer.text)


class Judging(EngineLoop[JudgePlan]):
    """Has a judge rule on the cells of a stage."""

    phase = "judge"
    unit = "verdicts"

    def __init__(self, backlog: Backlog, results: dict[str, CellResult]) -> None:
        stage = backlog.stage
        assert stage.judge is not None
        config = config_of(stage.model, stage.judge.engine)
        super().__init__(backlog, replace(config, nodes=stage.nodes, followers=backlog.lease.followers), cuts=True)
        self.results = results
        """By cell key, by the task's rules."""
        self._engine_start_s = 0.0

    def prepare(self) -> None:
        """Read the judge's tokenizer, and of each task what was asked and what is right.

        Raises:
            ModelError: there is no such judge, or it cannot answer at once.
        """
        model = self.backlog.stage.model
        self.backlog.emit(PhaseStarted(phase="load"))
        require_resolved(model)
        tokenizer = load_tokenizer(model)
        chat = uses_chat(model, tokenizer)
        if chat and (thought := thought_of(tokenizer, "a judge has to answer at once, in one word")):
            raise ModelError(thought)
        self.requests = JudgeRequests(self.backlog.stage, tokenizer, chat=chat)
        self._read_tasks()

    def receive(self, more: More) -> None:
        """Take further cells on."""
        self.backlog.add(more.cells)
        self.results.update(more.given)  # type: ignore[arg-type]  # what a judge's cells are given are results
        self._read_tasks()

    def started(self, engine: Engine, seconds: float) -> None:
        """Take note of what it has cost to start."""
        self._engine_start_s = seconds

    def plans(self, cells: Sequence[Cell]) -> list[JudgePlan]:
        """What the judge is asked of cells."""
        return [JudgePlan(cell, self) for cell in cells]

    def finish(self, plan: JudgePlan, stream: Stream[JudgePlan]) -> None:
        """Put the verdicts in place of the rules', and count anew."""
        try:
            with boundary(ScoringError, "scoring what the judge said"):
                result = self._judged(plan, seconds=stream.seconds)
        except SptError as e:
            self.backlog.fail([plan.cell], e)
        else:
            self.backlog.done(plan.cell, result)

    def _read_tasks(self) -> None:
        left = list(self.backlog.left.values())
        gone = DataError("what it is to rule on cannot be read in the run folder; do the cell again with --fresh")
        self.backlog.fail([cell for cell in left if cell.key not in self.results], gone)
        for task in {cell.task.name: cell.task for cell in self.backlog.left.values()}.values():
            try:
                self.requests.read(task)
            except SptError as e:
                self.backlog.fail([cell for cell in left if cell.task.name == task.name], e)

    def _judged(self, plan: JudgePlan, *, seconds: float) -> CellResult:
        by_rules = self.results[plan.cell.key]
        samples = judge_prompts.ruled(by_rules.samples, _rulings(plan.verdicts, len(by_rules.samples)))
        model = self.backlog.stage.model
        judge = {"judge": model.name, "judge_fingerprint": model.fingerprint, "judge_rules": judge_prompts.RULES}
        if self.backoff.note:
            judge["judge_engine_lowered"] = self.backoff.note
        return CellResult(
            metrics=_by_step(plan.cell, samples, by_rules.costs),
            samples=samples,
            costs={**by_rules.costs, "judge_engine_start_s": self._engine_start_s, "judge_s": seconds},
            provenance={**by_rules.provenance, **judge},
        )


def to_decide(result: CellResult) -> list[Place]:
    """What of a cell's samples a judge has to decide."""
    return [
        (i, what) for i, sample in enumerate(result.samples) for what in QUESTIONS if judge_prompts.needs_judge(sample, what)
    ]


def _verdict(reply: str) -> bool:
    """Raises ScoringError where the engine has let another word through."""
    word = reply.strip()
    if word not in (YES, NO):
        raise ScoringError(f"a judge's reply must be {YES} or {NO}, and is {word[:40]!r}")
    return word == YES


def _rulings(verdicts: Mapping[Place, bool], samples: int) -> dict[int, Ruling]:
    return {
        i: Ruling(knows=verdicts.get((i, "knowledge"), False), format_ok=verdicts.get((i, "format"), False))
        for i in range(samples)
    }


def _by_step(cell: Cell, samples: Sequence[Sample], costs: Mapping[str, float]) -> dict[int | None, tuple[Metric, ...]]:
    found = {step: judged_aggregate([sample for sample in samples if sample.step == step]) for step in cell.steps}
    if (settled := of_samples(samples, costs)) is not None:
        found[cell.steps[-1]] += (settled,)
    return found
