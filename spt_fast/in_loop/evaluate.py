"""`evaluate_in_loop`: train soft prompts on the weights that a training loop holds, and ask behind them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from spt_fast.config import COLD_STEPS, PREVIOUS, GridConfig, ModelConfig, Protocol, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.config.strict import did_you_mean
from spt_fast.engine.transformers import BATCH_SIZE
from spt_fast.errors import ConfigError, DataError, EngineError, ModelError, ScoringError, SptError, TrainingError, boundary
from spt_fast.in_loop.engine import InLoopEngine
from spt_fast.in_loop.ranks import Ranks, Who
from spt_fast.in_loop.result import Asked, InLoopResult, SoftPrompts, flat
from spt_fast.in_loop.sharded import begin, device_of, gathered, reshard, sharded_parts
from spt_fast.in_loop.untouched import untouched
from spt_fast.models.frozen_model import FrozenModel
from spt_fast.models.identity import ChatTemplate, Model
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.models.unwrapped import recomputes, unwrapped
from spt_fast.plan.cell import Cell, TaskRows
from spt_fast.plan.expansion import cells_of
from spt_fast.prompts.carried import provenance_of
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.tasks.rows import Rows
from spt_fast.training.run import TuningJob
from spt_fast.training.task import provenance, tuning_job
from spt_fast.training.trainer import Tuned, learn_many
from spt_fast.types import Request
from spt_fast.worker.answers import CellAnswers, Slot
from spt_fast.worker.questions import all_questions, require_no_thought
from spt_fast.worker.requests import requests_of
from spt_fast.worker.result import scored

_STARTS = ("steps", "cold_steps", "init", "init_std", "init_range", "init_tokens", "init_text", "init_from", "encoder")
_OWN = (*_STARTS, "encoder_hidden", "patience", "patience_on", "held_out", "check_every", "evaluate_at")
"""Settings of a soft prompt that are parameters here, or make no sense where all ranks take the same steps."""
_THREAD = "in-loop"
_ROWS_KEPT = 64
_rows: dict[str, Rows] = {}


def evaluate_in_loop(
    model: Any,
    tokenizer: Any,
    tasks: str | TaskConfig | Sequence[str | TaskConfig],
    *,
    soft_prompts: Mapping[str, SoftPrompt] | str | os.PathLike[str] | None = None,
    steps: int = 10,
    cold_steps: int = COLD_STEPS,
    limit: int | None = 100,
    seed: int = 0,
    soft_prompt: Mapping[str, Any] | None = None,
    zero_shot: bool = False,
    chat_template: bool = False,
    max_tokens: int | None = None,
    batch_size: int = BATCH_SIZE,
    autocast: torch.dtype | None = None,
    ranks: Who = "all",
    name: str = "in-loop",
    prefix: str = "spt",
) -> InLoopResult:
    """Evaluate the weights of a training as they are now.

    A soft prompt is trained for each task, `steps` updates from where the last call left it, and the test rows are asked behind
    it: the likelihood of options or gold answers, and greedy completions. The numbers are those of `spt-fast run` with
    `engine: {kind: transformers}` and the same start.

    Weights, gradients, the optimiser, random numbers, hooks, buffers, flags and modes are bit for bit as they were, also behind
    an error. Weights are not copied. Between an update and the next forward pass is the right place to call.

    Where torch.distributed is initialised, all ranks call it with the same arguments: work is divided, and all get the same
    result. What `fully_shard` spreads stays spread.

    Args:
        model: a causal LM of Transformers, as it is or in DDP, `fully_shard`, torch.compile or PEFT.
        tokenizer: its tokenizer.
        tasks: names as in grid.yaml, or `TaskConfig`s.
        soft_prompts: those of the last result, or their file; a task that has none there starts cold.
        steps: updates of each soft prompt.
        cold_steps: updates that one takes before these, where it starts cold; the numbers of all calls are then of `steps`
            updates from a soft prompt.
        limit: most test rows a task; None: all.
        seed: of the vectors' start and the order of the tuning rows.
        soft_prompt: further settings of grid.yaml's `soft_prompt`: {"length": 20, "repeat_rows": True}.
        zero_shot: ask without a soft prompt too.
        chat_template: ask through the tokenizer's chat template.
        max_tokens: most of a completion; None: as each task has it. A model that does not write the form writes to the end.
        batch_size: rows that a rank asks in one pass.
        autocast: compute in this dtype (torch.bfloat16), where weights are fp32; None: in the weights' own.
        ranks: `this`: this process alone evaluates, and the others do not call.
        name: of the model, in soft prompts and messages.
        prefix: of the names of metrics.

    Raises:
        ConfigError: no such task or setting; a model or tokenizer that soft prompts cannot be learnt for.
        ModelError, EngineError: the model cannot be asked.
    """
    if ranks not in ("all", "this"):
        raise ConfigError(f"ranks: must be all or this, not {ranks!r}")
    for what, number in {"batch_size": batch_size, "max_tokens": 1 if max_tokens is None else max_tokens}.items():
        if not isinstance(number, int) or number < 1:
            raise ConfigError(f"{what}: must be a number from 1 on, not {number!r}")
    together = Ranks.of(ranks)
    module = unwrapped(model)
    if together.size == 1 and sharded_parts(module) and ranks == "this":
        raise ConfigError("ranks: this is not for a model that fully_shard has spread: each pass needs all ranks; leave it out")
    wanted = _Wanted(
        config=_settings(soft_prompt, steps, cold_steps),
        seed=seed,
        batch_size=batch_size,
        max_tokens=max_tokens,
        chat=chat_template,
        given=_given(soft_prompts),
    )
    cells = _cells(tasks, wanted, name=name, limit=limit, zero_shot=zero_shot)
    reading = Tokenizer.of(tokenizer, name=f"the tokenizer of {name}")
    _require_fitting(wanted, module)
    reshard(module)
    with untouched(model, autocast=autocast, device=device_of(module)), gathered(_frozen(module)) as recover:
        in_step = bool(sharded_parts(module))
        evaluation = _Evaluation(_called(module, name), reading, cells, wanted, together, in_step=in_step, recover=recover)
        return evaluation.result(prefix)


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    config: SoftPromptConfig
    """Carried, as from one checkpoint of a series to the next."""
    seed: int
    batch_size: int
    max_tokens: int | None
    chat: bool
    given: SoftPrompts

    @property
    def cold(self) -> SoftPromptConfig:
        """What learns the vectors of a task that has none."""
        found = self.config.first()
        assert isinstance(found, SoftPromptConfig)
        return found


def _settings(more: Mapping[str, Any] | None, steps: int, cold_steps: int) -> SoftPromptConfig:
    more = dict(more or {})
    known = [each.name for each in fields(SoftPromptConfig) if each.name not in _OWN]
    for key in more:
        if key in _OWN:
            raise ConfigError(
                f"soft_prompt: {key} is none of its settings here; leave it out (steps and soft_prompts are parameters)"
            )
        if key not in known:
            raise ConfigError(f"soft_prompt: unknown setting {key!r}{did_you_mean(str(key), known)}")
    return SoftPromptConfig(**more, steps=steps, init_from=PREVIOUS, cold_steps=cold_steps)


def _given(soft_prompts: Mapping[str, SoftPrompt] | str | os.PathLike[str] | None) -> SoftPrompts:
    if soft_prompts is None:
        return SoftPrompts()
    if isinstance(soft_prompts, str | os.PathLike):
        if not os.path.exists(soft_prompts):
            raise ConfigError(f"soft_prompts: {os.fspath(soft_prompts)}: no such file; leave it out where there are none yet")
        return SoftPrompts.load(soft_prompts)
    if not isinstance(soft_prompts, Mapping) or not all(isinstance(each, SoftPrompt) for each in soft_prompts.values()):
        raise ConfigError("soft_prompts: must be `soft_prompts` of the last result, or the path of their file")
    return SoftPrompts(soft_prompts)


def _cells(
    tasks: str | TaskConfig | Sequence[str | TaskConfig], wanted: _Wanted, *, name: str, limit: int | None, zero_shot: bool
) -> list[Cell]:
    """As those of a grid of this one model."""
    listed = [tasks] if isinstance(tasks, str | TaskConfig) else list(tasks)
    if not listed:
        raise ConfigError("tasks: there is none; name one, as in ['arc_easy']")
    for each in listed:
        if not isinstance(each, str | TaskConfig):
            raise ConfigError(f"tasks: must be names or TaskConfig(task=..., data_files=...), not {type(each).__name__}")
    entries = tuple(each if isinstance(each, TaskConfig) else TaskConfig(task=each) for each in listed)
    protocols: tuple[Protocol, ...] = (wanted.config, *([ZeroShot()] if zero_shot else []))
    grid = GridConfig(
        name="in-loop",
        models=(ModelConfig(id=name, checkpoints="*"),),
        tasks=entries,
        protocols=protocols,
        seeds=(wanted.seed,),
        limit=limit,
        engine={"kind": "transformers", "batch_size": wanted.batch_size},
    )
    chat: ChatTemplate = "always" if wanted.chat else "never"
    return cells_of(grid, lambda _: [Model(name=name, source=name, fingerprint="in-loop", chat_template=chat)])


def _require_fitting(wanted: _Wanted, module: Any) -> None:
    hidden_size, length = int(module.get_input_embeddings().weight.shape[1]), wanted.config.length
    for task, prompt in wanted.given.items():
        if (prompt.length, prompt.hidden_size) != (length, hidden_size):
            raise ConfigError(
                f"soft_prompts: that of {task} is {prompt.length} vectors of {prompt.hidden_size} numbers, where {length} "
                f"(length) of {hidden_size} (the model's width) are wanted; leave it out, and it starts cold"
            )


def _frozen(module: torch.nn.Module) -> torch.nn.Module:
    """Frozen before shards are gathered: whole parameters take their flags from them. `untouched` gives all of them back."""
    begin(module)
    if "_original_forward" in vars(module):  # Accelerate's, with an autocast of its own
        vars(module).pop("forward", None)
    return module.requires_grad_(False).train(False)


def _called(module: Any, name: str) -> FrozenModel:
    with boundary(ModelError, f"model: {type(module).__name__} cannot be asked as a causal LM"):
        model = FrozenModel(module, name=name, recomputed=recomputes(module))
        reads_ahead = _reads_ahead(model)
    if reads_ahead:
        raise ConfigError(
            f"model: {type(module).__name__} is no causal LM: what it says of a token depends on those behind it; "
            "give the model of AutoModelForCausalLM"
        )
    return model


@torch.no_grad()
def _reads_ahead(model: FrozenModel) -> bool:
    """Whether the first token's logits are others where the last token is another."""
    first = torch.zeros(1, dtype=torch.long, device=model.device)
    ids = ([0, 1, 2, 3], [0, 1, 2, 4])
    one, other = (model.logits_at(model.embed(torch.tensor([row], device=model.device)), first).float() for row in ids)
    return bool((one - other).abs().max() > 0.05 * one.abs().max())


