"""Orders of models: base models against their post-trained counterparts, and against what the grid knows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from spt_fast.analysis.agreement import places
from spt_fast.analysis.ranking_types import ALL_TASKS, MEAN, PLANTED, RankAgreement, Ranking
from spt_fast.config.protocols import protocol_of
from spt_fast.report.cells import SeedGroup, over_seeds
from spt_fast.report.grid import Grid, is_control
from spt_fast.report.parts import Cell, Figure, Figures, Group, Part, Prose, Section, Table
from spt_fast.report.recorded import Recorded
from spt_fast.report.words import ABSENT, Number, number, probability, span, visible
from spt_fast.scoring.metrics import spec

_PARTNERS = "post-trained, "


def section(recorded: Recorded) -> Section | None:
    """Order of base models under each protocol, beside that of their partners; or why there is none."""
    if not recorded.any_done:
        return None
    grid, found, note = recorded.by_place, recorded.ranking, recorded.no_ranking
    if found is None or not found.agreements:
        signals = [_signals(found)] if found is not None and found.signals else []
        return Section(id="ranking", title="Ranking", parts=[Prose(text=note), *signals])
    intro = (
        f"Base models in the order of their {_measured(found)} under each protocol, and in that of {_held_against(found)}. "
        "Models that tie share a place."
    )
    lines = (
        "The order that others are held against stands at the right. Lines that cross between two columns are pairs of models "
        "that the two order differently."
    )
    parts: list[Part] = [Prose(text=intro), Prose(text=lines, of_figures=True), _orders(grid, found)]
    for truth in dict.fromkeys(each.truth for each in found.agreements):
        alike = [each for each in found.agreements if each.truth == truth and not is_control(each.protocol)]
        parts += [_agreement_figure(truth, alike), _agreement_table(truth, alike)]
    parts.append(_gains(found))
    parts.append(_signals(found))
    parts += [Prose(text=visible(each, 1000)) for each in found.notes]
    return Section(id="ranking", title="Ranking", parts=parts)


def _measured(found: Ranking) -> str:
    """What the orders go by: "exact match", or "knowledge (mmlu, arc_easy) or exact match (triviaqa)"."""
    by = {spec(name).words: tasks for name, tasks in found.tasks_by.items()}
    if len(by) == 1:
        return next(iter(by))
    return " or ".join(f"{words} ({visible(', '.join(tasks), 300)})" for words, tasks in by.items())


def _held_against(found: Ranking) -> str:
    truths = {"given" if each.truth == PLANTED else "partners" for each in found.agreements}
    words = {"partners": "their post-trained counterparts", "given": "their reference scores (truth:)"}
    return " and ".join(said for name, said in words.items() if name in truths)


def _orders(grid: Grid, found: Ranking) -> Figures:
    """A figure a task: places under each protocol."""
    known = {model for scores in found.truth.values() for model in scores}
    ranked = [model for model in found.models if model in found.partners or model in known]
    figures = []
    for task in dict.fromkeys(order.task for order in found.orders):
        columns = _columns(grid, found, task, ranked)
        if len(columns) > 1:
            label = f"{visible(task)}: places of models under each protocol"
            rows = _lines(grid, found, columns, ranked, _sign(found, task))
            figures.append(Figure(drawing="order", rows=rows, label=label, caption=visible(task)))
    legend = grid.legend(ranked)
    return Figures(figures=figures, legend=legend)


def _columns(grid: Grid, found: Ranking, task: str, ranked: Sequence[str]) -> dict[str, dict[str, tuple[float, str]]]:
    """Title of a column -> base model -> its score, and what is said of it."""
    columns: dict[str, dict[str, tuple[float, str]]] = {}
    for order in found.orders:
        if order.task == task and not is_control(order.protocol):
            known = [each for each in order.models if each.model in ranked]
            scores = {each.model: (each.score, _score(each.score, each.stderr)) for each in known}
            columns[f"base|{visible(order.protocol, 16)}"] = scores
    for truth in dict.fromkeys(each.truth for each in found.agreements if each.truth.startswith(_PARTNERS)):
        protocol = truth.removeprefix(_PARTNERS)
        scores = {model: each for model in ranked if (each := _of_partner(grid, found, model, task, protocol)) is not None}
        columns[f"post-trained|{visible(protocol, 16)}"] = scores
    given = found.truth.get(task, found.truth.get("", {}))
    columns["given|truth"] = {model: (given[model], f"{given[model]:.3f}") for model in ranked if model in given}
    return {title: scores for title, scores in columns.items() if len(scores) > 1}


def _of_partner(grid: Grid, found: Ranking, model: str, task: str, protocol: str) -> tuple[float, str] | None:
    """What the partner of a base model scores."""
    if model not in found.partners:
        return None
    tasks = [task] if task != ALL_TASKS else [name for name in grid.tasks if any(o.task == name for o in found.orders)]
    partner = found.partners[model]
    scores = [over_seeds(grid.at.get(SeedGroup(partner, each, protocol), ()), found.metrics[each]) for each in tasks]
    known = [each for each in scores if each is not None]
    if len(known) < len(tasks):
        return None
    mean = sum(each.value for each in known) / len(known)
    return mean, _score(mean, math.sqrt(sum(each.sampling**2 for each in known)) / len(known))


def _score(value: float, stderr: float) -> str:
    return f"{value:.3f}" + ("" if math.isnan(stderr) else f", standard error {stderr:.3f}")


def _sign(found: Ranking, task: str) -> float:
    """What makes a task's scores the higher the better, as they are ordered; over all tasks, where they agree in it."""
    metrics = [found.metrics[task]] if task in found.metrics else list(found.metrics.values())
    return max(spec(name).sign for name in metrics)


