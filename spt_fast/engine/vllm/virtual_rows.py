"""Virtual token rows inside vLLM's workers: soft rows behind the vocabulary, looked up by token ids that no tokenizer has.

A soft prompt's rows are sent to the workers once. Its positions are ids from `V` on, so a request is token ids and nothing
else: nothing more to send, and the prefix cache tells prompts apart as it does with any ids. vLLM's prompt embeds are not used.

The ids are met where the model itself looks up its embeddings, inside the graph that is compiled and captured. So there is
always room: the padding of a vocabulary, to a multiple of 64, is none at all in Llama, Qwen, Gemma and most others, and ids
within the vocabulary can be written and take part in the softmax. Room is made when the model has been loaded and before
anything is compiled; it stays where it is, and rows are written into it. What a model computes of its embeddings where it looks
them up is not done to these: they enter as they are, behind any scale, and behind the sum over shards with tensor parallelism.
No logit exists for them, so none is ever written.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch


def make_room(model: Any, *, vocab_size: int, size: int) -> VirtualRows:
    """Have a loaded model look up ids from `V` on among rows of ours.

    Args:
        model: vLLM's.
        vocab_size: `V`, the first id of all.
        size: bytes of the room.

    Raises:
        ValueError: it reads ids elsewhere than for their embeddings, too; or it is not known where it looks those up.
    """
    if getattr(model, "requires_raw_input_tokens", False):
        raise ValueError(f"{type(model).__name__} reads token ids besides their embeddings")
    place, method = _where_ids_are_met(model)
    with torch.inference_mode():
        one_1H = model.embed_input_ids(torch.zeros(1, dtype=torch.int64, device=next(model.parameters()).device))
    # Memory that no row has been written to is not touched: what lies there is never looked up.
    room_RH = torch.empty((size // one_1H.nbytes, one_1H.shape[-1]), dtype=one_1H.dtype, device=one_1H.device)
    place.register_buffer("spt_fast_rows", room_RH, persistent=False)
    place.spt_fast_first = vocab_size  # type: ignore[assignment]
    setattr(place, method.__name__, MethodType(method, place))
    return VirtualRows(room_RH, vocab_size)


class VirtualRows:
    """Rows `[R, H]` of the ids from `V` on, some of them given."""

    def __init__(self, room_RH: torch.Tensor, vocab_size: int) -> None:
        self._room_RH = room_RH
        self.size, self.hidden_size = room_RH.shape
        """`R` and `H`."""
        self._vocab_size = vocab_size
        self._held = 0

    def add(self, first: int, rows_PH: torch.Tensor) -> None:
        """Hold further rows; ids that are given stay what they are, or the prefix cache would be wrong.

        Raises:
            ValueError: `first` is not the next id, or there is no room.
        """
        if first != self._vocab_size + self._held:
            raise ValueError(f"the next virtual token is {self._vocab_size + self._held}, not {first}")
        held = self._held + len(rows_PH)
        if held > len(self._room_RH):
            raise ValueError(f"there is room for {len(self._room_RH)} rows of soft prompts, not for {held}")
        self._room_RH[self._held : held] = rows_PH.to(self._room_RH.device)
        self._held = held

    def clear(self) -> None:
        """Give all ids anew: no request is running, and the prefix cache is empty."""
        self._held = 0


def embed_input_ids(self: Any, input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """A model's method, for all ids `[T]`: `[T, H]`; what comes besides them is the model's."""
    own_TH = type(self).embed_input_ids(self, _own(self, input_ids), *args, **kwargs)
    return _with_rows(self, input_ids, own_TH)


def forward(self: Any, input_ids: torch.Tensor) -> torch.Tensor:
    """That of a module of embeddings, for all ids `[..., T]`: `[..., T, H]`."""
    return _with_rows(self, input_ids, type(self).forward(self, _own(self, input_ids)))


def _own(place: Any, input_ids: torch.Tensor) -> torch.Tensor:
    """Ids that the model has itself; in the place of ours its first."""
    return input_ids.masked_fill(input_ids >= place.spt_fast_first, 0)


def _with_rows(place: Any, input_ids: torch.Tensor, own_TH: torch.Tensor) -> torch.Tensor:
    virtual_T = input_ids >= place.spt_fast_first
    rows_T = (input_ids - place.spt_fast_first).clamp(min=0)
    if input_ids.device.type == "cpu" and input_ids.ndim == 1 and not torch.compiler.is_compiling():
        # Few are virtual, and most steps have none. A GPU would have to be waited for to know which.
        places = virtual_T.nonzero()[:, 0]
        return own_TH.index_copy_(0, places, place.spt_fast_rows[rows_T[places]])
    return torch.where(virtual_T.unsqueeze(-1), place.spt_fast_rows[rows_T], own_TH)


def _where_ids_are_met(model: Any) -> tuple[torch.nn.Module, Any]:
    """The module of a model whose method turns ids into what its first layer reads, and ours for that method.

    It is the innermost `embed_input_ids`, which has a scale in it where there is one; or the embeddings' own module, where the
    model does not go by that method itself.

    Raises:
        ValueError: it is not known.
    """
    text = model.get_language_model() if hasattr(model, "get_language_model") else model
    having = [module for module in text.modules() if callable(getattr(type(module), "embed_input_ids", None))]
    innermost = [module for module in having if not any(other is not module and other in having for other in module.modules())]
    if len(innermost) == 1 and "embed_input_ids" in type(innermost[0]).forward.__code__.co_names:
        return innermost[0], embed_input_ids
    embeddings = [module for module in text.modules() if _looks_up(type(module))]
    if len(embeddings) == 1:
        return embeddings[0], forward
    raise ValueError(f"it is not known where {type(model).__name__} looks up its embeddings")


def _looks_up(kind: type) -> bool:
    """Whether a class is vLLM's of embeddings, or is made of it: with a scale in it, as Transformers' Gemma has it."""
    names = [base.__name__ for base in kind.__mro__]
    return "VocabParallelEmbedding" in names and "ParallelLMHead" not in names
