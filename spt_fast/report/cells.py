"""What a report knows of a cell, and how cells are put together: by model, task, protocol, over seeds."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, Literal, NamedTuple, TypeAlias

from spt_fast.scoring.metrics import KNOWLEDGE
from spt_fast.scoring.rerun import Rerun
from spt_fast.types import Metric

_ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")

Status: TypeAlias = Literal["done", "failed", "waiting"]


class Verdict(NamedTuple):
    """How one example was judged."""

    format_ok: bool
    knows: bool


class Disagreement(NamedTuple):
    """A completion that the judge and the task's rules see differently."""

    example: str
    what: Literal["format", "knowledge"]
    judge: bool
    completion: str
    """Hostile text."""


@dataclass(frozen=True, kw_only=True)
class CellReport:
    """One cell: what was asked, how it stands, what it came to."""

    model: str
    task: str
    protocol: str
    """Its label: `soft_prompt`, or `soft_prompt[length=5]` where a grid has several of a kind."""
    seed: int | None = None
    status: Status = "done"
    kind: str = ""
    """Failed cells: the boundary they failed at ("EngineError")."""
    reason: str = ""
    """Failed cells: why, in a sentence. May quote what a model wrote."""
    key: str = ""
    metrics: Mapping[int | None, Sequence[Metric]] = field(default_factory=dict)
    """Step (None where the protocol has none) -> metrics."""
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    """Of the last step, by example key; for paired tests. May be empty: then the summary does without them."""
    disagreements: Sequence[Disagreement] = ()
    """Judged cells: where judge and rules differ at the last step."""
    partner_of: str | None = None
    """Post-trained models: the base model whose partner this is."""
    closed_ended: bool | None = None
    """Whether knowledge is by likelihood (True) or by extraction (False); None: not known."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Done cells: the protocol's settings by field name, defaults filled in and a model's own put over them."""
    rerun: Rerun | None = None
    """What came of asking some of its rows again; None: that was not done. Of a judged cell, what the rules say."""
    costs: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)

    @property
    def protocol_name(self) -> str:
        """Without settings: `soft_prompt`."""
        return self.protocol.partition("[")[0]

    @property
    def judged(self) -> bool:
        """Whether a judge has ruled on its completions."""
        return self.metric("judge_agrees_on_knowledge") is not None

    @property
    def last_step(self) -> int | None:
        """The step that tables show."""
        steps = [step for step in self.metrics if step is not None]
        return max(steps) if steps else None

    def metric(self, name: str) -> Metric | None:
        """A metric at the last step; None where it was not measured or is NaN."""
        metric = _named(self.metrics.get(self.last_step, ()), name)
        return None if metric is None or math.isnan(metric.value) else metric

    def curve(self, name: str) -> dict[int, Metric]:
        """A metric by step."""
        steps = sorted((step, metrics) for step, metrics in self.metrics.items() if step is not None)
        return {step: metric for step, metrics in steps if (metric := _named(metrics, name)) is not None}


def _named(metrics: Iterable[Metric], name: str) -> Metric | None:
    """A metric by its name; for `knowledge_best` `knowledge`, where a run is older than the further ways of scoring."""
    found = {metric.name: metric for metric in metrics}
    return found.get(name) or (found.get("knowledge") if name == KNOWLEDGE else None)


def verdicts(rows: Iterable[Mapping[str, Any]], step: int | None) -> dict[str, Verdict]:
    """Verdicts at one step from rows of samples.parquet (columns `example`, `step`, `format_ok`, `knows`, `knows_best`)."""
    return {row["example"]: Verdict(format_ok=row["format_ok"], knows=best(row)) for row in rows if row["step"] == step}


def best(row: Mapping[str, Any]) -> bool:
    """The verdict on knowledge by the best way; of open-ended tasks the only one."""
    return bool(row["knows"] if row.get("knows_best") is None else row["knows_best"])


def disagreements(rows: Iterable[Mapping[str, Any]], step: int | None) -> list[Disagreement]:
    """Where judge and rules differ at one step, from rows of samples.parquet."""
    found = []
    for row in rows:
        if row["step"] != step or row["format_by_rule"] is None:
            continue
        if row["format_ok"] != row["format_by_rule"]:
            found.append(Disagreement(row["example"], "format", row["format_ok"], row["completion"]))
        if row["knows"] != row["knows_by_rule"]:
            found.append(Disagreement(row["example"], "knowledge", row["knows"], row["completion"]))
    return found


