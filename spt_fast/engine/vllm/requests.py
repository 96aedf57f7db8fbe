"""What vLLM is sent for a request, and what its answer says."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from spt_fast.engine.written import Text
from spt_fast.errors import EngineError
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.types import Answer, Completion, FinishReason, LogLikelihood, Request, Score, before_soft

if TYPE_CHECKING:
    import torch
    from vllm import RequestOutput, SamplingParams
    from vllm.inputs.engine import EngineInput

PLACEHOLDER = 0
"""The token id that stands at soft positions, where vLLM looks at the vectors instead."""

CONTINUATION = "spt_fast_continuation"
"""The key of `SamplingParams.extra_args` that the logits processor reads (`forced.ForcedTokens`)."""

Forcing: TypeAlias = Literal["", "processor", "trace"]
"""How a request is made to write given tokens: not at all, by `forced.ForcedTokens`, or by the newer model runner itself."""


def answer(request: Request, output: RequestOutput, tokenizer: Tokenizer, *, again: bool = False) -> Answer:
    """What vLLM's output says, in our words; `again`: an answer to another request of its bundle was made of it before.

    The text is made of the token ids as every engine makes it, for vLLM's own depends on how it came about: where several
    stop strings end in one token it is cut at the one that was named first, and placeholders of soft rows are read with it.
    """
    cached = len(output.prompt_token_ids or ()) if again else output.num_cached_tokens
    if isinstance(request, Score):
        return replace(_log_likelihood(request, output), cached=cached)
    (choice,) = output.outputs
    if choice.finish_reason not in ("stop", "length"):
        raise EngineError(f"the engine ended a request with {choice.finish_reason!r}")
    reason: FinishReason = "length" if choice.finish_reason == "length" else "stop"
    ids = tuple(choice.token_ids)
    ended = reason == "stop" and not isinstance(choice.stop_reason, str)  # else it is the stop string
    if choice.cumulative_logprob is None:
        raise EngineError("vLLM gave no log-probabilities of what it wrote")
    return Completion(
        text=Text(tokenizer, request).of(ids, ended=ended),
        token_ids=ids,
        finish_reason=reason,
        finite=math.isfinite(choice.cumulative_logprob),
        cached=cached,
    )


def engine_input(
    request: Request,
    rows_PH: torch.Tensor | None,
    *,
    soft_ids: Sequence[int] | None = None,
    with_continuation: bool = True,
) -> EngineInput:
    """What vLLM reads: token ids alone, or prompt embeds with real ids and a mask that tells which positions are which.

    The embeds are `[P + T, H]`, of which only the soft rows are filled. The soft prompt's key is their cache salt: prefix
    caching does not look at the mask (vllm#56655), so that two requests with equal ids and rows and another mask would share
    what they must not.

    Args:
        request: a completion or a log-likelihood.
        rows_PH: the soft rows `[P, H]` in the model's dtype; None: there is no soft prompt.
        soft_ids: the token ids `[P]` that stand for the soft rows; None: the rows travel.
        with_continuation: read the continuation of a `Score` as part of the prompt.
    """
    from vllm.inputs.engine import embeds_input, tokens_input

    ids = [*request.token_ids, *(request.continuation if with_continuation and isinstance(request, Score) else ())]
    made: EngineInput
    before = before_soft(request.position, len(request.token_ids))
    if rows_PH is None:
        made = tokens_input(ids)
    elif soft_ids is not None:
        made = tokens_input([*ids[:before], *soft_ids, *ids[before:]])
    else:
        P, H = rows_PH.shape
        embeds_RH = rows_PH.new_zeros((P + len(ids), H))
        embeds_RH[before : before + P] = rows_PH
        made = embeds_input(
            embeds_RH,
            prompt_token_ids=[*ids[:before], *[PLACEHOLDER] * P, *ids[before:]],
            is_token_ids=[*[True] * before, *[False] * P, *[True] * (len(ids) - before)],
            cache_salt=f"{request.soft_prompt}:{request.position}",
        )
    made["arrival_time"] = time.time()
    return made


def sampling_params(bundle: Sequence[Request], forcing: Forcing) -> SamplingParams:
    """How vLLM decodes requests that it answers as one.

    A `Score` is made to write its continuation, whose log-probabilities are wanted; or else it is a prompt, the continuation
    its end, and one token is written that nobody reads. Options of one token need not be written: theirs are looked up.

    A completion comes with the log-probabilities of its own tokens. Of logits with NaN or plus infinity among them they are
    NaN, while the token that greedy decoding takes looks like any other.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    request = bundle[0]
    if isinstance(request, Score):
        ids = list(request.continuation)
        wanted: dict[str, Any]
        if not forcing:
            wanted = {"prompt_logprobs": 0}
        elif len(ids) == 1:
            wanted = {"logprob_token_ids": list(dict.fromkeys(each.continuation[0] for each in bundle))}  # type: ignore[union-attr]
        elif forcing == "processor":
            wanted = {"logprobs": 0, "max_tokens": len(ids), "extra_args": {CONTINUATION: ids}}
        else:
            wanted = {"logprobs": 0, "max_tokens": len(ids), "trace_decode_token_ids": ids}
        # Text is not wanted: decoding it costs a third of the time. Nor is there anyone else to copy the parameters for.
        return SamplingParams(
            temperature=0.0,
            flat_logprobs=True,
            ignore_eos=True,
            detokenize=False,
            skip_clone=True,
            output_kind=RequestOutputKind.FINAL_ONLY,
            **{"max_tokens": 1, **wanted},
        )
    sampling = request.sampling
    return SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed,
        stop=list(sampling.stop),
        structured_outputs=StructuredOutputsParams(choice=list(sampling.choices)) if sampling.choices else None,
        logprobs=0,
        flat_logprobs=True,
        detokenize=bool(sampling.stop),  # the text is made of the ids; vLLM needs it to see a stop string
        skip_clone=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _log_likelihood(request: Score, output: RequestOutput) -> LogLikelihood:
    """The log-probabilities of the continuation: those of what was written, or the last entries of the prompt's."""
    ids = request.continuation
    (choice,) = output.outputs
    if choice.logprobs is not None:
        if len(ids) > 1 and tuple(choice.token_ids) != ids:
            if choice.cumulative_logprob is not None and not math.isfinite(choice.cumulative_logprob):
                # NaN is the largest of all logits, so no token can be forced past it.
                return LogLikelihood(token_logprobs=(math.nan,) * len(ids))
            raise EngineError("vLLM did not write the continuation that it was given; engine: {scoring: prompt_logprobs}")
        entries, first = choice.logprobs, 0
    else:
        entries = output.prompt_logprobs
        if entries is None or len(entries) <= len(ids):
            raise EngineError("vLLM gave no log-probabilities of the prompt")
        first = len(entries) - len(ids)
    return LogLikelihood(token_logprobs=tuple(float(entries[at][token].logprob) for at, token in enumerate(ids, start=first)))
