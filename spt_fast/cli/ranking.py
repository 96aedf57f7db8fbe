"""`rank DIR|FILE`: the order of models, whether it is that of their counterparts, and how well tasks tell models apart."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from spt_fast.analysis.plain import plain_values
from spt_fast.analysis.ranking import rank_run, rank_scores
from spt_fast.analysis.ranking_types import ALL_TASKS, MEAN, Order, RankAgreement, Ranked, Ranking, TaskSignal
from spt_fast.analysis.runs import metric_names, read_run
from spt_fast.analysis.scores import only, read_partners, read_scores, read_truth
from spt_fast.cli.pages import Page, number, probability, with_interval
from spt_fast.config.output import Location
from spt_fast.config.strict import did_you_mean
from spt_fast.errors import ConfigError
from spt_fast.scoring.metrics import MetricSpec, spec
from spt_fast.scoring.statistics import Z_95

TABLES = (".csv", ".json", ".jsonl")


def rank(
    source: Location,
    *,
    metric: str | None = None,
    tasks: Sequence[str] = (),
    models: Sequence[str] = (),
    partners: Path | None = None,
    truth: Path | None = None,
    lower_is_better: Sequence[str] = (),
    resamples: int,
    as_json: bool = False,
) -> str:
    """The ranking of a run folder or of a table of scores, as text or as JSON.

    Raises:
        ConfigError: the source, an option or a file of it is wrong.
        StoreError: a file of the run folder is damaged.
    """
    given = None if truth is None else read_truth(truth)
    options: dict[str, Any] = {"truth": given, "resamples": resamples}
    if str(source).lower().endswith(TABLES):
        table = read_scores(source, metric=metric)
        table = only(table, tasks=_chosen("--tasks", tasks, table.tasks), models=_chosen("--models", models, table.models))
        down = _chosen("--lower-is-better", lower_is_better, table.tasks)
        pairs = None if partners is None else read_partners(partners)
        ranking = rank_scores(table, partners=pairs, lower_is_better=down, **options)
    else:
        for option, value in (("--models", models), ("--partners", partners), ("--lower-is-better", lower_is_better)):
            if value:
                raise ConfigError(f"{option}: is only for tables of scores; a run folder has it in its grid.yaml")
        run = read_run(source)
        known = metric_names(run)
        if metric is not None and metric not in known:
            raise ConfigError(
                f"--metric: no {metric!r} in {run.folder}{did_you_mean(metric, known) or '; choose from ' + ', '.join(known)}"
            )
        names = list(dict.fromkeys(place.task for place in run.done))
        ranking = rank_run(run, metric=metric, tasks=_chosen("--tasks", tasks, names), **options)
    if as_json:
        return json.dumps(plain_values(ranking), ensure_ascii=False, allow_nan=False, indent=1)
    return told(ranking)


def told(ranking: Ranking) -> str:
    """A ranking as text."""
    page = Page()
    page.say(f"{ranking.source}: order of {_models(ranking)} models by {_metric(ranking)}{_direction(ranking)}")
    for truth in dict.fromkeys(each.truth for each in ranking.agreements):
        _agreements(page, truth, [each for each in ranking.agreements if each.truth == truth])
    _gains(page, ranking)
    _between_tasks(page, ranking)
    _signals(page, ranking)
    _errors(page, ranking)
    _order(page, ranking)
    if not ranking.agreements:
        known = "only one model has" if ranking.partners else "no model has"
        page.say(
            f"There is no reference order: {known} a post-trained counterpart. Name counterparts (post_trained: in the grid, "
            "--partners for a table) or reference scores (truth:, --truth)."
        )
    for note in ranking.notes:
        page.say(note)
    page.say(
        "In brackets: 95% intervals over rows, seeds and models, as far as they are known; --json has each separately. Ties "
        "count half, and are never broken."
    )
    return page.text


MOST_TASKS = 6
"""Tasks that a sentence names; of more, how many there are."""


def _metric(ranking: Ranking) -> str:
    """What the orders go by: "exact_match", or "knowledge_best (zoo-mcq) and exact_match (zoo-short, zoo-json)"."""
    by = ranking.tasks_by
    if len(by) == 1:
        return ranking.metric
    return " and ".join(f"{metric} ({_some(tasks)})" for metric, tasks in by.items())


def _some(tasks: Sequence[str]) -> str:
    more = len(tasks) - MOST_TASKS
    return f"{', '.join(tasks[:MOST_TASKS])}, and {more} more" if more > 0 else ", ".join(tasks)


def _titled(ranking: Ranking, task: str) -> str:
    """A task with its metric; of several, that it is a mean, and of what."""
    if task in ranking.metrics:
        return f"{task}, {ranking.metrics[task]}"
    by = ranking.tasks_by
    return f"{task}: mean of {' and '.join(by)}" if len(by) > 1 else f"{task}, {ranking.metric}"


def _models(ranking: Ranking) -> str:
    """How many are in an order; and of how many, where some are not."""
    there = {each.model for order in ranking.orders for each in order.models}
    return f"{len(there)} of {len(ranking.models)}" if len(there) < len(ranking.models) else str(len(there))


def _direction(ranking: Ranking) -> str:
    return " (lower is better)" if not any(spec(name).higher_is_better for name in ranking.metrics.values()) else ""


def _agreements(page: Page, truth: str, found: Sequence[RankAgreement]) -> None:
    models = max(len(each.models) for each in found)
    if truth.startswith("post-trained"):
        title = (
            f"Order of base models against that of their post-trained counterparts, {truth.partition(', ')[2]} ({models} pairs)"
        )
    else:
        title = f"Order of base models against that of the reference scores ({models} models)"
    head = ("task", "protocol", "swaps", "by chance", "tau-b", "Spearman", "decisions", "p", "ties")
    rows = []
    for task in dict.fromkeys(each.task for each in found):
        for each in found:
            if each.task == task:
                rows.append(_agreement(each))
    page.table(title, head, rows, left=2)


def _agreement(each: RankAgreement) -> tuple[str, ...]:
    agreed, chance = each.agreement, each.chance
    return (
        each.task,
        each.protocol,
        f"{agreed.distance:.3g} of {agreed.most}",
        "-" if chance is None else f"{chance.distance:.1f}",
        with_interval(agreed.tau_b, each.intervals["tau_b"]["all"]),
        number(agreed.spearman),
        number(agreed.decision_accuracy),
        "-" if chance is None else probability(chance.p),
        f"{agreed.tied}/{agreed.truth_tied}" if agreed.tied or agreed.truth_tied else "",
    )


def _gains(page: Page, ranking: Ranking) -> None:
    rows = [
        (each.task, each.protocol, each.over, each.truth, with_interval(each.tau_b, each.intervals["all"]))
        for each in ranking.gains
        if each.task in (ALL_TASKS, MEAN, *ranking.suites) or not _over_tasks(ranking)
    ]
    page.table(
        "Gain of a soft prompt over another protocol (difference of tau-b)",
        ("task", "protocol", "over", "truth", "tau-b"),
        rows,
        left=4,
    )


def _over_tasks(ranking: Ranking) -> bool:
    return any(each.task == MEAN for each in ranking.agreements)


def _between_tasks(page: Page, ranking: Ranking) -> None:
    rows = []
    for each in ranking.between_tasks:
        higher = "; ".join(f"{count} of {each.pairs} against {other}" for other, count in each.higher_than.items())
        interval = with_interval(each.tau_b, each.intervals["all"]).partition(" ")[2]
        mean = f"{number(each.tau_b, 3)} {interval}".strip()
        rows.append((each.protocol, str(len(each.tasks)), str(each.models), mean, higher))
    head = ("protocol", "tasks", "models", "mean tau-b", "higher on")
    page.table("Agreement of tasks among themselves on the order of models", head, rows)


def _signals(page: Page, ranking: Ranking) -> None:
    protocols = list(dict.fromkeys(each.protocol for each in ranking.signals))
    found = {(each.task, each.protocol): each.signal for each in ranking.signals}
    rows = []
    for task in dict.fromkeys(each.task for each in ranking.signals):
        mine = [found.get((task, protocol)) for protocol in protocols]
        shown = ["-" if each is None else number(each.ratio, 1) for each in mine]
        if any(each != "-" for each in shown):
            chance = max(each.by_chance for each in mine if each is not None)
            rows.append((task, *shown, f"{chance:.1f}"))
    page.table(
        "Signal to noise (best minus worst model, over the standard error of a score)", ("task", *protocols, "by chance"), rows
    )


def _errors(page: Page, ranking: Ranking) -> None:
    """What other rows and other seeds do, apart; where there are seeds."""
    protocols = list(dict.fromkeys(each.protocol for each in ranking.signals if not math.isnan(each.between_seeds)))
    found = {(each.task, each.protocol): each for each in ranking.signals}
    rows = []
    for task in dict.fromkeys(each.task for each in ranking.signals):
        mine = [found.get((task, protocol)) for protocol in protocols]
        known = spec(ranking.metrics[task])
        rows.append((task, *("-" if e is None else _error(e, known) for e in mine)))
    units = {spec(name).change_unit for name in ranking.metrics.values()}
    unit = f" in {units.pop()}" if len(units) == 1 and "" not in units else ""
    title = f"Uncertainty{unit}: standard error over rows / standard deviation over seeds"
    page.table(title, ("task", *protocols), rows if protocols else [])


def _error(each: TaskSignal, known: MetricSpec) -> str:
    return " / ".join(number(known.in_change_unit(error), known.digits) for error in (each.sampling, each.between_seeds))


def _order(page: Page, ranking: Ranking) -> None:
    digits = max(spec(name).digits for name in ranking.metrics.values())
    tasks = list(dict.fromkeys(order.task for order in ranking.orders))
    for task in [*ranking.suites, *([ALL_TASKS] if ALL_TASKS in tasks else [] if ranking.suites else tasks[:1])]:
        _places(page, _titled(ranking, task), [order for order in ranking.orders if order.task == task], digits)


def _places(page: Page, title: str, orders: Sequence[Order], digits: int) -> None:
    """Models by protocol: place, score, and how far its 95% interval reaches where that is known."""
    places = [{each.model: each for each in order.models} for order in orders]
    rows = []
    for model in dict.fromkeys(each.model for order in orders for each in order.models):
        mine = [place.get(model) for place in places]
        rows.append((model, *("-" if each is None else _placed(each, digits) for each in mine)))
    if orders:
        page.table(f"Place and score, {title}", ("model", *(order.protocol for order in orders)), rows)


def _placed(each: Ranked, digits: int) -> str:
    reach = "" if math.isnan(each.stderr) else f" \u00b1{number(Z_95 * each.stderr, digits)}"
    return f"{each.place}. {number(each.score, digits)}{reach}"


def _chosen(option: str, patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    """The names that match; none where no pattern is given."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            few = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            raise ConfigError(f"{option}: nothing matches {pattern!r}; choose from {few}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
