"""How far two orders of the same models agree: swaps, tau-b, Spearman, decisions; what chance would give; ties as ties.

`n` models have n (n - 1) / 2 pairs. Everything here rests on the sign of each pair's difference, +1, -1, or 0 for a tie, so
that no order of names can break a tie, and a resample of models is a weight on pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spt_fast.analysis.resampling import Floats

Signs = NDArray[np.int8]

ENUMERATED = 8
"""Up to so many models, all orders are gone through where there are ties."""
SHUFFLES = 5000
"""Beyond that, so many are drawn."""
_DIGITS = 12
"""Scores that agree to so many decimals are a tie: a mean over seeds has rounding behind them."""
_AT_ONCE = 4_000_000
"""Comparisons of two models that are held in memory at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """How far one order of `n` models agrees with another, the truth."""

    models: int
    distance: float
    """Adjacent swaps that turn one order into the other (bubble sort), 0 to `most`. A pair that only one of them ties counts
    half, as it does on average over all ways of breaking the tie: K^(1/2) of Fagin et al. (2006), SIAM Journal on Discrete
    Mathematics 20, 628-648."""
    tau_b: float
    """Kendall's, -1 to 1, ties taken out of its scale: Kendall (1945), Biometrika 33, 239-251. NaN where one order ties all."""
    spearman: float
    """Correlation of the ranks, ties at their middle; NaN where one order ties all."""
    decision_accuracy: float
    """Share of the pairs which the truth tells apart that are ordered as it orders them; a tie counts half, like a coin's."""
    tied: int
    """Pairs that the order ties."""
    truth_tied: int
    """Pairs that the truth ties."""

    @property
    def most(self) -> int:
        """The distance of an order from its reverse: all pairs."""
        return self.models * (self.models - 1) // 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Chance:
    """What an order drawn at random, with the same ties, has in common with the truth."""

    p: float
    """Probability that it agrees at least as well (one-sided, by tau-b)."""
    distance: float
    """Its mean distance."""
    how: Literal["exact", "permutations"]
    """`exact`: from all orders; `permutations`: from 5,000 that were drawn."""


def pair_signs(scores: Floats) -> Signs:
    """Which of each two models is ahead.

    Args:
        scores: `[..., n]`, higher is better.

    Returns:
        `[..., n (n - 1) / 2]`: 1 where the first of the two scores higher, -1 lower, 0 for a tie.
    """
    first, second = np.triu_indices(scores.shape[-1], 1)
    rounded = np.round(scores, _DIGITS)
    one, other = rounded[..., first], rounded[..., second]
    found: Signs = (one > other).view(np.int8) - (one < other).view(np.int8)
    return found


def pair_weights(counts: NDArray[np.floating]) -> NDArray[np.float32]:
    """How often each pair is in a resample of models `[..., n]`; a model drawn twice makes no pair with itself."""
    first, second = np.triu_indices(counts.shape[-1], 1)
    found: NDArray[np.float32] = (counts[..., first] * counts[..., second]).astype(np.float32)
    return found


