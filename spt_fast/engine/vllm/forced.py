"""Forced decoding inside vLLM's own processes: a request writes the tokens that it is given, whatever the model would say.

So an option is scored behind a prompt that stands in the prefix cache, and logits are computed for its own tokens alone. The
log-probabilities are the model's: vLLM takes them (`logprobs_mode: raw_logprobs`) before any logits processor is asked.

vLLM imports this by its path, in whichever process samples. Its newer model runner has the same built in (`trace replay`) and
takes no processor of this kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from spt_fast.engine.vllm.requests import CONTINUATION

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig


class ForcedTokens(LogitsProcessor):  # type: ignore[misc]  # vLLM's types are not followed
    """Puts the next token of a request's continuation above all others. Requests without one are left as they are."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        """As vLLM calls it; `device`: where the logits are."""
        self._device = device
        self._rows: dict[int, tuple[Sequence[int], Sequence[int]]] = {}

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuse a continuation that is not one.

        Raises:
            ValueError: it is empty, or holds what is no token id.
        """
        ids = _continuation(sampling_params)
        if ids is not None and not (ids and all(type(token) is int and token >= 0 for token in ids)):
            raise ValueError(f"{CONTINUATION}: must be token ids, at least one")

    def is_argmax_invariant(self) -> bool:
        """It decides what greedy sampling takes."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow requests as they come, move and go."""
        process_dict_updates(self._rows, batch_update, _new)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """`[B, V]`, changed in place."""
        wanted = [(row, ids[len(written)]) for row, (ids, written) in self._rows.items() if len(written) < len(ids)]
        if wanted:
            rows, tokens = torch.tensor(wanted, device=self._device).T
            # Not infinity: rows that sample with a temperature share a softmax with this one.
            logits[rows, tokens] = torch.finfo(logits.dtype).max
        return logits


def _continuation(params: SamplingParams) -> Any:
    return (params.extra_args or {}).get(CONTINUATION)


def _new(params: SamplingParams, _: list[int] | None, written: list[int]) -> tuple[Sequence[int], Sequence[int]] | None:
    """The state of a request; `written` is vLLM's own list, which grows."""
    ids = _continuation(params)
    return None if ids is None else (ids, written)
