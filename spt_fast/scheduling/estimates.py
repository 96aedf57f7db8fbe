"""How long the cells of a grid take: from what done cells took, or else a guess from the size of the models. A pure function.

For the order of work (the longest model first) and for `run --dry-run`. A guess counts floating-point operations:

    answering  2 x parameters x tokens          (Kaplan et al., arXiv 2001.08361, section 2.1)
    training   4 x parameters x tokens          forward, and backward to the vectors; the frozen weights need no gradient

and adds a floor for each request, update and start, which is all that there is of a small model. What was measured corrects it:
measured seconds / guessed seconds, the median of the cells that are nearest.

    the same model, task and protocol     its own median
    otherwise                             the same task and protocol of other models (or the task's other protocols, or all),
                                          times how the model, on what was measured of it, differs from the others
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from spt_fast.config import Learning, Protocol
from spt_fast.models.identity import Model
from spt_fast.plan import Stage
from spt_fast.plan.cell import Cell, TaskRows
from spt_fast.tasks.base import Cut, FileSource, GeneratedSource, Row, Task, typical
from spt_fast.tasks.library import LibrarySource
from spt_fast.tasks.rows import CHOOSING_ROWS

GPU_FLOPS = 3e14
"""Operations a second of one GPU: a third of what an H100 has in bf16. With `WRITTEN`, 9,000 tokens a second of an 8B model."""
CPU_FLOPS = 2e11
"""Operations a second of two CPU cores: training on 2 cores of an AMD EPYC (benchmarks/results/cpu/training-step.json)."""
WRITTEN = 2.0
"""A token that is written costs as much as so many that are read: writing waits for memory."""
REQUEST_S = 0.0015
"""Least seconds of a request, however small the model."""
UPDATE_S = 0.05
"""Least seconds of an update of the vectors."""
READ_BYTES = 1e9
"""Bytes of weights that are read from disk in a second."""
GPU_START_S = 45.0
"""Start of vLLM on a GPU beside reading the weights: processes, compilation, CUDA graphs."""
CPU_START_S = 5.0
"""Start of vLLM on a CPU beside reading the weights."""
LOAD_S = 0.5
"""Load of a model for training beside reading the weights."""

CHARACTERS = 4.0
"""Characters of a token, about, in English."""
WRITES = 0.25
"""The part of a task's `max_tokens` that a model writes, about, where nothing shows it the form of the answer."""
SHOWN = 1.5
"""What it writes where the form is shown or learnt, in lengths of the target."""
REREAD = 8.0
"""Tokens in front of a continuation that are read again, about: half a block of vLLM's cache of prefixes."""
TYPICAL_ROWS = 2_000
"""Test rows of a task of which nobody says how many it has."""
TYPICAL_TOKENS = 100.0
"""Tokens of a prompt where the task has no sample row."""
TYPICAL_OPTIONS = 4
"""Options of a closed-ended task without a sample row."""
TYPICAL_PARAMETERS = 7e9
"""Of a model of which nobody says how large it is."""
RULING_TOKENS = 200.0
"""What a judge is told beside the question and the completion."""
RULINGS = 2
"""Requests of a judge for each completion: on knowledge, on form."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a done cell took."""

    cell: Cell
    costs: Mapping[str, float]
    """Of its result: load_s, engine_start_s, train_s, answer_s, judge_engine_start_s, judge_s, carried_checkpoints. Any may be
    missing."""
    rows: int | None = None
    """Test rows that it was asked (`Metric.n`), where that is known."""


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """Expected seconds of the cells of one model, one after the other in one worker."""

    load_s: float
    """Of the model that is trained with; 0 where nothing is trained."""
    train_s: float
    engine_s: float
    """Start of the engine."""
    answer_s: float

    @property
    def start_s(self) -> float:
        """Before it does anything useful."""
        return self.load_s + self.engine_s

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.start_s + self.train_s + self.answer_s


