"""What was seen, in one paragraph, computed from the numbers: also when it is not what one hoped for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

from spt_fast.analysis.cells import RunCell
from spt_fast.config.protocols import PAPER, PROTOCOLS, Protocol, protocol_of
from spt_fast.report.cells import distinct, largest_difference, of, plain
from spt_fast.scoring.learning import has_fallen
from spt_fast.scoring.metrics import FORMAT, KNOWLEDGE, spec
from spt_fast.scoring.rerun import FLIPS, flip_rate
from spt_fast.scoring.statistics import Paired, holm, paired, saturation_step
from spt_fast.types import Metric

LEVEL = 0.05
"""Of the paired tests."""


def summary(cells: Sequence[RunCell]) -> str:
    """One paragraph of plain words: format following and knowledge under each protocol, partners, failures.

    Significance is by exact McNemar tests over the examples that two cells share, where their verdicts are given.
    """
    if not cells:
        return "There are no cells, so nothing was measured."
    done = [cell for cell in cells if cell.status == "done" and cell.metric(FORMAT) is not None]
    if not done:
        nothing = "Nothing was measured." if all(cell.stopped is None for cell in cells) else "No cell was asked all its rows."
        return " ".join([nothing, *_unfinished(cells)])
    bases = [cell for cell in done if cell.partner_of is None]
    partners = [cell for cell in done if cell.partner_of is not None]
    sentences = [
        *_plainly(bases),
        *_shown(bases),
        *_soft(bases),
        *_controls(bases),
        *_partners(partners),
        *_again(done),
        *_cut(done),
        *_unfinished(cells),
    ]
    return " ".join(sentences)


@dataclass(frozen=True)
class _Pair:
    """A soft-prompt cell, and the zero-shot cell of the same model and task."""

    plain: RunCell
    soft: RunCell

    @property
    def format(self) -> Paired:
        return self._tests[0]

    @property
    def knowledge(self) -> Paired:
        return self._tests[1]

    @cached_property
    def _tests(self) -> tuple[Paired, Paired]:
        """Both at once: verdicts may be read from a file each time they are asked for."""
        before, after = (dict(cell.verdicts.items()) for cell in (self.plain, self.soft))
        form, knowledge = (
            paired({k: v[which] for k, v in before.items()}, {k: v[which] for k, v in after.items()}) for which in (0, 1)
        )
        return form, knowledge

    @property
    def testable(self) -> bool:
        return self.format.n > 0

    @property
    def rose(self) -> bool:
        """Format following rose, beyond chance where that can be tested, else beyond both intervals."""
        if self.testable:
            return self.format.change > 0 and self.format.p < LEVEL
        before, after = self.plain.metric(FORMAT), self.soft.metric(FORMAT)
        return before is not None and after is not None and after.ci_low > before.ci_high

    @property
    def moved(self) -> bool:
        return self.knowledge.p < LEVEL


def _plainly(bases: Sequence[RunCell]) -> list[str]:
    plainly = _baseline(bases)
    if not plainly:
        return []
    where = _count(len(distinct(cell.model for cell in plainly)), "base model")
    tasks = _count(len(distinct(cell.task for cell in plainly)), "task")
    return [
        f"Asked plainly, {where} on {tasks} wrote the answer in the form asked for "
        f"{_span(plainly, FORMAT)} of the time; knowledge was {_span(plainly, KNOWLEDGE)}."
    ]


def _shown(bases: Sequence[RunCell]) -> list[str]:
    """Other prompts, nothing else: worked examples."""
    kinds = [(kind, cells) for kind, cells in _by_kind(bases) if kind.attaches == "nothing" and not kind.is_baseline]
    return [
        f"{_sentence(kind.said())}, format following was {_span(cells, FORMAT)}."
        for kind, cells in kinds
        if not kind.is_control
    ]


def _soft(bases: Sequence[RunCell]) -> list[str]:
    found = []
    for label in distinct(cell.protocol for cell in _treatment(bases)):
        kind = protocol_of(label)
        name = _sentence(kind.said()) + ("" if label == kind.name else f" ({plain(label)})")
        found += _soft_kind(name, of(bases, protocol=label), bases)
    return found


def _controls(bases: Sequence[RunCell]) -> list[str]:
    shown = ((kind.said(), cells) for kind, cells in _by_kind(bases) if kind.is_control)
    return [
        f"As a control, {how}, format following was {_span(cells, FORMAT)}, and knowledge {_span(cells, KNOWLEDGE)}."
        for how, cells in shown
    ]


def _soft_kind(name: str, soft: Sequence[RunCell], bases: Sequence[RunCell]) -> list[str]:
    settled = [step for cell in soft if (step := saturation_step(cell.curve(FORMAT))) is not None]
    curves = any(len(cell.curve(FORMAT)) > 1 for cell in soft)
    asked: dict[tuple[str, str], list[RunCell]] = {}
    for cell in _baseline(bases):
        asked.setdefault((cell.model, cell.task), []).append(cell)
    pairs = [_Pair(plainly, cell) for cell in soft if (plainly := _plain_partner(cell, asked)) is not None]
    rose = any(pair.rose for pair in pairs) or not pairs  # what never rose settled nowhere
    by = f", {_settling(settled)}" if settled and curves and rose else ""
    if not pairs:
        knows = _span(soft, KNOWLEDGE)
        return [
            f"{name}, format following was {_span(soft, FORMAT)}{by}, and knowledge {knows}; "
            "without a zero-shot cell beside them, no change can be measured."
        ]
    sentences = [
        f"{name}, format following was {_span(soft, FORMAT)}{by}; {_learning(pairs)}.",
        *_not_learnt(pairs),
        *_not_done([pair.soft for pair in pairs if pair.rose], bases),
    ]
    tested = [pair for pair in pairs if pair.testable]
    if not tested:
        return [
            *sentences,
            f"Knowledge was {_span(soft, KNOWLEDGE)}; there are no verdicts to test it in pairs.",
        ]
    kinds = (
        (True, False, "by likelihood"),
        (False, False, "by extraction, which finds only what it can read,"),
        (False, True, "as the judge sees it"),
        (None, False, ""),
    )
    for closed, judged, how in kinds:
        alike = [pair for pair in tested if pair.soft.closed_ended is closed and pair.soft.judged is judged]
        sentences += _knowledge(how, alike)
    kept = sum(pair.rose and not pair.moved for pair in tested)
    where = _of(kept, len(tested)) if kept else "no cell"
    sentences.append(f"In short: format following rose with no shown change of knowledge in {where}.")
    return sentences


FOLLOWED = 0.95
"""Format following from which on there is nothing left to learn."""


def _not_learnt(pairs: Sequence[_Pair]) -> list[str]:
    """A sentence on soft prompts that taught nothing, with what to try.

    Where the form has risen, something was learnt, whatever the loss of some batches of a few rows says.
    """
    same = [pair for pair in pairs if not pair.rose]
    flat = [pair for pair in same if has_fallen(pair.soft.costs) is False]
    idle = [pair for pair in same if pair not in flat and _format_of(pair.plain) < FOLLOWED]
    found = []
    for what, these in (("its loss did not fall", flat), ("format following did not rise above zero-shot", idle)):
        if these:
            names = [f"{plain(pair.soft.model)} on {plain(pair.soft.task)}" for pair in these]
            shown = f"{', '.join(names[:3])}{' and others' if len(names) > 3 else ''}"
            tries = "; ".join(_to_try([pair.soft for pair in these]))
            found.append(f"NO EFFECT in {_of(len(these), len(pairs))}: {what} ({shown}). What to try: {tries}.")
    return found


def _not_done(soft: Sequence[RunCell], bases: Sequence[RunCell]) -> list[str]:
    """A sentence on soft prompts whose form rose and stays below that of worked examples, or surely below `FOLLOWED`."""
    shown: dict[tuple[str, str], list[RunCell]] = {}
    for kind, cells in _by_kind(bases):
        if kind.attaches == "nothing" and not (kind.is_baseline or kind.is_control):
            for cell in cells:
                shown.setdefault((cell.model, cell.task), []).append(cell)
    pairs = [_Pair(other, cell) for cell in soft if (other := _plain_partner(cell, shown)) is not None]
    below = [pair.soft for pair in pairs if pair.testable and pair.format.change < 0 and pair.format.p < LEVEL]
    told_already = {id(cell) for cell in below}
    short = [
        cell for cell in soft if id(cell) not in told_already and (form := cell.metric(FORMAT)) and form.ci_high < FOLLOWED
    ]
    told = []
    if below:
        told.append(f"that of worked examples in {_of(len(below), len(pairs))} ({_places(below)}; p < {LEVEL:g} each)")
    if short:
        told.append(f"{FOLLOWED:.0%} in {_of(len(short), len(soft))} ({_places(short)}; by its 95% interval)")
    if not told:
        return []
    steps = max(cell.settings.get("steps", 0) for cell in (*below, *short))
    longer = f": {_with_steps(3 * steps, (*below, *short))} in place of {steps}" if steps else ""
    return [f"It stays below {', and below '.join(told)}, where a longer training may bring it{longer}."]


def _places(cells: Sequence[RunCell]) -> str:
    return _few(distinct(f"{plain(cell.task)} on {plain(cell.model)}" for cell in cells))


FITTED = ("lr", "init", "position")
"""Settings whose defaults are in units of the model."""


def _to_try(soft: Sequence[RunCell]) -> list[str]:
    """What may help soft prompts that taught nothing, as far as the grid has not done it."""
    kind = protocol_of(soft[0].protocol)
    defaults = {f.name: f.default for f in fields(kind)}
    starts = any(each.settings.get("init_from") for each in soft)  # which implies `init`
    others = {name for each in soft for name, value in each.settings.items() if value != defaults.get(name)}
    given = [name for name in FITTED if name in others and not (starts and name == "init")]
    if all(each.settings.get(name) == value for each in soft for name, value in PAPER.items()):
        fitted = [f"{kind.name} without paper, whose {_listed(FITTED)} do not suit every model"]
    else:
        fit = "its default fits" if len(given) == 1 else "their defaults fit"
        fitted = [f"{kind.name} without {_listed(given)} in the grid: {fit} the model"] if given else []
    steps = max(each.settings.get("steps", 0) for each in soft)
    more = max(2 * steps, 0 if starts else defaults.get("steps", 0))
    longer = [f"a longer training, {_with_steps(more, soft)} in place of {steps}"] if steps else []
    return [*fitted, *longer, "a look at its answers under Samples in report.html, which show what it writes instead"]


def _with_steps(steps: int, soft: Sequence[RunCell]) -> str:
    """How a grid asks for so many steps; where some task has too few rows for them, going through these more than once."""
    few = any(
        rows < steps * cell.settings.get("batch_size", 0) and not cell.settings.get("repeat_rows")
        for cell in soft
        if (rows := cell.tuning_rows) is not None
    )
    return f"{protocol_of(soft[0].protocol).name}: {{steps: {steps}{', repeat_rows: true' if few else ''}}}"


def _listed(names: Sequence[str]) -> str:
    """lr, init and position"""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _format_of(cell: RunCell) -> float:
    metric = cell.metric(FORMAT)
    return 0.0 if metric is None else metric.value


def _settling(settled: Sequence[int]) -> str:
    """When format following came to where it ends: "reached by step 10 in 10 of 12 cells and by step 80 in all"."""
    middle, last = sorted(settled)[(len(settled) - 1) // 2], max(settled)
    if middle == last:
        return f"reached by step {last}"
    early = sum(step <= middle for step in settled)
    return f"reached by step {middle} in {_of(early, len(settled))} and by step {last} in all"


def _learning(pairs: Sequence[_Pair]) -> str:
    missed = [pair for pair in pairs if not pair.rose]
    if not missed:
        return f"it rose in all {len(pairs)} cells" if len(pairs) > 1 else "it rose"
    names = [f"{plain(pair.soft.task)} on {plain(pair.soft.model)}" for pair in missed]
    text = f"it rose in {_of(len(pairs) - len(missed), len(pairs))}, not for {_few(distinct(names))}"
    fell = sum(pair.testable and pair.format.change < 0 and pair.format.p < LEVEL for pair in missed)
    return f"{text}, and fell in {fell}" if fell else text


def _knowledge(how: str, pairs: Sequence[_Pair]) -> list[str]:
    if not pairs:
        return []
    moved = [pair for pair in pairs if pair.moved]
    subject = f"Knowledge {how}".strip()
    tests = f"paired McNemar tests against zero-shot, smallest p {_p(min(pair.knowledge.p for pair in pairs))}"
    if not moved:
        where = f" in any of {len(pairs)} cells" if len(pairs) > 1 else ""
        return [f"{subject} did not move significantly{where} ({tests})."]
    rose = sum(pair.knowledge.change > 0 for pair in moved)
    ways = " and ".join(f"{what} in {n}" for what, n in (("rose", rose), ("fell", len(moved) - rose)) if n)
    sure = holm(pair.knowledge.p for pair in pairs)
    names = distinct(f"{plain(pair.soft.task)} on {plain(pair.soft.model)}" for pair in moved)
    corrected = f"; {sure} of them after Holm's correction for {len(pairs)} tests" if len(pairs) > 1 else ""
    where = _of(len(moved), len(pairs))
    return [f"{subject} moved significantly in {where}: it {ways} ({_few(names)}; {tests}{corrected}).", *_by_cloze(moved)]


def _by_cloze(moved: Sequence[_Pair]) -> list[str]:
    """What a fall behind vectors means where the method of knowledge lists no options, and they learnt in front of some."""
    fallen = [
        pair
        for pair in moved
        if pair.knowledge.change < 0
        and protocol_of(pair.soft.protocol).attaches == "soft_prompt"
        and pair.soft.provenance.get("knowledge_best", "").startswith("cloze")
    ]
    if not fallen:
        return []
    return [
        f"Where it fell by cloze ({_of(len(fallen), len(moved))}), nothing was forgotten, for the model is frozen: cloze lists "
        "no options, and the vectors were learnt in front of prompts that do. Read what the model knows zero-shot."
    ]


def _cut(done: Sequence[RunCell]) -> list[str]:
    """How many completions had less room than the task allows, and how many of those were cut off for it."""
    tight = [cell for cell in done if cell.costs.get("less_room", 0) > 0]
    if not tight:
        return []
    less, cut = (int(sum(cell.costs.get(name, 0) for cell in tight)) for name in ("less_room", "cut_by_context"))
    names = distinct(f"{plain(cell.task)} on {plain(cell.model)}" for cell in tight)
    return [
        f"In {_count(len(tight), 'cell')} ({_few(names)}), {_count(less, 'completion')} had less room than the task's "
        f"max_tokens, because the prompt nearly fills the model's positions; {cut:,} of them "
        f"{'was' if cut == 1 else 'were'} cut off for it and count{'s' if cut == 1 else ''} as not in form."
    ]


def _partners(partners: Sequence[RunCell]) -> list[str]:
    sentences: list[str] = []
    for cells, how in ((_baseline(partners), "asked plainly"), (_treatment(partners), "with soft prompts")):
        if cells:
            who = "The post-trained counterparts" if not sentences else "They"
            sentences.append(
                f"{who}, {how}, followed the form {_span(cells, FORMAT)} of the time; knowledge was {_span(cells, KNOWLEDGE)}."
            )
    return sentences


def _again(done: Sequence[RunCell]) -> list[str]:
    """How many answers came out otherwise, where rows were asked again."""
    reruns = [cell.rerun for cell in done if cell.rerun is not None]
    if not reruns:
        return []
    flipped = flip_rate(reruns, "completion")
    verdicts = {what: sum(each.flips[what] for each in reruns) for what in FLIPS if what != "completion"}
    told = ", ".join(f"{count} on {spec(what).words}" for what, count in verdicts.items() if count)
    judged = f"verdicts flipped: {told}" if told else "no verdict flipped"
    largest = largest_difference(reruns)
    apart = "; log-likelihoods were at most {largest:.2g} nats apart" if largest else "; log-likelihoods were the same"
    apart = "" if math.isnan(largest) else apart.format(largest=largest)
    if not flipped.value:
        came = f"none differed (95% interval up to {_percent(flipped.ci_high)}%), and {judged}"
    else:
        interval = f"{_percent(flipped.ci_low)}% to {_percent(flipped.ci_high)}%"
        came = f"{_percent(flipped.value)}% differed (95% interval {interval}), and {judged}"
    return [f"Of {flipped.n:,} completions run again in {_of(len(reruns), len(done))}, {came}{apart}."]


def _unfinished(cells: Sequence[RunCell]) -> list[str]:
    failed, waiting = ([cell for cell in cells if cell.status == status] for status in ("failed", "waiting"))
    sentences = []
    if len(failed) == len(cells):
        sentences.append("The only cell failed." if len(cells) == 1 else f"All {len(cells)} cells failed.")
    elif failed:
        sentences.append(f"Failed, and not in these numbers: {_of(len(failed), len(cells))}.")
    if stopped := [cell.stopped.stopped for cell in cells if cell.stopped is not None]:
        rows = sum(each.n for each in stopped) / sum(each.of for each in stopped)
        sentences.append(
            f"Stopped after {_percent(rows)}% of their rows, because what was to be known is known, and not in these numbers: "
            f"{_of(len(stopped), len(cells))}; section Stopped of the report has theirs."
        )
    if waiting:
        sentences.append(f"Still to be done: {_of(len(waiting), len(cells))}.")
    return sentences


def _plain_partner(soft: RunCell, asked: Mapping[tuple[str, str], Sequence[RunCell]]) -> RunCell | None:
    """`asked`: the zero-shot cells of each model and task."""
    return next((cell for cell in asked.get((soft.model, soft.task), ()) if cell.seed in (None, soft.seed)), None)


def _baseline(cells: Iterable[RunCell]) -> list[RunCell]:
    return [cell for cell in cells if protocol_of(cell.protocol).is_baseline]


def _treatment(cells: Iterable[RunCell]) -> list[RunCell]:
    return [cell for cell in cells if protocol_of(cell.protocol).is_treatment]


def _by_kind(cells: Iterable[RunCell]) -> list[tuple[type[Protocol], list[RunCell]]]:
    """The cells of each protocol, in the order in which protocols are known."""
    found: dict[type[Protocol], list[RunCell]] = {}
    for cell in cells:
        found.setdefault(protocol_of(cell.protocol), []).append(cell)
    order = {kind: i for i, kind in enumerate(PROTOCOLS.values())}
    return sorted(found.items(), key=lambda each: order.get(each[0], len(order)))


def _span(cells: Iterable[RunCell], name: str) -> str:
    values = [metric.value for cell in cells if (metric := _metric(cell, name)) is not None]
    if not values:
        return "an unknown share"
    low, high = _percent(min(values)), _percent(max(values))
    return f"{low}%" if low == high else f"{low}% to {high}%"


def _metric(cell: RunCell, name: str) -> Metric | None:
    return cell.metric(name)


def _percent(value: float) -> str:
    """Per cents, rounded as the tables round; 0 and 100 are said only of what is exactly that."""
    rounded = f"{value:.2f}"
    if rounded in ("0.00", "1.00") and value not in (0.0, 1.0):
        return f"{100 * value:.1f}"
    return str(int(rounded.replace(".", "")))


def _p(value: float) -> str:
    return f"= {value:.2g}" if value >= 0.001 else "< 0.001"


def _of(some: int, total: int) -> str:
    """ "3 of 12 cells", "the 1 cell", "none of 12 cells"."""
    if total == 1:
        return "the one cell" if some else "none of 1 cell"
    if some == total:
        return f"all {total} cells"
    return f"{some or 'none'} of {total} cells"


def _sentence(words: str) -> str:
    """Words at the beginning of a sentence: the first letter is large, and names keep theirs."""
    return words[:1].upper() + words[1:]


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _few(names: Sequence[str], most: int = 4) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
