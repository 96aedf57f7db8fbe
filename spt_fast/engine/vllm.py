"""vLLM as an engine: soft prompts as virtual tokens or prompt embeds, options as forced continuations.

The module that knows vLLM; what runs in vLLM's own processes stands in `forced`, `short_embeds` and `virtual_rows`. It uses
`LLMEngine.add_request` and `step`, what `LLM.generate` itself stands on: `generate` takes all requests before it answers any,
and with prompt embeds that is the whole data set as tensors.

Two things can be done in several ways (`engine.scoring`, `engine.injection`). The fastest of each is taken that `proof` shows,
at the engine's start, to give what the plain one gives; else the plain one, and `ways` says why.

What vLLM does not check and we do, before a request reaches it (a wrong one kills its engine, or worse): hidden size, finite
vectors, ids inside the vocabulary, length.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import socket
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from spt_fast.engine import proof, short_embeds
from spt_fast.engine.base import Engine, EngineConfig, Part, check_request, require_room
from spt_fast.engine.caution import gpu_share
from spt_fast.engine.shortage import Printed, shortage
from spt_fast.errors import EngineError, OutOfMemoryError, ShareNotFreeError, boundary, first_line
from spt_fast.models import memory
from spt_fast.prompts.lora import LoraAdapter
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.types import Answer, Completion, FinishReason, LogLikelihood, Request, Score

if TYPE_CHECKING:
    import torch
    from vllm import RequestOutput, SamplingParams
    from vllm.config import VllmConfig
    from vllm.inputs.engine import EngineInput
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.llm_engine import LLMEngine

PLACEHOLDER = 0
"""The token id that stands at soft positions, where vLLM looks at the vectors instead."""

CONTINUATION, PROCESSOR = "spt_fast_continuation", "spt_fast.engine.forced:ForcedTokens"
"""The key of `SamplingParams.extra_args` that the processor reads, and what vLLM finds it by."""
MOST_TOKENS = 128
"""Most token ids whose log-probabilities vLLM looks up for one request (`MAX_LOGPROB_TOKEN_IDS`)."""

EXTENSION, HOLD_ROWS = "spt_fast.engine.virtual_rows.VirtualRows", "spt_fast_hold_rows"
"""What vLLM adds to its workers, and the name by which they are asked to hold rows of soft prompts."""
MOST_ROW_BYTES = 2**27
"""Most bytes of those rows in each worker, which takes up to twice as many and vLLM's measuring does not see. 1,600 soft
prompts `[10, 4096]` in bfloat16; those that come later travel as prompt embeds."""

WAYS = {"scoring": ("forced", "prompt_logprobs"), "injection": ("rows", "short", "mixed")}
"""The ways of each matter, the fastest first; the last is the plain one, which needs no proof."""
PLAIN = {matter: ways[-1] for matter, ways in WAYS.items()}
FAST = {matter: ways[0] for matter, ways in WAYS.items()}

Forcing: TypeAlias = Literal["", "processor", "trace"]
"""How a request is made to write given tokens: not at all, by `forced.ForcedTokens`, or by the newer model runner itself."""

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as `max_lora_rank`."""
MOST_RANK = RANKS[-1]
MOST_ADAPTERS = 8
"""LoRA adapters that are in one batch together; further ones wait, and take each other's places."""

CPU_BLOCK = 32
"""Tokens of a block of the CPU's KV cache, the fewest that its attention takes. Only whole blocks are shared between requests:
with vLLM's 128, options behind a prompt of 80 tokens take 2.4 times as long."""
CPU_SEQUENCES = 64
"""Sequences that the CPU engine runs at once, unless the grid says otherwise."""
CPU_CACHE_TOKENS = 1024
"""Positions of each of them that the KV cache of the CPU engine has room for; longer ones wait for each other."""
CPU_CACHE_BYTES = 4 * 2**30
"""Most memory of that cache, unless the model's longest sequence needs more; and never more than an eighth of the
machine's. vLLM itself would take nine tenths."""


_log = logging.getLogger(__name__)


