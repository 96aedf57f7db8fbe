"""Faults that soft prompts have had in engines, planted into Transformers; an engine that says again what another said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from spt_fast.engine.base import Engine, EngineConfig
from spt_fast.engine.transformers import TransformersEngine, _Asked
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.types import Answer, Request


class OneFurther(TransformersEngine):
    """Soft rows stand one place behind theirs."""

    def _embed(self, asked: _Asked) -> Tensor:
        embedded_TH = super()._embed(asked)
        if asked.vectors is None or len(asked.request.token_ids) < 2:
            return embedded_TH
        before, length = 0 if asked.request.position == "front" else 1, len(asked.vectors)
        order = list(range(len(embedded_TH)))
        order[before : before + length + 1] = [before + length, *range(before, before + length)]
        return embedded_TH[order]


class PositionsOffByOne(TransformersEngine):
    """What stands behind as many positions as a soft prompt has is counted one too far."""

    def _answer_with(self, model: Any, *settings: Any) -> None:
        def counted(_: object, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            places = named.get("position_ids")
            if places is None:
                places = torch.arange(named["inputs_embeds"].shape[1], device=model.device)[None]
            return args, {**named, "position_ids": places + (places >= 10)}

        super()._answer_with(model, *settings)
        model.module.base_model.register_forward_pre_hook(counted, with_kwargs=True)


class DoubledBos(TransformersEngine):
    """The first token stands there twice."""

    def _asked(self, index: int, request: Request) -> _Asked:
        return super()._asked(index, replace(request, token_ids=(request.token_ids[0], *request.token_ids)))


class SwappedRows(TransformersEngine):
    """Two rows of each soft prompt have changed places."""

    def add(self, soft_prompt: SoftPrompt) -> str:
        key = super().add(soft_prompt)
        rows_PH = self._held[key].clone()
        rows_PH[[4, 5]] = self._held[key][[5, 4]]
        self._held[key] = rows_PH
        return key


class Scaled(TransformersEngine):
    """Soft rows are scaled as Gemma scales the rows of its table."""

    def add(self, soft_prompt: SoftPrompt) -> str:
        key = super().add(soft_prompt)
        self._held[key] = self._held[key] * self.hidden_size**0.5
        return key


FAULTS: tuple[type[TransformersEngine], ...] = (OneFurther, PositionsOffByOne, DoubledBos, SwappedRows, Scaled)


class Remembered(Engine):
    """Asks an engine once, and says the same again to whoever asks the same in the same order after a `forget`."""

    def __init__(self, start: Callable[[EngineConfig], Engine]) -> None:
        self._start = start
        self._inner: Engine | None = None
        self._known: dict[tuple[int, Request], Answer] = {}
        self._times = 0

    def __call__(self, config: EngineConfig) -> Engine:
        self._times = 0
        if self._inner is None:
            self._inner = self._start(config)
            self.hidden_size, self.max_model_len = self._inner.hidden_size, self._inner.max_model_len
        return self

    def add(self, soft_prompt: SoftPrompt) -> str:
        assert self._inner is not None
        return self._inner.add(soft_prompt)

    def forget(self) -> None:
        assert self._inner is not None
        self._inner.forget()
        self._times += 1

    def stream(self, requests: Iterable[Request]) -> Iterator[tuple[int, Answer]]:
        assert self._inner is not None
        asked = list(requests)
        new = [request for request in asked if (self._times, request) not in self._known]
        self._known.update({(self._times, new[i]): answer for i, answer in self._inner.stream(new)})
        yield from ((i, self._known[self._times, request]) for i, request in enumerate(asked))

    def close(self) -> None:
        """It is wanted again."""

    def end(self) -> None:
        """End the engine that was asked."""
        if self._inner is not None:
            self._inner.close()
