"""An engine without a model: what it answers is a plain function of the request. For tests of everything around an engine.

* `Generate` without a soft prompt: the prompt's last tokens, again.
* `Generate` with one, or with a LoRA adapter: the tokens from a place that its key decides, so that another answers otherwise.
* `Score`: log-probabilities from a hash of the prompt, the soft prompt or adapter, and the continuation.
* With `unsteady: 0.1`, a tenth of the requests are answered otherwise; which, depends on their places in the stream, as it does
  with a real engine on what shares a batch.

Options, all for tests of what happens around an engine: `delay_s` each answer takes; `die_after` so many answers the engine
dies, as a real one does; `kill_after` so many the process is killed; `refuse` a model's start; `max_model_len` positions;
`most`, of vLLM's `max_num_seqs` and `gpu_memory_utilization`, that there is memory for: with more sequences it runs out of it
after `die_after` answers (at once, unless that is said), with a larger share it does not start.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from spt_fast.engine.base import Engine, EngineConfig, check_request, require_room, room_for
from spt_fast.engine.oom_backoff import gpu_share
from spt_fast.errors import EngineError, OutOfMemoryError, ShareNotFreeError
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.prompts.lora import LoraAdapter
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.types import Answer, Completion, Generate, LogLikelihood, Request, Score

OPTIONS = frozenset(
    {
        "delay_s",
        "die_after",
        "kill_after",
        "refuse",
        "max_model_len",
        "most",
        "max_num_seqs",
        "max_num_batched_tokens",
        "gpu_memory_utilization",
        "unsteady",
    }
)


class EchoEngine(Engine):
    """Answers without a model."""

    options = OPTIONS
    takes_less = True

    def __init__(self, config: EngineConfig) -> None:
        """Read the model's config and tokenizer; never its weights.

        Raises:
            EngineError: `refuse`.
            OutOfMemoryError: more of a setting than `most` says.
        """
        if config.options.get("refuse"):
            raise EngineError(f"starting echo for {config.model}: refused, as asked")
        most: Mapping[str, float] = config.options.get("most", {})
        if (share := gpu_share(config)) > most.get("gpu_memory_utilization", 1):
            raise ShareNotFreeError(f"gpu_memory_utilization {share:g} is not free, as asked")
        sequences = config.options.get("max_num_seqs", self.own_batches(config)[0])
        self._short = sequences > most.get("max_num_seqs", math.inf)
        if self._short and "die_after" not in config.options:
            raise OutOfMemoryError(f"out of memory with {sequences} sequences, as asked")
        about = json.loads((Path(config.model) / "config.json").read_text(encoding="utf-8"))
        self.hidden_size = int(about["hidden_size"])
        self._most_positions = int(config.options.get("max_model_len", about["max_position_embeddings"]))
        self.max_model_len = room_for(config.positions, self._most_positions)
        self._tokenizer = Tokenizer.load(config.model)
        self._unsteady = float(config.options.get("unsteady", 0))
        self._delay_s = float(config.options.get("delay_s", 0))
        dies = self._short or "most" not in config.options
        self._die_after = config.options.get("die_after", math.inf) if dies else math.inf
        self._kill_after = config.options.get("kill_after", math.inf)
        self._held: dict[str, int] = {}
        self._adapters = config.adapters
        self._answered = 0
        self._alive = True

    @property
    def most_positions(self) -> int:
        """What the model has."""
        return self._most_positions

    @property
    def alive(self) -> bool:
        """False once it died or was closed."""
        return self._alive

    def add(self, soft_prompt: SoftPrompt) -> str:
        """Hold a soft prompt."""
        if soft_prompt.hidden_size != self.hidden_size:
            raise EngineError(f"the soft prompt has H = {soft_prompt.hidden_size}, the model H = {self.hidden_size}")
        self._held[soft_prompt.key] = soft_prompt.length
        return soft_prompt.key

    def add_adapter(self, adapter: LoraAdapter) -> str:
        """Hold a LoRA adapter."""
        require_room(self._adapters, adapter)
        self._held[adapter.key] = 0
        return adapter.key

    def stream(self, requests: Iterable[Request]) -> Iterator[tuple[int, Answer]]:
        """Answer each request as it comes."""
        for index, request in enumerate(requests):
            if not self._alive:
                raise EngineError("the engine has ended")
            if request.soft_prompt is not None and request.soft_prompt not in self._held:
                raise EngineError(f"the engine holds no soft prompt {request.soft_prompt}; add it first")
            if request.adapter is not None and request.adapter not in self._held:
                raise EngineError(f"the engine holds no LoRA adapter {request.adapter}; add it first")
            length = self._held[request.soft_prompt] if request.soft_prompt is not None else 0
            check_request(request, soft_length=length, max_model_len=self.max_model_len)
            if self._answered >= self._die_after:
                self._alive = False
                died = OutOfMemoryError if self._short else EngineError
                raise died(f"the engine died: as asked, after {self._answered} answers")
            if self._answered >= self._kill_after:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(self._delay_s)
            self._answered += 1
            if _share("unsteady", index, request.token_ids) < self._unsteady:
                request = replace(request, token_ids=request.token_ids[:-1] or request.token_ids)
            yield index, self._score(request) if isinstance(request, Score) else self._complete(request)

    def close(self) -> None:
        """End it."""
        self._alive = False

    def _complete(self, request: Generate) -> Completion:
        ids = request.token_ids
        start = -request.sampling.max_tokens
        if (learnt := request.soft_prompt or request.adapter) is not None:
            start = int(learnt, 16) % len(ids)
        choices = request.sampling.choices
        if choices:
            text = choices[int(_share(ids, request.soft_prompt or request.adapter) * len(choices))]
            return Completion(text=text, token_ids=self._tokenizer.text_ids(text), finish_reason="stop")
        said = ids[start:][: request.sampling.max_tokens]
        text = self._tokenizer.decode(said)
        cut = min((at for stop in request.sampling.stop if (at := text.find(stop)) >= 0), default=None)
        return Completion(text=text[:cut], token_ids=said, finish_reason="stop")

    def _score(self, request: Score) -> LogLikelihood:
        return LogLikelihood(
            token_logprobs=tuple(
                -_share(request.soft_prompt or request.adapter, request.token_ids, token) * 10 for token in request.continuation
            )
        )


def _share(*parts: object) -> float:
    """A number in [0, 1) that depends on all of `parts` and nothing else."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
