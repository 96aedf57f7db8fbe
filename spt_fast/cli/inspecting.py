"""`inspect PROMPT`: what soft prompts are, what they lie next to, how alike they are, and what their vectors do, as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from spt_fast.cli.pages import Page, number, signed_points
from spt_fast.config.output import Location
from spt_fast.inspection.inspected import Inspected, Wanted
from spt_fast.inspection.prompts import inspect_prompts
from spt_fast.prompts.meaning import Change, Kinship, Neighbour, Placed, Probe, Variant, kinships, plain

VARIANTS = {"zero_shot": "zero-shot, no vectors", "soft_prompt": "all vectors", "tokens": "nearest tokens instead"}
"""Variants of a probe as a person is told of them; `without` names its vector."""


def inspect(where: Location, wanted: Wanted, *, as_json: bool = False, say: Callable[[str], None] = lambda _: None) -> str:
    """What there is to know of soft prompts (`inspect_prompts`), as tables or as JSON.

    Args:
        where: they are.
        wanted: what is to be found out.
        as_json: JSON instead of tables.
        say: is told how far it is.

    Raises:
        SptError: as `inspect_prompts`.
    """
    found = inspect_prompts(where, wanted, say)
    alike = kinships([_placed(each) for each in found])
    if as_json:
        shown = {"prompts": [_plain(each) for each in found], "similarity": [_plain_kinship(each) for each in alike]}
        return json.dumps(shown, ensure_ascii=False, allow_nan=False, indent=1)
    return _text(found, alike, wanted)


def _text(found: Sequence[Inspected], alike: Sequence[Kinship], wanted: Wanted) -> str:
    page = Page()
    for each in found:
        page.lines(_head(each))
        _vectors(page, each, wanted.top)
        _probe(page, each.probe)
    _similarity(page, found, alike)
    return page.text


def _head(each: Inspected) -> list[str]:
    prompt = each.prompt
    lines = [f"{each.file}: {prompt.length} vectors of {prompt.hidden_size} numbers, key {prompt.key}"]
    lines += [f"  {name}: {value}" for name, value in sorted(prompt.provenance.items()) if value]
    if len(each.steps) > 1:
        lines.append(f"  steps in the file: {', '.join(str(step) for step in each.steps)}")
    return lines


def _vectors(page: Page, each: Inspected, top: int) -> None:
    if each.meaning is None:
        norms = np.linalg.norm(each.prompt.vectors, axis=1)
        page.table("Vectors", ("vector", "norm"), [(str(i), number(norm, 3)) for i, norm in enumerate(norms)])
        page.say(each.note)
        return
    rows = []
    for i, vector in enumerate(each.meaning.vectors):
        moved = "-" if vector.moved is None else number(vector.moved, 3)
        nearest = [_near(one) for one in vector.by_cosine[:top]]
        rows.append(
            (
                str(i),
                "  ".join(nearest),
                _near(vector.by_distance[0]),
                number(vector.norm, 3),
                f"{vector.norm_above:.0%}",
                moved,
            )
        )
    head = ("vector", "nearest by cosine", "by distance", "norm", "longer than", "moved")
    page.table("Vectors beside the vocabulary", head, rows, left=3)
    norms_V, chance = each.meaning.vocabulary_norms, each.meaning.chance
    page.say(
        f"norms of the vocabulary: median {norms_V.middle:.3f}, 5 to 95 % in {norms_V.low:.3f} to {norms_V.high:.3f}. A "
        f"direction drawn at random has a token at a cosine of {chance.middle:.2f} ({chance.low:.2f} to {chance.high:.2f}): "
        "nearer tokens than that say something. longer than: share of the vocabulary. moved: distance from the start."
    )


def _near(one: Neighbour) -> str:
    return f"{one.token!r} {one.value:.2f}"


def _probe(page: Page, probe: Probe | None) -> None:
    if probe is None:
        return
    rows = [
        (
            VARIANTS.get(each.name) or f"without vector {each.left_out}",
            *(text for name in ("format_following", "knowledge") for text in _measured(each, name)),
        )
        for each in probe.variants
    ]
    head = ("", "form", "change, points", "knows", "change, points")
    page.table(f"What they do: {probe.task}, n = {probe.rows}", head, rows)
    if probe.tokens:
        page.say(f"nearest tokens, as text: {''.join(probe.tokens)!r}")


def _measured(variant: Variant, name: str) -> tuple[str, str]:
    metric = variant.metric(name)
    share = f"{metric.value:.2f} ({metric.ci_low:.2f}-{metric.ci_high:.2f})"
    return share, "" if variant.name == "soft_prompt" else _points(variant.changes[name])


def _points(change: Change) -> str:
    return f"{signed_points(change.value)} ({signed_points(change.low)} to {signed_points(change.high)})"


def _similarity(page: Page, found: Sequence[Inspected], alike: Sequence[Kinship]) -> None:
    rows = []
    for each in alike:
        seeds = "same seed" if each.same_seed else "other seeds"
        span = f"{each.matched:.2f} ({each.matched_span[0]:.2f} to {each.matched_span[1]:.2f})"
        rows.append((each.model, each.protocol, each.between, seeds, str(each.pairs), f"{each.by_position:.2f}", span))
    head = ("model", "protocol", "tasks", "", "pairs", "by position", "best matched")
    page.table("How alike soft prompts are (mean cosine)", head, rows, left=4)
    chance = next((each.meaning for each in found if each.meaning is not None), None)
    if rows and chance is not None:
        position, matched = chance.alike_by_position, chance.alike_matched
        page.say(
            f"Random rows of the vocabulary, {found[0].prompt.length} and {found[0].prompt.length}: by position "
            f"{position.middle:.2f} (5 to 95 %: {position.low:.2f} to {position.high:.2f}), best matched {matched.middle:.2f} "
            f"({matched.low:.2f} to {matched.high:.2f}). Under one seed, two tasks start from the same vectors where the start "
            "is normal or uniform, and stay alike by that."
        )


def _placed(each: Inspected) -> Placed:
    return Placed(each.model or "", each.task or "", each.protocol, each.seed, each.prompt)


def _plain(each: Inspected) -> dict[str, Any]:
    return {
        "file": each.file,
        "cell": each.key or None,
        "model": each.model,
        "task": each.task,
        "protocol": each.protocol if each.key else None,
        "seed": each.seed,
        "key": each.prompt.key,
        "length": each.prompt.length,
        "hidden_size": each.prompt.hidden_size,
        "steps": list(each.steps),
        "provenance": dict(each.prompt.provenance),
        "norms": [round(float(norm), 6) for norm in np.linalg.norm(each.prompt.vectors, axis=1)],
        "meaning": None if each.meaning is None else plain(each.meaning),
        "probe": None if each.probe is None else plain(each.probe),
        "note": each.note or None,
    }


def _plain_kinship(each: Kinship) -> dict[str, Any]:
    return {**asdict(each), "tasks": list(each.tasks), "matched_span": list(each.matched_span)}
