"""Why logits are not finite: which weights, or which dtype."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from spt_fast.errors import ModelError
from spt_fast.models.finite import fault, overflow, why
from spt_fast.models.frozen_model import FrozenModel
from tests.helpers.tiny import tiny_model


def harm(folder: Path, name: str, value: float) -> None:
    """Put a number into the last place of one tensor of a model."""
    weights = load_file(folder / "model.safetensors")
    weights[name].view(-1)[-1] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(("value", "what"), [(math.nan, "NaN"), (math.inf, "infinity"), (-math.inf, "infinity")])
@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.1.mlp.down_proj.weight"])
def test_the_first_tensor_that_is_not_finite_is_named(tmp_path: Path, name: str, value: float, what: str) -> None:
    model = tiny_model(tmp_path)
    harm(model, name, value)
    for dtype in ("auto", "float32", "bfloat16"):
        said = f"the weights are damaged: {name} in model.safetensors holds {what}; get the model's files anew"
        assert why(str(model), None, dtype) == said


def test_weights_that_a_dtype_cannot_hold_are_named_with_one_that_can(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    harm(model, "model.norm.weight", 1e6)
    assert "holds 1e+06, and float16 ends at 6.55e+04; set dtype: bfloat16 (or float32)" in why(str(model), None, "float16")
    assert why(str(model), None, "bfloat16") == overflow("bfloat16")


@pytest.mark.parametrize(
    ("dtype", "mend"), [("float16", "set dtype: bfloat16 (or float32)"), ("bfloat16", "set dtype: float32")]
)
def test_finite_weights_are_an_overflow_of_the_dtype_they_are_stored_in(tmp_path: Path, dtype: str, mend: str) -> None:
    model = tiny_model(tmp_path, dtype=getattr(torch, dtype))
    assert why(str(model), None, "auto") == f"the weights are finite, so numbers overflow in {dtype}; {mend} for this model"
    config = json.loads((model / "config.json").read_text())
    stored = {key: config.pop(key) for key in ("dtype", "torch_dtype") if key in config}
    (model / "config.json").write_text(json.dumps({**config, "torch_dtype": next(iter(stored.values()))}))
    assert f"overflow in {dtype}" in why(str(model), None, "auto")


def test_files_that_cannot_be_read_do_not_hide_that_logits_are_not_finite(tmp_path: Path) -> None:
    assert why(str(tmp_path / "nothing"), None, "float16") == overflow("float16")
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    assert why(str(tmp_path), None, "auto") == overflow("float32")


def test_packed_and_small_numbers_are_looked_at_as_what_they_are() -> None:
    weights = {"packed": torch.tensor([255], dtype=torch.uint8), "eight": torch.tensor([448.0]).to(torch.float8_e4m3fn)}
    assert fault([*weights.items(), ("none", torch.empty(0))], "float16") is None
    assert "bad holds NaN" in str(fault([("bad", torch.tensor([math.nan]).to(torch.float8_e4m3fn))], "float16"))


def test_a_model_with_such_weights_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    harm(model, "model.norm.weight", math.nan)
    with pytest.raises(ModelError, match=r"logits are not finite: the weights are damaged: model\.norm\.weight holds NaN"):
        FrozenModel.load(model)


def test_weights_that_few_tokens_meet_are_found_when_they_are_met(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    harm(model, "model.embed_tokens.weight", math.nan)  # of the last id, which no text has
    loaded = FrozenModel.load(model, device="cpu")
    assert "model.embed_tokens.weight holds NaN" in str(loaded.fault())