class _Evaluation:
    """One call, step by step."""

    def __init__(
        self,
        model: FrozenModel,
        tokenizer: Tokenizer,
        cells: Sequence[Cell],
        wanted: _Wanted,
        ranks: Ranks,
        *,
        in_step: bool,
        recover: Callable[[], None],
    ) -> None:
        """
        Args:
            model: frozen.
            tokenizer: its own.
            cells: what is asked.
            wanted: the other arguments.
            ranks: who evaluates together.
            in_step: whether all ranks have to make the same passes.
            recover: to be called after a pass that failed.
        """
        self._model, self._tokenizer, self._cells, self._wanted = model, tokenizer, cells, wanted
        self._ranks, self._in_step, self._recover = ranks, in_step, recover
        self._failed: dict[str, str] = {}
        self._seconds: dict[str, float] = {}

    def result(self, prefix: str) -> InLoopResult:
        """All of it."""
        with self._timed("prepare"):
            self._require_same_arguments()
            answers = self._questions()
            _require_own_tokens(answers, self._model, self._tokenizer)
        with self._timed("train"):
            learnt = self._learnt([each.cell for each in answers if each.cell.protocol.learns])
        with self._timed("ask"):
            self._ask(answers, learnt)
        with self._timed("score"):
            asked = [found for each in answers if (found := self._score(each)) is not None]
        prompts = {**self._wanted.given, **learnt}
        return InLoopResult(
            metrics=flat(asked, prefix),
            soft_prompts=SoftPrompts(prompts),
            asked=asked,
            failed=self._failed,
            seconds=self._seconds,
        )

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._seconds[phase] = time.perf_counter() - began

    @contextmanager
    def _told(self, cell: Cell) -> Iterator[None]:
        """A task that fails says why, and leaves the others alone."""
        try:
            yield
        except SptError as e:
            self._failed.setdefault(cell.task.name, str(e))

    def _require_same_arguments(self) -> None:
        """Refuse to begin where ranks would wait for one another in vain.

        Raises:
            ConfigError: what they are asked differs.
        """
        given = {task: prompt.key for task, prompt in sorted(self._wanted.given.items())}
        mine = f"{[cell.content for cell in self._cells]} {self._wanted.max_tokens} {given}"
        if len(set(self._ranks.gather(lambda: mine))) > 1:
            raise ConfigError("ranks: were not all called with the same tasks, settings and soft_prompts; give each the same")

    def _questions(self) -> list[CellAnswers]:
        """What is asked of the tasks that all ranks can read."""
        found = self._own_questions()
        for failed in self._ranks.gather(lambda: dict(self._failed)):
            self._failed = {**failed, **self._failed}
        return [each for each in found if each.cell.task.name not in self._failed]

    def _own_questions(self) -> list[CellAnswers]:
        found = []
        for cell in self._cells:
            with self._told(cell), boundary(DataError, cell.task.name):
                rows = _read(cell.task)
                rows.losses.require(cell.task.name, cell.task.allow_left_out)
                require_no_thought(cell.task.task, self._tokenizer, chat=self._wanted.chat)
                asked = all_questions(cell, rows, self._tokenizer, chat=self._wanted.chat)
                answers = CellAnswers(cell, cell.steps, asked)
                if self._wanted.max_tokens is not None:
                    answers.window.wanted = min(answers.window.wanted, self._wanted.max_tokens)
                found.append(answers)
        return found

    def _learnt(self, cells: Sequence[Cell]) -> dict[str, SoftPrompt]:
        """By task: each is trained by one rank, but where weights are spread, by all of them in step."""
        mine = cells if self._in_step else self._ranks.mine(cells)
        parts = self._ranks.gather(lambda: self._trained(mine))
        self._failed |= {task: said for part in parts for task, said in part.failed.items()}
        # Of what all ranks have learnt, the first one's counts.
        return {task: prompt for part in reversed(parts) for task, prompt in part.prompts.items()}

    def _trained(self, cells: Sequence[Cell]) -> _Part:
        part = _Part()
        given = self._wanted.given
        cold = [cell for cell in cells if cell.task.name not in given]
        starts = {cell.task.name: given[cell.task.name] for cell in cells if cell.task.name in given}
        starts |= self._learn(part, cold, self._wanted.cold, {})
        warm = [cell for cell in cells if cell.task.name in starts]
        part.prompts |= self._learn(part, warm, self._wanted.config, starts)
        return part

    def _learn(
        self, part: _Part, cells: Sequence[Cell], config: SoftPromptConfig, starts: Mapping[str, SoftPrompt]
    ) -> dict[str, SoftPrompt]:
        task_of: dict[TuningJob, str] = {}
        tuned = learn_many(
            self._model,
            self._jobs(part, cells, config, starts, task_of),
            pad_id=self._tokenizer.pad_token_id,
            at_once=1 if self._in_step else None,
        )
        return {task_of[each.job]: each.prompts[config.steps] for each in tuned if self._succeeded(each, part, task_of)}

    def _succeeded(self, tuned: Tuned, part: _Part, task_of: Mapping[TuningJob, str]) -> bool:
        if tuned.error is None:
            return True
        self._recover()
        try:
            with boundary(TrainingError, "training"):
                raise tuned.error
        except SptError as e:
            part.failed[task_of[tuned.job]] = str(e)
        return False

    def _jobs(
        self,
        part: _Part,
        cells: Sequence[Cell],
        config: SoftPromptConfig,
        starts: Mapping[str, SoftPrompt],
        task_of: dict[TuningJob, str],
    ) -> Iterator[TuningJob]:
        for cell in cells:
            start = starts.get(cell.task.name)
            try:
                with boundary(TrainingError, "training"):
                    job = self._job(cell, config, start)
            except SptError as e:
                part.failed[cell.task.name] = str(e)
                continue
            task_of[job] = cell.task.name
            yield job

    def _job(self, cell: Cell, config: SoftPromptConfig, start: SoftPrompt | None) -> TuningJob:
        return tuning_job(
            self._model,
            self._tokenizer,
            cell.source.task,
            _read(cell.source),
            config,
            seed=self._wanted.seed,
            chat=self._wanted.chat,
            given=start,
            provenance={
                **provenance(cell.model, cell.source.task, self._wanted.seed),
                **({} if start is None else provenance_of(start, thread=_THREAD)),
            },
        )

    def _ask(self, answers: Sequence[CellAnswers], learnt: Mapping[str, SoftPrompt]) -> None:
        engine = self._engine()
        asked: list[tuple[CellAnswers, Slot, Request]] = []
        for each in answers:
            if each.cell.task.name in self._failed:
                continue
            with self._told(each.cell):
                behind = {each.steps[-1]: learnt[each.cell.task.name]} if each.cell.protocol.learns else {}
                planned = list(requests_of(each, engine, behind))  # type: ignore[arg-type]  # a step of what learns is a number
                asked += [(each, slot, request) for slot, request in planned]
        for whose, _, request in asked:
            whose.count(request)
        for number, answer in engine.stream(request for _, _, request in asked):
            whose, slot, _ = asked[number]
            whose.take(slot, answer)

    def _engine(self) -> InLoopEngine:
        size = self._wanted.batch_size
        return InLoopEngine.over(self._model, self._tokenizer, self._ranks, batch_size=size, in_step=self._in_step)

    def _score(self, answers: CellAnswers) -> Asked | None:
        cell = answers.cell
        if cell.task.name in self._failed:
            return None
        with self._told(cell):
            _require_sound(answers)
            with boundary(ScoringError, "scoring"):
                metrics, samples, how = scored(answers, _read(cell.task))
            (of_step,) = metrics.values()
            return Asked(task=cell.task.name, protocol=cell.protocol.name, metrics=of_step, samples=samples, provenance=how)
        return None


