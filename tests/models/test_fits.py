"""Weights and a config.json that are not of one model: which tensor, and what each says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spt_fast.errors import ModelError, SptError, boundary
from spt_fast.models.fits import contradiction
from spt_fast.models.frozen_model import FrozenModel
from tests.helpers.tiny import tiny_model


def changed(folder: Path, **changes: Any) -> Path:
    tiny_model(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen2"])
def test_a_sound_model_contradicts_nothing(tmp_path: Path, family: str) -> None:
    tiny_model(tmp_path, family)
    assert contradiction(tmp_path) == ""


@pytest.mark.parametrize(
    ("changes", "tensor", "size"),
    [
        ({"vocab_size": 300}, "lm_head.weight", "[300, 64] (vocab_size, hidden_size)"),
        ({"intermediate_size": 48}, "mlp.down_proj.weight", "[64, 48] (hidden_size, intermediate_size)"),
    ],
)
def test_the_tensor_that_does_not_fit_is_named_with_both_shapes(
    tmp_path: Path, changes: dict[str, int], tensor: str, size: str
) -> None:
    folder = changed(tmp_path, **changes)
    with pytest.raises(ModelError) as raised:
        FrozenModel.load(folder, device="cpu")
    assert tensor in str(raised.value)
    assert size in str(raised.value)
    assert "they are not of one model" in str(raised.value)
    assert "above report" not in str(raised.value)


def test_layers_that_are_missing_are_counted(tmp_path: Path) -> None:
    folder = changed(tmp_path, num_hidden_layers=5)
    assert "its files have 2 layers, and its config.json says 5" in contradiction(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"hidden_size": "many", "num_attention_heads": 0}'])
def test_a_config_that_says_nothing_contradicts_nothing(tmp_path: Path, text: str) -> None:
    tiny_model(tmp_path)
    (tmp_path / "config.json").write_text(text)
    assert contradiction(tmp_path) == ""


def test_an_error_without_words_says_where_it_happened() -> None:
    with pytest.raises(SptError) as raised, boundary(ModelError, "loading"):
        assert [] == [1]
    assert str(raised.value).startswith("loading: AssertionError")
    empty = AssertionError()
    with pytest.raises(SptError) as raised, boundary(ModelError, "loading"):
        raise empty
    assert str(raised.value).startswith("loading: AssertionError (in ")
    assert "test_fits.py, line " in str(raised.value)
    with pytest.raises(SptError) as raised, boundary(ModelError, "loading"):
        {}["rope_type"]
    assert "loading: KeyError: 'rope_type' (in " in str(raised.value)
    assert """{}["rope_type"]""" in str(raised.value)
