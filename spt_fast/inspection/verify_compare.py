"""Whether two engines' answers agree: equal, or the first difference, and whether it is one that rounding explains.

Greedy decoding takes the likeliest token. Where two tokens are all but equally likely, two right implementations may take
different ones, and everything behind it differs; so a difference is judged where it begins, by the log-probabilities that the
two candidates have there. Log-likelihoods are compared token by token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from spt_fast.engine.noise import Bound, apart, bound, spread
from spt_fast.errors import EngineError
from spt_fast.inspection.verify_report import Difference, Held, VerifyReport
from spt_fast.inspection.verify_requests import Asked
from spt_fast.types import Answer, Completion, Generate, LogLikelihood, Position, Score

EXACT_NATS = 1e-4
"""Largest difference of a token's log-probability that is rounding in float32, in nats."""

Referee: TypeAlias = Callable[[Sequence[Score]], Sequence[LogLikelihood]]
"""Transformers' log-likelihoods, for judging a difference."""
_Group: TypeAlias = tuple[str | None, Position]
"""Requests behind the same soft prompt in the same place: their noise is alike."""


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """The same requests answered twice by one engine, each list in their order: what it differs from itself."""

    said: str
    """Which engine, and what was other the second time."""
    first: Sequence[Answer]
    second: Sequence[Answer]


def compare(
    asked: Sequence[Asked],
    from_vllm: Sequence[Answer],
    from_transformers: Sequence[Answer],
    referee: Referee,
    *,
    subject: str,
    noise: Sequence[Repeat] = (),
    step: float | None = None,
    tie_nats: float = 0.05,
    tokens: Callable[[Sequence[int]], Sequence[str]] | None = None,
) -> VerifyReport:
    """Compare two lists of answers to the same requests.

    Args:
        asked: the requests.
        from_vllm: one answer a request.
        from_transformers: one answer a request.
        referee: scores the two candidates where two completions part.
        subject: what is compared, in words.
        noise: what the engines differ from themselves.
        step: from 1 to the next number of the dtype, where that is half precision; None: differences may be `EXACT_NATS`.
        tie_nats: as for `verify`.
        tokens: how people read token ids; None: as numbers.
    """
    for each, ours, theirs in zip(asked, from_vllm, from_transformers, strict=True):
        kind = Completion if isinstance(each.request, Generate) else LogLikelihood
        if not (isinstance(ours, kind) and isinstance(theirs, kind)):
            raise EngineError(f"{each.name}: one answered with {type(ours).__name__}, one with {type(theirs).__name__}")
    held = _hold(asked, from_vllm, from_transformers, noise, step) if step is not None else {}
    exact = Bound(rms=EXACT_NATS, largest=EXACT_NATS)
    differences, score_differences, largest = [], [], 0.0
    for each, ours, theirs in zip(asked, from_vllm, from_transformers, strict=True):
        allowed = held[_group(each)].allowed if _group(each) in held else exact
        if isinstance(ours, Completion) and isinstance(theirs, Completion) and isinstance(each.request, Generate):
            tie = max(tie_nats, allowed.largest)
            found = _judge(each.name, each.request, ours, theirs, referee, tie, tokens or _numbers)
            differences += [found] if found is not None else []
        elif isinstance(ours, LogLikelihood) and isinstance(theirs, LogLikelihood):
            distance = max(apart(ours, theirs))
            largest = max(largest, distance)
            if not distance <= allowed.largest:
                score_differences.append(_far_apart(each.name, ours, theirs))
    score_differences += [_noisy(each) for each in held.values() if not each.found.rms <= each.allowed.rms]
    scores = sum(isinstance(each.request, Score) for each in asked)
    return VerifyReport(
        subject=subject,
        completions=len(asked) - scores,
        scores=scores,
        differences=tuple(differences),
        score_differences=tuple(score_differences),
        largest_nats=largest,
        tolerance_nats=EXACT_NATS if step is None else None,
        held=tuple(held.values()),
    )


def _group(asked: Asked) -> _Group:
    return asked.request.soft_prompt, asked.request.position