def _lines(
    grid: Grid,
    found: Ranking,
    columns: Mapping[str, Mapping[str, tuple[float, str]]],
    ranked: Sequence[str],
    signs: float,
) -> list[dict[str, Any]]:
    rows = []
    last = list(columns)[-1]
    for title, scores in columns.items():
        models = [model for model in ranked if model in scores]
        sign = 1.0 if title.startswith("given") else signs
        order = dict(zip(models, places([sign * scores[model][0] for model in models]), strict=True))
        for model in models:
            who = grid.short[found.partners[model] if title.startswith("post-trained") else model]
            alike = [other for other in models if order[other] == order[model]]
            named = " = ".join(grid.short[other] for other in alike) if title == last and alike[0] == model else None
            tied = f", tied with {len(alike) - 1}" if len(alike) > 1 else ""
            tip = f"{title.replace('|', ', ')}: {who}, place {order[model]} of {len(models)}{tied}, {scores[model][1]}"
            row = {"model": model, "column": title, "place": order[model], "named": named, "tip": tip}
            rows.append({**row, **grid.look(model)})
    return rows


def _agreement_figure(truth: str, alike: Sequence[RankAgreement]) -> Part:
    """Tau-b with its interval, by task and protocol."""
    rows = []
    for each in alike:
        tau, interval = each.agreement.tau_b, each.intervals["tau_b"]["all"]
        if not math.isnan(tau):
            soft = protocol_of(each.protocol).is_treatment
            known = not math.isnan(interval.low)
            limits = {"low": interval.low if known else tau, "high": interval.high if known else tau}
            tip = f"{visible(each.task)}, {visible(each.protocol)}: {_tau(each)}"
            shown = {"colour": "var(--c1)" if soft else "var(--c2)", "shape": "circle" if soft else "diamond"}
            place = {"task": visible(each.task), "protocol": visible(each.protocol)}
            rows.append({**place, "value": tau, "tip": tip, **limits, **shown})
    title = f"Agreement with the order {_told(truth)}: Kendall's tau-b"
    if not rows:
        return Prose(text=f"{title} is not defined: one of the two orders ties all models, on every task.")
    figure = Figure(drawing="agreement", rows=rows, label=title, note="95% intervals over rows, seeds and models")
    return Figures(title=title, figures=[figure])


def _told(truth: str) -> str:
    return "of the reference scores" if truth == PLANTED else f"of {visible(truth)}"


def _tau(each: RankAgreement) -> str:
    interval = each.intervals["tau_b"]["all"]
    between = span(interval.low, interval.high)
    told = f", 95% interval {between}" if between else ""
    return f"tau-b {number(each.agreement.tau_b)}{told}, n = {len(each.models)} models"


def _agreement_table(truth: str, alike: Sequence[RankAgreement]) -> Table:
    groups = []
    for task in dict.fromkeys(each.task for each in alike):
        rows: list[list[Cell]] = []
        for each in alike:
            if each.task == task:
                agreed, chance = each.agreement, each.chance
                interval = each.intervals["tau_b"]["all"]
                tau = Number(text=number(agreed.tau_b), interval=span(interval.low, interval.high), tip=_tau(each))
                rows.append(
                    [
                        visible(each.protocol),
                        f"{agreed.distance:.3g} of {agreed.most}",
                        ABSENT if chance is None else f"{chance.distance:.1f}",
                        tau,
                        number(agreed.spearman),
                        number(agreed.decision_accuracy),
                        ABSENT if chance is None else probability(chance.p),
                        f"{agreed.tied} / {agreed.truth_tied}",
                    ]
                )
        groups.append(Group(title=visible(task), rows=rows))
    return Table(
        caption=f"Order of base models against the order {_told(truth)}",
        head=["protocol", "swaps", "by chance", "tau-b", "Spearman", "decisions", "p", "ties, here / there"],
        groups=groups,
        folded=True,
    )


def _gains(found: Ranking) -> Table:
    over_tasks = any(each.task == MEAN for each in found.agreements)
    rows: list[list[Cell]] = []
    for each in found.gains:
        if (each.task in (ALL_TASKS, MEAN) or not over_tasks) and not is_control(each.over):
            interval = each.intervals["all"]
            between = span(interval.low, interval.high)
            told = f", 95% interval {between}" if between else ""
            tip = f"difference of tau-b {number(each.tau_b)}{told}, n = {len(found.models)} models"
            tau = Number(text=number(each.tau_b), interval=between, tip=tip)
            rows.append([visible(each.task), visible(each.protocol), visible(each.over), visible(each.truth), tau])
    return Table(
        caption="Gain of a soft prompt over another protocol (difference of tau-b)",
        head=["task", "protocol", "over", "truth", "tau-b"],
        groups=[Group(title="", rows=rows)],
        headers=4,
    )


def _signals(found: Ranking) -> Table:
    protocols = list(dict.fromkeys(each.protocol for each in found.signals))
    known = {(each.task, each.protocol): each.signal for each in found.signals}
    rows: list[list[Cell]] = []
    for task in dict.fromkeys(each.task for each in found.signals):
        mine = [known.get((task, protocol)) for protocol in protocols]
        chance = max(each.by_chance for each in mine if each is not None)
        shown = [ABSENT if each is None else number(each.ratio, 1) for each in mine]
        rows.append([visible(task), *shown, f"{chance:.1f}"])
    return Table(
        caption="Signal to noise: best minus worst model, over the standard error of a score",
        head=["task", *(visible(protocol) for protocol in protocols), "by chance"],
        groups=[Group(title="", rows=rows)],
        folded=True,
    )
