"""A series in a sentence: the form broke and knowledge stayed, knowledge fell and the form stayed, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from spt_fast.analysis.levels import Levels
from spt_fast.analysis.onset import ALPHA
from spt_fast.analysis.pooled import Pooled
from spt_fast.analysis.runs import Run
from spt_fast.analysis.series import Followed, Series, followed, series_of
from spt_fast.config.protocols import protocol_of
from spt_fast.scoring.metrics import FORMAT, KNOWLEDGE

Fault: TypeAlias = Literal["none", "knowledge", "form", "both", "undecided"]

_CALLED = {"knowledge": "knowledge", "form": "the form"}
_FELL = {"knowledge": "knowledge fell", "form": "format following fell"}


@dataclass(frozen=True, kw_only=True)
class Told:
    """What is to be said of a series."""

    series: Series
    fault: Fault
    onset: int | None
    """Of its checkpoints, the first from which the fault stays; None: there is none."""
    sentence: str
    followed: tuple[Followed, ...] = field(repr=False)
    levels: Levels | None = field(default=None, repr=False)
    """Where its checkpoints stand that were stopped early; None: nobody has asked."""

    @property
    def is_unknown(self) -> bool:
        """Whether it cannot be told if anything has fallen: nothing to trouble people with beside a gate's verdict."""
        return self.fault == "undecided"

    def onset_of(self, metric: str, protocol: str) -> int | None:
        """Of its checkpoints, the first from which this metric is fallen under this protocol; None: it has not fallen."""
        fell = (line for line in self.followed if line.course.state == "fell" and line.protocol == protocol)
        return next((line.first for line in fell if metric == (KNOWLEDGE if line.what == "knowledge" else FORMAT)), None)

    @property
    def onset_name(self) -> str | None:
        """The checkpoint that this is: "step-7"."""
        return None if self.onset is None else self.series.checkpoints[self.onset].name


def tell_series(run: Run, *, alpha: float = ALPHA) -> list[Told]:
    """What is to be said of each series of a run folder.

    Args:
        run: the run folder.
        alpha: probability that a series in which nothing falls is said to have a fault.

    Raises:
        StoreError: a file is damaged.
    """
    run = run.with_stopped()
    found = ((series, followed(run, series, alpha=alpha)) for series in series_of(run))
    return [replace(told(series, lines), levels=Levels(run, series)) for series, lines in found if lines]


def told(series: Series, lines: Sequence[Followed]) -> Told:
    """What is to be said of what was followed."""
    fell = [line for line in lines if line.course.state == "fell"]
    if not fell:
        unsure = [line for line in lines if line.course.state == "undecided"]
        fault: Fault = "undecided" if unsure else "none"
        sentence = _undecided(series, unsure) if unsure else _healthy(series, lines)
        return Told(series=series, fault=fault, onset=None, sentence=sentence + _early(series, lines), followed=tuple(lines))
    onset = min(_first(line) for line in fell)
    kinds = {line.what for line in fell}
    fault = "both" if len(kinds) > 1 else fell[0].what
    sentence = _fault(series, lines, fell) + _early(series, lines)
    return Told(series=series, fault=fault, onset=onset, sentence=sentence, followed=tuple(lines))


def points(change: Pooled) -> str:
    """ "-0.1 [-0.6, +0.4]", in points: a fall is negative."""
    interval = change.limits(0.95)
    return f"{_signed(change.change)} [{_signed(interval.low)}, {_signed(interval.high)}]"


def _signed(share: float) -> str:
    """In points; 0.0 has no sign."""
    tenths = round(100 * share, 1)
    return f"{tenths:+.1f}" if tenths else "0.0"


def _fault(series: Series, lines: Sequence[Followed], fell: Sequence[Followed]) -> str:
    lead = min(fell, key=_first)
    first = [line for line in fell if _first(line) == _first(lead)]
    later = [line for line in fell if line not in first]
    rest = [line for line in lines if line not in fell]
    stayed = {what: [line for line in rest if line.what == what] for what in _CALLED}
    clauses = [
        f"from {_name(series, _first(lead))} on, {' and '.join(_fallen(line) for line in first)}, "
        f"against {_name(series, lead.reference)}",
        *(f"from {_name(series, _first(line))} on, {_fallen(line)}" for line in later),
        *(_others(what, some, lead, fell) for what, some in stayed.items() if some),
    ]
    newest = _first(lead) == len(series) - 1
    last = [f"{_name(series, len(series) - 1)} is the newest checkpoint, so whether it stays is not known yet"] * newest
    return f"{_heading(fell, stayed, lead)}: {'; '.join([*clauses, *last])}."