class VllmEngine(Engine):
    """One vLLM engine for one model."""

    def __init__(self, config: EngineConfig) -> None:
        """Start it.

        Raises:
            EngineError: vLLM is not installed, has no such setting, or cannot run the model on this machine.
            OutOfMemoryError: it might, with smaller batches or a smaller share of the GPU.
        """
        self._engine: LLMEngine | None = None
        self._alive = True
        self._streaming = False
        self._held: dict[str, torch.Tensor] = {}
        self._adapters: dict[str, LoRARequest] = {}
        self._room_for_adapters = config.adapters
        self._adapters_folder: tempfile.TemporaryDirectory[str] | None = None
        self._first_ids: dict[str, int] = {}
        """Soft prompts whose rows the workers hold -> the id of the first."""
        self._rows_sent = 0
        self._sent = 0
        self._gpus = config.gpus
        self._partners = config.partners if config.nodes else None
        self._printed = Printed()
        self._ways = dict(PLAIN)
        self._obstacles: dict[str, str] = {}
        self._proving = ""
        """The faster way that is being tried: what an engine dies of meanwhile is put down to it."""
        on_cpu = _prepare_environment(config)
        while True:
            self._open(config, on_cpu=on_cpu)
            try:
                self._choose_ways(config)
                return
            except BaseException as e:
                self.close()
                # One that dies of a faster way is started anew without it.
                if isinstance(e, OutOfMemoryError) or not isinstance(e, EngineError) or self._alive or not self._proving:
                    raise
                self._obstacles[self._proving] = str(e)
                self._alive = True

    def _open(self, config: EngineConfig, *, on_cpu: bool) -> None:
        # What vLLM and its imports warn of is not for our users to mend.
        with warnings.catch_warnings(), boundary(EngineError, f"starting vLLM for {config.model}"):
            warnings.simplefilter("ignore")
            try:
                self._engine, started = _start(config, self._obstacles, on_cpu=on_cpu)
            except Exception as e:
                self._end_partners()  # what those have printed comes with it
                if found := shortage(e, self._printed.text):
                    raise found from e
                raise
        self._obstacles |= started.obstacles
        self._lora = started.lora
        self._first_ids, self._rows_sent = {}, 0  # what another engine's workers held is gone
        # `check_request` looks at ids before they get here, and vLLM would take virtual ones for mistakes.
        self._engine.renderer.validate_token_ids = lambda *_, **__: None
        self._forcing: Forcing = started.forcing
        settings = self._engine.vllm_config
        self._dtype: torch.dtype = settings.model_config.dtype
        self.hidden_size = int(settings.model_config.get_inputs_embeds_size())
        self.max_model_len = int(settings.model_config.max_model_len)
        self._vocab_size = int(settings.model_config.get_vocab_size())
        self._window = config.window or 2 * int(settings.scheduler_config.max_num_seqs)

    @property
    def alive(self) -> bool:
        """Whether further requests can be answered."""
        return self._alive and self._engine is not None

    @property
    def ways(self) -> Mapping[str, str]:
        """`scoring` and `injection`: the way that is taken, and why it is no faster one where that was allowed."""
        said = {}
        for matter, way in self._ways.items():
            faster = WAYS[matter][: WAYS[matter].index(way)]
            why = "; ".join(f"{each}: {self._obstacles[each]}" for each in faster if each in self._obstacles)
            said[matter] = f"{way} ({why})" if why else way
        return said

    def add(self, soft_prompt: SoftPrompt) -> str:
        """Hold a soft prompt, rounded to the model's dtype as `torch.Tensor.to` rounds, on the CPU.

        Raises:
            EngineError: its hidden size is not the model's, or the model's dtype cannot hold it.
        """
        import torch

        if soft_prompt.hidden_size != self.hidden_size:
            raise EngineError(f"the soft prompt has H = {soft_prompt.hidden_size}, the model H = {self.hidden_size}")
        if soft_prompt.key not in self._held:
            rows_PH = torch.tensor(soft_prompt.vectors).to(self._dtype)
            if not bool(torch.isfinite(rows_PH).all()):
                raise EngineError(f"soft prompt {soft_prompt.key} does not fit into {self._dtype}: it overflows")
            self._held[soft_prompt.key] = rows_PH
        return soft_prompt.key

    def add_adapter(self, adapter: LoraAdapter) -> str:
        """Hold a LoRA adapter in a folder, which vLLM reads when a request needs it, rounded to the model's dtype.

        Raises:
            EngineError: the engine was not started for it, or vLLM has no LoRA for the model.
        """
        require_room(self._room_for_adapters, adapter)
        if self._lora is not None:
            raise EngineError(self._lora)
        if adapter.key not in self._adapters:
            from vllm.lora.request import LoRARequest

            if self._adapters_folder is None:
                self._adapters_folder = tempfile.TemporaryDirectory(prefix="spt-fast-lora-")
            folder = Path(self._adapters_folder.name) / adapter.key
            adapter.save(folder)
            number = len(self._adapters) + 1
            self._adapters[adapter.key] = LoRARequest(lora_name=adapter.key, lora_int_id=number, lora_path=str(folder))
        return adapter.key

    def stream(self, requests: Iterable[Request]) -> Iterator[tuple[int, Answer]]:
        """Answer requests as they are done; at most the window is held at once.

        A stream that is left before its end takes back what is in flight.
        """
        if not self.alive:
            raise EngineError("the engine has ended")
        if self._streaming:
            raise EngineError("another stream of this engine is still open; close it first")
        self._streaming = True
        waiting: dict[str, list[tuple[int, Request]]] = {}
        held = 0
        source = _Bundles(requests, together=self._ways["scoring"] == "forced")
        try:
            while True:
                while held < self._window and (bundle := source.take(self._window - held)):
                    waiting[self._send([request for _, request in bundle])] = bundle
                    held += len(bundle)
                if not waiting:
                    return
                for output in self._step():
                    bundle = waiting.pop(output.request_id)
                    held -= len(bundle)
                    for i, (index, request) in enumerate(bundle):
                        yield index, answer(request, output, again=i > 0)
        finally:
            self._streaming = False
            self._abort(list(waiting))

    def close(self) -> None:
        """End the engine and its processes, and free what it held."""
        engine, self._engine = self._engine, None
        self._held.clear()
        self._adapters.clear()
        folder, self._adapters_folder = self._adapters_folder, None
        if folder is not None:
            folder.cleanup()
        if engine is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with memory.turn(self._gpus):
                    try:
                        engine.engine_core.shutdown()
                    finally:
                        del engine
                        gc.collect()
                        self._end_partners()

    def _end_partners(self) -> None:
        if self._partners is not None:
            self._partners.end()

    def _send(self, bundle: Sequence[Request]) -> str:
        """Hand requests over that vLLM answers as one, and return the name that its answer comes back with."""
        if self._engine is None:
            raise EngineError("the engine has ended")
        rows_PH = self._rows(bundle[0])
        length = 0 if rows_PH is None else int(rows_PH.shape[0])
        for request in bundle:
            check_request(request, soft_length=length, max_model_len=self.max_model_len, vocab_size=self._vocab_size)
        forcing: Forcing = self._forcing if self._ways["scoring"] == "forced" else ""
        way = self._ways["injection"]
        name = str(self._sent)
        self._sent += 1
        try:
            first_id = self._first_id(bundle[0].soft_prompt, rows_PH) if way == "rows" else None
            made = engine_input(bundle[0], rows_PH, first_id=first_id, short=way == "short", with_continuation=not forcing)
            self._engine.add_request(name, made, sampling_params(bundle, forcing), lora_request=self._changes(bundle[0]))
        except Exception as e:
            self._alive = type(e).__name__ != "EngineDeadError"  # its process ended while nobody waited for it
            if not self._alive:
                raise self._died(e) from e
            raise EngineError(f"vLLM refused a request: {type(e).__name__}: {first_line(e)}") from e
        return name

    def _changes(self, request: Request) -> LoRARequest | None:
        if request.adapter is None:
            return None
        if request.adapter not in self._adapters:
            raise EngineError(f"the engine holds no LoRA adapter {request.adapter}; add it first")
        return self._adapters[request.adapter]

    def _rows(self, request: Request) -> torch.Tensor | None:
        if request.soft_prompt is None:
            return None
        rows_PH = self._held.get(request.soft_prompt)
        if rows_PH is None:
            raise EngineError(f"the engine holds no soft prompt {request.soft_prompt}; add it first")
        return rows_PH

    def _first_id(self, key: str | None, rows_PH: torch.Tensor | None) -> int | None:
        """The id of a soft prompt's first row, which the workers hold from now on; None: there is none, or no room.

        Ids are never given to other rows, so what the prefix cache has of them stays true.
        """
        import torch

        assert self._engine is not None
        if key is None or rows_PH is None or key in self._first_ids:
            return self._first_ids.get(key or "")
        if (self._rows_sent + len(rows_PH)) * self.hidden_size * self._dtype.itemsize > MOST_ROW_BYTES:
            return None
        first = self._vocab_size + self._rows_sent
        rows = rows_PH.contiguous().view(torch.uint8).numpy().tobytes()
        dtype = str(self._dtype).removeprefix("torch.")
        self._engine.collective_rpc(HOLD_ROWS, args=(self._vocab_size, first, self.hidden_size, dtype, rows))
        self._rows_sent += len(rows_PH)
        self._first_ids[key] = first
        return first

    def _step(self) -> list[RequestOutput]:
        if self._engine is None:
            raise EngineError("the engine has ended")
        try:
            return [output for output in self._engine.step() if output.finished]
        except BaseException as e:
            self._alive = False  # whatever it was, the engine's books may be half written
            if isinstance(e, Exception):
                raise self._died(e) from e
            raise

    def _died(self, error: Exception) -> EngineError:
        self._end_partners()
        found = shortage(error, self._printed.text)
        return found or EngineError(f"the engine died: {type(error).__name__}: {first_line(error)}")

    def _abort(self, names: list[str]) -> None:
        """Forget requests whose stream was left, so that the next stream meets none of their answers."""
        if names and self.alive and self._engine is not None:
            try:
                self._engine.abort_request(names)
            except Exception:
                self._alive = False  # the stream may be ending for a reason of its own, which this must not hide

    def _choose_ways(self, config: EngineConfig) -> None:
        """Take the fastest ways that prove equal, of those that the settings allow.

        Raises:
            EngineError: a way that the settings insist on does not; or the engine died of it.
        """
        assert self._engine is not None
        for matter, asked in (("scoring", config.scoring), ("injection", config.injection)):
            allowed = [way for way in WAYS[matter][:-1] if asked in ("auto", way)]
            if "rows" in allowed and self._ways["scoring"] == PLAIN["scoring"]:
                self._obstacles.setdefault("rows", "prompt_logprobs looks every token of a prompt up among the logits")
            self._ways[matter] = self._fastest(matter, allowed)
            if asked not in ("auto", self._ways[matter]):
                raise EngineError(
                    f"engine.{matter}: {asked} cannot be used here ({self._obstacles[asked]}); `auto` takes what can"
                )
        self._engine.reset_prefix_cache()

    def _fastest(self, matter: str, ways: Sequence[str]) -> str:
        """The first of these ways that proves equal, or the plain one.

        Raises:
            EngineError: the engine died of one.
        """
        trial: _Trial | None = None
        try:
            for way in ways:
                if way not in self._obstacles:
                    self._proving = way
                    try:
                        trial = trial or self._try_plainly(matter)
                        found = self._disproof(trial, way)
                    except EngineError as e:
                        if not self.alive:
                            raise
                        found = str(e)
                    self._proving = ""
                    if found is None:
                        return way
                    self._obstacles[way] = found
                _log.warning("engine.%s: %s is not taken: %s", matter, way, self._obstacles[way])
            return PLAIN[matter]
        finally:
            for key in trial.keys if trial else ():
                self._held.pop(key, None)

    def _try_plainly(self, matter: str) -> _Trial:
        """What the ways of a matter are tried with, and what the plain one answers.

        Raises:
            EngineError: there is too little room to ask anything; the plain way fails; or the engine died of it.
        """
        assert self._engine is not None
        settings = self._engine.vllm_config
        prompts = proof.prompts(
            vocab_size=self._vocab_size,
            block=int(settings.cache_config.block_size),
            most=self.max_model_len - proof.LENGTH - 4,
        )
        if not prompts:
            raise EngineError(f"{self.max_model_len} positions are too few to try it")
        keys = [self.add(each) for each in proof.soft_prompts(self.hidden_size)] if matter == "injection" else []
        asked: list[Request] = [*proof.scores(prompts, end=_end_token(settings), keys=keys or [None])]
        asked += proof.completions(prompts, keys=keys)
        return _Trial(matter=matter, keys=keys, asked=asked, plain=self._answers(asked, matter, PLAIN[matter]))

    def _disproof(self, trial: _Trial, way: str) -> str | None:
        """Why a way is not to be taken; None: it gives what the plain one gives.

        Raises:
            EngineError: it cannot be taken, or the engine died of it.
        """
        found = self._answers(trial.asked, trial.matter, way)
        return proof.difference(trial.plain, found, itemsize=self._dtype.itemsize, halves_differ=trial.matter == "injection")

    def _answers(self, asked: Sequence[Request], matter: str, way: str) -> list[Answer]:
        """Answers in a way, with nothing in the prefix cache."""
        assert self._engine is not None
        chosen, self._ways[matter] = self._ways[matter], way
        try:
            self._engine.reset_prefix_cache()
            return self._in_order(asked)
        finally:
            self._ways[matter] = chosen


