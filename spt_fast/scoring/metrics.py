"""The table of metrics: what each is called and means, how it is drawn, and how it is computed from the rows of a cell.

Reports, exports, `rank`, `compare`, `gate` and ablations read this table, and nothing else says what a metric is.

    score      an example: what the engine answered -> verdicts (`Sample`)                        scoring.score
    aggregate  a cell: the mean over its samples of what each counts, with n and an interval      here
    settling   a cell that is evaluated at several steps: a number of its whole curve             scoring.settling

To add one: an entry in `_OF_ROWS`. A package adds one by an entry point of the group `spt_fast.metrics`, which names a
`MetricSpec` with a `value`; it is computed when an example is scored, kept in the column `scores` of samples.parquet, and
ranked, compared, gated and exported like all others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from spt_fast.config import plugins
from spt_fast.config.plugins import Plugins
from spt_fast.errors import ConfigError, ScoringError, boundary
from spt_fast.scoring.statistics import mean, proportion
from spt_fast.tasks.forms import written
from spt_fast.types import Metric, Sample

FORMAT, KNOWLEDGE, EXACT_MATCH = "format_following", "knowledge_best", "exact_match"
HEADLINE = (FORMAT, KNOWLEDGE, EXACT_MATCH)
"""What tables show first."""
QUADRANTS = ("format_and_knowledge", "knowledge_only", "format_only", "neither")
"""Format x knowledge: each row counts in exactly one of them. What zero-shot loses is the second."""
OF_MEMBERS = (FORMAT, "knowledge", KNOWLEDGE, EXACT_MATCH)
"""What an ensemble's cell also tells of its members, as `<name>_member_mean` and `<name>_member_best`."""
RERUN = (FORMAT, "knowledge", EXACT_MATCH)
"""Verdicts that are compared where rows are asked again."""
ABLATION = (FORMAT, "knowledge", EXACT_MATCH)
"""What is told of a soft prompt without some of its vectors."""
ANSWER = ("answer_bits_per_byte", "answer_logprob_margin")
"""The likelihood of the gold answer, which asks nothing of what was written."""

Value = Callable[[Sample], float | None]


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """A metric."""

    name: str
    """As results.csv has it."""
    words: str
    """As a sentence or a table calls it: "format following"."""
    about: str
    """What it says, in half a sentence."""
    heading: str = ""
    """Over a narrow column; empty: `words`."""
    columns: tuple[str, ...] = ()
    """Columns of samples.parquet, which are fields of `Sample`, that hold a row's verdict; of several the first that is not
    null. Empty: it is computed by `value`."""
    value: Value | None = field(default=None, repr=False)
    """What a sample counts, `least` to `most`; None: the row is not in it. Only where there are no `columns`."""
    applies: Value | None = field(default=None, repr=False)
    """Whether the task of a sample has the metric at all; None: every task has. Without rows in it, its value is NaN."""
    tasks: str = "all"
    """The same in words."""
    share: bool = True
    """Verdicts, which are right or wrong: Wilson's interval. False: scores between `least` and `most`, with the normal interval
    where both are known, else that of a bootstrap."""
    higher_is_better: bool = True
    least: float = 0.0
    """The least that a sample can count; -inf: there is no such number."""
    most: float = 1.0
    """The most."""
    unit: str = ""
    """What it is measured in; empty: it is a share of one."""
    counts: bool = False
    """It is a count, so that a decimal, of a mean over seeds, is enough."""
    gaps: bool = False
    """Rows may lack it for what their data are like, never for what a model does: those that all cells have may be compared."""
    some_rows: bool = False
    """It is over the rows that have the form, not over all."""
    judged: bool = False
    """A judge rules on it, where there is one."""
    likelihood: bool = False
    """Closed-ended tasks: it goes by the log-likelihoods of the options, not by what was written."""
    colour: int = 8
    """1 to 8, of the report's palette."""
    shape: str = "square"
    """Of its points in figures."""

    @property
    def head(self) -> str:
        """Over a column."""
        return self.heading or self.words

    @property
    def sign(self) -> float:
        """What makes more of it better: 1, or -1."""
        return 1.0 if self.higher_is_better else -1.0

    @property
    def in_points(self) -> bool:
        """Whether it is from 0 to 1, so that changes are told in points, which are hundredths."""
        return (self.least, self.most) == (0.0, 1.0)

    @property
    def digits(self) -> int:
        """Decimals that tables show."""
        return 1 if self.counts else 2 if self.in_points else 3

    @property
    def change_unit(self) -> str:
        """What changes of it are told in: "points", "bits per byte"; empty: it has no name."""
        return "points" if self.in_points else self.unit

    def in_change_unit(self, change: float) -> float:
        """A change in that."""
        return 100 * change if self.in_points else change

    def of(self, sample: Sample) -> float | None:
        """What a sample counts in it; None: nothing."""
        if self.value is not None:
            return self.value(sample)
        for column in self.columns:
            if (value := getattr(sample, column)) is not None:
                return float(value)
        return None

    def of_row(self, row: Mapping[str, Any]) -> float | None:
        """The same of a row of samples.parquet, with `columns` or, where there are none, `scores`."""
        for column in self.columns:
            if (value := row.get(column)) is not None:
                return float(value)
        return None if self.columns else dict(row["scores"] or ()).get(self.name)


