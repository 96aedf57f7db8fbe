"""report.md: the tables and the summary for a log or a pull request."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from spt_fast.config import PriceConfig
from spt_fast.report.cells import (
    BEST,
    CellReport,
    asked_again,
    by_model,
    distinct,
    failures,
    headline,
    largest_difference,
    of,
    over_seeds,
    plain,
)
from spt_fast.report.costs import PHASES, TOKENS, gpus_of, money, sessions, unit
from spt_fast.report.costs import by_model as by_model_spent
from spt_fast.report.summary import summary
from spt_fast.report.tables import LEGEND, cell_text, full
from spt_fast.report.transfer import PLAINLY, TransferMatrix, transfer_matrices
from spt_fast.scoring.methods import ABILITIES, METHODS
from spt_fast.scoring.rerun import FLIPS, flip_rate
from spt_fast.scoring.statistics import saturation_step
from spt_fast.tasks.losses import told, unused

if TYPE_CHECKING:  # they compute with scipy, which is not imported to say what was said before
    from spt_fast.analysis.compare import Compared
    from spt_fast.analysis.ranking import Ranking

_COLUMNS = (("format_following", "format"), (BEST, "knowledge"), ("exact_match", "exact match"))


def markdown(
    cells: Sequence[CellReport],
    *,
    name: str,
    rows: Sequence[Mapping[str, Any]] = (),
    forms: Mapping[str, str] | None = None,
    said: str = "",
    events: Sequence[Mapping[str, Any]] = (),
    price: PriceConfig | None = None,
    ranking: Ranking | None = None,
    tests: Compared | None = None,
) -> str:
    """The report of a grid. Names and reasons may be hostile text: they only appear as code spans, which do nothing.

    Args:
        cells: all of the grid.
        name: of the grid.
        rows: what the run folder tells of each task's rows (rows/*.json).
        forms: task -> the form of its answers in words (`Task.form_in_words`).
        said: `summary` of the cells; empty: it is made.
        events: events.jsonl: how many GPUs there were, and what each run was expected to take and took.
        price: of an hour of a GPU.
        ranking: orders of its models.
        tests: its protocols against each other.
    """
    parts = [f"# {code(name)}", _prose(said or summary(cells)), *_left_out(cells, rows), *_forms(forms or {})]
    for model, own in by_model(cells).items():
        parts += [f"## {code(headline(own, model))}", _scores(own), *_curves(own), *_stops(own), *_seeds(own), *_sizes(own)]
        parts += [*_ways(own), *_ensembles(own), *_transfer(own), *_judge(own)]
    listed = [f"* {code(who)}: {code(why)}" for who, why in failures(cells)]
    if listed:
        parts += ["## Failures", "\n".join(listed)]
    parts += _ranking(ranking) if ranking is not None else []
    parts += _tests(tests) if tests is not None else []
    parts += _determinism(cells)
    parts += _cost(cells, events, price)
    if rows:
        parts += ["## Rows", _rows(rows)]
    if any(cell.status == "done" for cell in cells):
        parts.append(LEGEND)
    return "\n\n".join(parts) + "\n"


def code(text: str, *, in_table: bool = False) -> str:
    """Text as a code span: one line, no control characters, fenced by more backticks than it has in a row."""
    shown = plain(text) or " "
    fence = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    pad = " " if "`" in (shown[0], shown[-1]) else ""
    span = f"{fence}{pad}{shown}{pad}{fence}"
    return span.replace("|", "\\|") if in_table else span


def _prose(text: str) -> str:
    """The summary's own words; the names in it could hold anything."""
    escaped = re.sub(r"([\\`*_{}\[\]<>#|~!&@])", lambda found: f"&#{ord(found[0])};", text)
    return escaped.replace("&#64;", "&#64;&#8203;")  # a zero-width space, or it would call the person of that name


def _forms(forms: Mapping[str, str]) -> list[str]:
    """What format following means for each task."""
    lines = [_row([code(task, in_table=True), code(form, in_table=True)]) for task, form in forms.items()]
    return ["\n".join([*_head(["task", "form of the answer asked for"]), *lines])] if lines else []


