"""A sampler for vLLM's CPU workers that keeps its buffers between steps, and leaves out what nobody reads.

With a vocabulary of 262,144 and 32 sequences, logits in float32 take 34 MB, and vLLM's sampler makes three new tensors of that
size or twice that in each step: the logits in float32, their log-probabilities, and, to count the rank of the token, one of
integers. The allocator gives each back to the system, so the next step meets 50,000 page faults. That took 87 ms of a step in
which all of Gemma 3 270M's matrix products took 38; with buffers that are kept, and without the rank, it takes 9.

What is computed is what vLLM computes, bit for bit: the same functions, into other memory. vLLM imports this in the processes
that have a worker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import vllm
from vllm.v1.outputs import LogprobsTensors
from vllm.v1.sample.sampler import Sampler

KNOWN = "0.32."
"""The versions of vLLM whose sampler this was written against begin so."""


class LightSampler(Sampler):  # type: ignore[misc]  # vLLM's types are not followed
    """vLLM's sampler, but for where its large tensors are. Ranks are 0."""

    most_rows = 0
    """`B` that buffers are kept for; larger batches get memory of their own."""

    def forward(self, logits: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """`[B, V]` of any type. The copy is vLLM's to change, as its own would be; logits in float32 are changed themselves."""
        if logits.dtype != torch.float32 and len(logits) <= self.most_rows:
            logits = self._buffer("logits", logits).copy_(logits)
        return super().forward(logits, *args, **kwargs)

    def compute_logprobs(self, logits: torch.Tensor) -> torch.Tensor:
        """`[B, V]` in float32, until the next call."""
        if logits.dtype != torch.float32 or len(logits) > self.most_rows:
            own: torch.Tensor = Sampler.compute_logprobs(logits)
            return own
        return torch.log_softmax(logits, -1, out=self._buffer("logprobs", logits))

    def gather_logprobs(self, logprobs: torch.Tensor, num_logprobs: int, token_ids: torch.Tensor) -> LogprobsTensors:
        """Those of the tokens `[B]`, where no likelier ones are wanted beside them."""
        if num_logprobs:
            return Sampler.gather_logprobs(logprobs, num_logprobs, token_ids)
        # Virtual tokens of a prompt have no logit, and theirs are not read (`worker`).
        return _picked(logprobs, token_ids.clamp(max=logprobs.shape[-1] - 1).unsqueeze(-1))

    def gather_specific_token_logprobs(
        self, logprobs: torch.Tensor, logprob_token_ids: Mapping[int, Sequence[int]], sampled: torch.Tensor
    ) -> LogprobsTensors | None:
        """Those of the sampled tokens `[B]`, and behind them of the tokens that rows ask for; minus infinity pads."""
        if not logprob_token_ids:
            return None
        width = 1 + max(map(len, logprob_token_ids.values()))
        ids = torch.zeros(len(logprobs), width, dtype=torch.int64)
        wanted = torch.zeros(len(logprobs), width, dtype=torch.bool)
        ids[:, 0], wanted[:, 0] = sampled, True
        for row, tokens in logprob_token_ids.items():
            ids[row, 1 : 1 + len(tokens)] = torch.tensor(tokens)
            wanted[row, 1 : 1 + len(tokens)] = True
        found = _picked(logprobs, ids)
        return found._replace(logprobs=found.logprobs.masked_fill(~wanted, -torch.inf))

    def _buffer(self, name: str, like: torch.Tensor) -> torch.Tensor:
        """Float32, as large as `like` `[B, V]`; the same memory each time. Pages that no step has touched take none."""
        buffers: dict[str, torch.Tensor] = self.__dict__.setdefault("_buffers_kept", {})
        rows, width = like.shape
        if name not in buffers or buffers[name].shape[1] != width:
            buffers[name] = torch.empty(self.most_rows, width)
        return buffers[name][:rows]


def _picked(logprobs: torch.Tensor, ids: torch.Tensor) -> LogprobsTensors:
    ranks = torch.zeros(len(ids), dtype=torch.int64)  # nobody reads them, and to count them takes as long as the softmax
    return LogprobsTensors(ids.to(torch.int32), logprobs.gather(-1, ids), ranks)


def take_its_place(runner: Any) -> bool:
    """Put a light sampler where a worker's model runner has vLLM's own; whether that could be done.

    Another version of vLLM, its newer runner, and a GPU, whose allocator keeps memory itself, are left alone.
    """
    own: Any = getattr(runner, "sampler", None)
    if not vllm.__version__.startswith(KNOWN) or type(own) is not Sampler or runner.device.type != "cpu":
        return False
    own.__class__ = LightSampler
    own.most_rows = int(runner.max_num_reqs)
    return True