def _heading(fell: Sequence[Followed], stayed: dict[str, list[Followed]], lead: Followed) -> str:
    """ "Knowledge fell and the form stayed"."""
    kinds = {line.what for line in fell}
    if len(kinds) > 1:
        return "Both fell, knowledge and the form"
    (what,) = kinds
    other = "form" if what == "knowledge" else "knowledge"
    begun = "Knowledge fell" if what == "knowledge" else "The form broke"
    if not stayed[other]:
        return f"{begun}, and {_CALLED[other]} was not measured"
    if all(line.stays(_since(line, lead)) for line in stayed[other]):
        return f"{begun} and {_CALLED[other]} stayed"
    return f"{begun}, and whether {_CALLED[other]} stayed is undecided"


def _fallen(line: Followed) -> str:
    """ "knowledge fell by 3.1 points (soft_prompt: -3.1 [-4.0, -2.2])"."""
    fall = f"{round(-100 * line.change.change, 1):.1f} points"
    return f"{_FELL[line.what]} by {fall} ({line.protocol}: {points(line.change)})"


def _others(what: str, lines: Sequence[Followed], lead: Followed, fell: Sequence[Followed]) -> str:
    """ "the form stayed (zero_shot: -0.1 [-0.6, +0.4])"; where it fell under another protocol, a clause a protocol."""
    if what in {line.what for line in fell}:
        return "; ".join(_elsewhere(line, lead) for line in lines)
    kept = [line for line in lines if line.stays(_since(line, lead))]
    unsure = [line for line in lines if line not in kept]
    said = []
    if kept:
        said.append(f"{_CALLED[what]} stayed ({_listed(kept, lead)})")
    if unsure:
        said.append(f"whether {_CALLED[what]} stayed is undecided ({_listed(unsure, lead)})")
    return "; ".join(said)


def _elsewhere(line: Followed, lead: Followed) -> str:
    """ "the form behind soft prompts: undecided (soft_prompt: 0.0 [-8.0, +8.0])"."""
    where = "behind soft prompts" if protocol_of(line.protocol).is_treatment else f"under {line.protocol}"
    said = "stayed" if line.stays(_since(line, lead)) else "undecided"
    return f"{_CALLED[line.what]} {where}: {said} ({line.protocol}: {points(_since(line, lead))})"


def _listed(lines: Sequence[Followed], lead: Followed) -> str:
    return "; ".join(f"{line.protocol}: {points(_since(line, lead))}" for line in lines)


def _since(line: Followed, lead: Followed) -> Pooled:
    return line.change_since(lead.reference, _first(lead))


def _undecided(series: Series, lines: Sequence[Followed]) -> str:
    """Not "undecided" and not "since": the one is a verdict of the gate, and nothing is known to have begun."""
    said = "; ".join(
        f"{_CALLED[line.what]} ({line.protocol}: {points(line.change)} points, {_tail(series, line)} against "
        f"{_name(series, line.reference)})"
        for line in lines
    )
    return f"Too few rows, or too much noise between checkpoints, to tell from the series whether anything has fallen: {said}."


def _tail(series: Series, line: Followed) -> str:
    """ "step-7", "the mean of step-7 to step-9"."""
    tail = line.course.tail(len(line.at))
    last = _name(series, line.at[tail[-1]])
    return last if len(tail) == 1 else f"the mean of {_name(series, line.at[tail[0]])} to {last}"


def _healthy(series: Series, lines: Sequence[Followed]) -> str:
    dips = dict.fromkeys(
        f"{_CALLED[line.what]} at {_name(series, line.at[dip.first])} ({line.protocol})"
        for line in lines
        for dip in line.course.dips
    )
    names = {line.what for line in lines}
    what = (
        "neither knowledge nor the form has"
        if len(names) > 1
        else f"{'knowledge' if 'knowledge' in names else 'the form'} has not"
    )
    came_back = f"; what fell came back: {', '.join(dips)}" if dips else ""
    return f"No fault: by {_name(series, len(series) - 1)}, {what} fallen and stayed down{came_back}."


def _early(series: Series, lines: Sequence[Followed]) -> str:
    """ " 4 of 12 checkpoints were stopped early (after 120 to 700 of 1,000 rows) and ...": what is said rests on fewer rows."""
    found = {i: at for line in lines for i, at in line.stopped.items()}
    if not found:
        return ""
    least, most, of = min(n for n, _ in found.values()), max(n for n, _ in found.values()), max(of for _, of in found.values())
    rows = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    were = f"{len(found)} of {len(series)} checkpoints {'was' if len(found) == 1 else 'were'} stopped early"
    return f" {were} (after {rows} of {of:,} rows), and held against others on the rows that both were asked."


def _first(line: Followed) -> int:
    assert line.first is not None, "of a line that is not healthy"
    return line.first


def _name(series: Series, i: int) -> str:
    return series.checkpoints[i].name
