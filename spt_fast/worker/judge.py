"""One judge, start to finish: one engine rules on the completions of all cells that wait for it.

    JUDGE     two requests a completion, knowledge and format, all cells in one stream; then the metrics anew

As in worker.py, a cell that fails says why and leaves the others alone, and nothing is written here.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from spt_fast.engine import config_of, open_engine
from spt_fast.engine.base import Engine, check_request
from spt_fast.engine.oom_backoff import Caution
from spt_fast.errors import DataError, EngineError, ModelError, OutOfMemoryError, ScoringError, SptError, boundary
from spt_fast.models.identity import require_resolved
from spt_fast.models.tokenizer import load_tokenizer, uses_chat
from spt_fast.plan import MOST_DEATHS, Stage, one_by_one
from spt_fast.plan.cell import Cell
from spt_fast.scoring import judge_prompts
from spt_fast.scoring.judge_prompts import NO, QUESTIONS, YES, Question, Ruling
from spt_fast.scoring.metrics import judged_aggregate
from spt_fast.types import CellResult, Completion, Example, Generate, Metric, Sample, Sampling
from spt_fast.worker.events import CellDone, CellFailed, CellStarted, Event, PhaseStarted, Progress, Throttled
from spt_fast.worker.lease import Alone, More, Sharing
from spt_fast.worker.requests import rows_of, thought_of

REPLY = Sampling(max_tokens=16, choices=(YES, NO))
"""Enough tokens for one of the two words under any tokenizer."""

CUT = "\n[...]\n"
"""Stands for the middle of a completion that is too long for the judge."""

_Place: TypeAlias = tuple[int, Question]
"""Which sample of a cell, and what is to be decided of it."""


def run_judging(
    stage: Stage, asked: Mapping[str, CellResult], emit: Callable[[Event], None], sharing: Sharing | None = None
) -> None:
    """Have the stage's judge rule on its cells; each ends in `CellDone` or `CellFailed`.

    Args:
        stage: the judge and the cells.
        asked: cell key -> what the cell came to by the task's rules, samples included.
        emit: told of what happens.
        sharing: asked before a cell is begun, and for more when nothing is left; None: no other worker has this judge.
    """
    assert stage.judge is not None
    work = _Work(stage, dict(asked), emit, sharing or Alone())
    try:
        work.prepare()
        while work.left:
            began = time.perf_counter()
            emit(PhaseStarted(phase="engine", note=work.caution.note))
            try:
                with open_engine(work.caution.config) as engine:
                    work.engine_start_s = time.perf_counter() - began
                    emit(PhaseStarted(phase="judge"))
                    while work.rule(engine):
                        if not work.left and (more := work.sharing.more()) is not None:
                            work.receive(more)
                        if not work.left:
                            break
            except OutOfMemoryError as e:  # at its start
                if (failure := work.caution.failure(e)) is not None:
                    raise failure from e
    except SptError as e:  # of the judge, not of one cell
        work.fail(list(work.left.values()), e)


@dataclass
class _Open:
    """A cell whose requests are in the stream."""

    cell: Cell
    waiting: int
    verdicts: dict[_Place, bool] = field(default_factory=dict)


@dataclass
class _Work:
    """What is left of a stage, and what its steps share."""

    stage: Stage
    asked: dict[str, CellResult]
    emit: Callable[[Event], None]
    sharing: Sharing
    left: dict[str, Cell] = field(init=False)
    alone: set[str] = field(init=False)
    engine_start_s: float = 0.0
    deaths: int = 0
    """Of engines, since a cell was last done."""

    def __post_init__(self) -> None:
        self.left = dict(self.stage.by_key)
        self.alone = set(self.stage.alone)
        self.examples: dict[str, dict[str, Example]] = {}
        self.shown: dict[str, str] = {}
        assert self.stage.judge is not None
        config = config_of(self.stage.model, self.stage.judge.engine)
        self.caution = Caution(replace(config, nodes=self.stage.nodes, partners=self.sharing.partners))

    def prepare(self) -> None:
        """Read the judge's tokenizer, and of each task what was asked, what is right, and an answer that shows the form."""
        self.emit(PhaseStarted(phase="load"))
        require_resolved(self.stage.model)
        self.tokenizer = load_tokenizer(self.stage.model)
        self.chat = uses_chat(self.stage.model, self.tokenizer)
        if self.chat and (thought := thought_of(self.tokenizer, "a judge has to answer at once, in one word")):
            raise ModelError(thought)
        self._read_tasks()

    def receive(self, more: More) -> None:
        """Take further cells on."""
        self.left.update((cell.key, cell) for cell in more.cells)
        self.asked.update(more.given)  # type: ignore[arg-type]  # what a judge's cells are given are results
        self._read_tasks()

    def _read_tasks(self) -> None:
        lost = [cell for cell in self.left.values() if cell.key not in self.asked]
        self.fail(lost, DataError("what it is to rule on cannot be read in the run folder; do the cell again with --fresh"))
        for name in dict.fromkeys(cell.task.name for cell in self.left.values() if cell.task.name not in self.examples):
            cells = [cell for cell in self.left.values() if cell.task.name == name]
            task = cells[0].task
            try:
                rows = rows_of(self.stage, task)
            except SptError as e:
                self.fail(cells, e)
                continue
            self.examples[name] = {example.key: example for example in rows.test}
            # Of a row that is not asked, where there is one.
            self.shown[name] = next(iter((*rows.few_shot, *rows.tuning, *rows.test))).target

    def rule(self, engine: Engine) -> bool:
        """Stream the requests of cells that are left; return whether they are ruled on, or the engine is dead."""
        cells = one_by_one(list(self.left.values()), self.alone, self.deaths)
        places: list[tuple[_Open, _Place]] = []
        open_cells: dict[str, _Open] = {}
        total = sum(len(self._to_decide(cell)) for cell in cells)
        tell, began, answered = Throttled(self.emit), time.perf_counter(), 0

        def requests() -> Iterator[Generate]:
            nonlocal total
            for cell in cells:
                if not self.sharing.claim([cell.key]):  # another worker's now
                    total -= len(self._to_decide(self.left.pop(cell.key)))
                    continue
                self.emit(CellStarted(key=cell.key, phase="judge"))
                try:
                    with boundary(EngineError, "preparing the judge's requests"):
                        planned = [(place, self._request(cell, place, engine)) for place in self._to_decide(cell)]
                except SptError as e:
                    self.fail([cell], e)
                    continue
                opened = _Open(cell, waiting=len(planned))
                if not planned:  # nothing was written at all
                    self._finish(opened, 0.0)
                    continue
                open_cells[cell.key] = opened
                for place, request in planned:
                    places.append((opened, place))
                    yield request

        try:
            for index, answer in engine.stream(requests()):
                opened, place = places[index]
                assert isinstance(answer, Completion)
                if not answer.finite:
                    raise ModelError(f"logits are not finite (NaN or infinite): {self._why_not_finite()}")
                opened.verdicts[place] = _verdict(answer.text)
                opened.waiting -= 1
                answered += 1
                seconds = time.perf_counter() - began
                tell(Progress(phase="judge", done=answered, total=total, note=f"{answered / seconds:.0f} verdicts/s"))
                if opened.waiting == 0:
                    del open_cells[opened.cell.key]
                    self._finish(opened, seconds)
            if open_cells:
                raise EngineError("the judge's engine ended its stream before every request was answered")
        except (EngineError, ScoringError) as e:
            failure = self.caution.failure(e) if isinstance(e, EngineError) else e
            if failure is not None:
                in_flight = [opened.cell for opened in open_cells.values()] or cells
                self.deaths += 1
                if self.deaths >= MOST_DEATHS:
                    self.fail(list(self.left.values()), failure)
                elif len(in_flight) == 1:
                    self.fail(in_flight, failure)
                else:  # of which it died shows when they are ruled on one by one
                    self.alone.update(cell.key for cell in in_flight)
            return False
        return True

    def _why_not_finite(self) -> str:
        from spt_fast.models import finite

        model = self.stage.model
        return finite.why(model.source, model.revision, model.dtype)

    def _to_decide(self, cell: Cell) -> list[_Place]:
        samples = self.asked[cell.key].samples
        return [(i, what) for i, sample in enumerate(samples) for what in QUESTIONS if judge_prompts.needs_judge(sample, what)]

    def _request(self, cell: Cell, place: _Place, engine: Engine) -> Generate:
        """One request; a completion that is too long for the judge loses its middle, the question nothing.

        Raises:
            DataError: the row is not there any more.
            EngineError: the question alone is too long for the judge.
        """
        i, question = place
        sample, task = self.asked[cell.key].samples[i], cell.task.task
        example = self.examples[cell.task.name].get(sample.example)
        if example is None:
            raise DataError(f"{cell.task.name}: row {sample.example} is not among the test rows any more; run it with --fresh")

        def ids_with(completion: str) -> tuple[int, ...]:
            text = judge_prompts.prompt(
                question,
                asked=task.template.render(example),
                instruction=task.template.instruction,
                example=self.shown[cell.task.name],
                answers=example.answers,
                completion=completion,
            )
            return self.tokenizer.prompt_ids(self.tokenizer.render(text, chat=self.chat))

        most = engine.max_model_len - REPLY.max_tokens
        ids, written = ids_with(sample.completion), self.tokenizer.text_ids(sample.completion)
        keep = len(written)
        while len(ids) > most and keep > 0:
            # Encoded anew, what is left can be a little longer than it was as a part: hence the few more, and the loop.
            keep = max(0, keep - (len(ids) - most) - 8)
            head, tail = written[: (keep + 1) // 2], written[len(written) - keep // 2 :]
            ids = ids_with(self.tokenizer.decode(head) + CUT + self.tokenizer.decode(tail))
        request = Generate(token_ids=ids, sampling=REPLY)
        check_request(request, soft_length=0, max_model_len=engine.max_model_len)
        return request

    def _finish(self, opened: _Open, seconds: float) -> None:
        """Put the verdicts in place of the rules', and count anew."""
        cell, by_rules = opened.cell, self.asked[opened.cell.key]
        rulings = {
            i: Ruling(
                knows=opened.verdicts.get((i, "knowledge"), False),
                format_ok=opened.verdicts.get((i, "format"), False),
            )
            for i in range(len(by_rules.samples))
        }
        try:
            with boundary(ScoringError, "scoring what the judge said"):
                samples = judge_prompts.ruled(by_rules.samples, rulings)
                metrics = _by_step(cell, samples)
        except SptError as e:
            self.fail([cell], e)
            return
        costs = {**by_rules.costs, "judge_engine_start_s": self.engine_start_s, "judge_s": seconds}
        judge = {
            "judge": self.stage.model.name,
            "judge_fingerprint": self.stage.model.fingerprint,
            "judge_rules": judge_prompts.RULES,
        }
        if self.caution.note:
            judge["judge_engine_lowered"] = self.caution.note
        result = CellResult(metrics=metrics, samples=samples, costs=costs, provenance={**by_rules.provenance, **judge})
        del self.left[cell.key]
        self.deaths = 0
        self.emit(CellDone(key=cell.key, result=result))

    def fail(self, cells: Sequence[Cell], error: SptError) -> None:
        """Fail these cells with a reason; where it came from stands in the log."""
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        for cell in cells:
            if self.left.pop(cell.key, None) is not None:  # else it has failed already
                reason = f"judge {self.stage.model.name}: {error}"
                self.emit(CellFailed(key=cell.key, kind=type(error).__name__, reason=reason))


def _verdict(reply: str) -> bool:
    """Raises ScoringError where the engine has let another word through."""
    word = reply.strip()
    if word not in (YES, NO):
        raise ScoringError(f"a judge's reply must be {YES} or {NO}, and is {word[:40]!r}")
    return word == YES


def _by_step(cell: Cell, samples: Sequence[Sample]) -> dict[int | None, tuple[Metric, ...]]:
    return {step: judged_aggregate([sample for sample in samples if sample.step == step]) for step in cell.steps}
