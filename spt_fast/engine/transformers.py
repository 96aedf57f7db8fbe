"""Transformers as an engine: the same requests as vLLM's, answered in static batches. The reference that vLLM is compared
with, and what runs models that vLLM cannot. Simple and right rather than fast.

Completions are padded on the left, so that every row's next token stands in the last column; log-likelihoods on the right,
where a causal model never looks.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Any

import torch
from torch import Tensor

from spt_fast.engine.base import Engine, EngineConfig, check_request
from spt_fast.engine.written import Text
from spt_fast.errors import EngineError, OutOfMemoryError, boundary, first_line
from spt_fast.models import memory
from spt_fast.models.frozen_model import FrozenModel
from spt_fast.models.lora import HeldLora
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.prompts.lora import LoraAdapter
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.types import Answer, Completion, FinishReason, Generate, LogLikelihood, Request, Score, before_soft

OPTIONS = frozenset({"batch_size", "device"})
BATCH_SIZE = 16
"""Requests of one batch, unless the grid says otherwise."""
WINDOW_BATCHES = 8
"""Batches' worth of requests that are sorted by length together."""


class TransformersEngine(Engine):
    """A frozen Transformers model that answers requests. It halves its batches itself when it runs out of memory."""

    options = OPTIONS

    def __init__(self, config: EngineConfig) -> None:
        """Load model and tokenizer.

        Raises:
            EngineError: a setting that makes no sense.
            ModelError: the model cannot be loaded.
        """
        self._model: FrozenModel | None = None
        if config.tensor_parallel * config.pipeline_parallel != 1:
            raise EngineError(
                "engine: transformers runs a model on one device; leave tensor_parallel and pipeline_parallel out"
            )
        self._batch_size = config.options.get("batch_size", BATCH_SIZE)
        if not isinstance(self._batch_size, int) or self._batch_size < 1:
            raise EngineError(f"engine: batch_size must be a number from 1 on, not {self._batch_size!r}")
        source: dict[str, Any] = {"revision": config.revision, "trust_remote_code": config.trust_remote_code}
        tokenizer = Tokenizer.load(config.model, **source)
        with boundary(EngineError, f"loading {config.model}"):
            model = FrozenModel.load(
                config.model, dtype=config.dtype, device=str(config.options.get("device", "auto")), gpus=config.gpus, **source
            )
        self._answer_with(model, tokenizer, self._batch_size, config.window)

    @classmethod
    def around(cls, model: FrozenModel, tokenizer: Tokenizer, *, batch_size: int = BATCH_SIZE) -> TransformersEngine:
        """An engine on a model that is loaded already. `close` would free it: who goes on with the model leaves it open."""
        engine = cls.__new__(cls)
        engine._answer_with(model, tokenizer, batch_size)
        return engine

    def _answer_with(self, model: FrozenModel, tokenizer: Tokenizer, batch_size: int, window: int | None = None) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._batch_size = batch_size
        self._window = window or WINDOW_BATCHES * batch_size
        self.dtype = str(model.dtype).removeprefix("torch.")
        """What the model runs in: `float32`, `bfloat16`, ..."""
        self.hidden_size = model.hidden_size
        self.max_model_len = model.max_position_embeddings
        self._ends = _end_ids(model, tokenizer)
        self._held: dict[str, Tensor] = {}
        self._lora: HeldLora | None = None
        self._jitter = 0.0
        self._cancelled: set[int] = set()

    @property
    def alive(self) -> bool:
        """False once it was closed."""
        return self._model is not None

    def add(self, soft_prompt: SoftPrompt) -> str:
        """Hold a soft prompt, cast to the model's dtype."""
        model = self._loaded()
        if soft_prompt.hidden_size != self.hidden_size:
            raise EngineError(f"the soft prompt has H = {soft_prompt.hidden_size}, the model H = {self.hidden_size}")
        if soft_prompt.key not in self._held:
            rows_PH = torch.tensor(soft_prompt.vectors).to(model.dtype)
            if not bool(torch.isfinite(rows_PH).all()):
                raise EngineError(f"soft prompt {soft_prompt.key} does not fit into {model.dtype}: it overflows")
            self._held[soft_prompt.key] = rows_PH.to(model.device)
        return soft_prompt.key

    def add_adapter(self, adapter: LoraAdapter) -> str:
        """Hold a LoRA adapter, cast to the model's dtype.

        Raises:
            ModelError: PEFT is not installed, or the adapter is another model's.
        """
        if self._lora is None:
            self._lora = HeldLora(self._loaded())
        self._lora.add(adapter)
        return adapter.key

    def stream(self, requests: Iterable[Request]) -> Iterator[tuple[int, Answer]]:
        """Answer requests, a window at a time, the longest of a window first."""
        self._loaded()
        self._cancelled.clear()
        numbered = enumerate(requests)
        while window := [self._asked(*pair) for pair in islice(numbered, self._window)]:
            for together in self._batches(window):
                batch = [asked for asked in together if asked.index not in self._cancelled]
                yield from zip((asked.index for asked in batch), self._answers(batch) if batch else (), strict=True)

    def cancel(self, numbers: Collection[int]) -> None:
        """Those of batches that have not begun are not computed."""
        self._cancelled.update(numbers)

    def _answers(self, batch: Sequence[_Asked]) -> list[Answer]:
        """Answer requests of one kind together; where memory has no room for them, in halves, as then all that follow.

        Raises:
            OutOfMemoryError: it has none for a single one.
        """
        kind = "generating" if isinstance(batch[0].request, Generate) else "scoring"
        answers: list[Answer] = []
        while len(answers) < len(batch):
            part = batch[len(answers) :][: self._batch_size]
            with boundary(EngineError, kind), self._changed_by(batch[0].request.adapter), self._without_gradients():
                try:
                    answers += self._complete(part) if kind == "generating" else self._score(part)
                    continue
                except Exception as e:
                    if not memory.ran_out(e):
                        raise
                    said = first_line(e)
            # Not while it is handled: the frames that an error comes with hold what the part had taken.
            memory.release()
            if len(part) == 1:
                said = f"{memory.described()} without it: {said}"
                raise OutOfMemoryError(f"out of memory while {kind} one request of {len(part[0])} positions ({said})")
            self._batch_size = len(part) // 2
        return answers

    def _without_gradients(self) -> AbstractContextManager[Any]:
        return torch.inference_mode()

    def _changed_by(self, adapter: str | None) -> AbstractContextManager[None]:
        return nullcontext() if self._lora is None else self._lora.using(adapter)

    @contextmanager
    def rounded_otherwise(self) -> Iterator[None]:
        """Answer as if what enters the model had been rounded otherwise: each number moved by up to half a step of its dtype.

        From there on every sum is rounded otherwise, as it is in another right implementation.
        """
        self._jitter = torch.finfo(self._loaded().dtype).eps / 2
        try:
            yield
        finally:
            self._jitter = 0.0

    def close(self) -> None:
        """Free the model."""
        model, self._model = self._model, None
        self._held = {}
        self._lora = None
        if model is not None:
            model.free()

    def _loaded(self) -> FrozenModel:
        if self._model is None:
            raise EngineError("the engine has ended")
        return self._model

    def _asked(self, index: int, request: Request) -> _Asked:
        """Check a request.

        Raises:
            EngineError: it is impossible.
        """
        if request.adapter is not None and (self._lora is None or request.adapter not in self._lora.held):
            raise EngineError(f"the engine holds no LoRA adapter {request.adapter}; add it first")
        soft_PH = None
        if request.soft_prompt is not None:
            soft_PH = self._held.get(request.soft_prompt)
            if soft_PH is None:
                raise EngineError(f"the engine holds no soft prompt {request.soft_prompt}; add it first")
        check_request(
            request,
            soft_length=0 if soft_PH is None else len(soft_PH),
            max_model_len=self.max_model_len,
            vocab_size=self._loaded().vocab_size,
        )
        return _Asked(index, request, soft_PH)

    def _batches(self, window: Sequence[_Asked]) -> Iterator[list[_Asked]]:
        """Requests of one kind, adapter and like length together; the longest first, so that a lack of memory shows at once."""
        adapters = dict.fromkeys(asked.request.adapter for asked in window)
        for kind, adapter in product((Generate, Score), adapters):
            mine = (asked for asked in window if isinstance(asked.request, kind) and asked.request.adapter == adapter)
            alike = sorted(mine, key=len, reverse=True)
            for start in range(0, len(alike), self._batch_size):
                yield alike[start : start + self._batch_size]

    def _embed(self, asked: _Asked) -> Tensor:
        """What enters the model for one request: `[P + T, H]`."""
        model = self._loaded()
        embedded_TH = model.embed(torch.tensor(asked.ids, device=model.device))
        if asked.vectors is not None:
            before = before_soft(asked.request.position, len(asked.request.token_ids))
            embedded_TH = torch.cat([embedded_TH[:before], asked.vectors, embedded_TH[before:]])
        if self._jitter:
            generator = torch.Generator().manual_seed(asked.index)
            moves_TH = 2 * torch.rand(embedded_TH.shape, generator=generator).to(model.device) - 1
            embedded_TH = (embedded_TH.float() * (1 + self._jitter * moves_TH)).to(embedded_TH.dtype)
        return embedded_TH

    def _score(self, batch: Sequence[_Asked]) -> list[LogLikelihood]:
        model = self._loaded()
        rows = [self._embed(asked) for asked in batch]
        inputs_embeds_BTH = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        width = inputs_embeds_BTH.shape[1]
        counts: list[int] = []
        targets: list[int] = []
        places: list[int] = []
        for i, (asked, row) in enumerate(zip(batch, rows, strict=True)):
            assert isinstance(asked.request, Score)
            wanted = asked.request.continuation
            # The last token is fed too, for nothing; what stands before a token predicts it.
            first = i * width + len(row) - len(wanted) - 1
            counts.append(len(wanted))
            targets += wanted
            places += range(first, first + len(wanted))
        logprobs_N = model.logprobs_at(inputs_embeds_BTH, torch.tensor(places), torch.tensor(targets)).cpu()
        return [LogLikelihood(token_logprobs=tuple(part.tolist())) for part in logprobs_N.split(counts)]

    def _complete(self, batch: Sequence[_Asked]) -> list[Completion]:
        """The decode loop: prompts first, then a token a row and a step, with the cache of keys and values."""
        model = self._loaded()
        rows = [self._embed(asked) for asked in batch]
        writing = [self._writing(asked, len(row)) for asked, row in zip(batch, rows, strict=True)]
        inputs_BTH = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_side="left")
        ones = [torch.ones(len(row), dtype=torch.long, device=model.device) for row in rows]
        mask_BT = torch.nn.utils.rnn.pad_sequence(ones, batch_first=True, padding_side="left")
        cache: Any = None
        while True:
            logits_BV, cache = forward(model, inputs_BTH, mask_BT, cache)
            next_B = _next(writing, logits_BV)
            for row, token in zip(writing, next_B, strict=True):
                if row.finish_reason is None:
                    row.append(token, self._ends)
            if self._are_written(writing):
                return [row.completion() for row in writing]
            inputs_BTH = model.embed(torch.tensor(next_B, device=model.device)[:, None])
            mask_BT = torch.cat([mask_BT, mask_BT.new_ones((len(batch), 1))], dim=1)

    def _are_written(self, writing: Sequence[_Writing]) -> bool:
        """Whether a batch needs no further pass."""
        return all(row.finish_reason is not None for row in writing)

    def _writing(self, asked: _Asked, positions: int) -> _Writing:
        assert isinstance(asked.request, Generate)
        room = min(asked.request.sampling.max_tokens, self.max_model_len - positions)
        choices = tuple(self._tokenizer.text_ids(choice) for choice in asked.request.sampling.choices)
        return _Writing(asked.request, room, Text(self._tokenizer, asked.request), choices)


