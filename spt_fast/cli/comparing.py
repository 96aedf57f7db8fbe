"""`compare A B` and `gate A B`: what moved, how sure that is, and whether the new run may replace the old one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from spt_fast.analysis.compare import COMPARED, compare_runs, flips, no_metric
from spt_fast.analysis.compare_types import Compared, Comparison, Flip
from spt_fast.analysis.gate import Finding, Gate, gate_runs, load_policy
from spt_fast.analysis.plain import plain_values
from spt_fast.analysis.runs import read_run
from spt_fast.cli.pages import Page, probability, signed
from spt_fast.config.output import Location
from spt_fast.errors import ConfigError
from spt_fast.scoring.metrics import spec

UNDECIDED = 3
"""Exit code of a gate that cannot say."""
EXIT_CODES = {"pass": 0, "fail": 1, "undecided": UNDECIDED}


def compare(
    a: Location,
    b: Location,
    *,
    metrics: Sequence[str] = (),
    tasks: Sequence[str] = (),
    a_model: str | None = None,
    b_model: str | None = None,
    a_protocol: str | None = None,
    b_protocol: str | None = None,
    shown_flips: int = 0,
    resamples: int,
    as_json: bool = False,
) -> str:
    """Two runs compared, as text or as JSON.

    Args:
        a: run folder.
        b: run folder.
        metrics: none: exact match, knowledge and format following.
        tasks: patterns; none: all.
        a_model: as `compare_runs`, and so the next three.
        b_model: of B.
        a_protocol: label in A.
        b_protocol: label in B.
        shown_flips: rows that flipped to show for each comparison.
        resamples: of the bootstrap.
        as_json: JSON instead of tables.

    Raises:
        ConfigError: nothing can be compared.
        StoreError: a file is damaged.
    """
    first, second = read_run(a), read_run(b)
    for metric in metrics:
        if wrong := no_metric(metric, first, second):
            raise ConfigError(f"--metric: {wrong}")
    compared = compare_runs(
        first,
        second,
        metrics=tuple(metrics) or COMPARED,
        tasks=tuple(tasks) or ("*",),
        a_model=a_model,
        b_model=b_model,
        a_protocol=a_protocol,
        b_protocol=b_protocol,
        resamples=resamples,
    )
    if not compared.comparisons:
        raise ConfigError(f"{second.folder}: nothing in it can be compared with {first.folder}: {_reasons(compared)}")
    rows = {i: flips(first, second, each, shown_flips) for i, each in enumerate(compared.comparisons)} if shown_flips else {}
    if as_json:
        plain = plain_values(compared)
        del plain["moved"]
        for each in plain["comparisons"]:
            del each["better"]
        for i, found in rows.items():
            plain["comparisons"][i]["flips"] = plain_values(found)
        return json.dumps(plain, ensure_ascii=False, allow_nan=False, indent=1)
    return _compared(compared, rows)


def gated(
    a: Location, b: Location, policy: Path, *, a_model: str | None, b_model: str | None, as_json: bool
) -> tuple[str, int]:
    """A gate's answer as text or JSON, and the exit code.

    Raises:
        ConfigError: the policy is wrong, or nothing matches it.
        StoreError: a file is damaged.
    """
    try:
        rules = load_policy(policy)
    except ConfigError as e:
        raise e.within("--policy") from None
    try:
        answer = gate_runs(read_run(a), read_run(b), rules, a_model=a_model, b_model=b_model)
    except ConfigError as e:
        of_policy = f"--policy: {policy}: "
        raise e.reworded(lambda wrong: f"{of_policy if wrong.startswith('checks[') else ''}{wrong}") from None
    code = EXIT_CODES[answer.verdict]
    if as_json:
        return json.dumps(plain_values(answer), ensure_ascii=False, allow_nan=False, indent=1), code
    return _gate(answer), code


def _compared(compared: Compared, rows: dict[int, list[Flip]]) -> str:
    page = Page()
    page.say(f"A {compared.a}")
    page.say(f"B {compared.b}")
    models = dict.fromkeys((each.pair.model, each.metric) for each in compared.comparisons)
    for model, metric in models:
        mine = [each for each in compared.comparisons if (each.pair.model, each.metric) == (model, metric)]
        page.table(
            f"{model}: {metric}{_direction(metric)}", _head(metric), [_row(each, compared.alpha) for each in mine], left=2
        )
    for i, found in rows.items():
        if found:
            each = compared.comparisons[i]
            judged = " (by the likelihood of the options, whatever was written)" if found[0].by_likelihood else ""
            page.lines([f"Flips: {_title(each)}{judged}", *(line for flip in found for line in _flip(flip))])
    page.say(_in_words(compared))
    _skipped(page, compared)
    for note in compared.notes:
        page.say(note)
    if any(spec(each.metric).in_points for each in compared.comparisons):
        page.say(
            "Points are hundredths. gained: wrong in A, right in B, counted per seed; lost: the reverse. p: McNemar's exact "
            "test; with several seeds, or rows that share a passage, a score test that accounts for them. MDE: minimum "
            "detectable effect, the change that this many rows detect with probability 0.8."
        )
    if not all(spec(each.metric).in_points for each in compared.comparisons):
        page.say(
            "better: rows that are better in B than in A, counted per seed; worse: the reverse. There, p and intervals are "
            "Student's t for paired rows, clustered by passage."
        )
    return page.text


def _head(metric: str) -> tuple[str, ...]:
    known = spec(metric)
    change, rows = (f"B - A, {known.change_unit}".rstrip(", "), ("gained", "lost") if known.in_points else ("better", "worse"))
    return ("task", "protocol", "rows", "A", "B", change, "95% interval", *rows, "p", "p (Holm)", "MDE")


def _direction(metric: str) -> str:
    return "" if spec(metric).higher_is_better else " (lower is better)"


def _row(each: Comparison, alpha: float) -> tuple[str, ...]:
    difference, known = each.difference, spec(each.metric)
    interval = difference.interval
    clusters = "" if difference.clusters == difference.rows else f" in {difference.clusters}"
    seeds = f" x {difference.seeds}" if difference.seeds > 1 else ""
    return (
        each.pair.task,
        each.pair.protocol,
        f"{difference.rows}{clusters}{seeds}",
        f"{difference.before:.3f}",
        f"{difference.after:.3f}",
        signed(difference.change, known) + ("*" if each.p_holm <= alpha else ""),
        f"{signed(interval.low, known)} to {signed(interval.high, known)}",
        str(each.gained_rows),
        str(each.lost_rows),
        probability(difference.p),
        probability(each.p_holm),
        signed(difference.detectable(), known).lstrip("+"),
    )


def _in_words(compared: Compared) -> str:
    total, moved = len(compared.comparisons), compared.moved
    if not moved:
        return f"Nothing changed significantly in {total} comparisons (Holm's correction, level {compared.alpha:g})."
    worse = [each for each in moved if each.better.change < 0]
    up, down = ("rose", "fell") if all(spec(each.metric).higher_is_better for each in moved) else ("improved", "got worse")
    ways = [f"{len(moved) - len(worse)} {up}"] * (len(moved) > len(worse)) + [f"{len(worse)} {down}"] * bool(worse)
    return f"* Of {total} comparisons, {' and '.join(ways)} significantly (Holm's correction, level {compared.alpha:g})."


def _skipped(page: Page, compared: Compared) -> None:
    reasons: dict[str, list[str]] = {}
    for each in compared.skipped:
        reasons.setdefault(each.why, []).append(f"{each.pair.task} · {each.pair.protocol} · {each.pair.model}")
    for why, places in reasons.items():
        distinct = list(dict.fromkeys(places))
        more = f" and {len(distinct) - 4} more" if len(distinct) > 4 else ""
        page.say(f"NOT COMPARED {', '.join(distinct[:4])}{more}: {why}.", indent="  ")


def _reasons(compared: Compared) -> str:
    """Each reason once, behind the tasks that have it."""
    tasks: dict[str, list[str]] = {}
    for each in compared.skipped:
        tasks.setdefault(each.why, []).append(each.pair.task)
    return "; ".join(f"{', '.join(dict.fromkeys(of))}: {why}" for why, of in tasks.items())


def _title(each: Comparison) -> str:
    return " · ".join([each.pair.model, each.pair.task, each.pair.protocol, each.metric])


def _flip(flip: Flip) -> list[str]:
    what = "gained" if flip.gained else "lost"
    return [
        f"  {what:6} {flip.example}  wanted {flip.target}",
        f"         A: {flip.before}",
        f"         B: {flip.after}",
    ]


def _gate(answer: Gate) -> str:
    page = Page()
    page.say(f"{answer.verdict.upper()}: {answer.b} against {answer.a}")
    units = {spec(each.metric).change_unit for each in answer.findings}
    drop = f"drop, {units.pop()}" if len(units) == 1 else "drop, points or its unit"
    head = ("", "task", "protocol", "metric", "rows", drop.rstrip(", "), "bounds", "allowed", "p (Holm)")
    for model in dict.fromkeys(each.model for each in answer.findings):
        rows = [
            (
                each.verdict,
                each.task,
                each.protocol,
                each.metric,
                str(each.rows) if each.rows else "-",
                signed(each.drop, spec(each.metric)),
                _bounds(each),
                f"{spec(each.metric).in_change_unit(each.largest_drop):g}",
                probability(each.p),
            )
            for each in answer.findings
            if each.model == model
        ]
        page.table(model, head, rows, left=4)
    for each in answer.findings:
        if each.verdict != "pass":
            page.say(
                f"{each.verdict.upper()} {each.model} · {each.task} · {each.protocol} · {each.metric}: {each.why}", indent="  "
            )
    for note in answer.notes:
        page.say(note)
    alpha = answer.policy.alpha
    up = all(spec(each.metric).higher_is_better for each in answer.findings)
    lower = "" if up else " (B minus A where lower is better)"
    page.say(
        f"drop: A minus B{lower}, with one-sided {1 - alpha:.0%} bounds. pass: the upper bound is below the allowed drop. "
        "fail: the drop is significant and not below it. undecided (not a pass): anything else."
    )
    return page.text


def _bounds(each: Finding) -> str:
    known = spec(each.metric)
    return f"{signed(each.bounds.low, known)} to {signed(each.bounds.high, known)}" if each.rows else "-"
