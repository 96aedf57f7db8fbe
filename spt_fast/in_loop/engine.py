"""Requests divided over the ranks of a training: each answers its part, and all are told all answers.

Under `fully_shard` every pass gathers weights from all ranks, so that none may make one more than the others. Requests are
sorted into batches for all ranks together, each rank takes its rows of each batch, one that has none takes a row for nothing,
and one whose rows are all written goes on with passes over one position until the last rank is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from spt_fast.engine.transformers import TransformersEngine, forward
from spt_fast.in_loop.ranks import Ranks
from spt_fast.models.frozen_model import FrozenModel
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.types import Answer, Request


class InLoopEngine(TransformersEngine):
    """Answers on all ranks what all of them are asked."""

    _ranks: Ranks
    _in_step: bool

    @classmethod
    def over(cls, model: FrozenModel, tokenizer: Tokenizer, ranks: Ranks, *, batch_size: int, in_step: bool) -> InLoopEngine:
        """An engine on a loaded model.

        Args:
            model: the same on all ranks.
            tokenizer: the model's.
            ranks: all that are asked.
            batch_size: rows of one rank in a pass.
            in_step: whether all ranks have to make the same passes.
        """
        engine = cls.__new__(cls)
        engine._answer_with(model, tokenizer, batch_size)
        engine._ranks, engine._in_step = ranks, in_step
        return engine

    def stream(self, requests: Iterable[Request]) -> Iterator[tuple[int, Answer]]:
        """Answer requests, which must be the same on all ranks."""
        if self._ranks.size == 1:
            yield from super().stream(requests)
            return
        asked = [self._asked(i, request) for i, request in enumerate(requests)]
        for answers in self._ranks.gather(lambda: self._mine(asked)):
            yield from answers.items()

    def _mine(self, asked: Sequence[Any]) -> dict[int, Answer]:
        of_one = self._batch_size
        self._batch_size = of_one * self._ranks.size
        batches = list(self._batches(asked))
        self._batch_size = of_one
        answers: dict[int, Answer] = {}
        for batch in batches:
            if mine := self._ranks.mine(batch):
                answers |= zip((each.index for each in mine), self._answers(mine), strict=True)
            elif self._in_step:
                self._answers(batch[:1])
        return answers

    def _are_written(self, writing: Sequence[Any]) -> bool:
        done = super()._are_written(writing)
        if not self._in_step:
            return done
        device = self._loaded().device
        while not self._ranks.all_are(done, device):
            if not done:
                return False
            self._idle()
        return True

    def _without_gradients(self) -> AbstractContextManager[Any]:
        """Tensors of inference mode, which a model may keep (a rotary table, gathered weights), are of no use to a training."""
        return torch.no_grad()

    def _idle(self) -> None:
        model = self._loaded()
        inputs_11H = model.embed(torch.zeros(1, 1, dtype=torch.long, device=model.device))
        forward(model, inputs_11H, torch.ones(1, 1, dtype=torch.long, device=model.device), None)