@dataclass(frozen=True)
class _Asked:
    """A request that was found to be possible, with its place in the stream."""

    index: int
    request: Request
    vectors: Tensor | None
    """`[P, H]`, in the model's dtype."""

    @property
    def ids(self) -> tuple[int, ...]:
        """Prompt and, where there is one, continuation."""
        return (*self.request.token_ids, *(self.request.continuation if isinstance(self.request, Score) else ()))

    def __len__(self) -> int:
        return len(self.ids) + (0 if self.vectors is None else len(self.vectors))


@dataclass
class _Writing:
    """A completion that is being written."""

    request: Generate
    room: int
    """Most tokens that it may have."""
    text: Text
    """How its tokens are read."""
    choices: tuple[tuple[int, ...], ...] = ()
    """Token ids of the texts that it must be one of; empty: any text."""
    ids: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    ended: bool = False
    """Whether the last token is an end-of-sequence token."""
    finite: bool = True
    """Whether all logits so far were finite."""
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        sampling = self.request.sampling
        if sampling.temperature > 0:
            self.generator = torch.Generator()  # its own: what is drawn does not depend on the rest of the batch
            if sampling.seed is None:
                self.generator.seed()
            else:
                self.generator.manual_seed(sampling.seed)

    def pick(self, logits_V: Tensor, likeliest: int, largest: float) -> int:
        """The next token: the likeliest, or drawn from the fewest likely ones that have `top_p` together.

        Args:
            logits_V: of the row.
            likeliest: the first token with the largest of them.
            largest: that, NaN where there is one.
        """
        sampling = self.request.sampling
        # Minus infinity is a token that the model rules out. NaN is the largest of all by `max`.
        self.finite = self.finite and math.isfinite(largest)
        if not self.finite:
            return int(logits_V.nan_to_num().argmax())  # nobody will read it
        if self.generator is None and not self.choices:
            return likeliest
        if self.choices:
            so_far = len(self.ids)
            allowed = sorted({ids[so_far] for ids in self.choices if ids[:so_far] == tuple(self.ids)})
            masked_V = torch.full_like(logits_V, -torch.inf)
            masked_V[allowed] = logits_V[allowed]
            logits_V = masked_V
        if self.generator is None:
            return int(logits_V.argmax())
        shares_V = (logits_V.double().cpu() / sampling.temperature).softmax(-1)
        shares_V, order_V = shares_V.sort(descending=True, stable=True)
        shares_V[shares_V.cumsum(-1) - shares_V >= sampling.top_p] = 0.0
        return int(order_V[torch.multinomial(shares_V, 1, generator=self.generator)])

    def append(self, token: int, ends: frozenset[int]) -> None:
        """Take the next token and see whether it was the last."""
        self.ids.append(token)
        self.ended = token in ends
        if self.ended or not self.finite or tuple(self.ids) in self.choices or self.text.stops(self.ids):
            self.finish_reason = "stop"
        elif len(self.ids) >= self.room:
            self.finish_reason = "length"

    def completion(self) -> Completion:
        """What was written."""
        assert self.finish_reason is not None
        return Completion(
            text=self.text.of(self.ids, ended=self.ended),
            token_ids=tuple(self.ids),
            finish_reason=self.finish_reason,
            finite=self.finite,
        )