def _hold(
    asked: Sequence[Asked],
    from_vllm: Sequence[Answer],
    from_transformers: Sequence[Answer],
    noise: Sequence[Repeat],
    step: float,
) -> dict[_Group, Held]:
    """The log-likelihoods of each group, and how far apart they may be."""
    places: dict[_Group, list[int]] = {}
    for i, each in enumerate(asked):
        if isinstance(each.request, Score):
            places.setdefault(_group(each), []).append(i)

    def of(answers: Sequence[Answer], group: _Group) -> list[LogLikelihood]:
        return [answer for i in places[group] if isinstance(answer := answers[i], LogLikelihood)]

    found = {}
    for group, own in places.items():
        theirs = of(from_transformers, group)
        spreads = {each.said: spread(zip(of(each.first, group), of(each.second, group), strict=True)) for each in noise}
        found[group] = Held(
            group=asked[own[0]].group,
            found=spread(zip(of(from_vllm, group), theirs, strict=True)),
            noise=spreads,
            allowed=bound([*spreads.values()], theirs, step=step),
        )
    return found


def _far_apart(name: str, ours: LogLikelihood, theirs: LogLikelihood) -> Difference:
    counts = len(ours.token_logprobs), len(theirs.token_logprobs)
    said = f"log-probabilities of {counts[0]} tokens by vLLM and of {counts[1]} by Transformers"
    if counts[0] == counts[1]:
        found = apart(ours, theirs)
        at = found.index(max(found))
        said = (
            f"log-probabilities {found[at]:.2g} nats apart: token {at + 1} of {counts[0]} has {ours.token_logprobs[at]:.4f} "
            f"by vLLM and {theirs.token_logprobs[at]:.4f} by Transformers"
        )
    return Difference(name=name, near_tie=False, said=said)


def _noisy(held: Held) -> Difference:
    said = (
        f"log-probabilities {held.found.rms:.2g} nats apart in the root mean square of {held.found.n} tokens, "
        f"and rounding explains {held.allowed.rms:.2g}"
    )
    return Difference(name=held.group, near_tie=False, said=said)


def _judge(
    name: str,
    request: Generate,
    ours: Completion,
    theirs: Completion,
    referee: Referee,
    tie_nats: float,
    tokens: Callable[[Sequence[int]], Sequence[str]],
) -> Difference | None:
    """Where two completions part, and whether at a near tie; None: they do not."""
    if not (ours.finite and theirs.finite):
        who = " and ".join(who for who, each in (("vLLM", ours), ("Transformers", theirs)) if not each.finite)
        return Difference(name=name, near_tie=False, said=f"logits of {who} are not finite (NaN or infinite)")
    at = next((i for i, (a, b) in enumerate(zip(ours.token_ids, theirs.token_ids, strict=False)) if a != b), None)
    if at is None:
        lengths = len(ours.token_ids), len(theirs.token_ids)
        if lengths[0] == lengths[1] and ours.finish_reason == theirs.finish_reason:
            if ours.text == theirs.text:
                return None
            said = f"of the same tokens the text is {ours.text!r} by vLLM and {theirs.text!r} by Transformers"
            return Difference(name=name, near_tie=False, said=said)
        said = f"vLLM ended after {lengths[0]} tokens ({ours.finish_reason})"
        said += f", Transformers after {lengths[1]} ({theirs.finish_reason})"
        return Difference(name=name, near_tie=False, said=said)
    candidates = (ours.token_ids[at], theirs.token_ids[at])
    until = (*request.token_ids, *ours.token_ids[:at])
    scored = referee(
        [
            Score(
                token_ids=until,
                continuation=(token,),
                soft_prompt=request.soft_prompt,
                position=request.position,
            )
            for token in candidates
        ]
    )
    by_vllm, by_transformers = (answer.total for answer in scored)
    near_tie = abs(by_transformers - by_vllm) < tie_nats
    first, second = (repr(token) for token in tokens(candidates))
    said = (
        f"token {at + 1} is {first} by vLLM ({by_vllm:.4f} nats) and {second} by Transformers ({by_transformers:.4f}): "
        f"{'a near tie' if near_tie else 'no near tie'}"
    )
    return Difference(name=name, near_tie=near_tie, said=said)


def _numbers(token_ids: Sequence[int]) -> list[str]:
    return [str(token) for token in token_ids]
