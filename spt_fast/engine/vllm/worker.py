"""vLLM's worker with what is ours in it: room for virtual rows, and a sampler that keeps its buffers.

vLLM imports it by its path (`worker_cls`) in each process that has a worker, also on other nodes. A class is made of vLLM's own
for the machine when it is asked for by that one's name: `Worker` on GPUs, `CPUWorker`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any

import torch

from spt_fast.engine.vllm import shared_graphs
from spt_fast.engine.vllm.light_sampler import take_its_place
from spt_fast.engine.vllm.start import OWN_WORKERS, ROOM
from spt_fast.engine.vllm.virtual_rows import VirtualRows, make_room

if os.environ.get(shared_graphs.SWITCH) == "1":
    shared_graphs.install()


class Ours:
    """What vLLM's class is given besides its own. Methods are called by name through `collective_rpc`, with plain values, since
    tensors do not come whole through vLLM's messages."""

    model_runner: Any
    vllm_config: Any
    _looks_up = False
    """Whether this worker has the first stage of the model, which looks up its embeddings."""
    _rows: VirtualRows | None = None
    _no_rows = "the engine was started without room for soft prompts"

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """As vLLM's, and then make room in the model, before anything is compiled."""
        super().load_model(*args, **kwargs)  # type: ignore[misc]
        self._looks_up = _looks_up_embeddings()
        size = (self.vllm_config.additional_config or {}).get(ROOM, 0)
        if size and self._looks_up:
            _look_up_within_logits()
            vocab_size = self.vllm_config.model_config.get_vocab_size()
            try:
                self._rows = make_room(self.model_runner.get_model(), vocab_size=vocab_size, size=size)
            except ValueError as e:  # the model runs as it is; whoever has soft prompts is told
                self._no_rows = str(e)

    def spt_fast_hold_rows(self, first: int, rows: bytes) -> None:
        """Hold the rows of one more soft prompt.

        Args:
            first: the id of the first row, the one behind all that are held.
            rows: `[P, H]`, contiguous, in the model's dtype.

        Raises:
            ValueError: the model has no room for any; or ids are left out or given twice.
        """
        if not self._looks_up:
            return
        if self._rows is None:
            raise ValueError(self._no_rows)
        made = torch.frombuffer(bytearray(rows), dtype=self.vllm_config.model_config.dtype)
        self._rows.add(first, made.reshape(-1, self._rows.hidden_size))

    def spt_fast_room(self) -> tuple[int, int] | None:
        """How many rows there is room for, and their `H`; None: there is none, or another part of a pipeline has it."""
        return None if self._rows is None else (self._rows.size, self._rows.hidden_size)

    def spt_fast_forget_rows(self) -> None:
        """Give all ids anew: nothing that was given is running, or in the prefix cache."""
        if self._rows is not None:
            self._rows.clear()

    def spt_fast_embed(self, ids: list[int]) -> bytes:
        """What the model looks up for token ids: `[T, H]` in its dtype; nothing where another part of a pipeline does that."""
        if not self._looks_up:
            return b""
        model = self.model_runner.get_model()
        with torch.inference_mode():
            found_TH = model.embed_input_ids(torch.tensor(ids, device=next(model.parameters()).device))
        plain_TH = found_TH.to("cpu", self.vllm_config.model_config.dtype).contiguous()
        return bytes(plain_TH.view(torch.uint8).numpy().tobytes())

    def spt_fast_sample_lightly(self) -> bool:
        """Sample with buffers that are kept (`light_sampler`); whether that can be done here."""
        return take_its_place(self.model_runner)


def __getattr__(name: str) -> Any:
    if name not in OWN_WORKERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = type(name, (Ours, getattr(import_module(OWN_WORKERS[name]), name)), {"__module__": __name__})
    return globals().setdefault(name, made)


def _looks_up_embeddings() -> bool:
    """Whether this worker has the first stage of the model."""
    from vllm.distributed import get_pp_group

    return bool(get_pp_group().is_first_rank)


def _look_up_within_logits() -> None:
    """Have vLLM look up the log-probabilities of prompts within the logits.

    Those of virtual tokens are read by nobody, but vLLM looks up those of all, and behind the last logit is other memory, or
    none.
    """
    from vllm.v1.sample.sampler import Sampler
    from vllm.v1.worker.gpu.sample import prompt_logprob

    if not hasattr(Sampler.gather_logprobs, "__wrapped__"):
        Sampler.gather_logprobs = staticmethod(_within(Sampler.gather_logprobs))
        prompt_logprob.compute_topk_scores = _within(prompt_logprob.compute_topk_scores)


def _within(gather: Callable[..., Any]) -> Callable[..., Any]:
    """A function of logits `[N, V]`, a number and ids `[N]`, with ids that are among the logits."""
    signature = inspect.signature(gather)
    of_logits, _, of_ids, *_ = signature.parameters

    @wraps(gather)
    def within(*args: Any, **kwargs: Any) -> Any:
        asked = signature.bind(*args, **kwargs)
        asked.arguments[of_ids] = asked.arguments[of_ids].clamp(max=asked.arguments[of_logits].shape[-1] - 1)
        return gather(*asked.args, **asked.kwargs)

    return within
