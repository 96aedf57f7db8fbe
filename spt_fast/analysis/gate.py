"""May the new run replace the old one? A test of non-inferiority with three answers, of which the third is never a pass.

For each check, with the drop d = A - B (B - A in a metric whose lower values are better), its largest allowed value m, and the
level alpha:

* **pass**: the one-sided upper bound of d, of level 1 - alpha, is below m. A drop of m or more passes with probability alpha at
  most. All checks must pass, so that holds for the whole gate without correction: Berger (1982), Technometrics 24, 295-300.
* **fail**: d is significantly above 0, after Holm's correction over all checks, and the estimate of d is at least m. Where
  nothing has dropped, any check fails with probability alpha at most. A true drop between 0 and m fails only where its estimate
  is beyond m, which is so in half of all cases at most.
* **undecided**: anything else: too few rows, or cells that are missing or cannot be compared.

Of cells that were stopped, or looked at while they were asked, all this is said by bounds that hold at every look
(`analysis.watched`): the estimate of a fail is then a bound of level 1/2.

In simulation, with 2,000 rows of which 4 % flip by chance, and m of 2 points: a drop of 3 points fails in 96 % of cases and
passes in fewer than 0.1 %; no change passes in 99.6 % and never fails; a drop of exactly m passes in 5 %.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

from scipy import stats  # type: ignore[import-untyped]

from spt_fast.analysis.compare import compare_runs, no_metric
from spt_fast.analysis.compare_types import Compared, Comparison, Pair, Skipped
from spt_fast.analysis.paired import PairedDifference
from spt_fast.analysis.pooled import Pooled
from spt_fast.analysis.resampling import Interval
from spt_fast.analysis.runs import Run
from spt_fast.analysis.watched import WatchedDifference, WatchedDrop
from spt_fast.config import ranges
from spt_fast.config.documents import plain_values, read_text
from spt_fast.config.ranges import number, text
from spt_fast.config.strict import Mistakes, filled, home, key_of, known_keys, mapping_of, missing, read
from spt_fast.errors import ConfigError
from spt_fast.scoring.metrics import MetricSpec, spec
from spt_fast.scoring.statistics import holm_adjusted
from spt_fast.scoring.stopping import told

Verdict: TypeAlias = Literal["pass", "fail", "undecided"]
_SHARE = ranges.Range(least=1e-6, below=1, note="a share (0.01 is one point)")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of a policy."""

    largest_drop: float = field(metadata=number(least=1e-6, most=1e6))
    """Largest allowed drop from A to B, as a share: 0.01 is one point. In a metric that has a unit, in that: bits per byte."""
    metric: str = field(default="exact_match", metadata=text(200))
    """What must not drop."""
    tasks: tuple[str, ...] = field(default=("*",), metadata=text(4000))
    """Patterns."""
    protocols: tuple[str, ...] = field(default=("*",), metadata=text(4000))
    """Patterns of labels."""
    models: tuple[str, ...] = field(default=("*",), metadata=text(4000))
    """Patterns of A's models."""
    over: Literal["each", "mean"] = "each"
    """`each`: every task must hold it; `mean`: the mean over the tasks, which takes fewer rows to decide."""

    def __post_init__(self) -> None:
        if spec(self.metric).in_points:
            ranges.require(_SHARE, self.largest_drop, "largest_drop")
        ranges.check(self)
        for name in ("tasks", "protocols", "models"):
            if not getattr(self, name):
                raise ConfigError(f"{name}: is empty; leave it out for all")


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a new run must hold."""

    checks: tuple[Check, ...]
    """What must not drop, and by how much it may."""
    alpha: float = field(default=0.05, metadata=number(least=1e-9, below=0.5))
    """Probability of a wrong pass, and of a wrong fail."""
    power: float = field(default=0.8, metadata=number(least=1e-6, most=1 - 1e-6))
    """How probable a decision should be, for what is said of the rows that it takes."""

    def __post_init__(self) -> None:
        ranges.check(self)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check came to on one pair, or on the mean over tasks."""

    verdict: Verdict
    metric: str
    task: str
    """A task, or "mean of 7 tasks"."""
    model: str
    protocol: str
    largest_drop: float
    drop: float
    """A less B, or B less A in a metric whose lower values are better; NaN where nothing could be compared."""
    bounds: Interval
    """One-sided bounds of the drop, each of level 1 - alpha; NaN where nothing could be compared."""
    p: float
    """One-sided p-value of "it did not drop", after Holm's correction."""
    rows: int
    rows_needed: int | None
    """Undecided: rows that would let it pass with probability `power` if nothing has changed. None: not a matter of rows."""
    why: str
    """A sentence."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The answer."""

    verdict: Verdict
    """`fail` if any check fails, else `undecided` if any is, else `pass`."""
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    a: str
    b: str
    policy: Policy