class Estimates:
    """What to expect of a grid's cells.

    Args:
        measured: cells that were done, as far as they are known, on machines like those of the cells to come.
        gpu: whether models run on GPUs, as many as `Model.gpus`; else on a CPU.
        lengths: task -> how long its texts are (`tasks.lengths`), where its rows were read; else its sample row says so.
    """

    def __init__(
        self, measured: Iterable[Measured] = (), *, gpu: bool, lengths: Mapping[str, Mapping[str, float]] | None = None
    ) -> None:
        kept = list(measured)
        self._guess = _Guess(gpu=gpu, totals=_totals(kept), lengths=lengths or {})
        self._starts = _Ratios(self._measured_starts(kept, "engine_start_s", "judge_engine_start_s"))
        self._loads = _Ratios(self._measured_starts(kept, "load_s"))
        self._trains = _Ratios(self._measured_trains(kept))
        self._answers = _Ratios([*self._measured_answers(kept), *self._measured_rulings(kept)])
        self._measured = sum(any(_seconds(each.costs, name) for name in ("answer_s", "judge_s")) for each in kept)

    @property
    def measured(self) -> int:
        """How many done cells it goes by."""
        return self._measured

    @property
    def basis(self) -> str:
        """What it rests on, in words: "going by 12 cells done"."""
        if not self.measured:
            return "a guess from the size of the models; nothing has been measured yet"
        return f"going by {self.measured} cell{'s' * (self.measured > 1)} done"

    def start_s(self, model: Model, *, training: bool) -> float:
        """Expected seconds before a worker of a model does anything useful: its engine's start, and the load to train with."""
        return self.engine_s(model) + (self.load_s(model) if training else 0.0)

    def engine_s(self, model: Model) -> float:
        """Expected seconds of its engine's start."""
        return self._guess.start_s(model) * self._starts(model.fingerprint)

    def load_s(self, model: Model) -> float:
        """Expected seconds of the load to train with."""
        return self._guess.load_s(model) * self._loads(model.fingerprint)

    def train_s(self, cell: Cell) -> float:
        """Expected seconds to train a cell's vectors, which cells of one `tuning_key` do together; 0 without any."""
        if not cell.protocol.learns:
            return 0.0
        return self._guess.train_s(cell) * self._trains(*_train_key(cell))

    def answer_s(self, cell: Cell) -> float:
        """Expected seconds to evaluate a cell, at all its steps; of a judged cell, those of its judge's rulings."""
        return self._guess.answer_s(cell) * self._answers(*_answer_key(cell))

    def requests(self, cell: Cell) -> float:
        """About how many requests a cell has, or its judge's rulings."""
        return self._guess.requests(cell)

    def rerun_s(self, cell: Cell, share: float) -> float:
        """Expected seconds to evaluate a share of a cell's rows again, at its last step."""
        return share * self.answer_s(cell) / len(cell.steps)

    def trainings(self, stage: Stage, cells: Iterable[Cell] | None = None) -> dict[str, float]:
        """Tuning key -> expected seconds, of all that one worker trains for a stage: each once, what others start from too.

        Args:
            stage: that learns.
            cells: of it; None: all.
        """
        found: dict[str, float] = {}
        for cell in stage.cells if cells is None else cells:
            for each in (cell, stage.first(cell)):
                if each is not None and (seconds := self.train_s(each)):
                    found[each.tuning_key] = max(seconds, found.get(each.tuning_key, 0.0))
        return found

    def cold_trainings(self, stage: Stage) -> dict[str, float]:
        """The same of a stage's carried cells, if each were trained cold by itself, without steps of its own behind that."""
        firsts = (cell.first for cell in stage.cells if cell.key in stage.carried)
        return {first.tuning_key: self.train_s(first) for first in firsts if first is not None}

    def stage(self, stage: Stage) -> Seconds:
        """Expected seconds of a stage in one worker; cells that share their vectors learn them once."""
        learnt = self.trainings(stage) if stage.judge is None and not stage.rerun else {}
        return Seconds(
            load_s=self.load_s(stage.model) if learnt else 0.0,
            train_s=sum(learnt.values()),
            engine_s=self.engine_s(stage.model),
            answer_s=sum(self.rerun_s(cell, stage.rerun) if stage.rerun else self.answer_s(cell) for cell in stage.cells),
        )

    # Measured seconds beside guessed ones

    def _measured_starts(self, measured: Iterable[Measured], of_model: str, of_judge: str = "") -> Iterable[_Point]:
        guess = self._guess.load_s if of_model == "load_s" else self._guess.start_s
        for each in measured:
            if seconds := _seconds(each.costs, of_model):
                yield _Point(each.cell.model.fingerprint, None, None, seconds / guess(each.cell.model))
            if each.cell.judge is not None and (seconds := _seconds(each.costs, of_judge)):
                judge = each.cell.judge.model
                yield _Point(judge.fingerprint, None, None, seconds / guess(judge))

    def _measured_trains(self, measured: Iterable[Measured]) -> Iterable[_Point]:
        """The cells that have learnt together have the seconds in equal parts; the longest of them says what was learnt."""
        groups: dict[str, dict[Hashable, tuple[Cell, float]]] = {}
        carried = set()
        for each in measured:
            if each.costs.get("carried_checkpoints"):  # it started from another checkpoint's
                carried.add(each.cell.key)
            if seconds := _seconds(each.costs, "train_s"):
                # A judged cell has the costs of the cell that it rests on, which may be here too.
                own = (each.cell.task.name, each.cell.task.limit, each.cell.protocol)
                groups.setdefault(each.cell.tuning_key, {})[own] = (each.cell, seconds)
        for group in groups.values():
            cell = max((cell for cell, _ in group.values()), key=self._guess.train_s)
            # Its seconds count what it starts from: that was learnt for it, or for another one in its place.
            first = None if cell.key in carried else cell.first
            if guessed := self._guess.train_s(cell) + (self._guess.train_s(first) if first is not None else 0.0):
                yield _Point(*_train_key(cell), sum(seconds for _, seconds in group.values()) / guessed)

    def _measured_answers(self, measured: Iterable[Measured]) -> Iterable[_Point]:
        for each in measured:
            asked = each.cell.unjudged
            if seconds := _seconds(each.costs, "answer_s"):
                yield _Point(*_answer_key(asked), seconds / self._guess.answer_s(asked))

    def _measured_rulings(self, measured: Iterable[Measured]) -> Iterable[_Point]:
        """A judge counts its seconds from its start, so those of its last cell are those of all."""
        engines: dict[Hashable, list[Measured]] = {}
        for each in measured:
            if each.cell.judge is not None and _seconds(each.costs, "judge_s"):
                start = each.costs.get("judge_engine_start_s")  # tells one engine of a judge from the next
                engines.setdefault((each.cell.judge.model.fingerprint, start), []).append(each)
        for group in engines.values():
            took = max(each.costs["judge_s"] for each in group)
            ratio = took / sum(self._guess.answer_s(each.cell) for each in group)
            yield from (_Point(*_answer_key(each.cell), ratio) for each in group)


