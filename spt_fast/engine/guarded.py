"""An engine of another package, out of which nothing but errors of ours come: a fault in it costs cells, not the worker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from spt_fast.engine.base import Engine
from spt_fast.errors import EngineError, SptError, boundary
from spt_fast.prompts.lora import LoraAdapter
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.types import Answer, Request


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

    def add(self, soft_prompt: SoftPrompt) -> str:
        """Hold a soft prompt."""
        with boundary(EngineError, f"{self._kind}: taking a soft prompt"):
            return self._inner.add(soft_prompt)

    def add_adapter(self, adapter: LoraAdapter) -> str:
        """Hold a LoRA adapter."""
        with boundary(EngineError, f"{self._kind}: taking a LoRA adapter"):
            return self._inner.add_adapter(adapter)

    def stream(self, requests: Iterable[Request]) -> Iterator[tuple[int, Answer]]:
        """Answer requests as they are done."""
        answers = iter(self._inner.stream(requests))
        while True:
            try:
                with boundary(EngineError, f"the engine died: {self._kind}"):
                    answer = next(answers, None)
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
