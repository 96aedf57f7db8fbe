"""The sampler of vLLM's CPU workers with buffers that are kept: what vLLM's own gives, bit for bit, and in the same memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from spt_fast.engine.vllm.start import import_vllm

import_vllm()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what PyTorch's compiler imports
    from vllm.v1.sample.sampler import Sampler

    from spt_fast.engine.vllm import light_sampler
    from spt_fast.engine.vllm.light_sampler import LightSampler, take_its_place

V, MOST = 1000, 8


@pytest.fixture(autouse=True)
def _without_a_compiler() -> Iterator[None]:
    with torch._dynamo.config.patch(disable=True):
        yield


def logits_of(rows: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Some, with a NaN in the second row and plus infinity in the third."""
    made = 4 * torch.randn(rows, V, generator=torch.Generator().manual_seed(seed))
    made[1:2, 7], made[2:3, 9] = torch.nan, torch.inf
    return made.to(dtype)


def asked(rows: int, **more: Any) -> Any:
    """vLLM's metadata of a batch that decodes greedily, or in part with a temperature."""
    from vllm.v1.sample.logits_processor import LogitsProcessors
    from vllm.v1.sample.metadata import SamplingMetadata

    settings: dict[str, Any] = {
        "temperature": None,
        "all_greedy": True,
        "all_random": False,
        "top_p": None,
        "top_k": None,
        "generators": {},
        "max_num_logprobs": 0,
        "no_penalties": True,
        "prompt_token_ids": None,
        "frequency_penalties": torch.empty(0),
        "presence_penalties": torch.empty(0),
        "repetition_penalties": torch.empty(0),
        "output_token_ids": [[] for _ in range(rows)],
        "allowed_token_ids_mask": None,
        "bad_words_token_ids": {},
        "logitsprocs": LogitsProcessors(),
        **more,
    }
    return SamplingMetadata(**settings)


def samplers() -> tuple[Any, LightSampler]:
    """vLLM's own, and ours."""
    runner = SimpleNamespace(sampler=Sampler(), device=torch.device("cpu"), max_num_reqs=MOST)
    assert take_its_place(runner)
    return Sampler(), runner.sampler


def said(sampler: Any, logits: torch.Tensor, metadata: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    output = sampler(logits=logits.clone(), sampling_metadata=metadata)
    return output.sampled_token_ids, output.logprobs_tensors.logprob_token_ids, output.logprobs_tensors.logprobs


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"logprob_token_ids": {0: [3, 5, 999], 4: [1]}, "max_num_logprobs": None},
        {"logprob_token_ids": {2: [9, 10]}},
        {"max_num_logprobs": 3},
    ],
    ids=["its own token", "tokens of some rows", "both", "likelier ones too"],
)
def test_tokens_and_log_probabilities_are_those_of_vllm_bit_for_bit(dtype: torch.dtype, more: dict[str, Any]) -> None:
    own, ours = samplers()
    for rows in (5, MOST, 5, MOST + 1):  # in buffers that hold another batch, and in none
        logits = logits_of(rows, dtype, seed=rows)
        for one, other in zip(said(own, logits, asked(rows, **more)), said(ours, logits, asked(rows, **more)), strict=True):
            assert torch.equal(one.nan_to_num(nan=7.0), other.nan_to_num(nan=7.0))


def test_a_batch_that_samples_draws_what_vllm_draws() -> None:
    own, ours = samplers()
    logits = 4 * torch.randn(4, V, generator=torch.Generator().manual_seed(3)).to(torch.bfloat16)

    def drawn(sampler: Any) -> Any:
        generators = {row: torch.Generator().manual_seed(row) for row in range(1, 4)}
        warm = torch.tensor([0.0, 0.7, 1.0, 1.0])
        return said(
            sampler, logits, asked(4, temperature=warm, all_greedy=False, top_p=torch.full((4,), 0.9), generators=generators)
        )

    for one, other in zip(drawn(own), drawn(ours), strict=True):
        assert torch.equal(one, other)


def test_logits_that_are_not_finite_are_told_by_the_log_probability_of_the_token() -> None:
    _, ours = samplers()
    _, _, logprobs = said(ours, logits_of(4, torch.bfloat16), asked(4))
    assert logprobs[:, 0].isnan().tolist() == [False, True, True, False]


def test_steps_share_their_memory_and_the_models_logits_stay_as_they_are() -> None:
    _, ours = samplers()
    logits = logits_of(5, torch.bfloat16)
    kept = logits.clone()
    first = [ours._buffer(name, logits).data_ptr() for name in ("logits", "logprobs")]
    ours(logits=logits, sampling_metadata=asked(5))
    again = [ours._buffer(name, logits[:2]).data_ptr() for name in ("logits", "logprobs")]
    assert first == again
    assert torch.equal(logits.nan_to_num(), kept.nan_to_num())


def test_what_it_was_not_written_for_keeps_its_own_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    class Theirs(Sampler):  # type: ignore[misc]
        """Another one."""

    for runner in (
        SimpleNamespace(sampler=Theirs(), device=torch.device("cpu"), max_num_reqs=2),
        SimpleNamespace(sampler=Sampler(), device=torch.device("meta"), max_num_reqs=2),
        SimpleNamespace(),
    ):
        before = type(getattr(runner, "sampler", None))
        assert not take_its_place(runner)
        assert type(getattr(runner, "sampler", None)) is before
    monkeypatch.setattr(light_sampler, "KNOWN", "0.1.")
    assert not take_its_place(SimpleNamespace(sampler=Sampler(), device=torch.device("cpu"), max_num_reqs=2))
