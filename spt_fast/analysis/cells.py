"""One cell of a run folder, as all who read one see it: reports, analyses, exports, and people in a notebook."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import lru_cache
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar, overload

from spt_fast.config import PROTOCOLS
from spt_fast.scoring.metrics import KNOWLEDGE, in_columns, spec
from spt_fast.scoring.rerun import Rerun
from spt_fast.store import Store
from spt_fast.store.stopped import StoredStopped
from spt_fast.types import Metric

if TYPE_CHECKING:  # a table needs no vectors, and so no numpy
    from spt_fast.prompts.lora import LoraAdapter
    from spt_fast.prompts.soft_prompt import SoftPrompt

METRICS = in_columns()
"""Metrics that every row has a verdict for -> the columns of samples.parquet that they are in; of several the first that is not
null."""

Status: TypeAlias = Literal["done", "stopped", "failed", "waiting"]
_T = TypeVar("_T")


class Place(NamedTuple):
    """Where in a grid a cell is."""

    model: str
    task: str
    protocol: str
    """Its label: `soft_prompt`, or `soft_prompt[length=5]` where a grid has several of a kind."""
    seed: int | None

    @property
    def protocol_name(self) -> str:
        """Without settings: `soft_prompt`."""
        return self.protocol.partition("[")[0]

    @property
    def title(self) -> str:
        """How a person is told of it: "zoo/base-40 · zoo-mcq · soft_prompt · seed 0"."""
        return " · ".join([self.model, self.task, self.protocol, *([] if self.seed is None else [f"seed {self.seed}"])])


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
class RunCell:
    """One cell: what was asked, how it stands, what it came to. Its rows are read anew each time that they are asked for."""

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
    name: str = ""
    """In other tools: `gsm8k@soft_prompt`, with `@seed1` behind where a grid has several seeds of it."""
    metrics: Mapping[int | None, Sequence[Metric]] = field(default_factory=dict)
    """Step (None where the protocol has none) -> metrics."""
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    """Of the last step, by example key; for paired tests. May be empty: then the summary does without them."""
    disagreements: Sequence[Disagreement] = ()
    """Judged cells: where judge and rules differ at the last step."""
    partner_of: str | None = None
    """Post-trained models: the base model whose partner this is."""
    judge: str | None = None
    """The model that ruled on its completions."""
    closed_ended: bool | None = None
    """Whether knowledge is by likelihood (True) or by extraction (False); None: not known."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Done cells: the protocol's settings by field name, defaults filled in and a model's own put over them."""
    stopped: StoredStopped | None = None
    """Stopped cells: what they came to, of the rows that were asked. Not in `metrics`, so that no mean has it among others."""
    rerun: Rerun | None = None
    """What came of asking some of its rows again; None: that was not done. Of a judged cell, what the rules say."""
    costs: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    content: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Done cells: `Cell.content`, what the key is the hash of."""
    store: Store | None = field(default=None, repr=False, compare=False)
    """The run folder; None: the cell is made up, and has no rows."""

    @property
    def place(self) -> Place:
        """Where in the grid it is."""
        return Place(self.model, self.task, self.protocol, self.seed)

    @property
    def protocol_name(self) -> str:
        """Without settings: `soft_prompt`."""
        return self.place.protocol_name

    @property
    def judged(self) -> bool:
        """Whether a judge has ruled on its completions."""
        return self.metric("judge_agrees_on_knowledge") is not None

    @property
    def last_step(self) -> int | None:
        """The step that tables show, and that tools with one number a cell get."""
        return max((step for step in self.metrics if step is not None), default=None)

    @property
    def last_metrics(self) -> dict[str, Metric]:
        """At the last step, those that are defined."""
        return {metric.name: metric for metric in self.metrics.get(self.last_step, ()) if math.isfinite(metric.value)}

    def metric(self, name: str) -> Metric | None:
        """A metric at the last step; None where it was not measured or is NaN."""
        metric = _named(self.metrics.get(self.last_step, ()), name)
        return None if metric is None or math.isnan(metric.value) else metric

    def curve(self, name: str) -> dict[int, Metric]:
        """A metric by step."""
        steps = sorted((step, metrics) for step, metrics in self.metrics.items() if step is not None)
        return {step: metric for step, metrics in steps if (metric := _named(metrics, name)) is not None}

    def with_rerun(self, rerun: Rerun | None) -> RunCell:
        """The same cell, with what came of asking rows again."""
        return self if rerun is None or self.status != "done" else replace(self, rerun=rerun)

    # what the key is made of

    @property
    def key_settings(self) -> dict[str, Any]:
        """The protocol's settings that are part of the key, without its name."""
        return {name: value for name, value in self.content.get("protocol", {}).items() if name != "name"}

    @property
    def engine(self) -> str:
        """Kind of the engine that answered: vllm, transformers, echo."""
        return str(self.content.get("engine", {}).get("kind", "unknown"))

    @property
    def model_content(self) -> Mapping[str, Any]:
        """What of the model can change a result: fingerprint, dtype, chat template."""
        found: Mapping[str, Any] = self.content.get("model", {})
        return found

    @property
    def task_version(self) -> int:
        """Of the task."""
        return int(self.content.get("task", {}).get("version", 0))

    @property
    def shots(self) -> int:
        """Worked examples in the prompt."""
        return int(self.key_settings.get("shots", 0))

    @property
    def tuning_rows(self) -> int | None:
        """How many rows there were to learn from; None: the cell does not say."""
        told = re.search(r"tuning (\d+)", self.provenance.get("rows", ""))
        return int(told[1]) if told else None

    # what is read from its files

    def samples(self, columns: Sequence[str] | None = None, *, last: bool = True) -> list[dict[str, Any]]:
        """Rows of samples.parquet, at the last step or at all steps.

        Raises:
            StoreError: the file is damaged.
        """
        return self._files.samples(self.key, columns, last=last)

    def sample_table(self) -> Any:
        """All rows of samples.parquet, as an Arrow table.

        Raises:
            StoreError: the file is damaged.
        """
        return self._files.sample_table(self.key)

    def scores(self, row: Mapping[str, Any]) -> dict[str, float]:
        """Metric -> what a row counts in it."""
        verdicts = {metric: spec(metric).of_row(row) for metric in METRICS}
        found = {metric: float(value) for metric, value in verdicts.items() if value is not None}
        return {**found, **dict(row["scores"] or ())}

    def soft_prompt(self) -> SoftPrompt | None:
        """That of the last step; None where the protocol has none.

        Raises:
            StoreError: the file is damaged.
        """
        return None if self.last_step is None else self._files.learnt.soft_prompts(self.key).get(self.last_step)

    def adapter(self) -> LoraAdapter | None:
        """The LoRA adapter of the last step; None where the protocol has none.

        Raises:
            StoreError: the file is damaged.
        """
        return None if self.last_step is None else self._files.learnt.adapters(self.key).get(self.last_step)

    def losses(self) -> dict[int, float]:
        """Training loss by step, in nats a token; empty where nothing was trained."""
        return self._files.learnt.losses(self.key)

    @property
    def _files(self) -> Store:
        assert self.store is not None, "a cell that is read from a run folder"
        return self.store