def _next(writing: Sequence[_Writing], logits_BV: Tensor) -> list[int]:
    """The next token of each row, 0 behind the end. A GPU is waited for once, not row by row."""
    told_2B = torch.stack([logits_BV.argmax(-1).double(), logits_BV.amax(-1).double()])
    return [
        row.pick(logits_V, int(likeliest), largest) if row.finish_reason is None else 0
        for row, logits_V, likeliest, largest in zip(writing, logits_BV, *told_2B.tolist(), strict=True)
    ]


def forward(model: FrozenModel, inputs_BTH: Tensor, mask_BT: Tensor, cache: Any) -> tuple[Tensor, Any]:
    """Logits of the last column `[B, V]`, and the cache.

    Raises:
        EngineError: the model keeps no cache.
    """
    inputs: dict[str, Any] = {"inputs_embeds": inputs_BTH, "attention_mask": mask_BT, "use_cache": True}
    if "position_ids" in inspect.signature(model.module.base_model.forward).parameters:
        positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
        inputs["position_ids"] = positions_BT[:, -inputs_BTH.shape[1] :]
    if "logits_to_keep" in inspect.signature(model.module.forward).parameters:
        inputs["logits_to_keep"] = 1
    output = model.module(**inputs, past_key_values=cache)
    cache = getattr(output, "past_key_values", None)
    if cache is None:
        raise EngineError(f"{model.name}: {type(model.module).__name__} keeps no cache of keys and values to generate with")
    logits_BV: Tensor = output.logits[:, -1].float()
    return logits_BV, cache


def _end_ids(model: FrozenModel, tokenizer: Tokenizer) -> frozenset[int]:
    """Every token that ends a completion: of the generation config (or the config, where there is none) and the tokenizer."""
    named: Any = getattr(model.module.generation_config, "eos_token_id", None)
    ends = {tokenizer.eos_token_id, *(named if isinstance(named, list | tuple) else (named,))}
    return frozenset(int(end) for end in ends if end is not None)