class _Bundles:
    """Requests in bundles that vLLM answers as one: options of one token each, one behind the other, of the same prompt.

    Their log-probabilities all come from the one position behind it. All other requests are bundles of their own.
    """

    def __init__(self, requests: Iterable[Request], *, together: bool) -> None:
        """
        Args:
            requests: read no further than is asked for.
            together: else each is a bundle of its own.
        """
        self._source = enumerate(requests)
        self._together = together
        self._next: tuple[int, Request] | None = None

    def take(self, most: int) -> list[tuple[int, Request]]:
        """The next bundle: requests with their places in the stream, `most` or fewer; empty at the end."""
        first = self._read()
        if first is None:
            return []
        bundle = [first]
        most = min(most, MOST_TOKENS) if self._together else 1
        while _has_one_token(first[1]) and len(bundle) < most:
            following = self._read()
            if following is None or not (_has_one_token(following[1]) and _prompt(following[1]) == _prompt(first[1])):
                self._next = following
                break
            bundle.append(following)
        return bundle

    def _read(self) -> tuple[int, Request] | None:
        ready, self._next = self._next, None
        return ready or next(self._source, None)


def _has_one_token(request: Request) -> bool:
    return isinstance(request, Score) and len(request.continuation) == 1


def _prompt(request: Request) -> tuple[object, ...]:
    return request.token_ids, request.soft_prompt, request.position, request.adapter


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """What the ways of a matter are tried with."""

    matter: str
    keys: Sequence[str]
    """Soft prompts that are held for it."""
    asked: Sequence[Request]
    plain: Sequence[Answer]
    """What the plain way answers."""


