"""What is known of a soft prompt's meaning, as values: what it lies next to, how alike two are, what it loses without a vector.

`inspection` measures the first beside a loaded model, `probing` the last with an engine; `similarity` needs neither. Kept as
JSON beside the soft prompt, so that a report needs no model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, product
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from spt_fast.config import protocol_of
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.types import Metric


class Spread(NamedTuple):
    """5th, 50th and 95th percentile."""

    low: float
    middle: float
    high: float


class Neighbour(NamedTuple):
    """A token near a vector."""

    token: str
    """Its text, hostile."""
    token_id: int
    value: float
    """Cosine, or L2 distance."""


@dataclass(frozen=True, kw_only=True)
class VectorMeaning:
    """One vector of a soft prompt beside the vocabulary."""

    norm: float
    """L2."""
    norm_above: float
    """Share of the vocabulary that is shorter, 0 to 1."""
    by_cosine: tuple[Neighbour, ...]
    """Tokens of the highest cosine under the model's own embedding, nearest first."""
    by_distance: tuple[Neighbour, ...]
    """Tokens of the smallest L2 distance, nearest first."""
    moved: float | None = None
    """L2 distance from where it started; None where that is not known."""


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """All vectors, and what to hold them against."""

    prompt: str
    """`SoftPrompt.key` of the vectors."""
    vectors: tuple[VectorMeaning, ...]
    vocabulary_norms: Spread
    """L2 norms of the embedded vocabulary."""
    chance: Spread
    """The highest cosine with any token of directions that were drawn at random: what a vector without meaning has."""
    alike_by_position: Spread
    """`Similarity.by_position` of sets of as many random rows of the vocabulary."""
    alike_matched: Spread
    """`Similarity.matched` of the same sets."""


class Similarity(NamedTuple):
    """How alike two soft prompts of a length are: mean cosines, -1 to 1."""

    by_position: float
    """Of the vectors that stand at the same place."""
    matched: float
    """Of the pairs that an assignment finds whose sum is highest: whoever swaps two vectors changes nothing."""


