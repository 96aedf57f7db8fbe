"""Rows of soft prompts behind a model's vocabulary: what vLLM's workers are given, without vLLM."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from spt_fast.engine.vllm.engine import HOLD_ROWS
from spt_fast.engine.vllm.virtual_rows import Table, VirtualRows

V, H = 11, 4


class Model(torch.nn.Module):
    """Scales what it looks up, as Gemma does."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(V, H, dtype=torch.bfloat16)

    def embed_input_ids(self, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        return 3 * self.table(input_ids).detach()


def worker(model: Model) -> VirtualRows:
    made = VirtualRows()
    made.model_runner = SimpleNamespace(get_model=lambda: model)
    return made


def hold(to: VirtualRows, first: int, rows: torch.Tensor) -> None:
    to.spt_fast_hold_rows(V, first, H, "bfloat16", rows.view(torch.uint8).numpy().tobytes())


def test_virtual_tokens_are_their_rows_as_they_are_and_all_others_the_models_own() -> None:
    model = Model()
    own = model.embed_input_ids(torch.arange(V))
    made = worker(model)
    rows = torch.randn(40, H, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    held = 0
    for count in (3, 1, 10, 26):
        hold(made, V + held, rows[held : held + count])
        held += count
        asked = torch.tensor([V, 2, V + held - 1, 0, V - 1, V + held // 2])
        found = model.embed_input_ids(input_ids=asked, is_multimodal=None)
        every = torch.cat([own, rows])
        assert torch.equal(found, every[asked])
    tokens = torch.tensor([5, 5, 1])
    assert torch.equal(model.embed_input_ids(tokens), own[tokens])


def test_an_id_that_is_given_is_never_given_to_another_row() -> None:
    made = worker(Model())
    rows = torch.ones(3, H, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="the next virtual token is 11, not 12"):
        hold(made, V + 1, rows)
    hold(made, V, rows)
    for first in (V, V + 2, V + 4):
        with pytest.raises(ValueError, match=f"the next virtual token is 14, not {first}"):
            hold(made, first, rows)


def test_a_model_that_reads_ids_elsewhere_too_is_left_alone() -> None:
    model: Any = Model()
    model.requires_raw_input_tokens = True
    with pytest.raises(ValueError, match="Model reads token ids besides their embeddings"):
        hold(worker(model), V, torch.ones(3, H, dtype=torch.bfloat16))
    assert not isinstance(getattr(model.embed_input_ids, "__self__", None), Table)


def test_vllm_finds_the_method_by_its_name() -> None:
    assert callable(getattr(VirtualRows, HOLD_ROWS))