@dataclass(frozen=True, kw_only=True)
class _Started:
    """What an engine was started with."""

    forcing: Forcing
    lora: str | None
    """Why it takes none of the LoRA adapters that were asked for; None: it does."""
    obstacles: Mapping[str, str]
    """Faster ways that cannot be tried -> why."""


def _start(config: EngineConfig, known: Mapping[str, str], *, on_cpu: bool) -> tuple[LLMEngine, _Started]:
    """Start vLLM, ready for the faster ways that the settings allow and that have no known obstacle."""
    port = _free_port(config.nodes[0]) if config.nodes else 0
    if config.nodes and config.partners is not None:
        alone = replace(config, partners=None)
        ranks = range(1, len(config.nodes))
        config.partners.begin([Part(config=alone, rank=rank, port=port, obstacles=dict(known)) for rank in ranks])
    settings, started = _settings(config, known, on_cpu=on_cpu, port=port)
    import torch
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.llm_engine import LLMEngine

    set_num_threads = torch.set_num_threads
    try:
        with _room(config, float(settings.cache_config.gpu_memory_utilization)):
            engine = LLMEngine.from_vllm_config(
                settings,
                usage_context=UsageContext.LLM_CLASS,
                disable_log_stats=bool(config.options.get("disable_log_stats", True)),
            )
    finally:
        torch.set_num_threads = set_num_threads  # the CPU worker puts a function there that only complains
    if on_cpu and config.pipeline_parallel > 1:
        # All stages but the first get their buffers in a run of made-up input, which vLLM leaves out on a CPU in eager mode.
        engine.collective_rpc("execute_dummy_batch")
    return engine, started