def _is(column: str) -> Value:
    return lambda sample: getattr(sample, column) is not None


def _quadrant(*, form: bool, knows: bool) -> Value:
    return lambda sample: sample.format_ok is form and at_best(sample) is knows


def _knowledge(method: str, words: str, about: str) -> MetricSpec:
    """Closed-ended tasks: knowledge by one of the further scoring methods (`scoring.methods`)."""
    return MetricSpec(
        name=f"knowledge_{method}",
        words=f"knowledge, {words}",
        heading=words,
        about=about,
        columns=(f"knows_{method}",),
        applies=_is(f"knows_{method}"),
        tasks="closed-ended",
        likelihood=True,
        colour=2,
        shape="diamond",
    )


def at_best(sample: Sample) -> bool:
    """Its verdict on knowledge by the best method; of open-ended tasks the only one."""
    return sample.knows if sample.knows_best is None else sample.knows_best


_OF_ROWS = (
    MetricSpec(
        name=FORMAT,
        words="format following",
        heading="format",
        about="the completion has the form that the task asks for, right or wrong",
        columns=("format_ok",),
        judged=True,
        colour=1,
        shape="circle",
    ),
    MetricSpec(
        name=KNOWLEDGE,
        words="knowledge",
        about="knowledge by the scoring method that is best on tuning rows",
        columns=("knows_best", "knows"),
        judged=True,
        likelihood=True,
        colour=2,
        shape="diamond",
    ),
    MetricSpec(
        name="knowledge",
        words="knowledge, as prompted",
        about="the right answer is in the model, whatever the form",
        columns=("knows",),
        judged=True,
        likelihood=True,
        colour=2,
        shape="diamond",
    ),
    _knowledge("per_byte", "listed per byte", "as knowledge, by log-likelihood per byte of the option"),
    _knowledge("debiased", "debiased", "as knowledge, less what the place of an option has by itself"),
    _knowledge("cloze", "cloze", "the right option's text is the likeliest behind the question without options"),
    _knowledge("cloze_per_byte", "cloze per byte", "as knowledge_cloze, per byte of the text"),
    _knowledge("cloze_pmi", "cloze PMI", "as knowledge_cloze, against the unconditional likelihood of the text"),
    MetricSpec(
        name="answer_bits_per_byte",
        words="bits per byte of the answer",
        heading="bits per byte",
        about="minus the binary logarithm of the gold answer's likelihood, per UTF-8 byte",
        columns=("answer_bits_per_byte",),
        applies=_is("answer_bits_per_byte"),
        share=False,
        higher_is_better=False,
        most=math.inf,
        unit="bits per byte",
        gaps=True,
        likelihood=True,
        colour=4,
        shape="triangle-up",
    ),
    MetricSpec(
        name="answer_logprob_margin",
        words="margin of the answer",
        heading="margin, nats",
        about="by how many nats the right option is likelier than the likeliest other one",
        columns=("answer_logprob_margin",),
        applies=_is("answer_logprob_margin"),
        tasks="closed-ended",
        share=False,
        least=-math.inf,
        most=math.inf,
        unit="nats",
        gaps=True,
        likelihood=True,
        colour=4,
        shape="triangle-down",
    ),
    MetricSpec(
        name="letter_binding",
        words="letter binding",
        about="the text is that of the letter in front of it, among the completions that follow the format",
        columns=("bound",),
        applies=lambda sample: sample.bound is not None or bool(sample.options and not written(sample.options)),
        tasks="closed-ended, with letters",
        some_rows=True,
        colour=7,
    ),
    MetricSpec(
        name=EXACT_MATCH,
        words="exact match",
        about="right, and in the form asked for",
        columns=("correct",),
        colour=3,
        shape="square",
    ),
    MetricSpec(
        name="exact_match_given_format",
        words="exact match, given the format",
        heading="right, given the format",
        about="exact match among the completions that follow the format",
        value=lambda sample: sample.correct if sample.format_ok else None,
        some_rows=True,
        colour=3,
    ),
    MetricSpec(
        name="format_and_knowledge",
        words="format and knowledge",
        about="follows the format and knows",
        value=_quadrant(form=True, knows=True),
        colour=3,
    ),
    MetricSpec(
        name="format_only",
        words="format without knowledge",
        about="follows the format and does not know",
        value=_quadrant(form=True, knows=False),
        colour=6,
    ),
    MetricSpec(
        name="knowledge_only",
        words="knowledge without the format",
        about="knows and does not follow the format",
        value=_quadrant(form=False, knows=True),
        colour=5,
    ),
    MetricSpec(
        name="neither",
        words="neither",
        about="neither follows the format nor knows",
        value=_quadrant(form=False, knows=False),
        higher_is_better=False,
        colour=8,
    ),
)
"""In the order of results.csv. The quadrants mean `knowledge_best`: a model that binds no letters may know all the same."""