def _left_out(cells: Sequence[CellReport], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Test rows that are not scored."""
    sentences = told(rows, distinct(cell.task for cell in cells))
    return ["\n".join(f"* {_prose(plain(sentence))}" for sentence in sentences)] if sentences else []


def _scores(cells: Sequence[CellReport]) -> str:
    lines = _head(["task", "protocol", *(heading for _, heading in _COLUMNS), "n"])
    for task in distinct(cell.task for cell in cells):
        for label in distinct(cell.protocol for cell in of(cells, task=task)):
            group = of(cells, task=task, protocol=label)
            sizes = {metric.n for cell in group if (metric := cell.metric("format_following")) is not None}
            row = [code(task, in_table=True), code(label, in_table=True)]
            row += [cell_text(group, measure, full) for measure, _ in _COLUMNS]
            lines.append(_row([*row, "/".join(map(str, sorted(sizes)))]))
    return "\n".join(lines)


def _ways(cells: Sequence[CellReport]) -> list[str]:
    """Closed-ended tasks: knowledge by each way of scoring, which of them the model can do, and the letters it chooses."""
    told = [cell for cell in cells if cell.status == "done" and "knowledge_by" in cell.provenance]
    if not told:
        return []
    lines, chosen = [], []
    for cell in told:
        place = [
            code(cell.task, in_table=True),
            code(cell.protocol, in_table=True),
            "" if cell.seed is None else str(cell.seed),
        ]
        numbers = [
            "" if (m := cell.metric(name)) is None else f"{m.value:.2f}" for name in (*METHODS.values(), "letter_binding")
        ]
        best = cell.provenance.get("knowledge_best", "").replace("_", " ")
        can = next((said for name, said in ABILITIES.items() if name == cell.provenance["knowledge_by"]), "")
        lines.append(_row([*place, *numbers, best, f"{can} (a guess: {cell.provenance.get('knowledge_guess', '')})"]))
        letters = json.loads(cell.provenance.get("letters", "{}"))
        shares = ", ".join(f"{letter} {mine:.0%} ({right:.0%})" for letter, (mine, right) in letters.items())
        chosen.append(_row([*place, shares]))
    ways = ["listed", "debiased", "cloze", "cloze per byte", "cloze PMI"]
    head = _head(["task", "protocol", "seed", *ways, "letter binding", "best on tuning rows", "what it can do"])
    note = "Knowledge by every way of scoring the options. What each is blind to is in the guide."
    letters_head = _head(["task", "protocol", "seed", "chosen (right)"])
    return [note, "\n".join([*head, *lines]), "Options chosen, and right, by place:", "\n".join([*letters_head, *chosen])]


def _curves(cells: Sequence[CellReport]) -> list[str]:
    """Format following and knowledge by step, where there is more than the last step."""
    curves = [cell for cell in cells if cell.status == "done" and len(cell.curve("format_following")) > 1]
    if not curves:
        return []
    steps = sorted({step for cell in curves for step in cell.curve("format_following")})
    lines = _head(["task", "protocol", "seed", "metric", *(f"step {step}" for step in steps), "settled at"])
    for cell in curves:
        settled = saturation_step(cell.curve("format_following"))
        for measure, heading in _COLUMNS[:2]:
            curve = cell.curve(measure)
            values = [f"{curve[step].value:.2f}" if step in curve else "" for step in steps]
            seed = "" if cell.seed is None else str(cell.seed)
            end = f"step {settled}" if measure == "format_following" and settled is not None else ""
            place = [code(cell.task, in_table=True), code(cell.protocol, in_table=True), seed, heading]
            lines.append(_row([*place, *values, end]))
    return ["By step:", "\n".join(lines)]


def _stops(cells: Sequence[CellReport]) -> list[str]:
    """What early stops have saved."""
    lines = []
    for cell in cells:
        if cell.status == "done" and "steps_saved" in cell.costs:
            taken, saved = cell.costs["steps_taken"], cell.costs["steps_saved"]
            place = [
                code(cell.task, in_table=True),
                code(cell.protocol, in_table=True),
                "" if cell.seed is None else str(cell.seed),
            ]
            lines.append(_row([*place, f"{taken:.0f}", f"{saved:.0f} ({saved / (taken + saved):.0%})"]))
    return (
        ["Stopped early:", "\n".join([*_head(["task", "protocol", "seed", "steps taken", "saved"]), *lines])] if lines else []
    )


def _seeds(cells: Sequence[CellReport]) -> list[str]:
    """What seeds do beside what the choice of test rows does, where there are several."""
    lines = []
    for task in distinct(cell.task for cell in cells):
        for label in distinct(cell.protocol for cell in of(cells, task=task)):
            for measure, heading in _COLUMNS[:2]:
                found = over_seeds(of(cells, task=task, protocol=label), measure)
                if found is not None and found.seeds > 1:
                    place = [code(task, in_table=True), code(label, in_table=True), heading, str(found.seeds)]
                    lines.append(_row([*place, *(f"{x:.3f}" for x in (found.value, found.between, found.sampling))]))
    names = ["task", "protocol", "metric", "seeds", "mean", "standard deviation over seeds", "standard error over rows"]
    return ["Over seeds:", "\n".join([*_head(names), *lines])] if lines else []


def _sizes(cells: Sequence[CellReport]) -> list[str]:
    """What each protocol learns and stores; nothing where none learns."""
    names = ("trained_parameters", "stored_parameters", "stored_bytes")
    found: dict[str, tuple[float, ...]] = {}
    for cell in cells:
        if cell.status == "done" and all(name in cell.costs for name in names):
            found.setdefault(cell.protocol, tuple(cell.costs[name] for name in names))
    if not any(sum(sizes) for sizes in found.values()):
        return []
    lines = [_row([code(label, in_table=True), *(f"{size:,.0f}" for size in sizes)]) for label, sizes in found.items()]
    head = _head(["protocol", "trained parameters", "stored parameters", "bytes stored"])
    return ["Learnt and stored, in fp32:", "\n".join([*head, *lines])]


def _ensembles(cells: Sequence[CellReport]) -> list[str]:
    """Each ensemble beside the mean and the best of its members."""
    lines = []
    for cell in cells:
        for measure, heading in _COLUMNS:
            found = [cell.metric(name) for name in (f"{measure}_member_mean", f"{measure}_member_best", measure)]
            if all(metric is not None for metric in found):
                place = [code(name, in_table=True) for name in (cell.task, cell.protocol)]
                seed = "" if cell.seed is None else str(cell.seed)
                lines.append(_row([*place, seed, heading, *(f"{metric.value:.3f}" for metric in found if metric is not None)]))
    names = ["task", "protocol", "seed", "metric", "mean member", "best member", "together"]
    note = "The best member is chosen by these rows."
    return ["Ensembles:", "\n".join([*_head(names), *lines]), note] if lines else []


def _transfer(cells: Sequence[CellReport]) -> list[str]:
    """Learnt on one task, asked another, beside the model by itself."""
    parts = []
    for matrix in transfer_matrices(cells):
        with_ = f" ({code(matrix.settings)})" if matrix.settings else ""
        parts += [f"Soft prompts of one task on another{with_}:", _matrix(matrix)]
    return parts


def _matrix(matrix: TransferMatrix) -> str:
    lines = _head(["learnt on", "metric", *(code(task, in_table=True) for task in matrix.targets), "n"])
    for learnt_on in (PLAINLY, *matrix.sources):
        for measure, heading in _COLUMNS:
            found = [matrix.at(learnt_on, task, measure) for task in matrix.targets]
            sizes = sorted({n for each in found if each is not None for n in each.n})
            if sizes:
                fields = ["" if each is None else full(each.shown) for each in found]
                lines.append(_row([code(learnt_on, in_table=True), heading, *fields, "/".join(map(str, sizes))]))
    return "\n".join(lines)


def _ranking(ranking: Ranking) -> list[str]:
    """How far orders of models agree with a ground truth, and how well tasks tell models apart."""
    parts = []
    if ranking.agreements:
        names = ["against", "task", "protocol", "swaps", "tau-b", "95% interval", "decisions", "n"]
        lines = _head(names)
        for each in ranking.agreements:
            agreed, interval = each.agreement, each.intervals["tau_b"]["all"]
            place = [code(name, in_table=True) for name in (each.truth, each.task, each.protocol)]
            numbers = [f"{agreed.distance:.3g} of {agreed.most}", _number(agreed.tau_b), _between(interval.low, interval.high)]
            lines.append(_row([*place, *numbers, _number(agreed.decision_accuracy), str(len(each.models))]))
        parts += ["Order of base models against a ground truth:", "\n".join(lines)]
    if ranking.signals:
        protocols = distinct(each.protocol for each in ranking.signals)
        known = {(each.task, each.protocol): each.signal for each in ranking.signals}
        lines = _head(["task", *(code(protocol, in_table=True) for protocol in protocols), "by chance"])
        for task in distinct(each.task for each in ranking.signals):
            mine = [known.get((task, protocol)) for protocol in protocols]
            ratios = ["" if each is None else _number(each.ratio, 1) for each in mine]
            chance = max(each.by_chance for each in mine if each is not None)
            lines.append(_row([code(task, in_table=True), *ratios, f"{chance:.1f}"]))
        parts += ["Signal to noise (best less worst model, over the standard error of a score):", "\n".join(lines)]
    return ["## Ranking", *parts] if parts else []


_TESTED = 300
"""Comparisons that are written out; report.html has more."""


def _tests(tests: Compared) -> list[str]:
    """Ways of asking against each other."""
    names = ["model", "task", "protocol", "metric", "change, points", "95% interval", "p", "p (Holm)", "finds, points", "n"]
    lines = _head(names)
    for each in tests.comparisons[:_TESTED]:
        change = each.difference
        place = [code(name, in_table=True) for name in (each.pair.model, each.pair.task, each.pair.protocol)]
        moved = f"{100 * change.change:+.1f}{chr(92) + '*' if each.p_holm <= tests.alpha else ''}"
        interval = _between(100 * change.interval.low, 100 * change.interval.high, 1)
        p_values = [f"{p:.3f}" if p >= 0.001 else "<0.001" for p in (change.p, each.p_holm)]
        finds = _number(100 * change.detectable(), 1)
        lines.append(_row([*place, each.metric.replace("_", " "), moved, interval, *p_values, finds, str(change.rows)]))
    said = (
        f"Ways of asking against the plainer ones, on the same rows: {len(tests.moved)} of {len(tests.comparisons)} "
        f"comparisons moved significantly (\\*; Holm's correction over the grid, level {tests.alpha:g}). p: McNemar's exact "
        "test, or with several seeds or rows that share a passage the score test with that reckoned in. finds: the change that "
        "so many rows find with probability 0.8."
    )
    more = len(tests.comparisons) - _TESTED
    left_out = [f"{more} more are in report.html, or told by `spt-fast compare`."] if more > 0 else []
    return ["## Paired tests", said, "\n".join(lines), *left_out]


def _number(value: float, digits: int = 2) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def _between(low: float, high: float, digits: int = 2) -> str:
    return "" if math.isnan(low) else f"{low:.{digits}f} to {high:.{digits}f}"


def _determinism(cells: Sequence[CellReport]) -> list[str]:
    """How many answers came out otherwise when rows were asked again."""
    lines = []
    for place, reruns in asked_again(cells).items():
        rates = [flip_rate(reruns, what) for what in FLIPS]
        flips = [f"{rate.value:.3f} ({rate.ci_low:.3f}-{rate.ci_high:.3f})" for rate in rates]
        largest = largest_difference(reruns)
        apart = "" if math.isnan(largest) else f"{largest:.2g}"
        lines.append(_row([*(code(name, in_table=True) for name in place), *flips, apart, str(rates[0].n)]))
    names = ["model", "task", "protocol", *(what.replace("_", " ") for what in FLIPS), "largest difference, nats", "n"]
    return ["## Determinism", DETERMINISM, "\n".join([*_head(names), *lines])] if lines else []


DETERMINISM = (
    "Some rows were asked once more, in an engine started anew and with other rows in a batch: the share whose completion, or "
    "whose verdict, came out otherwise, with 95% intervals (Wilson), and how far two log-likelihoods of one option were apart. "
    "The numbers elsewhere are those of the first answers."
)


def _cost(cells: Sequence[CellReport], events: Sequence[Mapping[str, Any]], price: PriceConfig | None) -> list[str]:
    """What models took, and what each run was expected to take."""
    gpus = gpus_of(events)
    models = by_model_spent(cells, gpus)
    phases = [phase for phase in PHASES if any(each.phases[phase] for each in models.values())]
    told = [what for what in TOKENS if any(what in each.tokens for each in models.values())]
    if not phases:
        return []
    counted = unit(bool(gpus))
    machines = [f"{counted}-seconds", *(["price"] if price is not None else []), "peak memory, GiB"]
    lines = _head(["model", "cells", *(PHASES[phase] for phase in phases), *machines, *(TOKENS[what] for what in told)])
    for model, each in models.items():
        row = [f"{each.phases[phase]:.1f}" if each.phases[phase] else "" for phase in phases]
        row += [f"{each.gpu_seconds:.1f}", *([money(price, each.gpu_seconds)] if price is not None else [])]
        peak = max(each.host_bytes, each.gpu_bytes)
        row += [f"{peak / 2**30:.1f}" if peak else ""]
        row += [f"{each.tokens[what]:.0f}" if what in each.tokens else "" for what in told]
        lines.append(_row([code(model, in_table=True), str(each.cells), *row]))
    note = "Seconds of its workers by phase, and tokens."
    note += "" if gpus else " There was no GPU: worker-seconds stand for GPU-seconds, and are priced as such."
    parts = ["## Cost", note, "\n".join(lines)]
    names = ["run", "cells to do", "expected, s", "took, s", f"expected {counted}-seconds", f"{counted}-seconds"]
    lines = _head([*names, *(["expected price", "price"] if price is not None else [])])
    found = list(sessions(events))
    for i, session in enumerate(found, start=1):
        before, took = session.expected, [f"{session.seconds:.0f}", f"{session.gpu_seconds:.0f}"]
        foreseen = ["", ""] if before is None else [f"{before.seconds:.0f}", f"{before.gpu_seconds:.0f}"]
        row = [str(i), str(session.to_do), foreseen[0], took[0], foreseen[1], took[1]]
        if price is not None:
            row += ["" if before is None else money(price, before.gpu_seconds), money(price, session.gpu_seconds)]
        lines.append(_row(row))
    return [*parts, "What each run was expected to take, and took:", "\n".join(lines)] if found else parts


def _rows(reports: Sequence[Mapping[str, Any]]) -> str:
    """How many rows each split has, and how many of those that are learnt from look like test rows."""
    lines = _head(["task", "tuning", "few-shot", "test", "left out", "near-duplicates of test rows"])
    for report in reports:
        near = report["near_duplicates"]["overlapping"]
        sizes = [str(report["splits"][split]["rows"]) for split in ("tuning", "few_shot", "test")]
        left_out = str(unused(report))
        alike = f"{near['tuning']} tuning, {near['few_shot']} few-shot"
        lines.append(_row([code(report["task"], in_table=True), *sizes, left_out, alike]))
    note = "Near-duplicates share 13 words in a row with a test row; `rows/` has the first of them, and why rows were left out."
    return "\n".join(lines) + f"\n\n{note}"


_SHOWN = 5
"""Disagreements that are written out, a model; samples.parquet has all."""


def _judge(cells: Sequence[CellReport]) -> list[str]:
    """How often the judge agrees with the rules, and some of the completions where it does not."""
    judged = [cell for cell in cells if cell.metric("judge_agrees_on_format") is not None]
    if not judged:
        return []
    lines = _head(["task", "protocol", "seed", "agree on format", "agree on knowledge", "n"])
    for cell in judged:
        form, knowledge = cell.metric("judge_agrees_on_format"), cell.metric("judge_agrees_on_knowledge")
        assert form is not None
        assert knowledge is not None
        place = [code(name, in_table=True) for name in (cell.task, cell.protocol)]
        seed = "" if cell.seed is None else str(cell.seed)
        lines.append(_row([*place, seed, f"{form.value:.2f}", f"{knowledge.value:.2f}", str(form.n)]))
    parts = ["Judge against rules:", "\n".join(lines)]
    shown = [(cell, each) for cell in judged for each in cell.disagreements]
    if shown:
        quotes = [
            f"* {code(cell.task)} · {code(cell.protocol)}: {each.what}, judge {'yes' if each.judge else 'no'}, "
            f"rules {'no' if each.judge else 'yes'}: {code(each.completion[:200])}"
            for cell, each in shown[:_SHOWN]
        ]
        parts += [f"They differ on {len(shown)} verdicts; the first:", "\n".join(quotes)]
    return parts


def _head(names: Sequence[str]) -> list[str]:
    return [_row(names), _row(["---"] * len(names))]


def _row(fields: Sequence[str]) -> str:
    return "| " + " | ".join(fields) + " |"