def follow(part: Part) -> None:
    """Run a part of an engine whose first node is another one, until this process or one of those it starts is ended.

    Raises:
        EngineError: vLLM cannot be started here.
    """
    config = part.config
    on_cpu = _prepare_environment(config, rank=part.rank)
    with warnings.catch_warnings(), boundary(EngineError, f"starting part {part.rank} of vLLM for {config.model}"):
        warnings.simplefilter("ignore")
        settings, _ = _settings(config, part.obstacles, on_cpu=on_cpu, rank=part.rank, port=part.port)
        from vllm.v1.executor.multiproc_executor import MultiprocExecutor

        # As `vllm serve --headless` does it.
        with _room(config, float(settings.cache_config.gpu_memory_utilization)):
            executor = MultiprocExecutor(settings, monitor_workers=False)
        executor.start_worker_monitor(inline=True)


def _free_port(address: str) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as free:
        free.bind((address, 0))
        return int(free.getsockname()[1])


def _settings(
    config: EngineConfig, known: Mapping[str, str], *, on_cpu: bool, rank: int = 0, port: int = 0
) -> tuple[VllmConfig, _Started]:
    """What vLLM is started with on the node of a rank: the same on all, but for the rank."""
    try:
        from vllm import EngineArgs
        from vllm.usage.usage_lib import UsageContext
    except ImportError as e:
        raise EngineError(
            f"vLLM cannot be imported ({e}); `make install`, or `engine: {{kind: transformers}}` in the grid"
        ) from e
    import torch

    options = engine_options(config, on_cpu=on_cpu, rank=rank, port=port)
    if unknown := sorted(set(options) - setting_names()):
        raise EngineError(f"engine: vLLM has no setting {unknown[0]!r}")
    about = _describe(config.model, options)
    lora = _prepare_adapters(config, options, about.architectures)
    if options["dtype"] == "auto" and about.dtype == torch.float32:
        # vLLM's `auto` would make bfloat16 of it, and the vectors were learnt in float32.
        options["dtype"] = "float32"
    if on_cpu:
        _register_in_process(about.architectures)
        if options["enforce_eager"]:
            # vLLM compiles small functions of its sampler even so: 6 s of a C++ compiler at a start, which must then be on the
            # machine. For the whole process, in which nothing else of ours compiles.
            torch._dynamo.config.disable = True
    # The defaults for work that nobody waits for: larger batches than a server's.
    settings = EngineArgs(**options).create_engine_config(UsageContext.LLM_CLASS, headless=rank > 0)
    obstacles = _prepare_ways(config, settings, known)
    cache = settings.cache_config
    if on_cpu and cache.kv_cache_memory_bytes is None and "gpu_memory_utilization" not in config.options:
        cache.kv_cache_memory_bytes = _cpu_cache_bytes(settings)
    forcing: Forcing = "trace" if settings.use_v2_model_runner else "processor"
    return settings, _Started(forcing=forcing, lora=lora, obstacles=obstacles)


