"""How numbers and names are written in reports; the same everywhere."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from spt_fast.analysis.cells import RunCell
from spt_fast.report.cells import OverSeeds, over_seeds
from spt_fast.scoring.metrics import MetricSpec, spec

HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
"""Unicode categories that a reader cannot see: control, format (bidi, zero width), surrogates, private use, line separators."""
ABSENT = "\u2013"


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number as a table shows it."""

    text: str
    interval: str = ""
    """ "0.92\u20130.99", shown where a reader wants intervals."""
    tip: str = ""
    """What is said on hover: the value with its interval and n."""
    tint: int | None = None
    """0 to 10, for the colour behind a share."""
    found: OverSeeds | None = None
    """A share itself, for media with another way of writing it."""
    rows: tuple[int, ...] = ()
    """A share: n of each seed."""


class Name(str):
    """What others wrote: a name, a reason, a completion, with everything that cannot be seen written out. Hostile text."""

    raw: str
    """As they wrote it, cut to the same length."""

    def __new__(cls, shown: str, raw: str) -> Self:
        """
        Args:
            shown: with what is hidden written out.
            raw: as it was written.
        """
        name = super().__new__(cls, shown)
        name.raw = raw
        return name


def visible(text: str, most: int = 400) -> Name:
    """A name or a reason with everything that cannot be seen written out: a failure may quote what a model wrote.

    Args:
        text: hostile.
        most: characters; what is longer ends in "...".
    """
    if text.isprintable() and len(text) <= most:
        return Name(text, text)
    shown = "".join(f"\u27e8U+{ord(c):04X}\u27e9" if unicodedata.category(c) in HIDDEN else c for c in text[:most])
    rest = "..." * (len(text) > most)
    return Name(shown + rest, text[:most] + rest)


def raw(text: str) -> str:
    """Text for media that show nothing hidden anyway: names as they were written."""
    return text.raw if isinstance(text, Name) else text


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Each name without the folders or owner in front of it, where that still tells all apart."""
    known = list(dict.fromkeys(names))
    last = {name: name.rstrip("/").rpartition("/")[2] or name for name in known}
    distinct = len(set(last.values())) == len(known)
    return {name: visible(last[name] if distinct else name, 80) for name in known}


def measured(cells: Sequence[RunCell], metric: str, where: str) -> Number | None:
    """A metric of the cells that differ in their seed alone; None where nothing was measured.

    Args:
        cells: of one model, task and protocol.
        metric: `format_following`, ...
        where: what the tip begins with: "Qwen3-8B, gsm8k, soft_prompt".
    """
    found = over_seeds(cells, metric)
    if found is None:
        return None
    rows = [found_in.n for cell in cells if (found_in := cell.metric(metric)) is not None]
    known = spec(metric)
    return share(found, rows, f"{where}: {known.words}", known)


def share(found: OverSeeds, rows: Sequence[int], what: str, known: MetricSpec | None = None) -> Number:
    """A share with its interval and n; or another metric, in its unit and without the colour of a share.

    Args:
        found: over seeds.
        rows: n of each seed.
        what: the tip's beginning.
        known: the metric; None: it is a share.
    """
    counted = f"n = {rows[0]}" if len(set(rows)) == 1 else f"n = {min(rows)} to {max(rows)}"
    seeds = "" if found.seeds == 1 else f", mean of {found.seeds} seeds with the widest span of their intervals"
    of_one, digits = (True, 2) if known is None else (known.in_points, known.digits)
    unit = f" {known.unit}" if known is not None and known.unit and known.unit not in known.words else ""
    between = "" if math.isnan(found.high - found.low) else f", 95% interval {found.low:.3f} to {found.high:.3f}"
    return Number(
        text=f"{found.value:.{digits}f}",
        interval=span(found.low, found.high, digits),
        tip=f"{what} {found.value:.3f}{unit}{between}, {counted}{seeds}",
        tint=round(10 * min(1.0, max(0.0, found.value))) if of_one else None,
        found=found,
        rows=tuple(rows),
    )


def span(low: float, high: float, digits: int = 2) -> str:
    """ "0.92\u20130.99"; with a sign in it, "-0.20 to 0.41"; nothing where an end is not known."""
    if math.isnan(low) or math.isnan(high):
        return ""
    between = " to " if low < 0 else "\u2013"
    return f"{low:.{digits}f}{between}{high:.{digits}f}"


def number(value: float, digits: int = 2) -> str:
    """A number with so many decimals; a dash where it is not defined."""
    return ABSENT if math.isnan(value) else f"{value:.{digits}f}"


def probability(p: float) -> str:
    """A p-value."""
    return ABSENT if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def seconds(value: float) -> str:
    """ "3.2 s", "4 min 10 s", "2 h 05 min"."""
    if value < 10:
        return f"{value:.1f} s" if value >= 0.05 or value == 0 else f"{value:.1g} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def counted(n: int, what: str) -> str:
    """ "1 cell", "1,200 cells"."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"