def load_policy(file: str | os.PathLike[str]) -> Policy:
    """Read a policy from YAML, strictly.

    Raises:
        ConfigError: what is wrong, and where.
    """
    path = Path(file)
    text_of_file = read_text(path, missing="no such file; name the YAML file of a policy")
    try:
        return parse_policy(plain_values(text_of_file))
    except ConfigError as e:
        raise e.within(path) from None


def parse_policy(data: Any) -> Policy:
    """A policy from plain values.

    Raises:
        ConfigError: what is wrong, and where.
    """
    mapping, mistakes = mapping_of(data, "policy"), Mistakes()
    with mistakes.part():
        known_keys(mapping, Policy, "policy")
    if missing(mapping, ["checks"], map(key_of, fields(Policy))):
        mistakes.add("checks: is missing; give one at least, like {metric: exact_match, largest_drop: 0.01}")
    checks: dict[int, Check] = {}
    with mistakes.part():
        given = filled(mapping["checks"], "checks") if "checks" in mapping else []
        checks = mistakes.of(given, lambda i, item: _check(item, f"checks[{i}]"))
    levels = _Levels()
    with mistakes.part():
        levels = read(_Levels, {key: mapping[key] for key in ("alpha", "power") if key in mapping}, "policy")
    mistakes.tell()
    return Policy(checks=tuple(checks.values()), alpha=levels.alpha, power=levels.power)


def _check(item: Any, place: str) -> Check:
    plain = dict(mapping_of(item, place))
    for name in ("tasks", "protocols", "models"):
        if isinstance(plain.get(name), str):  # one pattern
            plain[name] = [plain[name]]
    return read(Check, plain, place)


@dataclass(frozen=True, kw_only=True)
class _Levels:
    alpha: float = Policy.alpha
    power: float = Policy.power


home(Policy, of="a policy", where="at its top level: {key}: ...")
home(Check, of="a check", where="in a policy, checks: [{{{key}: ...}}]")


def allowed(check: Check) -> str:
    """ "knowledge_best (soft_prompt, mean over tasks) drops by less than 2 points"."""
    known = spec(check.metric)
    tasks = f"{'each task' if check.over == 'each' else 'mean over tasks'}{_only(check.tasks)}"
    protocols = ", ".join(check.protocols) if check.protocols != ("*",) else "each protocol"
    moves = "drops" if known.higher_is_better else "rises"
    return f"{check.metric} ({protocols}, {tasks}) {moves} by less than {told(check.largest_drop, known)}"


def _only(tasks: Sequence[str]) -> str:
    return "" if tuple(tasks) == ("*",) else f" of {', '.join(tasks)}"


def gate_runs(a: Run, b: Run, policy: Policy, *, a_model: str | None = None, b_model: str | None = None) -> Gate:
    """Hold run B against run A.

    Args:
        a: the run that is good.
        b: the run that is to replace it.
        policy: what must not drop.
        a_model: of A, where models are not paired by name; see `compare_runs`.
        b_model: of B.

    Raises:
        ConfigError: a check of a metric that neither has, or that nothing in A matches; or nothing can be paired.
        StoreError: a file is damaged.
    """
    a, b, mistakes = a.with_stopped(), b.with_stopped(), Mistakes()
    for i, check in enumerate(policy.checks):
        if wrong := no_metric(check.metric, a, b):
            mistakes.add(f"checks[{i}].metric: {wrong}")
    mistakes.tell()
    metrics = tuple(dict.fromkeys(check.metric for check in policy.checks))
    return decide(compare_runs(a, b, metrics=metrics, a_model=a_model, b_model=b_model, resamples=0), policy)