def _prepare_adapters(config: EngineConfig, options: dict[str, Any], architectures: Sequence[str]) -> str | None:
    """Have vLLM started for the LoRA adapters it will be given; why it is not."""
    if config.adapters is None:
        return None
    if config.nodes:
        return "LoRA adapters are files of one node, and this engine is on several; leave lora out for this model"
    from vllm import ModelRegistry
    from vllm.model_executor.models import supports_lora

    wanted = config.adapters
    for name in architectures:
        known = ModelRegistry.models.get(name)
        if known is not None and not supports_lora(known.load_model_cls()):
            return f"vLLM has no LoRA for {name}; engine: {{kind: transformers}} for this model, or leave lora out"
    if wanted.rank > MOST_RANK:
        return f"vLLM takes LoRA adapters of rank {MOST_RANK} at most, and this has {wanted.rank}; lower lora.rank"
    at_once = min(wanted.count, MOST_ADAPTERS)
    ours = {
        "enable_lora": True,
        "max_lora_rank": min(rank for rank in RANKS if rank >= wanted.rank),
        "max_loras": at_once,
        # The embeddings must be left alone: vLLM looks up the ids between soft rows through them, and its LoRA embedding
        # counts on all ids of a batch (vllm#51122). The layers that are changed, and no others, are therefore named.
        "lora_target_modules": sorted(wanted.targets),
    }
    for key, value in ours.items():
        options.setdefault(key, value)
    return None


def _prepare_ways(config: EngineConfig, settings: VllmConfig, known: Mapping[str, str]) -> dict[str, str]:
    """Set vLLM up for the faster ways that may be tried, before it starts; what stands in the way of the others."""
    found = {}
    model = settings.model_config
    asked = {matter: getattr(config, matter) for matter in WAYS}
    wanted = {way for matter in WAYS for way in WAYS[matter][:-1] if asked[matter] in ("auto", way) and way not in known}
    if "forced" in wanted:
        if model.logprobs_mode != "raw_logprobs":
            found["forced"] = f"logprobs_mode is {model.logprobs_mode}"
        elif settings.speculative_config is not None:
            found["forced"] = "speculative decoding takes no logits processor"
        elif settings.use_v2_model_runner:
            model.enable_trace_replay = True
        else:
            # Ours last: what a grid's own processors make of the logits must not change what is written.
            model.logits_processors = [*(model.logits_processors or ()), PROCESSOR]
    if "rows" in wanted:
        if settings.speculative_config is not None:
            found["rows"] = "a model that drafts has none of them"
        elif settings.parallel_config.worker_extension_cls:
            found["rows"] = f"worker_extension_cls is {settings.parallel_config.worker_extension_cls}"
        else:
            settings.parallel_config.worker_extension_cls = EXTENSION
    if "short" in wanted and (why := short_embeds.missing() or short_embeds.install()):
        found["short"] = why
    # What the plug-in in vLLM's processes, which inherit this, goes by.
    os.environ[short_embeds.SWITCH] = str(int("short" in wanted and "short" not in found))
    return found


def _end_token(settings: VllmConfig) -> int:
    """An end-of-sequence token of the model, or 0."""
    end = getattr(settings.model_config.hf_config, "eos_token_id", None)
    return int(end[0] if isinstance(end, list) and end else end if isinstance(end, int) else 0)


def engine_options(config: EngineConfig, *, on_cpu: bool, rank: int = 0, port: int = 0) -> dict[str, Any]:
    """What vLLM's `EngineArgs` are made of: the grid's settings over ours.

    Args:
        config: of the engine.
        on_cpu: it runs on a CPU.
        rank: the node's place in `config.nodes`, where it is spread over several.
        port: where those meet, on the first.
    """
    spread = config.tensor_parallel * config.pipeline_parallel > 1
    return {
        "model": config.model,
        "revision": config.revision,
        "dtype": config.dtype,
        "trust_remote_code": config.trust_remote_code,
        "tensor_parallel_size": config.tensor_parallel,
        "pipeline_parallel_size": config.pipeline_parallel,
        # Processes of this node: in an actor vLLM would choose Ray, whose placement groups inside others' wait for ever. Over
        # several nodes too: vLLM's own way needs no Ray, runs on a CPU, and leaves our actors in charge of the processes.
        **({"distributed_executor_backend": "mp"} if spread else {}),
        **(
            {"nnodes": len(config.nodes), "node_rank": rank, "master_addr": config.nodes[0], "master_port": port}
            if config.nodes
            else {}
        ),
        "enable_prompt_embeds": True,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        # Compiling pays for hours of work on a CPU, not for minutes.
        **({"enforce_eager": True, "max_num_seqs": CPU_SEQUENCES, "block_size": CPU_BLOCK} if on_cpu else {}),
        **({"gpu_memory_utilization": gpu_share(config)} if config.gpus < 1 and not on_cpu else {}),
        **config.options,
    }


