"""`compare A B` and `gate A B`: what moved, how sure that is, and whether the new run may replace the old one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from spt_fast.analysis.compare import COMPARED, compare_runs, flips
from spt_fast.analysis.compare_types import Compared, Comparison, Flip
from spt_fast.analysis.gate import Gate, gate_runs, load_policy
from spt_fast.analysis.plain import plain_values
from spt_fast.analysis.runs import read_run
from spt_fast.cli.pages import Page, probability, signed_points
from spt_fast.config.output import Location
from spt_fast.errors import ConfigError

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
    rules = load_policy(policy)
    try:
        answer = gate_runs(read_run(a), read_run(b), rules, a_model=a_model, b_model=b_model)
    except ConfigError as e:
        raise ConfigError(f"{policy}: {e}" if str(e).startswith("checks[") else str(e)) from None
    code = EXIT_CODES[answer.verdict]
    if as_json:
        return json.dumps(plain_values(answer), ensure_ascii=False, allow_nan=False, indent=1), code
    return _gate(answer), code


def _compared(compared: Compared, rows: dict[int, list[Flip]]) -> str:
    page = Page()
    page.say(f"A {compared.a}")
    page.say(f"B {compared.b}")
    head = (
        "task",
        "protocol",
        "rows",
        "A",
        "B",
        "B - A, points",
        "95% interval",
        "gained",
        "lost",
        "p",
        "p (Holm)",
        "MDE",
    )
    models = dict.fromkeys((each.pair.model, each.metric) for each in compared.comparisons)
    for model, metric in models:
        mine = [each for each in compared.comparisons if (each.pair.model, each.metric) == (model, metric)]
        page.table(f"{model}: {metric}", head, [_row(each, compared.alpha) for each in mine], left=2)
    for i, found in rows.items():
        if found:
            each = compared.comparisons[i]
            page.lines([f"Flips: {_title(each)}", *(line for flip in found for line in _flip(flip))])
    page.say(_in_words(compared))
    _skipped(page, compared)
    for note in compared.notes:
        page.say(note)
    page.say(
        "Points are hundredths. gained: wrong in A, right in B, counted per seed; lost: the reverse. p: McNemar's exact test; "
        "with several seeds, or rows that share a passage, a score test that accounts for them. MDE: minimum detectable "
        "effect, the change that this many rows detect with probability 0.8."
    )
    return page.text


def _row(each: Comparison, alpha: float) -> tuple[str, ...]:
    difference = each.difference
    interval = difference.interval
    clusters = "" if difference.clusters == difference.rows else f" in {difference.clusters}"
    seeds = f" x {difference.seeds}" if difference.seeds > 1 else ""
    return (
        each.pair.task,
        each.pair.protocol,
        f"{difference.rows}{clusters}{seeds}",
        f"{difference.before:.3f}",
        f"{difference.after:.3f}",
        signed_points(difference.change) + ("*" if each.p_holm <= alpha else ""),
        f"{signed_points(interval.low)} to {signed_points(interval.high)}",
        str(each.gained_rows),
        str(each.lost_rows),
        probability(difference.p),
        probability(each.p_holm),
        signed_points(difference.detectable()).lstrip("+"),
    )


def _in_words(compared: Compared) -> str:
    total, moved = len(compared.comparisons), compared.moved
    if not moved:
        return f"Nothing changed significantly in {total} comparisons (Holm's correction, level {compared.alpha:g})."
    fell = [each for each in moved if each.difference.change < 0]
    ways = [f"{len(moved) - len(fell)} rose"] * (len(moved) > len(fell)) + [f"{len(fell)} fell"] * bool(fell)
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
    return "; ".join(dict.fromkeys(f"{each.pair.task}: {each.why}" for each in compared.skipped))


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
    head = ("", "task", "protocol", "metric", "rows", "drop, points", "bounds", "allowed", "p (Holm)")
    for model in dict.fromkeys(each.model for each in answer.findings):
        rows = [
            (
                each.verdict,
                each.task,
                each.protocol,
                each.metric,
                str(each.rows) if each.rows else "-",
                signed_points(each.drop),
                f"{signed_points(each.bounds.low)} to {signed_points(each.bounds.high)}" if each.rows else "-",
                f"{100 * each.largest_drop:g}",
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
    page.say(
        f"drop: A minus B, with one-sided {1 - alpha:.0%} bounds. pass: the upper bound is below the allowed drop. "
        "fail: the drop is significant and not below it. undecided (not a pass): anything else."
    )
    return page.text