def agree(scores: Sequence[float] | Floats, truth: Sequence[float] | Floats) -> Agreement:
    """How far the order by `scores` agrees with the order by `truth`.

    Args:
        scores: `[n]`, higher is better.
        truth: `[n]`, of the same models in the same order.

    Raises:
        ValueError: not two lists of equal length, with two models at least and no NaN.
    """
    x, y = _checked(scores, truth)
    signs, true = pair_signs(x), pair_signs(y)
    found = measures(x[None], y[None])
    return Agreement(
        models=len(x),
        distance=float(found.distance[0]),
        tau_b=float(found.tau_b[0]),
        spearman=float(found.spearman[0]),
        decision_accuracy=float(found.decision_accuracy[0]),
        tied=int((signs == 0).sum()),
        truth_tied=int((true == 0).sum()),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Measures:
    """The numbers of `Agreement` under each of `R` resamples: each `[R]`."""

    distance: Floats
    tau_b: Floats
    spearman: Floats
    decision_accuracy: Floats


MEASURES = ("distance", "tau_b", "spearman", "decision_accuracy")


def measures(scores: Floats, truth: Floats, counts: NDArray[np.floating] | None = None) -> Measures:
    """Agreement under each of `R` resamples.

    Args:
        scores: `[R, n]`, higher is better; R may be 1 in any of the three.
        truth: `[R, n]`.
        counts: `[R, n]` how often each model is in the resample; None: once. The distance is on the scale of n models.
    """
    n = scores.shape[-1]
    x, y = pair_signs(scores), pair_signs(truth)
    weights = np.ones((1, x.shape[-1]), np.float32) if counts is None else pair_weights(counts)
    agree = (x * y).astype(np.float32)  # 1 alike, -1 reversed, 0 where one is a tie
    told_x, told_y = np.abs(x).astype(np.float32), np.abs(y).astype(np.float32)
    pairs, both, mine, true = (
        (weights * each).sum(-1, dtype=np.float64) for each in (np.ones_like(agree), agree, told_x, told_y)
    )
    reversed_ = (weights * (agree < 0)).sum(-1, dtype=np.float64)
    half_told = (weights * (told_x != told_y)).sum(-1, dtype=np.float64)
    return Measures(
        distance=_ratio(reversed_ + half_told / 2, pairs) * (n * (n - 1) / 2),
        tau_b=_ratio(both, np.sqrt(mine * true)),
        spearman=_spearman(scores, truth, counts),
        decision_accuracy=(_ratio(both, true) + 1) / 2,
    )


def mean_tau_b(signs: Signs, weights: NDArray[np.floating] | None = None) -> float:
    """Mean tau-b over all pairs of `T` orders; those that tie everything are left out. NaN for fewer than two.

    With z = signs / sqrt(pairs told apart), tau-b of two orders is the sum over pairs of models of z z'; so the mean is
    (sum of (sum of z over orders)^2 - T) / (T (T - 1)), and no order need be held against each other one.

    Args:
        signs: `[T, pairs]`, from `pair_signs`.
        weights: `[pairs]` how often each pair is in the resample; None: once.
    """
    told = np.abs(signs).astype(np.float32)
    told = told.sum(-1) if weights is None else (told * weights).sum(-1)
    orders = int((told > 0).sum())
    if orders < 2:
        return math.nan
    summed = (signs / np.sqrt(np.where(told > 0, told, np.inf))[:, None]).sum(0)
    squares = summed**2 if weights is None else weights * summed**2
    return float((squares.sum(dtype=np.float64) - orders) / (orders * (orders - 1)))


def swap_distribution(models: int) -> Floats:
    """Probability of each adjacent-swap distance between two orders drawn at random, without ties: `[n (n - 1) / 2 + 1]`.

    The Mahonian numbers over n!, by their generating function, the product of (1 + q + ... + q^(k - 1)) / k for k to n:
    Kendall (1938), Biometrika 30, 81-93.
    """
    probability = np.ones(1)
    for k in range(2, models + 1):
        padded = np.concatenate([probability, np.zeros(k - 1)])
        summed = np.cumsum(padded)
        summed[k:] -= np.cumsum(padded)[:-k]
        probability = np.clip(summed, 0, None) / k
    found: Floats = probability / probability.sum()
    return found


def chance(scores: Sequence[float] | Floats, truth: Sequence[float] | Floats, *, seed: int = 0) -> Chance:
    """What chance would give in place of `scores`: exact without ties and for up to 8 models, else from drawn permutations.

    Args:
        scores: `[n]`.
        truth: `[n]`.
        seed: of the permutations.

    Raises:
        ValueError: as `agree`.
    """
    x, y = _checked(scores, truth)
    n = len(x)
    signs, true = pair_signs(x), pair_signs(y)
    if signs.all() and true.all():
        distribution = swap_distribution(n)
        distance = int((signs != true).sum())
        p = min(1.0, float(distribution[: distance + 1].sum()))
        return Chance(p=p, distance=n * (n - 1) / 4, how="exact")
    if n <= ENUMERATED:
        orders = np.array(list(permutations(range(n))))
    else:
        generator = np.random.default_rng(seed)
        orders = generator.permuted(np.tile(np.arange(n), (SHUFFLES, 1)), axis=1)
    # A few at a time: with 61 models, 5,000 orders have 9 million pairs.
    both, distances = [], []
    for part in np.array_split(orders, math.ceil(len(orders) / 1000)):
        shuffled = pair_signs(x[part])
        both.append((shuffled * true).sum(-1, dtype=np.int64))
        reversed_ = (shuffled * true < 0).sum(-1)
        distances.append(reversed_ + ((shuffled == 0) != (true == 0)).sum(-1) / 2)
    as_good = int((np.concatenate(both) >= int((signs * true).sum(dtype=np.int64))).sum())
    exact = n <= ENUMERATED
    # The order itself is one that could have been drawn: Phipson and Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9, 39.
    p = as_good / len(orders) if exact else (as_good + 1) / (len(orders) + 1)
    return Chance(p=p, distance=float(np.concatenate(distances).mean()), how="exact" if exact else "permutations")


def places(scores: Sequence[float] | Floats) -> list[int]:
    """The place of each model, 1 for the best; models that tie share a place, and the next place is left out (1, 2, 2, 4)."""
    x = np.round(np.asarray(scores, np.float64), _DIGITS)
    return [int((x > value).sum()) + 1 for value in x]


def _checked(scores: Sequence[float] | Floats, truth: Sequence[float] | Floats) -> tuple[Floats, Floats]:
    x, y = np.asarray(scores, np.float64), np.asarray(truth, np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2 or np.isnan(x).any() or np.isnan(y).any():
        raise ValueError(f"wanted: two lists of equal length, two numbers at least, no NaN; got shapes {x.shape} and {y.shape}")
    return x, y


def _ratio(over: Floats, under: Floats) -> Floats:
    """NaN where there is nothing to divide by."""
    found: Floats = np.full(np.broadcast_shapes(over.shape, under.shape), np.nan)
    np.divide(over, under, out=found, where=np.broadcast_to(under, found.shape) > 0)
    return found


def _spearman(scores: Floats, truth: Floats, counts: NDArray[np.floating] | None) -> Floats:
    """Pearson's correlation of middle ranks, models weighted by how often they are in the resample."""
    weights = np.ones((1, scores.shape[-1])) if counts is None else counts.astype(np.float64)
    x, y = _centred_ranks(scores, weights), _centred_ranks(truth, weights)
    both, mine, true = ((weights * each).sum(-1) for each in (x * y, x * x, y * y))
    return _ratio(both, np.sqrt(mine * true))


def _centred_ranks(scores: Floats, weights: Floats) -> Floats:
    """How many models are behind, less how many are ahead, in the resample: twice the middle rank, less its mean. `[R, n]`"""
    rounded = np.round(scores, _DIGITS)
    resamples, n = max(len(rounded), len(weights)), rounded.shape[-1]
    found = np.empty((resamples, n))
    step = max(1, _AT_ONCE // n**2)
    for i in range(0, resamples, step):
        mine = rounded if len(rounded) == 1 else rounded[i : i + step]
        ahead = np.sign(mine[:, :, None] - mine[:, None, :])
        found[i : i + step] = (ahead * (weights if len(weights) == 1 else weights[i : i + step])[:, None, :]).sum(-1)
    return found