@contextlib.contextmanager
def _room(config: EngineConfig, share: float) -> Iterator[None]:
    """Wait for the share of the GPU that the engine asks for, and keep the GPU's turn while it starts. On a CPU: nothing.

    Raises:
        ShareNotFreeError: others still hold part of it; vLLM would find that half a minute later.
    """
    with memory.room(lambda total: share * total, gpus=config.gpus, devices=config.devices) as seen:
        if seen is not None and seen[0] < share * seen[1]:
            free, total = seen
            raise ShareNotFreeError(
                f"{memory.gib(free)} of {memory.gib(total)} GiB of GPU memory are free after {memory.FREED_S:.0f} s, and "
                f"gpu_memory_utilization {share:g} asks for {memory.gib(share * total)}; end what holds the rest, or set "
                "engine: {gpu_memory_utilization: ...} in the grid"
            )
        yield


@dataclass(frozen=True)
class _About:
    """What the checkpoint says of itself."""

    dtype: torch.dtype
    architectures: tuple[str, ...]


def _describe(model: str, options: dict[str, Any]) -> _About:
    from vllm.transformers_utils.config import get_config
    from vllm.transformers_utils.model_arch_config_convertor import ModelArchConfigConvertorBase

    hf_config = get_config(model, bool(options["trust_remote_code"]), revision=options["revision"])
    dtype = ModelArchConfigConvertorBase.get_torch_dtype(hf_config, model, options["revision"], "auto")
    return _About(dtype, tuple(getattr(hf_config, "architectures", None) or ()))


def _register_in_process(architectures: Iterable[str]) -> None:
    """Import a model's class here before vLLM asks what it can do.

    To leave CUDA alone, vLLM would ask in another process, which imports all of vLLM again: 10 s, the first time that a machine
    meets an architecture. On a CPU there is nothing to leave alone.
    """
    from vllm import ModelRegistry

    for name in architectures:
        known = ModelRegistry.models.get(name)
        if known is not None:
            with contextlib.suppress(Exception):  # vLLM's own way remains, and says what is wrong
                ModelRegistry.register_model(name, known.load_model_cls())