def decide(compared: Compared, policy: Policy) -> Gate:
    """Hold two runs that are compared against a policy.

    Raises:
        ConfigError: a check that nothing in A matches.
    """
    drafts: list[_Draft] = []
    mistakes = Mistakes()
    for i, check in enumerate(policy.checks):
        found = _drafts(check, compared)
        if not found:
            mistakes.add(f"checks[{i}]: matches nothing in {compared.a}; correct its metric, tasks, protocols or models")
        drafts += found
    mistakes.tell()
    adjusted = iter(holm_adjusted(draft.p for draft in drafts if draft.parts))
    findings = tuple(_finding(draft, policy, next(adjusted) if draft.parts else math.nan) for draft in drafts)
    verdicts = {finding.verdict for finding in findings}
    verdict: Verdict = "fail" if "fail" in verdicts else "undecided" if "undecided" in verdicts else "pass"
    return Gate(verdict=verdict, findings=findings, notes=compared.notes, a=compared.a, b=compared.b, policy=policy)


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """A check on what it is held against, before the others are known."""

    check: Check
    pair: Pair
    parts: tuple[PairedDifference, ...]
    """One, or one a task; empty where nothing could be compared."""
    skipped: tuple[Skipped, ...] = ()

    @property
    def _change(self) -> Pooled:
        return Pooled(parts=self.parts)

    @property
    def drop(self) -> float:
        return -self._change.change

    @property
    def p(self) -> float:
        """One-sided p-value of "it did not drop"."""
        return self._change.p_drop if self.watched is None else self.watched.p

    @cached_property
    def watched(self) -> WatchedDrop | None:
        """What holds at every look; None: it was not looked at, and a fixed number of rows was asked."""
        parts = [part for part in self.parts if isinstance(part, WatchedDifference)]
        if len(parts) < len(self.parts) or not any(part.watched for part in parts):
            return None
        return WatchedDrop(parts=parts, largest=self.check.largest_drop, fixed=Pooled(parts=tuple(p.fixed for p in parts)))

    @property
    def is_more(self) -> bool:
        """Whether the drop is estimated to be as much as is not allowed."""
        return self.drop >= self.check.largest_drop if self.watched is None else self.watched.is_more

    def bounds(self, alpha: float) -> Interval:
        """One-sided bounds of the drop."""
        if self.watched is not None:
            return self.watched.bounds(alpha)
        limits = self._change.limits(1 - 2 * alpha)
        return Interval(low=-limits.high, high=-limits.low, level=1 - alpha)


def _drafts(check: Check, compared: Compared) -> list[_Draft]:
    mine: list[Comparison] = [each for each in compared.comparisons if _matches(check, each)]
    skipped: list[Skipped] = [each for each in compared.skipped if _matches(check, each)]
    if check.over == "each":
        return [
            *(_Draft(check=check, pair=each.pair, parts=(each.better,)) for each in mine),
            *(_Draft(check=check, pair=each.pair, parts=(), skipped=(each,)) for each in skipped),
        ]
    drafts = []
    for rest in dict.fromkeys([*(each.pair[1:] for each in mine), *(each.pair[1:] for each in skipped)]):
        done = [each for each in mine if each.pair[1:] == rest]
        left = [each for each in skipped if each.pair[1:] == rest]
        tasks = len(done) + len(left)
        drafts.append(
            _Draft(
                check=check,
                pair=Pair(f"mean of {tasks} tasks" if tasks > 1 else "mean of 1 task", *rest),
                parts=tuple(each.better for each in done) if not left else (),
                skipped=tuple(left),
            )
        )
    return drafts