_OF_JUDGE = (
    MetricSpec(
        name="judge_agrees_on_format",
        words="judge agrees on the format",
        heading="agrees on format",
        about="the judge and the task's rules give the same verdict on the format",
        value=lambda sample: sample.format_ok == sample.format_by_rule,
        tasks="judged",
    ),
    MetricSpec(
        name="judge_agrees_on_knowledge",
        words="judge agrees on knowledge",
        heading="agrees on knowledge",
        about="the judge and the task's rules give the same verdict on knowledge",
        value=lambda sample: sample.knows == sample.knows_by_rule,
        tasks="judged",
    ),
)

STEPS_TO_FORMAT = "steps_to_format"
_OF_CURVES = (
    MetricSpec(
        name=STEPS_TO_FORMAT,
        words="updates to the format",
        about="updates from which on format following stays within its interval of the last step",
        tasks="learnt, and evaluated at several steps",
        share=False,
        higher_is_better=False,
        most=math.inf,
        unit="updates",
        counts=True,
        colour=1,
        shape="triangle-right",
    ),
)
"""Of a cell's curve, and of no row: computed in `scoring.settling`."""

_BUILT_IN: Mapping[str, MetricSpec] = {spec.name: spec for spec in (*_OF_ROWS, *_OF_JUDGE, *_OF_CURVES)}

_UNBOUNDED: Mapping[str, Any] = {"higher_is_better": False, "most": math.inf}
_OF_100: Mapping[str, Any] = {"most": 100.0, "unit": "of 100"}
_OF_LM_EVAL: Mapping[str, Mapping[str, Any]] = {
    "perplexity": _UNBOUNDED,
    "word_perplexity": _UNBOUNDED,
    "byte_perplexity": _UNBOUNDED,
    "bits_per_byte": {**_UNBOUNDED, "unit": "bits per byte"},
    "brier_score": {"higher_is_better": False, "most": 2.0},
    "ter": _UNBOUNDED,
    "bleu": _OF_100,
    "chrf": _OF_100,
}
"""What lm-eval registers of its own metrics that are not from 0 to 1, or whose lower values are better."""

_MEMBERS = {"_member_mean": "mean member", "_member_best": "best member"}
"""Ending of an ensemble's metrics -> what it says."""


def _checked(name: str, found: Any) -> MetricSpec:
    if not isinstance(found, MetricSpec):
        raise ConfigError(f"is {type(found).__name__}, and must be a spt_fast.scoring.metrics.MetricSpec")
    if found.name != name:
        raise ConfigError(f"its name is {found.name!r}; the entry point and the metric have one name")
    if name in _BUILT_IN:
        raise ConfigError("has the name of a metric of spt-fast; rename it")
    if found.value is None or found.columns:
        raise ConfigError("must have a value, a function of a sample, and no columns")
    return found


_REGISTERED: Plugins[MetricSpec] = Plugins(plugins.METRICS, "metric", {}, _checked)


def registered() -> tuple[MetricSpec, ...]:
    """Metrics of other packages.

    Raises:
        ConfigError: one cannot be used.
    """
    return tuple(_REGISTERED.values())


def table() -> Mapping[str, MetricSpec]:
    """All metrics, ours first, in the order of results.csv."""
    return {**_BUILT_IN, **{spec.name: spec for spec in registered()}}