def _cpu_cache_bytes(settings: VllmConfig) -> int:
    """Memory for the KV cache: what the sequences that run at once need, within bounds; the longest one always fits."""
    model, parallel = settings.model_config, settings.parallel_config
    heads = model.get_num_layers(parallel) * model.get_num_kv_heads(parallel)
    per_token: int = 2 * heads * model.get_head_size() * model.dtype.itemsize
    block: int = settings.cache_config.block_size
    # A sequence fills its last block in part; vLLM keeps one block for itself.
    each = (min(model.max_model_len, CPU_CACHE_TOKENS) // block + 1) * block
    longest: int = (model.max_model_len // block + 2) * block
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    wanted: int = per_token * each * settings.scheduler_config.max_num_seqs
    return max(per_token * longest, min(wanted, CPU_CACHE_BYTES, machine // 8))


def answer(request: Request, output: RequestOutput, *, again: bool = False) -> Answer:
    """What vLLM's output says, in our words; `again`: an answer to another request of its bundle was made of it before."""
    cached = len(output.prompt_token_ids or ()) if again else output.num_cached_tokens
    if isinstance(request, Score):
        return replace(_log_likelihood(request, output), cached=cached)
    (choice,) = output.outputs
    if choice.finish_reason not in ("stop", "length"):
        raise EngineError(f"the engine ended a request with {choice.finish_reason!r}")
    reason: FinishReason = "length" if choice.finish_reason == "length" else "stop"
    return Completion(text=choice.text, token_ids=tuple(choice.token_ids), finish_reason=reason, cached=cached)


def engine_input(
    request: Request,
    rows_PH: torch.Tensor | None,
    *,
    first_id: int | None = None,
    short: bool = False,
    with_continuation: bool = True,
) -> EngineInput:
    """What vLLM reads: token ids alone, or prompt embeds with real ids and a mask that tells which positions are which.

    The embeds are mixed, `[P + T, H]` in which only the soft rows are filled, or short: they end with the soft rows.

    The soft prompt's key is the cache salt. Prefix caching does not look at the mask (vllm#56655), so that two requests
    with equal ids and rows and another mask would share what they must not.

    Args:
        request: a completion or a log-likelihood.
        rows_PH: the soft rows `[P, H]` in the model's dtype; None: there is no soft prompt.
        first_id: the virtual token of the first soft row, the others following it; None: the rows travel.
        short: leave out the rows behind the soft ones.
        with_continuation: read the continuation of a `Score` as part of the prompt.
    """
    from vllm.inputs.engine import embeds_input, tokens_input

    ids = [*request.token_ids, *(request.continuation if with_continuation and isinstance(request, Score) else ())]
    made: EngineInput
    before = 0 if request.position == "front" else 1
    if rows_PH is None:
        made = tokens_input(ids)
    elif first_id is not None:
        made = tokens_input([*ids[:before], *range(first_id, first_id + len(rows_PH)), *ids[before:]])
    else:
        P, H = rows_PH.shape
        rows = before + P if short else P + len(ids)
        embeds_RH = rows_PH
        if rows > P:
            embeds_RH = rows_PH.new_zeros((rows, H))
            embeds_RH[before : before + P] = rows_PH
        made = embeds_input(
            embeds_RH,
            prompt_token_ids=[*ids[:before], *[PLACEHOLDER] * P, *ids[before:]],
            is_token_ids=[*[True] * before, *[False] * P, *[True] * (rows - P - before)],
            cache_salt=f"{request.soft_prompt}:{request.position}",
        )
    made["arrival_time"] = time.time()
    return made


def sampling_params(bundle: Sequence[Request], forcing: Forcing) -> SamplingParams:
    """How vLLM decodes requests that it answers as one.

    A `Score` is made to write its continuation, whose log-probabilities are wanted; or else it is a prompt, the continuation
    its end, and one token is written that nobody reads. Options of one token need not be written: theirs are looked up.
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
        skip_clone=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def import_vllm() -> None:
    """Import what an engine is started with, ahead of its start. Touches no device.

    Raises:
        ImportError: vLLM is not installed.
    """
    _prepare_environment()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_module("vllm.v1.engine.llm_engine")


def setting_names() -> frozenset[str]:
    """The settings that this vLLM has: what `engine:` of a grid may hold.

    Raises:
        ImportError: vLLM is not installed.
    """
    _prepare_environment()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from vllm import EngineArgs

    return frozenset(field.name for field in fields(EngineArgs))


def _log_likelihood(request: Score, output: RequestOutput) -> LogLikelihood:
    """The log-probabilities of the continuation: those of what was written, or the last entries of the prompt's."""
    ids = request.continuation
    (choice,) = output.outputs
    if choice.logprobs is not None:
        if len(ids) > 1 and tuple(choice.token_ids) != ids:
            raise EngineError("vLLM did not write the continuation that it was given; engine: {scoring: prompt_logprobs}")
        entries, first = choice.logprobs, 0
    else:
        entries = output.prompt_logprobs
        if entries is None or len(entries) <= len(ids):
            raise EngineError("vLLM gave no log-probabilities of the prompt")
        first = len(entries) - len(ids)
    return LogLikelihood(token_logprobs=tuple(float(entries[at][token].logprob) for at, token in enumerate(ids, start=first)))


def _prepare_environment(config: EngineConfig | None = None, *, rank: int = 0) -> bool:
    """Set what vLLM reads from the environment, where the user has not; whether it will run on a CPU.

    Must run before vLLM is imported for the first time.

    Args:
        config: of the engine, where there is to be one.
        rank: the node's place in `config.nodes`.
    """
    on_cpu = not memory.on_gpu()
    defaults = {
        "VLLM_LOGGING_LEVEL": os.environ.get("SPT_FAST_LOG", "ERROR").upper(),
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # results go to stdout
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    if on_cpu:
        # In this process: it starts in 3 s instead of 13, and requests are not sent to another process and back.
        defaults["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        if config is not None and config.tensor_parallel * config.pipeline_parallel > 1:
            # vLLM would bind each of its processes to the cores of a NUMA node of its own, and refuse where there are fewer.
            defaults["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    if config is not None and config.nodes:
        defaults["VLLM_HOST_IP"] = config.nodes[rank]  # else it takes the address that has a way to the internet
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    for name in [name for name in os.environ if name.startswith("VLLM_DP_")]:
        del os.environ[name]  # of a surrounding data-parallel run: an engine that sees them waits for the others
    # What vLLM's modules say while they are imported, before it has set up its loggers.
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"])
    return on_cpu
