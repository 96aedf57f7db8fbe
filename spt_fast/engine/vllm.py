"""vLLM as an engine: soft prompts as mixed prompt embeds, real token ids beside the soft rows.

The only module that knows vLLM. It leans on what `LLM.generate` itself leans on: `LLMEngine.add_request` and `step`, because
`generate` takes all requests before it answers any, and with prompt embeds that is the whole data set as tensors.

What vLLM does not check and we do, before a request reaches it (a wrong one kills its engine, or worse): hidden size, finite
vectors, ids inside the vocabulary, length.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spt_fast.engine.base import Engine, EngineConfig, check_request
from spt_fast.errors import EngineError, boundary
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.types import Answer, Completion, Generate, LogLikelihood, Request, Score

if TYPE_CHECKING:
    import torch
    from vllm import LLM, RequestOutput, SamplingParams
    from vllm.inputs.engine import EngineInput

PLACEHOLDER = 0
"""The token id that stands at soft positions, where vLLM looks at the vectors instead."""

CPU_SEQUENCES = 256
"""Sequences that the CPU engine runs at once, unless the grid says otherwise."""
CPU_CACHE_BYTES = 2**30
"""Memory of the CPU engine's KV cache, unless the grid says otherwise; vLLM itself would take most of the machine's."""


@dataclass(frozen=True)
class _Vectors:
    """A soft prompt as the engine holds it."""

    rows_PH: torch.Tensor
    """In the model's dtype, on the CPU: requests travel to the engine's process."""


class VllmEngine(Engine):
    """One vLLM engine for one model."""

    def __init__(self, config: EngineConfig) -> None:
        """Start it.

        Raises:
            EngineError: vLLM is not installed, or cannot run the model on this machine.
        """
        self._llm: LLM | None = None
        self._alive = True
        self._held: dict[str, _Vectors] = {}
        on_cpu = _prepare_environment()
        try:
            from vllm import LLM
        except ImportError as e:
            raise EngineError(
                f"vLLM cannot be imported ({e}); `make install`, or `engine: {{kind: transformers}}` in the grid"
            ) from e
        options = {**(_cpu_options(config) if on_cpu else {}), **config.options}
        with boundary(EngineError, f"starting vLLM for {config.model}"):
            self._llm = LLM(
                model=config.model,
                revision=config.revision,
                dtype=config.dtype,
                trust_remote_code=config.trust_remote_code,
                tensor_parallel_size=config.tensor_parallel,
                enable_prompt_embeds=True,
                **options,
            )
        settings = self._llm.llm_engine.vllm_config
        self._dtype: torch.dtype = settings.model_config.dtype
        self.hidden_size = int(settings.model_config.get_hidden_size())
        self.max_model_len = int(settings.model_config.max_model_len)
        self._vocab_size = int(settings.model_config.get_vocab_size())
        self._window = config.window or 2 * int(settings.scheduler_config.max_num_seqs)
        self._sent = 0

    @property
    def alive(self) -> bool:
        """Whether further requests can be answered."""
        return self._alive and self._llm is not None

    def add(self, soft_prompt: SoftPrompt) -> str:
        """Hold a soft prompt, cast to the model's dtype."""
        import torch

        if soft_prompt.hidden_size != self.hidden_size:
            raise EngineError(f"the soft prompt has H = {soft_prompt.hidden_size}, the model H = {self.hidden_size}")
        if soft_prompt.key not in self._held:
            rows = torch.tensor(soft_prompt.vectors).to(self._dtype)
            if not bool(torch.isfinite(rows).all()):
                raise EngineError(f"soft prompt {soft_prompt.key} does not fit into {self._dtype}: it overflows")
            self._held[soft_prompt.key] = _Vectors(rows)
        return soft_prompt.key

    def stream(self, requests: Iterable[Request]) -> Iterator[tuple[int, Answer]]:
        """Answer requests as they are done; at most the window is held at once."""
        if self._llm is None or not self._alive:
            raise EngineError("the engine has ended")
        source = enumerate(requests)
        waiting: dict[str, tuple[int, Request]] = {}
        exhausted = False
        try:
            while True:
                while not exhausted and len(waiting) < self._window:
                    index, request = next(source, (0, None))
                    if request is None:
                        exhausted = True
                        break
                    waiting[self._send(request)] = (index, request)
                if not waiting:
                    return
                for output in self._step():
                    index, request = waiting.pop(output.request_id)
                    yield index, self._answer(request, output)
        finally:
            self._abort(list(waiting))

    def close(self) -> None:
        """End the engine."""
        llm, self._llm = self._llm, None
        self._held.clear()
        if llm is None:
            return
        from vllm.distributed import cleanup_dist_env_and_memory

        try:
            llm.llm_engine.engine_core.shutdown()
        finally:
            del llm
            gc.collect()
            cleanup_dist_env_and_memory()

    def _send(self, request: Request) -> str:
        assert self._llm is not None
        vectors = self._vectors(request)
        length = 0 if vectors is None else int(vectors.shape[0])
        check_request(
            request, soft_length=length, max_model_len=self.max_model_len, vocab_size=self._vocab_size
        )
        name = str(self._sent)
        self._sent += 1
        with boundary(EngineError, "vLLM refused a request"):
            # Its name comes back with its answer: vLLM appends to it what it needs to keep names apart.
            self._llm.llm_engine.add_request(name, engine_input(request, vectors), sampling_params(request))
        return name

    def _vectors(self, request: Request) -> torch.Tensor | None:
        if request.soft_prompt is None:
            return None
        held = self._held.get(request.soft_prompt)
        if held is None:
            raise EngineError(f"the engine holds no soft prompt {request.soft_prompt}; add it first")
        return held.rows_PH

    def _step(self) -> list[RequestOutput]:
        assert self._llm is not None
        try:
            return [output for output in self._llm.llm_engine.step() if output.finished]
        except BaseException as e:
            self._alive = False
            if isinstance(e, KeyboardInterrupt | SystemExit):
                raise
            raise EngineError(f"the engine died: {type(e).__name__}: {_first_line(e)}") from e

    def _answer(self, request: Request, output: RequestOutput) -> Answer:
        if isinstance(request, Score):
            return _log_likelihood(request, output)
        (choice,) = output.outputs
        reason = "length" if choice.finish_reason == "length" else "stop"
        return Completion(text=choice.text, token_ids=tuple(choice.token_ids), finish_reason=reason)

    def _abort(self, names: list[str]) -> None:
        """Forget requests whose stream was left, so that the next stream meets none of their answers."""
        if names and self.alive and self._llm is not None:
            with boundary(EngineError, "aborting requests"):
                self._llm.llm_engine.abort_request(names)


