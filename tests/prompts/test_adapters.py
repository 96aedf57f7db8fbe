"""Soft prompts as PEFT adapters: PEFT loads them and gives our logits, and what PEFT writes is read. No pickle is."""

from __future__ import annotations

import json
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from spt_fast.cli.inspecting import inspect
from spt_fast.errors import ConfigError, StoreError
from spt_fast.inspection.inspected import Wanted
from spt_fast.models.frozen_model import FrozenModel
from spt_fast.prompts.adapters import save_adapter
from spt_fast.prompts.soft_prompt import SoftPrompt
from tests.helpers.tiny import tiny_model

LENGTH = 5
PROVENANCE = {"model": "m", "task": "zoo-mcq v1", "seed": "3", "position": "front"}


def prompt(hidden_size: int, **provenance: str) -> SoftPrompt:
    vectors = 0.3 * np.random.RandomState(0).standard_normal((LENGTH, hidden_size))
    return SoftPrompt(vectors=vectors.astype(np.float32), provenance={**PROVENANCE, **provenance})


def peft_logits(model: Path, adapter: Path, ids: torch.Tensor) -> torch.Tensor:
    """`[1, P + T, V]` of PEFT's model; the adapter's config alone says which model that is."""
    from peft import AutoPeftModelForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        loaded: Any = AutoPeftModelForCausalLM.from_pretrained(str(adapter))
    assert loaded.peft_config["default"].base_model_name_or_path == str(model)
    with torch.inference_mode():
        logits: torch.Tensor = loaded(input_ids=ids).logits
    return logits


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "opt", "gpt2"])
def test_peft_gives_the_logits_that_the_frozen_model_gives(family: str, tmp_path: Path) -> None:
    """Gemma scales what it looks up, and the embeddings of this OPT are narrower than its hidden states."""
    folder = tiny_model(tmp_path / "model", family)
    frozen = FrozenModel.load(folder, device="cpu")
    soft, ids = prompt(frozen.hidden_size), torch.randint(0, 256, (1, 9), generator=torch.Generator().manual_seed(0))
    save_adapter(soft, tmp_path / "adapter", base_model=str(folder))

    inputs = torch.cat([torch.from_numpy(soft.vectors.copy())[None], frozen.embed(ids)], dim=1)
    with torch.inference_mode():
        ours: torch.Tensor = frozen.module(inputs_embeds=inputs).logits
        plain: torch.Tensor = frozen.module(input_ids=ids).logits
    theirs = peft_logits(folder, tmp_path / "adapter", ids)
    assert theirs.shape == ours.shape
    assert torch.allclose(theirs, ours, atol=1e-5, rtol=0)
    assert not torch.allclose(theirs[:, -9:], plain, atol=1e-2), "the soft prompt makes a difference"


@pytest.fixture
def made_by_peft(tmp_path: Path) -> Path:
    from peft import PromptTuningConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model(tmp_path / "model"))
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=LENGTH)
    get_peft_model(model, config).save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


def test_an_adapter_of_peft_is_a_soft_prompt(made_by_peft: Path) -> None:
    soft = SoftPrompt.load(made_by_peft)
    saved = load_file(made_by_peft / "adapter_model.safetensors")["prompt_embeddings"]
    assert np.array_equal(soft.vectors, saved.numpy())
    assert soft.provenance == {"model": str(made_by_peft.parent / "model"), "position": "front"}
    assert "nearest" in inspect(made_by_peft, Wanted(top=1))


def test_what_is_written_has_the_keys_that_peft_writes(made_by_peft: Path, tmp_path: Path) -> None:
    save_adapter(prompt(64), tmp_path / "ours", base_model="m")
    theirs, ours = (json.loads((folder / "adapter_config.json").read_text()) for folder in (made_by_peft, tmp_path / "ours"))
    assert ours.keys() <= theirs.keys()
    tensors = [load_file(folder / "adapter_model.safetensors") for folder in (made_by_peft, tmp_path / "ours")]
    assert len({(name, value.shape, value.dtype) for found in tensors for name, value in found.items()}) == 1


def test_a_soft_prompt_comes_back_as_it_was(tmp_path: Path) -> None:
    soft = prompt(8, step="80")
    save_adapter(soft, tmp_path, base_model="m", revision="abc")
    back = SoftPrompt.load(tmp_path)
    assert (back.key, back.provenance) == (soft.key, soft.provenance)


def test_vectors_in_bfloat16_are_read(made_by_peft: Path) -> None:
    path = made_by_peft / "adapter_model.safetensors"
    vectors = load_file(path)["prompt_embeddings"].bfloat16()
    save_file({"prompt_embeddings": vectors}, path)
    assert np.array_equal(SoftPrompt.load(made_by_peft).vectors, vectors.float().numpy())


class Harmful:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.mark,)


def test_a_pickle_is_refused_and_not_opened(made_by_peft: Path, tmp_path: Path) -> None:
    (made_by_peft / "adapter_model.safetensors").unlink()
    (made_by_peft / "adapter_model.bin").write_bytes(pickle.dumps(Harmful(tmp_path / "harm")))
    with pytest.raises(StoreError, match=r"adapter_model\.bin: is a pickle, which can run code"):
        SoftPrompt.load(made_by_peft)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "LORA"}, "an adapter of type LORA; only PROMPT_TUNING"),
        ({"peft_type": "PREFIX_TUNING"}, "an adapter of type PREFIX_TUNING"),
        ({"num_transformer_submodules": 2}, "only PROMPT_TUNING of a causal language model"),
        ({"num_virtual_tokens": 7}, r"says 7 virtual tokens, and adapter_model\.safetensors holds \[5, 64\]"),
    ],
)
def test_another_kind_of_adapter_is_refused_in_a_sentence(change: dict[str, Any], said: str, made_by_peft: Path) -> None:
    path = made_by_peft / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(StoreError, match=said):
        SoftPrompt.load(made_by_peft)


@pytest.mark.parametrize("harm", ["no weights", "other weights", "cut off", "no config", "broken config", "not finite"])
def test_a_damaged_adapter_is_told_with_its_file(harm: str, made_by_peft: Path) -> None:
    config, weights = made_by_peft / "adapter_config.json", made_by_peft / "adapter_model.safetensors"
    if harm == "no weights":
        weights.unlink()
    elif harm == "other weights":
        save_file({"lora_A": torch.zeros(2, 2)}, weights)
    elif harm == "cut off":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif harm == "no config":
        config.unlink()
    elif harm == "broken config":
        config.write_text("[1]")
    else:
        save_file({"prompt_embeddings": torch.full((LENGTH, 64), torch.nan)}, weights)
    with pytest.raises(StoreError, match="adapter_") as raised:
        SoftPrompt.load(made_by_peft)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("place", ["after_bos", "end"])
def test_a_soft_prompt_that_stands_elsewhere_than_in_front_is_no_adapter(tmp_path: Path, place: str) -> None:
    with pytest.raises(ConfigError, match=f"{place} cannot be a PEFT adapter"):
        save_adapter(prompt(8, position=place), tmp_path, base_model="m")
    assert not list(tmp_path.iterdir())
