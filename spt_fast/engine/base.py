"""Engine: the seam between what is asked and what answers.

A request is token ids and, by content hash, a soft prompt; how the vectors reach the model is the engine's business. Requests
come as one stream (all tasks, protocols, seeds and curve points of a model, completions and log-likelihoods mixed), so that
the engine is never idle between cells, and a cell is finished as soon as its own rows are answered.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ClassVar, Literal, Self, TypeAlias

from spt_fast.config.engines import ENGINES
from spt_fast.errors import EngineError
from spt_fast.prompts.lora import LoraAdapter
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.types import Answer, Completion, Generate, LogLikelihood, Request, Score

Scoring: TypeAlias = Literal["auto", "forced", "prompt_logprobs"]
"""How vLLM scores a continuation: as tokens that it is made to write behind the prompt, or as part of the prompt."""
Injection: TypeAlias = Literal["auto", "rows", "mixed"]
"""How vectors reach vLLM's model: once, to be met again by token ids; or with each request, by rows for all positions."""


READY_S = 3600.0
"""So long an engine may take to become ready: weights of 70B from a network's disk, compiled for the first time."""


@dataclass(frozen=True, kw_only=True)
class Adapters:
    """The LoRA adapters that an engine has to have room for, known before it starts."""

    rank: int
    """The largest `R`."""
    targets: frozenset[str]
    """Names of the layers that any of them changes: `q_proj`."""
    count: int
    """How many."""

    def has_room_for(self, other: Adapters) -> bool:
        """Whether what is ready for these is for those too."""
        return other.rank <= self.rank and other.targets <= self.targets


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How to start an engine for one model."""

    kind: str = "vllm"
    """Of `config.engines.ENGINES`."""
    model: str
    """A folder or a Hub id."""
    revision: str | None = None
    dtype: str = "auto"
    trust_remote_code: bool = False
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    nodes: tuple[str, ...] = ()
    """Addresses of the nodes that it is spread over, its own first; empty: it is on one."""
    followers: Followers | None = None
    """Who runs the parts of it that are on the other nodes."""
    gpus: float = 1.0
    """Of all nodes together. Below 1: the share of one GPU that the engine has beside others."""
    window: int | None = None
    """Most requests held at once; None: the engine's own, a few times what it runs together."""
    scoring: Scoring = "auto"
    """`auto`: forced where it proves equal to prompt_logprobs at the engine's start. Of interest to vLLM alone."""
    injection: Injection = "auto"
    """`auto`: rows where they prove equal to tokens at the engine's start. Of interest to vLLM alone."""
    adapters: Adapters | None = None
    """What it will be given by `add_adapter`; None: nothing."""
    positions: int | None = None
    """Most that a request will have, what is written behind it included; None: not known. An engine need not have room for
    more, unless `options` ask for it."""
    options: dict[str, Any] = field(default_factory=dict)
    """Passed to the engine's constructor as it is."""

    @property
    def devices(self) -> int:
        """GPUs that it takes of this node."""
        return self.tensor_parallel * self.pipeline_parallel // max(1, len(self.nodes))


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one of the other nodes of an engine runs of it."""

    config: EngineConfig
    rank: int
    """Its place in `EngineConfig.nodes`; 0 is the engine's own."""
    port: int
    """Where the parts meet, on the first node."""
    obstacles: Mapping[str, str]
    """What the engine is not prepared for, and why: all parts are prepared for the same."""


class Followers(ABC):
    """The other nodes of an engine that is spread over several: each runs its part as long as the engine is open."""

    @abstractmethod
    def begin(self, parts: Sequence[Part]) -> None:
        """Start them; what ran before is ended."""

    @abstractmethod
    def end(self) -> None:
        """End them, and await that. Ending what has ended is no error."""