@dataclass(frozen=True, slots=True)
class _Point:
    """Measured seconds / guessed seconds, and of what."""

    model: str
    task: Hashable
    protocol: Hashable
    ratio: float


class _Ratios:
    """What a guess is to be multiplied with, from the points nearest to it; 1 without any."""

    def __init__(self, points: Iterable[_Point]) -> None:
        found = list(points)
        self._exact = _medians(((point.model, point.task, point.protocol), point.ratio) for point in found)
        self._protocols = _medians(((point.task, point.protocol), point.ratio) for point in found)
        self._tasks = _medians((point.task, point.ratio) for point in found)
        self._all = median(point.ratio for point in found) if found else 1.0
        self._models = _medians((point.model, point.ratio / self._usual(point.task, point.protocol)) for point in found)

    def __call__(self, model: str, task: Hashable = None, protocol: Hashable = None) -> float:
        exact = self._exact.get((model, task, protocol))
        return self._usual(task, protocol) * self._models.get(model, 1.0) if exact is None else exact

    def _usual(self, task: Hashable, protocol: Hashable) -> float:
        """Whatever the model."""
        return self._protocols.get((task, protocol), self._tasks.get(task, self._all))


def _medians(pairs: Iterable[tuple[Hashable, float]]) -> dict[Hashable, float]:
    found: dict[Hashable, list[float]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return {key: median(values) for key, values in found.items()}


def _seconds(costs: Mapping[str, float], name: str) -> float:
    """A cost; 0 where it is missing, or no number of seconds."""
    value = costs.get(name, 0.0)
    return value if math.isfinite(value) and value > 0 else 0.0


def _train_key(cell: Cell) -> tuple[str, Hashable, Hashable]:
    return cell.model.fingerprint, cell.source.name, cell.protocol


def _answer_key(cell: Cell) -> tuple[str, Hashable, Hashable]:
    if cell.judge is None:
        return cell.model.fingerprint, cell.task.name, cell.protocol
    return cell.judge.model.fingerprint, ("ruling", cell.task.name), cell.protocol


def _size_key(model: Model) -> Hashable:
    return model.name, model.fingerprint, model.gpus, model.parameters, model.weight_bytes


# Guesses


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """How long the texts of a task are, in tokens."""

    instruction: float
    item: float
    target: float
    options: int
    option: float
    """An option, on average."""
    written: float
    """Of a completion, where nothing shows the form of the answer."""

    def writes(self, protocol: Protocol) -> float:
        """Of a completion: where the form is shown or learnt, little more than the target."""
        shown = protocol.shots > 0 or protocol.learns
        return max(1.0, min(self.written, SHOWN * self.target)) if shown else self.written


class _Asked(NamedTuple):
    """What a cell is asked, in all."""

    requests: float
    read: float
    """Tokens."""
    written: float
    """Tokens."""


class _Guess:
    """Seconds by counting operations."""

    def __init__(self, *, gpu: bool, totals: Mapping[Hashable, int], lengths: Mapping[str, Mapping[str, float]]) -> None:
        self._gpu, self._lengths = gpu, lengths
        self._totals = totals
        self._known: dict[Hashable, float] = {}
        self._shapes: dict[str, _Shape] = {}
        self._published: dict[str, int] = {}

    def start_s(self, model: Model) -> float:
        """Of its engine."""
        return (GPU_START_S if self._gpu else CPU_START_S) + _weight_bytes(model) / READ_BYTES

    def load_s(self, model: Model) -> float:
        """Of the model that is trained with."""
        return LOAD_S + _weight_bytes(model) / READ_BYTES

    def train_s(self, cell: Cell) -> float:
        """Of a cell alone. Kept, as `answer_s` is: a large grid has few kinds of cells."""
        key = ("train", _size_key(cell.model), cell.source.name, cell.source.ref, cell.protocol)
        if key not in self._known:
            self._known[key] = self._train_s(cell)
        return self._known[key]

    def answer_s(self, cell: Cell) -> float:
        """Of a cell, or of its judge's rulings."""
        key = self._asked_key(cell)
        if key not in self._known:
            self._known[key] = self._answer_s(cell)
        return self._known[key]

    def requests(self, cell: Cell) -> float:
        """Of a cell, or of its judge."""
        key = ("requests", *self._asked_key(cell))
        if key not in self._known:
            self._known[key] = self._asked(cell).requests if cell.judge is None else self._rulings(cell)
        return self._known[key]

    def _asked_key(self, cell: Cell) -> tuple[Hashable, ...]:
        model, task = cell.model if cell.judge is None else cell.judge.model, cell.task
        return (cell.judge is None, _size_key(model), task.name, task.ref, task.content, task.limit, cell.protocol)

    def _rulings(self, cell: Cell) -> float:
        return float(RULINGS * len(cell.steps) * self._rows(cell.task))

    def _train_s(self, cell: Cell) -> float:
        protocol = cell.protocol
        if not protocol.learns:
            return 0.0
        assert isinstance(protocol, Learning)
        shape = self._shape(cell.source)
        tokens = protocol.soft_length + shape.instruction + shape.item + shape.target
        operations = 4 * _parameters(cell.model) * protocol.batch_size * tokens
        return protocol.steps * (UPDATE_S + operations / self._flops(cell.model))

    def _answer_s(self, cell: Cell) -> float:
        if cell.judge is None:
            model, asked = cell.model, self._asked(cell)
        else:
            shape, requests = self._shape(cell.task), self._rulings(cell)
            model, read = cell.judge.model, requests * (RULING_TOKENS + shape.item + shape.written)
            asked = _Asked(requests=requests, read=read, written=requests)
        operations = 2 * _parameters(model) * (asked.read + WRITTEN * asked.written)
        return asked.requests * REQUEST_S + operations / self._flops(model)

    def _asked(self, cell: Cell) -> _Asked:
        """All that a cell is asked. What several requests begin with is read once: instruction, shots, a row's question."""
        shape, protocol, task = self._shape(cell.task), cell.protocol, cell.task.task
        rows, steps = self._rows(cell.task), len(cell.steps)
        before = protocol.soft_length + shape.instruction + protocol.shots * (shape.item + shape.target)
        if not task.closed_ended:  # a completion, and behind the same prompt the gold answer
            read = steps * (before + rows * (shape.item + shape.target + 2 * REREAD))
            return _Asked(requests=2 * steps * rows, read=read, written=steps * rows * shape.writes(protocol))
        # A completion, and the options as they are listed; by cloze, their texts behind the question, and behind the cue. Of
        # the rows that the best of these ways is chosen by, the likelihoods.
        listed = shape.item + shape.options * (shape.option + REREAD)
        ways = 0 if task.cloze is None else 2
        question = max(0.0, shape.item - shape.options * shape.option) if ways else 0.0
        cloze = question + ways * shape.options * (shape.option + REREAD)
        choosing = min(CHOOSING_ROWS, rows)
        of_rows = steps * rows * (1 + (1 + ways) * shape.options)
        of_choosing = choosing * (steps + ways) * shape.options
        read = steps * (before + rows * (listed + REREAD + cloze) + choosing * listed) + choosing * cloze
        return _Asked(requests=of_rows + of_choosing, read=read, written=steps * rows * shape.writes(protocol))

    def _flops(self, model: Model) -> float:
        return GPU_FLOPS * model.gpus if self._gpu else CPU_FLOPS

    def _rows(self, task: TaskRows) -> int:
        total = self._totals.get((task.name, task.content))
        if total is None:
            name = task.ref or task.name
            if name not in self._published:
                self._published[name] = _published_rows(task.task)
            total = self._published[name]
        return total if task.limit is None else min(task.limit, total)

    def _shape(self, task: TaskRows) -> _Shape:
        name = task.ref or task.name
        if name not in self._shapes:
            read = self._lengths.get(task.name)
            self._shapes[name] = _shape(task.task) if read is None else _shape_of(task.task, read)
        return self._shapes[name]


def _totals(measured: Iterable[Measured]) -> dict[Hashable, int]:
    """Test rows of the tasks of which a cell was asked all."""
    whole = (each for each in measured if each.rows and (each.cell.task.limit is None or each.rows < each.cell.task.limit))
    return {(each.cell.task.name, each.cell.task.content): each.rows or 0 for each in whole}


def _published_rows(task: Task) -> int:
    source = task.source
    if isinstance(source, GeneratedSource):
        return len(_made(source)) or TYPICAL_ROWS
    if isinstance(source, FileSource | LibrarySource) or "test" not in (sizes := source.of("test").sizes):
        return TYPICAL_ROWS
    return sizes["test"] if task.cut is None else _rows_left(sizes["test"], task.cut)


def _rows_left(count: int, cut: Cut) -> int:
    """Test rows of a data set of `count` rows that is cut in three."""
    return max(1, count - min(cut.tuning, int(cut.share * count)) - cut.few_shot)


def _shape(task: Task) -> _Shape:
    """From its sample row, or the first row that it makes itself."""
    instruction, written = len(task.template.instruction) / CHARACTERS, max(1.0, WRITES * task.sampling.max_tokens)
    example = typical(task)
    if example is None:
        options = TYPICAL_OPTIONS if task.closed_ended else 0
        few = TYPICAL_TOKENS / 10
        return _Shape(instruction=instruction, item=TYPICAL_TOKENS, target=few, options=options, option=few, written=written)
    return _Shape(
        instruction=instruction,
        item=len(task.template.render(example)) / CHARACTERS,
        target=len(example.target) / CHARACTERS,
        options=len(example.options),
        option=sum(map(len, example.options)) / CHARACTERS / max(1, len(example.options)),
        written=written,
    )


def _shape_of(task: Task, lengths: Mapping[str, float]) -> _Shape:
    """From the lengths of its rows, in characters."""
    tokens = {name: lengths[name] / CHARACTERS for name in ("instruction", "item", "target", "option")}
    return _Shape(**tokens, options=round(lengths["options"]), written=max(1.0, WRITES * task.sampling.max_tokens))


def _made(source: GeneratedSource) -> Sequence[Row]:
    try:
        return source.rows("test")
    except Exception:  # a user's own code: the cells will tell what is wrong with it
        return ()


def _parameters(model: Model) -> float:
    """How many it has; from its bytes, or its name ("pythia-160m"), where nobody says."""
    if model.parameters:
        return float(model.parameters)
    if model.weight_bytes:
        return model.weight_bytes / 2
    named = re.search(r"(?:^|[-_/x])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", model.name.lower().split("@")[0])
    return TYPICAL_PARAMETERS if named is None else float(named[1]) * {"b": 1e9, "m": 1e6}[named[2]]


def _weight_bytes(model: Model) -> float:
    return float(model.weight_bytes or 2 * _parameters(model))
