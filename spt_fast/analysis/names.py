"""Cells by a name of their own, as tools have it that know a task a run and no grid: `gsm8k@soft_prompt@seed1`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from spt_fast.analysis.cells import Place

_NOT_IN_NAMES = re.compile(r"[^\w.@=,+-]+", re.ASCII)
_ONLY_ON_WINDOWS = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def portable(text: str) -> str:
    """A text as one component of a path, on any system: no slashes, brackets or spaces, and no name that means something."""
    name = _NOT_IN_NAMES.sub("_", text).rstrip(".") or "_"
    return f"_{name}" if name.startswith(".") or _ONLY_ON_WINDOWS.fullmatch(name) else name


def names_of(places: Sequence[Place], keys: Mapping[Place, str]) -> dict[Place, str]:
    """`task@protocol`, `task@soft_prompt@length=5`, `task@soft_prompt@seed1`: the same for all models."""
    seeds: dict[tuple[str, str], set[int | None]] = {}
    for place in places:
        seeds.setdefault((place.task, place.protocol), set()).add(place.seed)
    found = {}
    for place in places:
        kind, _, settings = place.protocol.rstrip("]").partition("[")
        several = len(seeds[place.task, place.protocol]) > 1
        parts = [place.task, kind, *([settings] if settings else []), *([f"seed{place.seed}"] if several else [])]
        found[place] = "@".join(portable(part) for part in parts)
    # Two tasks may differ in nothing but characters that names cannot have.
    alike = Counter((place.model, name) for place, name in found.items())
    return {
        place: f"{name}@{keys[place][:8]}" if alike[place.model, name] > 1 and place in keys else name
        for place, name in found.items()
    }