class Engine(ABC):
    """Answers requests. A context manager: leaving it closes it, whatever happened."""

    options: ClassVar[frozenset[str] | None] = None
    """The settings of `engine:` that it takes beside ours, which it finds in `EngineConfig.options`; None: it looks itself."""
    elsewhere: ClassVar[bool] = False
    """Whether its model is in the memory of another process, on a GPU."""
    takes_less: ClassVar[bool] = False
    """Whether it may be started with less when it ran out of memory: vLLM's settings of batches and of its share of a GPU."""
    hidden_size: int
    """`H`: what the vectors of every soft prompt must have."""
    max_model_len: int
    """Most positions of one request: soft, prompt and generated together."""

    def __init__(self, config: EngineConfig) -> None:  # noqa: B027  (of ours each has its own)
        """Start it.

        Raises:
            EngineError, ModelError: it cannot be.
        """

    @classmethod  # noqa: B027  (the module of most imports what they need)
    def prepare(cls) -> None:
        """Import what a start needs, ahead of it; touches no device.

        Raises:
            ImportError: a library is not installed.
        """

    @property
    def most_positions(self) -> int:
        """`max_model_len` that another one could be started with, for this model and these settings."""
        return self.max_model_len

    @classmethod
    def own_batches(cls, config: EngineConfig) -> tuple[int, int]:
        """`max_num_seqs` and `max_num_batched_tokens` of one that is told neither, where it `takes_less`."""
        return 256, 8192

    @classmethod
    def setting_names(cls) -> frozenset[str] | None:
        """The settings that `engine:` may hold for it; None: that cannot be told here."""
        return cls.options

    @abstractmethod
    def add(self, soft_prompt: SoftPrompt) -> str:
        """Hold a soft prompt and return its key; holding it already is no error.

        Raises:
            EngineError: its hidden size is not the model's.
        """

    def add_adapter(self, adapter: LoraAdapter) -> str:
        """Hold a LoRA adapter, which `EngineConfig.adapters` has told of, and return its key; holding it already is no error.

        Raises:
            EngineError, ModelError: the engine cannot run this model with it.
        """
        raise EngineError(f"{type(self).__name__} runs no LoRA adapters (adapter {adapter.key})")

    @abstractmethod
    def stream(self, requests: Iterable[Request]) -> Iterator[tuple[int, Answer]]:
        """Answer requests as they are done: pairs of the request's place in the stream (from 0) and its answer.

        `requests` is read in bounded windows, never at once. Not reentrant.

        Raises:
            EngineError: a request is impossible (unknown soft prompt, empty, too long), or the engine died. After the
                latter the engine is of no use any more (`alive` is False).
            OutOfMemoryError: it died of that; another one with less (`oom_backoff.Backoff`) may answer the same requests.
        """

    def cancel(self, numbers: Collection[int]) -> None:  # noqa: B027  (what cannot be taken back is answered)
        """Requests of the open stream, by their places in it, whose answers nobody waits for any more.

        An engine takes back what it can: of these no answer need come. One that does come is no error.
        """

    @abstractmethod
    def close(self) -> None:
        """End the engine and free what it held. Closing twice is no error."""

    def forget(self) -> None:  # noqa: B027  (without a cache there is nothing to do)
        """Forget what is kept of earlier requests to answer later ones faster."""

    @property
    def alive(self) -> bool:
        """Whether further requests can be answered."""
        return True

    @property
    def ways(self) -> Mapping[str, str]:
        """How it goes about what can be done in several ways, for provenance: `scoring` -> "forced"; empty if there is nothing
        to choose."""
        return {}

    @property
    def proofs(self) -> Mapping[str, str]:
        """How it was seen that these ways give what the plain ones give, in words; a matter without one needed no proof."""
        return {}

    @property
    def told(self) -> str:
        """Its ways and how they proved, in a line: "scoring: forced, equal to prompt_logprobs; injection: rows, ..."."""
        return "; ".join(
            f"{matter}: {way}{f', {self.proofs[matter]}' if matter in self.proofs else ''}" for matter, way in self.ways.items()
        )

    def generate(self, requests: Sequence[Generate]) -> list[Completion]:
        """Completions, in the order of the requests."""
        return [answer for answer in self._in_order(requests) if isinstance(answer, Completion)]

    def score(self, requests: Sequence[Score]) -> list[LogLikelihood]:
        """Log-likelihoods, in the order of the requests."""
        return [answer for answer in self._in_order(requests) if isinstance(answer, LogLikelihood)]

    def _in_order(self, requests: Sequence[Request]) -> list[Answer]:
        answers = dict(self.stream(requests))
        if len(answers) != len(requests):
            raise EngineError(f"{len(requests)} requests, {len(answers)} answers")
        return [answers[i] for i in range(len(requests))]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def engine_of(kind: str) -> type[Engine]:
    """The class of an engine: one of ours, or of an installed package (entry points `spt_fast.engines`).

    Raises:
        EngineError: no package offers it here.
        ConfigError: one does, and it cannot be imported.
    """
    if kind not in ENGINES:
        raise EngineError(f"engine: kind {kind!r} is of a package that is not installed here; choose from {', '.join(ENGINES)}")
    found: type[Engine] = ENGINES[kind]
    return found


def room_for(positions: int | None, most: int) -> int:
    """`max_model_len` of an engine whose requests have so many positions at most.

    Rounded up, so that a task with a few more needs no other engine, and no other compiled graphs: to a power of two, and from
    8,192 on to a multiple of 4,096.

    Args:
        positions: None: not known.
        most: what the model has.
    """
    if positions is None:
        return most
    rounded = max(1024, 1 << (positions - 1).bit_length()) if positions <= 8192 else -(-positions // 4096) * 4096
    return min(most, rounded)


def require_room(ready: Adapters | None, adapter: LoraAdapter) -> None:
    """Refuse an adapter that an engine was not started for; vLLM would leave out the layers that it does not know of.

    Raises:
        EngineError: its rank is higher, or it changes other layers.
    """
    wanted = Adapters(rank=adapter.rank, targets=frozenset(adapter.targets), count=1)
    if ready is None or not ready.has_room_for(wanted):
        raise EngineError(f"the engine was not started for the LoRA adapter {adapter.key}")


def check_request(request: Request, *, soft_length: int, max_model_len: int, vocab_size: int | None = None) -> None:
    """Refuse what would be cut short silently or would kill an engine.

    Raises:
        EngineError: an empty prompt, an empty continuation, an id outside the vocabulary, or no position left for one more
            token. A `Score` needs it too: vLLM does not read a prompt without generating behind it.
    """
    if not request.token_ids:
        raise EngineError("a request without tokens")
    ids = request.token_ids
    if isinstance(request, Score):
        if not request.continuation:
            raise EngineError("a continuation without tokens has no log-likelihood")
        ids = (*ids, *request.continuation)
    elif request.sampling.max_tokens < 1:
        raise EngineError(f"max_tokens must be at least 1, not {request.sampling.max_tokens}")
    if len(ids) + soft_length + 1 > max_model_len:
        raise EngineError(
            f"{len(ids)} tokens and {soft_length} soft positions do not fit the model's {max_model_len} positions, "
            "one left to write in; use fewer shots, or leave the task out for this model"
        )
    if min(ids) < 0 or (vocab_size is not None and max(ids) >= vocab_size):
        raise EngineError(f"a token id outside the vocabulary of {vocab_size}")