def engine_input(request: Request, vectors_PH: torch.Tensor | None) -> EngineInput:
    """What vLLM reads: token ids alone, or mixed prompt embeds: `[P + T, H]` in which only the soft rows are filled, with
    real ids and a mask that tells which positions are which.

    The soft prompt's key is the cache salt. Prefix caching does not look at the mask (vllm#56655), so that two requests
    with equal ids and rows and another mask would share what they must not.
    """
    from vllm.inputs.engine import embeds_input, tokens_input

    ids = [*request.token_ids, *(request.continuation if isinstance(request, Score) else ())]
    made: EngineInput
    if vectors_PH is None:
        made = tokens_input(ids)
    else:
        before = 0 if request.position == "front" else 1
        P, H = vectors_PH.shape
        rows_TH = vectors_PH.new_zeros((P + len(ids), H))
        rows_TH[before : before + P] = vectors_PH
        made = embeds_input(
            rows_TH,
            prompt_token_ids=[*ids[:before], *[PLACEHOLDER] * P, *ids[before:]],
            is_token_ids=[*[True] * before, *[False] * P, *[True] * (len(ids) - before)],
            cache_salt=f"{request.soft_prompt}:{request.position}",
        )
    made["arrival_time"] = time.time()
    return made


def sampling_params(request: Request) -> SamplingParams:
    """How vLLM decodes; a `Score` is a prompt whose log-probabilities are wanted, and one token that nobody reads."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    if isinstance(request, Score):
        # Text of the prompt's tokens is not wanted: decoding it costs a third of the time.
        return SamplingParams(
            max_tokens=1,
            temperature=0.0,
            prompt_logprobs=0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
    sampling = request.sampling
    return SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed,
        stop=list(sampling.stop),
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def setting_names() -> frozenset[str]:
    """The settings that this vLLM has: what `engine:` of a grid may hold.

    Raises:
        ImportError: vLLM is not installed.
    """
    _prepare_environment()
    from dataclasses import fields

    from vllm import EngineArgs

    return frozenset(field.name for field in fields(EngineArgs))


def _log_likelihood(request: Score, output: RequestOutput) -> LogLikelihood:
    """The log-probabilities of the continuation: the last entries of the prompt's."""
    if output.prompt_logprobs is None:
        raise EngineError("vLLM gave no log-probabilities of the prompt")
    ids = request.continuation
    entries = output.prompt_logprobs[-len(ids) :]
    return LogLikelihood(
        token_logprobs=tuple(
            float(entry[token].logprob) for entry, token in zip(entries, ids, strict=True) if entry is not None
        )
    )


def _prepare_environment() -> bool:
    """Set what vLLM reads from the environment, where the user has not; whether this is the CPU build.

    Must run before vLLM is imported for the first time.
    """
    on_cpu = importlib.util.find_spec("torch") is not None and _is_cpu()
    defaults = {
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    if on_cpu:
        # In this process: it starts in 3 s instead of 13, and requests are not sent to another process and back.
        defaults["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        defaults["VLLM_CPU_KVCACHE_SPACE"] = str(CPU_CACHE_BYTES // 2**30)
        if shutil.which("gcc") is None and shutil.which("clang") is None:
            defaults["TORCHDYNAMO_DISABLE"] = "1"  # small functions that are compiled even with enforce_eager
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    for name in [name for name in os.environ if name.startswith("VLLM_DP_")]:
        del os.environ[name]  # of a surrounding data-parallel run: an engine that sees them waits for the others
    return on_cpu


def _is_cpu() -> bool:
    import torch

    return not torch.cuda.is_available()


def _cpu_options(config: EngineConfig) -> dict[str, Any]:
    """What starts fast and runs well on a CPU: compiling pays for hours of work, not for minutes."""
    return {"enforce_eager": True, "max_num_seqs": CPU_SEQUENCES, "disable_log_stats": True}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]


