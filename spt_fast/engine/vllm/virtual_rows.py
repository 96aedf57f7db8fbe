"""Virtual token rows inside vLLM's workers: soft rows behind the vocabulary, looked up by token ids that no tokenizer has.

A soft prompt's rows are sent to the workers once. Its positions are ids from `V` on, so a request is token ids and nothing
else: nothing more to send, and the prefix cache tells prompts apart as it does with any ids.

Where embeddings have been asked for (`enable_prompt_embeds`), vLLM's runners ask the model's `embed_input_ids` for the rows of
each step, outside the compiled graph. That is where these ids are met, and so there is always room: the padding of a
vocabulary, to a multiple of 64, is none at all in Llama, Qwen, Gemma and most others, and ids within the vocabulary can be
written and take part in the softmax. What the model computes of its rows is done to these as well: they enter as they are,
behind any scale, and behind the sum over shards with tensor parallelism. No logit exists for them, so none is ever written.

vLLM imports this by its path (`worker_extension_cls`) in each process that has a worker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class VirtualRows:
    """What vLLM's worker class is given besides its own; called by name through `collective_rpc`."""

    model_runner: Any

    def spt_fast_hold_rows(self, vocab_size: int, first: int, hidden_size: int, dtype: str, rows: bytes) -> None:
        """Hold the rows of one more soft prompt. Plain values, since tensors do not come whole through vLLM's messages.

        Args:
            vocab_size: `V`, the first id of all.
            first: the id of the first row, the one behind all that are held.
            hidden_size: `H`.
            dtype: of the rows, as `torch` names it; the model's own.
            rows: `[P, H]`, contiguous.

        Raises:
            ValueError: ids are left out or taken twice; or the model reads ids elsewhere than for their rows, too.
        """
        model = self.model_runner.get_model()
        if getattr(model, "requires_raw_input_tokens", False):
            raise ValueError(f"{type(model).__name__} reads token ids besides their embeddings")
        made = torch.frombuffer(bytearray(rows), dtype=getattr(torch, dtype)).reshape(-1, hidden_size)
        table = getattr(model.embed_input_ids, "__self__", None)
        if not isinstance(table, Table):
            table = Table(model.embed_input_ids, vocab_size)
        table.add(first, made.to(next(model.parameters()).device))
        model.embed_input_ids = table.look_up


class Table:
    """Rows `[R, H]` of the ids from `V` on, behind a model's own."""

    def __init__(self, embed: Callable[..., torch.Tensor], vocab_size: int) -> None:
        """
        Args:
            embed: ids `[T]` below `V` -> `[T, H]`: the model's `embed_input_ids`.
            vocab_size: `V`.
        """
        self._embed = embed
        self._vocab_size = vocab_size
        self._rows_RH: torch.Tensor | None = None
        self._held = 0

    def add(self, first: int, rows_PH: torch.Tensor) -> None:
        """Hold further rows; ids that are given stay what they are, or the prefix cache would be wrong.

        Raises:
            ValueError: `first` is not the next id.
        """
        if first != self._vocab_size + self._held:
            raise ValueError(f"the next virtual token is {self._vocab_size + self._held}, not {first}")
        held = self._held + len(rows_PH)
        if self._rows_RH is None or held > len(self._rows_RH):
            # Twice as many, so that all additions together copy each row a few times at most.
            grown_RH = rows_PH.new_zeros((2 * held, rows_PH.shape[1]))
            if self._rows_RH is not None:
                grown_RH[: self._held] = self._rows_RH[: self._held]
            self._rows_RH = grown_RH
        self._rows_RH[self._held : held] = rows_PH
        self._held = held

    def look_up(self, input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """`embed_input_ids` of all ids `[T]`: `[T, H]`; what comes besides them is the model's."""
        assert self._rows_RH is not None
        virtual_T = input_ids >= self._vocab_size
        own_TH = self._embed(input_ids.masked_fill(virtual_T, 0), *args, **kwargs)
        rows_T = (input_ids - self._vocab_size).clamp(0, self._held - 1)
        if input_ids.device.type == "cpu":
            # Few are virtual, and most steps have none. A GPU would have to be waited for to know which.
            places = virtual_T.nonzero()[:, 0]
            return own_TH.index_copy_(0, places, self._rows_RH[rows_T[places]])
        return torch.where(virtual_T.unsqueeze(-1), self._rows_RH[rows_T], own_TH)
