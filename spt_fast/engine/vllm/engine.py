"""vLLM as an engine: soft prompts as virtual tokens or prompt embeds, options as forced continuations.

How it is started stands in `start`, what it is sent in `requests`, and what runs in its own processes in `forced`, `worker` and
`virtual_rows`. `LLMEngine.add_request` and `step` are used, what `LLM.generate` itself stands on: `generate`
takes all requests before it answers any, and with prompt embeds that is the whole data set as tensors.

Two things can be done in two ways (`engine.scoring`, `engine.injection`). The faster of each is taken where `equivalence`
shows, at the engine's start, that it gives what the plain one gives; else the plain one, and `ways` says why. Forced options
are held against `prompt_logprobs`, and virtual tokens, given the embeddings of the model's own tokens, against those tokens.
Only where virtual tokens are not taken is vLLM started anew to take prompt embeds.

What vLLM does not check and we do, before a request reaches it (a wrong one kills its engine, or worse): hidden size, finite
vectors, ids inside the vocabulary, length.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import tempfile
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from spt_fast.engine.base import Engine, EngineConfig, check_request, require_room
from spt_fast.engine.vllm import equivalence
from spt_fast.engine.vllm.oom_messages import Printed, shortage
from spt_fast.engine.vllm.requests import Forcing, answer, engine_input, sampling_params
from spt_fast.engine.vllm.start import PLAIN, ROOM, WAYS, import_vllm, own_batches, prepare_environment, setting_names, start
from spt_fast.errors import EngineError, ModelError, OutOfMemoryError, boundary, first_line
from spt_fast.models import memory
from spt_fast.models.fits import contradiction
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.prompts.lora import LoraAdapter
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.types import Answer, Request, Score

if TYPE_CHECKING:
    import torch
    from vllm import RequestOutput
    from vllm.config import VllmConfig
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.llm_engine import LLMEngine

SAME = ("plain", "equal")
"""What `VllmEngine.tried` says of a way that can be taken."""

MOST_TOKENS = 128
"""Most token ids whose log-probabilities vLLM looks up for one request (`MAX_LOGPROB_TOKEN_IDS`)."""

HAS_ROOM, HOLD_ROWS, FORGET_ROWS = "spt_fast_room", "spt_fast_hold_rows", "spt_fast_forget_rows"
"""The names by which vLLM's workers (`worker.Ours`) are asked what room they have for rows of soft prompts, to hold some, and
to forget all."""
EMBED = "spt_fast_embed"
"""The name by which they are asked for the embeddings of tokens."""
TOKENS = "tokens"
"""The plain side of injection: soft prompts that are embeddings of tokens, as those tokens."""

_log = logging.getLogger(__name__)


class VllmEngine(Engine):
    """One vLLM engine for one model."""

    elsewhere = True
    takes_less = True

    def __init__(self, config: EngineConfig) -> None:
        """Start it.

        Raises:
            EngineError: vLLM is not installed, has no such setting, or cannot run the model on this machine.
            OutOfMemoryError: it might, with smaller batches or a smaller share of the GPU.
        """
        self._engine: LLMEngine | None = None
        self._config = config
        self._alive = True
        self._streaming = False
        self._waiting: dict[str, list[tuple[int, Request]]] = {}
        """What the open stream has sent -> the requests, with their places in it, that its answer is to."""
        self._held: dict[str, torch.Tensor] = {}
        self._adapters: dict[str, LoRARequest] = {}
        self._room_for_adapters = config.adapters
        self._adapters_folder: tempfile.TemporaryDirectory[str] | None = None
        self._first_ids: dict[str, int] = {}
        """Soft prompts whose rows the workers hold -> the id of the first."""
        self._rows_sent = 0
        self._tokens: dict[str, Sequence[int]] = {}
        """Soft prompts that are embeddings of tokens -> these, as long as ways are tried."""
        self._sent = 0
        self._gpus = config.gpus
        self._followers = config.followers if config.nodes else None
        self._printed = Printed()
        self._ways = dict(PLAIN)
        self._obstacles: dict[str, str] = {}
        self._proofs: dict[str, str] = {}
        self._no_way = ""
        """Why soft prompts cannot be asked behind; empty: they can."""
        self._proving = ""
        """The faster way that is being tried: what an engine dies of meanwhile is put down to it."""
        on_cpu = prepare_environment(config)
        while True:
            self._open(config, on_cpu=on_cpu)
            try:
                self._choose_ways(config)
                if self._ways["injection"] != "mixed" or self._takes_embeds:
                    return
                if "mixed" in self._obstacles:
                    self._no_way = "; ".join(f"{way}: {self._obstacles[way]}" for way in WAYS["injection"])
                    return
                self.close()  # it was started without prompt embeds, and they are needed
            except BaseException as e:
                self.close()
                # One that dies of a faster way is started anew without it.
                if isinstance(e, OutOfMemoryError) or not isinstance(e, EngineError) or self._alive or not self._proving:
                    raise
                self._obstacles[self._proving] = str(e)
                self._alive = True

    @classmethod
    def prepare(cls) -> None:
        """Import vLLM.

        Raises:
            ImportError: it is not installed.
        """
        import_vllm()

    @property
    def most_positions(self) -> int:
        """What the model has, or the grid says."""
        return self._most_positions

    @classmethod
    def own_batches(cls, config: EngineConfig) -> tuple[int, int]:
        """Those that vLLM takes on this machine."""
        return own_batches(config)

    @classmethod
    def setting_names(cls) -> frozenset[str] | None:
        """The settings that this vLLM has; None: it is not installed."""
        try:
            return setting_names()
        except ImportError:
            return None

    def _open(self, config: EngineConfig, *, on_cpu: bool) -> None:
        # What vLLM and its imports warn of is not for our users to mend.
        with warnings.catch_warnings(), boundary(EngineError, f"starting vLLM for {config.model}"):
            warnings.simplefilter("ignore")
            try:
                self._engine, started = start(config, self._obstacles, on_cpu=on_cpu)
            except Exception as e:
                self._end_partners()  # what those have printed comes with it
                if found := shortage(e, self._printed.text):
                    raise found from e
                if wrong := contradiction(Path(config.model)):
                    raise EngineError(f"vLLM cannot load {config.model}: {wrong}") from e
                raise
        self._obstacles |= started.obstacles
        self._takes_embeds = started.takes_embeds
        self._most_positions = started.most_positions
        self._lora = started.lora
        self._first_ids, self._rows_sent = {}, 0  # what another engine's workers held is gone
        # `check_request` looks at ids before they get here, and vLLM would take virtual ones for mistakes.
        self._engine.renderer.validate_token_ids = lambda *_, **__: None
        self._tokenizer = Tokenizer.around(
            self._engine.get_tokenizer(),
            config.model,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
        )
        self._forcing: Forcing = started.forcing
        settings = self._engine.vllm_config
        self._dtype: torch.dtype = settings.model_config.dtype
        self.hidden_size = int(settings.model_config.get_inputs_embeds_size())
        self.max_model_len = int(settings.model_config.max_model_len)
        self._vocab_size = int(settings.model_config.get_vocab_size())
        room = self._engine.collective_rpc(HAS_ROOM)[0] if ROOM in (settings.additional_config or {}) else None
        self._room: int = room[0] if room else 0
        self.hidden_size = room[1] if room else self.hidden_size
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

    @property
    def vocab_size(self) -> int:
        """`V`: every token id is below it."""
        return self._vocab_size

    def tried(self) -> Mapping[str, Mapping[str, str]]:
        """Every way of each matter that it was started for, tried by itself: "plain", "equal", or why it is not taken.

        Raises:
            EngineError: the engine died of one.
        """
        found: dict[str, dict[str, str]] = {}
        taken = dict(self._proofs)
        for matter, ways in WAYS.items():
            found[matter] = {}
            for way in ways[:-1]:
                if way not in self._obstacles:
                    self._fastest(matter, [way])
                found[matter][way] = self._obstacles.get(way, "equal")
            if matter != "injection" or self._takes_embeds:
                found[matter][ways[-1]] = self._obstacles.get(ways[-1], "plain")
        self._proofs = taken
        return found

    @property
    def proofs(self) -> Mapping[str, str]:
        """How far the ways that are taken are from the plain ones, in words."""
        return dict(self._proofs)

    @contextlib.contextmanager
    def taking(self, matter: str, way: str) -> Iterator[None]:
        """Take a way for what is asked meanwhile."""
        chosen, self._ways[matter] = self._ways[matter], way
        try:
            yield
        finally:
            self._ways[matter] = chosen

    def add(self, soft_prompt: SoftPrompt) -> str:
        """Hold a soft prompt, rounded to the model's dtype as `torch.Tensor.to` rounds, on the CPU.

        Raises:
            EngineError: its hidden size is not the model's, the model's dtype cannot hold it, or there is no way to the model.
        """
        import torch

        if self._no_way:
            raise EngineError(f"soft prompts cannot be brought to this model by vLLM: {self._no_way}")
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
        waiting = self._waiting
        source = _Bundles(requests, together=self._ways["scoring"] == "forced")
        bundle: list[tuple[int, Request]] = []
        try:
            while True:
                # Counted anew: some may have been cancelled.
                held = sum(map(len, waiting.values()))
                while held < self._window and (bundle := bundle or source.take(self._window - held)):
                    if waiting and self._lacks_room(bundle[0][1]):
                        break
                    waiting[self._send([request for _, request in bundle])] = bundle
                    held += len(bundle)
                    bundle = []
                if not waiting:
                    return
                for output in self._step():
                    # Nothing: it was cancelled after this step.
                    for i, (index, request) in enumerate(waiting.pop(output.request_id, ())):
                        yield index, answer(request, output, self._tokenizer, again=i > 0)
        finally:
            self._streaming = False
            self._abort(list(waiting))
            waiting.clear()

    def cancel(self, numbers: Collection[int]) -> None:
        """Take back what is in flight, but for what vLLM answers together with something that is waited for."""
        wanted = set(numbers)
        names = [name for name, bundle in self._waiting.items() if all(index in wanted for index, _ in bundle)]
        for name in names:
            del self._waiting[name]
        self._abort(names)

    def forget(self) -> None:
        """Empty the prefix cache."""
        if self._engine is None:
            raise EngineError("the engine has ended")
        self._engine.reset_prefix_cache()

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
        if self._followers is not None:
            self._followers.end()

    def _send(self, bundle: Sequence[Request]) -> str:
        """Hand requests over that vLLM answers as one, and return the name that its answer comes back with."""
        if self._engine is None:
            raise EngineError("the engine has ended")
        rows_PH = self._rows(bundle[0])
        length = 0 if rows_PH is None else int(rows_PH.shape[0])
        for request in bundle:
            check_request(request, soft_length=length, max_model_len=self.max_model_len, vocab_size=self._vocab_size)
        forcing: Forcing = self._forcing if self._ways["scoring"] == "forced" else ""
        name = str(self._sent)
        self._sent += 1
        try:
            soft_ids = self._soft_ids(bundle[0].soft_prompt, rows_PH)
            made = engine_input(bundle[0], rows_PH, soft_ids=soft_ids, with_continuation=not forcing)
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

    def _soft_ids(self, key: str | None, rows_PH: torch.Tensor | None) -> Sequence[int] | None:
        """The token ids that stand for soft rows, which the workers hold from now on; None: there are none, or rows travel."""
        way = self._ways["injection"]
        if key is None or rows_PH is None or way == "mixed":
            return None
        if way == TOKENS:
            return self._tokens[key]
        if key not in self._first_ids:
            self._first_ids[key] = self._hold(rows_PH)
        first = self._first_ids[key]
        return range(first, first + len(rows_PH))

    def _lacks_room(self, request: Request) -> bool:
        """Whether the workers have no room for the soft prompt of a request, and what runs has to be awaited first."""
        if self._ways["injection"] != "rows" or request.soft_prompt is None or request.soft_prompt in self._first_ids:
            return False
        rows_PH = self._rows(request)
        return rows_PH is not None and self._rows_sent + len(rows_PH) > self._room

    def _hold(self, rows_PH: torch.Tensor) -> int:
        """Have the workers hold the rows of one more soft prompt, and return the id of the first.

        An id is given to other rows only where the room is full and nothing runs: the prefix cache is emptied before.
        """
        import torch

        assert self._engine is not None
        if self._rows_sent and self._rows_sent + len(rows_PH) > self._room:
            self.forget()
            self._engine.collective_rpc(FORGET_ROWS)
            self._first_ids, self._rows_sent = {}, 0
        first = self._vocab_size + self._rows_sent
        self._engine.collective_rpc(HOLD_ROWS, args=(first, rows_PH.contiguous().view(torch.uint8).numpy().tobytes()))
        self._rows_sent += len(rows_PH)
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
        for matter, asked in (("scoring", config.scoring), ("injection", config.injection)):
            allowed = [way for way in WAYS[matter][:-1] if asked in ("auto", way)]
            self._ways[matter] = self._fastest(matter, allowed)
            if asked not in ("auto", self._ways[matter]):
                raise EngineError(
                    f"engine.{matter}: {asked} cannot be used here ({self._obstacles[asked]}); `auto` takes what can"
                )
        self.forget()

    def _fastest(self, matter: str, ways: Sequence[str]) -> str:
        """The first of these ways that proves equal, or the plain one.

        Raises:
            EngineError: the engine died of one.
        """
        trial: equivalence.Trial | None = None
        try:
            for way in ways:
                if way not in self._obstacles:
                    self._proving = way
                    try:
                        trial = trial or self._try_plainly(matter)
                        found = self._disproof(trial, matter, way)
                    except EngineError as e:
                        if not self.alive:
                            raise
                        found = str(e)
                    self._proving = ""
                    if not found:
                        return way
                    self._proofs.pop(matter, None)
                    self._obstacles[way] = found
                _log.warning("engine.%s: %s is not taken: %s", matter, way, self._obstacles[way])
            return PLAIN[matter]
        finally:
            for key in {request.soft_prompt for request in trial.asked} if trial else ():
                self._held.pop(key or "", None)
            self._tokens.clear()

    def _try_plainly(self, matter: str) -> equivalence.Trial:
        """What the ways of a matter are tried with, and what the plain one answers.

        Raises:
            EngineError: there is too little room to ask anything; the plain way fails; or the engine died of it.
        """
        import torch

        assert self._engine is not None
        settings = self._engine.vllm_config
        prompts = equivalence.prompts(
            vocab_size=self._vocab_size,
            block=int(settings.cache_config.block_size),
            most=self.max_model_len - equivalence.LENGTH - 4,
        )
        if not prompts:
            raise EngineError(f"{self.max_model_len} positions are too few to try it")
        keys = self._soft_prompts_of_tokens(prompts[0]) if matter == "injection" else []
        asked: list[Request] = [*equivalence.scores(prompts, end=_end_token(settings), keys=keys or [None])]
        asked += equivalence.completions(prompts, keys=keys)
        plainly = partial(self._answers, matter, TOKENS if keys else PLAIN[matter])
        trial = equivalence.Trial(asked, plainly, step=torch.finfo(self._dtype).eps)
        if not any(answer.finite for answer in trial.plain):
            self._blame_the_weights()
        return trial

    def _soft_prompts_of_tokens(self, ids: Sequence[int]) -> list[str]:
        """The keys of two soft prompts that are the embeddings of tokens, which are remembered.

        Raises:
            EngineError: the model's embeddings cannot be had.
        """
        import torch

        assert self._engine is not None
        keys = []
        for tokens in equivalence.soft_tokens(ids):
            with boundary(EngineError, "asking for embeddings"):
                found = bytearray(self._engine.collective_rpc(EMBED, args=(list(tokens),))[0])
                rows_PH = torch.frombuffer(found, dtype=self._dtype).reshape(len(tokens), self.hidden_size)
            key = self.add(SoftPrompt(vectors=rows_PH.float().numpy()))
            self._tokens[key] = tokens
            keys.append(key)
        return keys

    def _blame_the_weights(self) -> None:
        """Say at once that weights are not finite, before a grid is asked in vain.

        Raises:
            ModelError: they are not.
        """
        from spt_fast.models import finite

        dtype = str(self._dtype).removeprefix("torch.")
        if found := finite.fault_of_files(self._config.model, self._config.revision, dtype):
            raise ModelError(f"{self._config.model}: logits are not finite: {found}")

    def _disproof(self, trial: equivalence.Trial, matter: str, way: str) -> str:
        """Why a way is not to be taken; empty: it gives what the plain one gives.

        Raises:
            EngineError: it cannot be taken, or the engine died of it.
        """
        verdict = trial.judge(partial(self._answers, matter, way))
        self._proofs[matter] = verdict.against(TOKENS if matter == "injection" else PLAIN[matter])
        return verdict.differs

    def _answers(self, matter: str, way: str, asked: Sequence[Request], at_once: int | None) -> list[Answer]:
        """Answers in a way, so many at once or all, with nothing in the prefix cache."""
        with self.taking(matter, way):
            self.forget()
            size = at_once or len(asked)
            return [answer for i in range(0, len(asked), size) for answer in self._in_order(asked[i : i + size])]


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


def _end_token(settings: VllmConfig) -> int:
    """An end-of-sequence token of the model, or 0."""
    end = getattr(settings.model_config.hf_config, "eos_token_id", None)
    return int(end[0] if isinstance(end, list) and end else end if isinstance(end, int) else 0)
