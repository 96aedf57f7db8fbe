"""An engine of another package, out of which nothing but errors of ours come: a fault in it costs cells, not the worker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from spt_fast.engine.base import Engine
from spt_fast.errors import EngineError, SptError, boundary, shortened
from spt_fast.prompts.lora import LoraAdapter
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.types import Answer, Completion, LogLikelihood, Request, Score


class Guarded(Engine):
    """Passes everything on; what is raised that is no error of ours is told as one, and has ended the engine."""

    def __init__(self, inner: Engine, kind: str) -> None:
        """`kind`: as errors name it.

        Raises:
            EngineError: it does not say how wide and how long its model is.
        """
        self._inner, self._kind, self._died = inner, kind, False
        names = ("hidden_size", "max_model_len")
        if missing := [name for name in names if not isinstance(getattr(inner, name, None), int)]:
            what = " and ".join(missing)
            each = "whole numbers" if len(missing) > 1 else "a whole number"
            raise EngineError(f"engine: {kind} must set {what} when it starts, {each}")
        self.hidden_size, self.max_model_len = inner.hidden_size, inner.max_model_len

    @property
    def alive(self) -> bool:
        """Whether further requests can be answered."""
        return not self._died and self._inner.alive

    @property
    def ways(self) -> Mapping[str, str]:
        """How it goes about what can be done in several ways."""
        return self._inner.ways

    @property
    def most_positions(self) -> int:
        """Most positions that it could be started with."""
        return self._inner.most_positions

    @property
    def proofs(self) -> Mapping[str, str]:
        """How these ways proved to be right."""
        return self._inner.proofs

    def add(self, soft_prompt: SoftPrompt) -> str:
        """Hold a soft prompt."""
        with boundary(EngineError, f"{self._kind}: taking a soft prompt"):
            return self._inner.add(soft_prompt)

    def add_adapter(self, adapter: LoraAdapter) -> str:
        """Hold a LoRA adapter."""
        with boundary(EngineError, f"{self._kind}: taking a LoRA adapter"):
            return self._inner.add_adapter(adapter)

    def stream(self, requests: Iterable[Request]) -> Iterator[tuple[int, Answer]]:
        """Answer requests as they are done.

        Raises:
            EngineError: the engine failed, or gives what is no answer to its request.
        """
        asked: list[Request] = []
        answers = iter(self._inner.stream(_noting(requests, asked)))
        while True:
            try:
                with boundary(EngineError, f"the engine died: {self._kind}"):
                    answer = next(answers, None)
                    if answer is not None:
                        _check(answer, asked)
            except SptError:
                self._died = True
                raise
            if answer is None:
                return
            yield answer

    def forget(self) -> None:
        """Forget what is kept of earlier requests."""
        self._inner.forget()

    def close(self) -> None:
        """End it; what is raised then changes no result."""
        self._died = True
        with boundary(EngineError, f"{self._kind}: ending"):
            self._inner.close()


def _noting(requests: Iterable[Request], asked: list[Request]) -> Iterator[Request]:
    for request in requests:
        asked.append(request)
        yield request


def _check(answer: object, asked: Sequence[Request]) -> None:
    """Refuse what is no pair of a request's place and an answer of its kind: elsewhere it would end the worker."""
    index, said = answer if isinstance(answer, tuple) and len(answer) == 2 else (None, answer)
    if not isinstance(index, int) or not 0 <= index < len(asked):
        raise TypeError(f"it yields {shortened(answer)}, and must yield (index of a request, answer)")
    request = asked[index]
    wanted = LogLikelihood if isinstance(request, Score) else Completion
    if not isinstance(said, wanted):
        raise TypeError(f"it answers a {type(request).__name__} with {shortened(said)}, and must with a {wanted.__name__}")
    if isinstance(request, Score) and isinstance(said, LogLikelihood) and len(said.token_logprobs) != len(request.continuation):
        raise TypeError(f"it gives {len(said.token_logprobs)} log-probabilities for {len(request.continuation)} tokens")
