"""A much shortened recipe learns, gives the same weights twice, and saves a folder that Transformers loads."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

from spt_fast.errors import ModelError
from spt_fast.zoo.build import build
from spt_fast.zoo.recipes import RECIPES


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("base-40", "chat-40"):
        recipe = RECIPES[name]
        training = replace(recipe.training, documents=1500, steps=30, batch_tokens=1024, window=128, warmup=5)
        shape = replace(recipe.shape, hidden=64, heads=2, layers=2, intermediate=128)
        monkeypatch.setitem(RECIPES, name, replace(recipe, training=training, shape=shape))


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_a_shortened_recipe_learns_and_gives_the_same_weights_twice(tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    first = build(["zoo/chat-40", "base-40"], into=tmp_path / "a", progress=lambda *news: told.append(news))
    second = build(["base-40", "chat-40"], into=tmp_path / "b")
    assert [folder.name for folder in first] == ["base-40", "chat-40"]
    assert [digest(folder) for folder in first] == [digest(folder) for folder in second]
    about = json.loads((first[0] / "zoo.json").read_text())
    assert about["loss_last"] < about["loss_first"] - 1.0
    assert {news[1] for news in told} == {30}
    assert told[-1][0] == 30
    assert not list(tmp_path.glob("*/*.partial"))


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_what_is_saved_is_what_transformers_and_its_tokenizer_load(tmp_path: Path) -> None:
    (base,) = build(["base-40"], into=tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    ids = tokenizer("Question: Where?").input_ids
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.chat_template is None
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    assert model.dtype == torch.bfloat16
    assert not list(base.glob("*.bin"))


@pytest.mark.usefixtures("short")
def test_a_partner_needs_its_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["spt_fast.zoo.catalogue"], "COMMITTED", tmp_path / "none")
    monkeypatch.setenv("SPT_FAST_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ModelError, match="run `spt-fast zoo build base-40`"):
        build(["chat-40"], into=tmp_path)