@dataclass
class _Part:
    """What one rank has trained."""

    prompts: dict[str, SoftPrompt] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def _read(task: TaskRows) -> Rows:
    """The rows of a task, read once in a training."""
    key = f"{task.ref} {task.version} {task.content} {task.limit} {task.data_files} {task.cut}"
    if key not in _rows:
        while len(_rows) >= _ROWS_KEPT:
            _rows.pop(next(iter(_rows)))
        _rows[key] = task.read()
    return _rows[key]


def _require_own_tokens(answers: Sequence[CellAnswers], model: FrozenModel, tokenizer: Tokenizer) -> None:
    """Refuse a tokenizer of another model, as far as that shows.

    Raises:
        ConfigError: its ids go beyond the model's table, or leave most of it unused.
    """
    asked = (question for each in answers for question in (*each.questions.test, *each.questions.choosing))
    highest = max((max(question.token_ids, default=0) for question in asked), default=0)
    V, size = model.vocab_size, tokenizer.size
    if highest >= V or (2 * size < V and V - size > 1000):
        raise ConfigError(
            f"tokenizer: has {size:,} tokens, and the model's table of embeddings {V:,} rows; give the tokenizer of this model"
        )


def _require_sound(answers: CellAnswers) -> None:
    """Refuse to score answers that say nothing of the model."""
    if answers.not_finite:
        raise ModelError(f"logits are not finite (NaN or infinite) in {answers.not_finite:,} answers")
    if fault := answers.window.fault(fix=answers.window.more_positions({})):
        raise EngineError(fault)