@dataclass(frozen=True, kw_only=True)
class OverSeeds:
    """A metric of one model, task and protocol: the mean over its seeds, and the widest span of their intervals."""

    value: float
    low: float
    high: float
    seeds: int
    between: float
    """Standard deviation over the seeds, which answer the same examples: what the start, the order of rows or the choice of
    shots do. NaN for one seed."""
    sampling: float
    """Root mean square of the seeds' standard errors: what the choice of test rows does."""


def over_seeds(cells: Iterable[CellReport], name: str) -> OverSeeds | None:
    """Put a metric together over seeds.

    The seeds answer the same examples, so their intervals are not pooled as if they were independent: the span from the
    lowest end to the highest is shown instead, which is never too narrow. None where there is nothing.
    """
    found = [metric for cell in cells if cell.status == "done" and (metric := cell.metric(name)) is not None]
    if not found:
        return None
    return OverSeeds(
        value=sum(metric.value for metric in found) / len(found),
        low=min(metric.ci_low for metric in found),
        high=max(metric.ci_high for metric in found),
        seeds=len(found),
        between=stdev(metric.value for metric in found) if len(found) > 1 else math.nan,
        sampling=math.sqrt(fmean(metric.stderr**2 for metric in found)),
    )


def of(
    cells: Iterable[CellReport],
    *,
    model: str | None = None,
    task: str | None = None,
    protocol: str | None = None,
) -> list[CellReport]:
    """The cells of a model, task or protocol (by label)."""
    return [
        cell
        for cell in cells
        if model in (None, cell.model) and task in (None, cell.task) and protocol in (None, cell.protocol)
    ]


def by_model(cells: Iterable[CellReport]) -> dict[str, list[CellReport]]:
    """The cells of each model, in the order of the models' first appearance."""
    found: dict[str, list[CellReport]] = {}
    for cell in cells:
        found.setdefault(cell.model, []).append(cell)
    return found


def distinct(values: Iterable[str]) -> list[str]:
    """Each once, in the order of their first appearance."""
    return list(dict.fromkeys(values))


def forms_of(resolved: Mapping[str, Any]) -> dict[str, str]:
    """Task -> the form of its answers in words, where grid.yaml as resolved tells."""
    return {task["task"]: task["form"] for task in resolved.get("tasks") or () if task.get("form")}


def plain(text: str) -> str:
    """Text on one line without control characters: a failure may quote what a model wrote, escape sequences and all."""
    text = _ESCAPE_SEQUENCE.sub("", text)
    kept = (" " if unicodedata.category(ch) in ("Cc", "Cf", "Cs", "Zl", "Zp") else ch for ch in text)
    return " ".join("".join(kept).split())


def title(cell: CellReport) -> str:
    """How a person is told of it: "zoo/base-40 · zoo-mcq · soft_prompt · seed 0"."""
    seed = [] if cell.seed is None else [f"seed {cell.seed}"]
    return " · ".join([cell.model, cell.task, cell.protocol, *seed])


def failures(cells: Iterable[CellReport]) -> list[tuple[str, str]]:
    """Who failed, and why: cells of one model that failed of the same are named together."""
    alike: dict[tuple[str, str], list[CellReport]] = {}
    for cell in cells:
        if cell.status == "failed":
            alike.setdefault((cell.model, cell.reason or cell.kind), []).append(cell)
    return [
        (title(group[0]) if len(group) == 1 else f"{model} · {len(group)} cells", reason)
        for (model, reason), group in alike.items()
    ]


class Place(NamedTuple):
    """Cells that differ in their seed alone."""

    model: str
    task: str
    protocol: str


def asked_again(cells: Iterable[CellReport]) -> dict[Place, list[Rerun]]:
    """What came of asking rows again, over the seeds of a place; of those where it was done."""
    found: dict[Place, list[Rerun]] = {}
    for cell in cells:
        if cell.rerun is not None:
            found.setdefault(Place(cell.model, cell.task, cell.protocol), []).append(cell.rerun)
    return found


def largest_difference(reruns: Iterable[Rerun]) -> float:
    """Of two log-likelihoods of an option, in nats; NaN where there are no options."""
    return max((each.largest_difference for each in reruns if not math.isnan(each.largest_difference)), default=math.nan)


def headline(cells: Sequence[CellReport], model: str) -> str:
    """A model's name, with whose partner it is."""
    partner = next((cell.partner_of for cell in of(cells, model=model) if cell.partner_of), None)
    return f"{model} (post-trained partner of {partner})" if partner else model