def _matches(check: Check, each: Comparison | Skipped) -> bool:
    pair = each.pair
    return each.metric == check.metric and all(
        any(fnmatchcase(name, pattern) for pattern in patterns)
        for name, patterns in ((pair.task, check.tasks), (pair.a_protocol, check.protocols), (pair.a_model, check.models))
    )


def _finding(draft: _Draft, policy: Policy, p: float) -> Finding:
    bounds, margin = draft.bounds(policy.alpha), draft.check.largest_drop
    verdict, why, needed = _decide(draft, bounds, p, policy)
    return Finding(
        verdict=verdict,
        metric=draft.check.metric,
        task=draft.pair.task,
        model=draft.pair.model,
        protocol=draft.pair.protocol,
        largest_drop=margin,
        drop=draft.drop,
        bounds=bounds,
        p=p,
        rows=sum(part.rows for part in draft.parts),
        rows_needed=needed,
        why=why,
    )


def _decide(draft: _Draft, bounds: Interval, p: float, policy: Policy) -> tuple[Verdict, str, int | None]:
    margin, known = draft.check.largest_drop, spec(draft.check.metric)
    if not draft.parts:
        reasons = dict.fromkeys(f"{each.pair.task}: {each.why}" for each in draft.skipped)
        return "undecided", f"cannot be compared: {'; '.join(reasons)}.", None
    if bounds.high < margin:
        return (
            "pass",
            f"{_seen(draft.drop, bounds, known)}, so {_drop(known)} of {told(margin, known)} or more is ruled out.",
            None,
        )
    if draft.is_more and p <= policy.alpha:
        return "fail", f"it {_dropped(known)} by {told(draft.drop, known)}, and {told(margin, known)} is allowed.", None
    if Pooled(parts=draft.parts).one_passage:
        return "undecided", "all rows share one passage or subject, so other passages cannot be judged.", None
    needed = rows_needed(draft.parts, margin, alpha=policy.alpha, power=policy.power)
    dropped = p <= policy.alpha
    seen = (
        f"it {_dropped(known)}, but perhaps by less than is allowed"
        if dropped
        else f"neither {_drop(known)} nor its absence is shown"
    )
    rows = sum(part.rows for part in draft.parts)
    more = f"; with about {needed:,} rows in place of {rows:,} it would pass if nothing has changed" if needed > rows else ""
    return "undecided", f"{seen}{more}.", needed


def rows_needed(parts: Sequence[PairedDifference], margin: float, *, alpha: float, power: float) -> int:
    """Rows that rule out a drop of `margin` with probability `power` if there is none, differing as often as they do here.

    n (z(1 - alpha) + z(power))^2 stderr^2 / margin^2, and of shares never fewer than where no row differs:
    z^2 (1 - margin) / margin.
    """
    z, w = float(stats.norm.isf(alpha)), float(stats.norm.isf(1 - power))
    rows, stderr = Pooled(parts=parts).rows, Pooled(parts=parts).stderr
    of_shares = any(part.test != "t" for part in parts)
    return math.ceil(max(rows * ((z + w) * stderr / margin) ** 2, z * z * (1 - margin) / margin if of_shares else 0.0))


def _seen(drop: float, bounds: Interval, known: MetricSpec) -> str:
    """ "it dropped by 0.4 points, and by no more than 1.2 points", "it rose by 3 points, and by no less than 1.1 points"."""
    falls = known.higher_is_better == (drop > 0)
    moved = f"it {'dropped' if falls else 'rose'} by {told(abs(drop), known)}" if abs(drop) > 1e-9 else "it did not change"
    if bounds.high < 0:
        return f"{moved}, and by no less than {told(-bounds.high, known)}"
    most = f"by no more than {told(bounds.high, known)}"
    return f"{moved}, and {most}" if drop > 1e-9 else f"{moved}, and {_dropped(known)} {most}"


def _drop(known: MetricSpec) -> str:
    return "a drop" if known.higher_is_better else "a rise"


def _dropped(known: MetricSpec) -> str:
    return "dropped" if known.higher_is_better else "rose"