def spec(name: str) -> MetricSpec:
    """A metric by its name. One that is not in the table is a task's own score (`f1`), or an ensemble's of its members."""
    if name in _BUILT_IN:  # first: it is asked for each row, and other packages are not to be looked for then
        return _BUILT_IN[name]
    known = table()
    if name in known:
        return known[name]
    for ending, words in _MEMBERS.items():
        if name.endswith(ending):
            whole = spec(name.removesuffix(ending))
            about = f"{whole.about}: {words}"
            return replace(whole, name=name, words=f"{whole.words}, {words}", heading=words, about=about, columns=())
    words = name.replace("_", " ")
    whole = MetricSpec(name=name, words=words, about=f"the task's {name}", share=False, tasks="some")
    return replace(whole, **_OF_LM_EVAL.get(name.removeprefix("lm_eval/").partition("/")[0], {}))


def members(names: Iterable[str]) -> tuple[str, ...]:
    """What an ensemble's metrics of its members are called, of these metrics."""
    return tuple(f"{name}{ending}" for name in names for ending in _MEMBERS)


def is_further(name: str) -> bool:
    """Whether a metric is a package's or a task's own, and none of spt-fast's, nor an ensemble's of its members."""
    return name not in _BUILT_IN and not name.endswith(tuple(_MEMBERS))


def counted(name: str) -> Value:
    """What a scored sample counts in a metric: by its verdicts, else by its `scores`."""
    return _BUILT_IN[name].of if name in _BUILT_IN else lambda sample: sample.scores.get(name)


def value_of(name: str, sample: Sample) -> float | None:
    """What a scored sample counts in a metric; None: nothing."""
    found = counted(name)(sample)
    return None if found is None or math.isnan(found) else float(found)


def in_columns() -> Mapping[str, tuple[str, ...]]:
    """Metrics that every row of a task has a verdict for -> the columns of samples.parquet that it stands in."""
    return {spec.name: spec.columns for spec in _BUILT_IN.values() if spec.columns and not spec.some_rows}


def aggregate(samples: Sequence[Sample]) -> tuple[Metric, ...]:
    """The metrics of one cell at one step, each with n, standard error and interval; with the groups of rows reckoned in."""
    names = dict.fromkeys(name for sample in samples for name in sample.scores)
    found = [_mean(each, samples) for each in _OF_ROWS if _has(each, samples)]
    return (*found, *(_mean(replace(spec(name), value=counted(name)), samples) for name in names))


def judged_aggregate(samples: Sequence[Sample]) -> tuple[Metric, ...]:
    """The metrics of one step of a judged cell, and how often judge and rules agree."""
    return (*aggregate(samples), *(proportion(each.name, (bool(each.of(sample)) for sample in samples)) for each in _OF_JUDGE))


def with_registered(sample: Sample) -> Sample:
    """A sample with the values of other packages' metrics among its scores.

    Raises:
        ScoringError: one fails, or gives no number in its range.
    """
    values = {each.name: _value_of(each, sample) for each in registered()}
    more = {name: value for name, value in values.items() if value is not None}
    return replace(sample, scores={**sample.scores, **more}) if more else sample


def _value_of(each: MetricSpec, sample: Sample) -> float | None:
    with boundary(ScoringError, f"metric {each.name}: example {sample.example}"):
        found = each.of(sample)
        value = None if found is None else float(found)
    if value is not None and not (each.least <= value <= each.most and math.isfinite(value)):
        allowed = f"from {each.least:g} to {each.most:g}" if math.isfinite(each.most - each.least) else "finite"
        raise ScoringError(f"metric {each.name}: example {sample.example}: {value} is not {allowed}")
    return value


def _has(each: MetricSpec, samples: Sequence[Sample]) -> bool:
    return each.applies is None or any(each.applies(sample) for sample in samples)


def _mean(each: MetricSpec, samples: Sequence[Sample]) -> Metric:
    """Over the samples that count in it."""
    counted = [(value, sample.group) for sample in samples if (value := each.of(sample)) is not None]
    values, groups = [value for value, _ in counted], [group for _, group in counted]
    if not math.isfinite(each.most - each.least):
        from spt_fast.scoring.clusters import bootstrapped

        return bootstrapped(each.name, values, groups)
    metric = proportion(each.name, map(bool, values)) if each.share else mean(each.name, values, each.least, each.most)
    if not any(groups):
        return metric
    from spt_fast.scoring.clusters import with_clusters  # SciPy's distributions, which the driver has no need of

    return with_clusters(metric, values, groups, share=each.share, least=each.least, most=each.most)