def _named(metrics: Iterable[Metric], name: str) -> Metric | None:
    """A metric by its name; for `knowledge_best` of an open-ended task `knowledge`."""
    found = {metric.name: metric for metric in metrics}
    return found.get(name) or (found.get("knowledge") if name == KNOWLEDGE else None)


@lru_cache(maxsize=4096)
def settings_of(protocol: str) -> Mapping[str, Any]:
    """A protocol's settings, from JSON as in a cell's content, with the defaults that are left out there. Cells share them."""
    given = json.loads(protocol)
    kind = PROTOCOLS.get(given.pop("name", ""))
    defaults = {} if kind is None else {each.name: each.default for each in fields(kind) if each.default is not MISSING}
    return {**defaults, **given}


# What rows say


def verdicts(rows: Iterable[Mapping[str, Any]], step: int | None) -> dict[str, Verdict]:
    """Verdicts at one step from rows of samples.parquet (columns `example`, `step`, `format_ok`, `knows`, `knows_best`)."""
    return {row["example"]: Verdict(format_ok=row["format_ok"], knows=best(row)) for row in rows if row["step"] == step}


def best(row: Mapping[str, Any]) -> bool:
    """The verdict on knowledge by the best method; of open-ended tasks the only one."""
    return bool(spec(KNOWLEDGE).of_row(row))


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


class LazyVerdicts(Mapping[str, Verdict]):
    """Verdicts of a cell, read when they are asked for: those of a large grid would fill the memory, and few are compared."""

    def __init__(self, read: Callable[[], dict[str, Verdict]]) -> None:
        self._read = read

    def __getitem__(self, example: str) -> Verdict:
        return self._read()[example]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def items(self) -> Any:
        """Example and verdict, from one look."""
        return self._read().items()


class LazyList(Sequence[_T]):
    """A list that is read when it is first asked for."""

    def __init__(self, read: Callable[[], Sequence[_T]]) -> None:
        self._read = read
        self._found: Sequence[_T] | None = None

    @property
    def _items(self) -> Sequence[_T]:
        if self._found is None:
            self._found = self._read()
        return self._found

    @overload
    def __getitem__(self, i: int) -> _T: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[_T]: ...
    def __getitem__(self, i: int | slice) -> _T | Sequence[_T]:
        return self._items[i]

    def __len__(self) -> int:
        return len(self._items)


# Over seeds


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


def over_seeds(cells: Iterable[RunCell], name: str) -> OverSeeds | None:
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