class Change(NamedTuple):
    """By how much a share of the same rows differs, with a 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What the test rows come to behind a changed soft prompt."""

    name: str
    """`zero_shot` (no vectors), `soft_prompt` (all), `without` (all but one), `tokens` (the nearest tokens instead)."""
    left_out: int | None
    """`without`: which vector, from 0."""
    metrics: tuple[Metric, ...]
    """Format following, knowledge and exact match."""
    changes: Mapping[str, Change]
    """Metric -> this less `soft_prompt`, row by row."""

    def metric(self, name: str) -> Metric:
        """One of them."""
        return next(metric for metric in self.metrics if metric.name == name)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What an engine answered to a soft prompt, to it without each of its vectors, and to its nearest tokens."""

    prompt: str
    """`SoftPrompt.key` of the vectors."""
    task: str
    rows: int
    """Test rows that were asked."""
    variants: tuple[Variant, ...]
    tokens: tuple[str, ...] = ()
    """Text of the nearest tokens, where they were asked; hostile."""

    def named(self, name: str) -> list[Variant]:
        """The variants of a name; `without` by vector."""
        return [variant for variant in self.variants if variant.name == name]


def similarity(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> Similarity:
    """Compare two sets of vectors `[P, H]`.

    Raises:
        ValueError: the shapes differ.
    """
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

    if a.shape != b.shape:
        raise ValueError(f"only soft prompts of one shape can be compared, not {list(a.shape)} and {list(b.shape)}")
    cosines_PP = _unit(a) @ _unit(b).T
    matched = cosines_PP[linear_sum_assignment(-cosines_PP)]
    return Similarity(by_position=float(np.diagonal(cosines_PP).mean()), matched=float(matched.mean()))


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    unit: npt.NDArray[np.float64] = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    return unit


def alike_by_chance(pool: npt.NDArray[np.float32], length: int, *, seed: int = 0) -> tuple[Spread, Spread]:
    """How alike two sets of rows are that were drawn at random: `by_position` and `matched`, over some draws.

    Args:
        pool: `[N, H]` rows to draw from, at least two.
        length: rows of a set, `P`; half the pool at most.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    length = min(length, len(pool) // 2)
    found = []
    for _ in range(max(20, min(200, 2000 // length))):  # larger sets vary less, and take longer to match
        drawn = generator.choice(len(pool), 2 * length, replace=False)
        found.append(similarity(pool[drawn[:length]], pool[drawn[length:]]))
    by_position, matched = zip(*found, strict=True)
    return spread(by_position), spread(matched)


def spread(values: Iterable[float] | npt.NDArray[np.floating[Any]]) -> Spread:
    """Percentiles of some numbers."""
    return Spread(*(float(q) for q in np.percentile(np.asarray(list(values), np.float64), [5, 50, 95])))


# Soft prompts of a run beside each other


class Placed(NamedTuple):
    """A soft prompt of a run, and where in the grid it stands."""

    model: str
    task: str
    protocol: str
    """Its label."""
    seed: int | None
    prompt: SoftPrompt


@dataclass(frozen=True, kw_only=True)
class Kinship:
    """How alike the soft prompts of a model and protocol are that differ in something."""

    model: str
    protocol: str
    tasks: tuple[str, ...]
    """One, whose seeds are compared; two; or more, any two of which are."""
    same_seed: bool
    """Of several tasks: they started from the same vectors, unless the start depends on the task."""
    pairs: int
    """That were compared: of very many, some."""
    by_position: float
    """Mean over the pairs."""
    matched: float
    """Mean over the pairs."""
    matched_span: tuple[float, float]
    """The lowest and the highest."""

    @property
    def between(self) -> str:
        """Which tasks, in words."""
        return " and ".join(self.tasks) if len(self.tasks) <= 2 else f"any two of {len(self.tasks)} tasks"


MOST_TASKS = 5
"""Tasks up to which each two are told apart."""


def kinships(prompts: Sequence[Placed]) -> list[Kinship]:
    """Compare soft prompts of one model and protocol in pairs: the seeds of a task, and tasks, under one seed and under two.

    Those of other lengths are not compared: no place of theirs stands for a place of the others. The same vectors count once,
    as the task's that they were learnt on.
    """
    own: dict[tuple[str, str], Placed] = {}
    for each in sorted(prompts, key=lambda each: protocol_of(each.protocol).transfers):
        own.setdefault((each.model, each.prompt.key), each)
    groups: dict[tuple[str, str, int], list[Placed]] = {}
    for each in own.values():
        groups.setdefault((each.model, each.protocol, each.prompt.length), []).append(each)
    found = []
    for (model, protocol, length), group in groups.items():
        most = max(10, 1000 // length)  # longer ones take longer to match
        for (tasks, same_seed), pairs in _pairs(group).items():
            compared = [similarity(a.prompt.vectors, b.prompt.vectors) for a, b in pairs[:: -(-len(pairs) // most)]]
            found.append(
                Kinship(
                    model=model,
                    protocol=protocol,
                    tasks=tasks,
                    same_seed=same_seed,
                    pairs=len(compared),
                    by_position=fmean(each.by_position for each in compared),
                    matched=fmean(each.matched for each in compared),
                    matched_span=(min(each.matched for each in compared), max(each.matched for each in compared)),
                )
            )
    return found


def _pairs(group: Sequence[Placed]) -> dict[tuple[tuple[str, ...], bool], list[tuple[Placed, Placed]]]:
    """Tasks and whether the seed is the same -> the pairs: seeds of a task first."""
    tasks = tuple(dict.fromkeys(each.task for each in group))
    of_task = {task: [each for each in group if each.task == task] for task in tasks}
    found: dict[tuple[tuple[str, ...], bool], list[tuple[Placed, Placed]]] = {}
    for task in tasks:
        if pairs := list(combinations(of_task[task], 2)):
            found[(task,), False] = pairs
    for one, other in combinations(tasks, 2):
        for a, b in product(of_task[one], of_task[other]):
            which = (one, other) if len(tasks) <= MOST_TASKS else tasks
            found.setdefault((which, a.seed == b.seed), []).append((a, b))
    return found


# As JSON


def as_json(found: Meaning | Probe) -> str:
    """Text that `meaning_of` or `probe_of` reads; ASCII, because tokens are whatever a tokenizer has."""
    return json.dumps(_plain(asdict(found)), allow_nan=False) + "\n"


def plain(found: Meaning | Probe) -> dict[str, Any]:
    """The same as plain values."""
    kept: dict[str, Any] = json.loads(as_json(found))
    return kept


def _plain(value: Any) -> Any:
    """Six digits say enough; JSON has no NaN, and lists for tuples, named or not."""
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def meaning_of(text: str) -> Meaning:
    """Read what `as_json` wrote.

    Raises:
        ValueError, KeyError, TypeError: it is something else.
    """
    data = json.loads(text)
    vectors = (
        VectorMeaning(
            **{**each, **{name: tuple(Neighbour(*one) for one in each[name]) for name in ("by_cosine", "by_distance")}}
        )
        for each in data["vectors"]
    )
    spreads = {name: Spread(*data[name]) for name in ("vocabulary_norms", "chance", "alike_by_position", "alike_matched")}
    return Meaning(**{**data, "vectors": tuple(vectors), **spreads})


def probe_of(text: str) -> Probe:
    """Read what `as_json` wrote.

    Raises:
        ValueError, KeyError, TypeError: it is something else.
    """
    data = json.loads(text)
    variants = (
        Variant(
            **{
                **each,
                "metrics": tuple(_metric(one) for one in each["metrics"]),
                "changes": {name: Change(*change) for name, change in each["changes"].items()},
            }
        )
        for each in data["variants"]
    )
    return Probe(**{**data, "variants": tuple(variants), "tokens": tuple(data["tokens"])})


def _metric(plain: Mapping[str, Any]) -> Metric:
    known: dict[str, Any] = {name: math.nan if value is None else value for name, value in plain.items()}
    return Metric(**known)
