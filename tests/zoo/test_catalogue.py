"""Names resolve to folders, without anything heavy being imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spt_fast.errors import ConfigError, ModelError
from spt_fast.zoo import catalogue, find
from spt_fast.zoo.catalogue import COMMITTED, cache_folder
from spt_fast.zoo.recipes import RECIPES


def test_every_base_of_the_ladder_has_a_partner_that_knows_as_much() -> None:
    bases = [recipe for recipe in RECIPES.values() if recipe.name.startswith("base-")]
    assert len(bases) == 6
    for base in bases:
        partner = RECIPES[base.name.replace("base", "chat")]
        assert (partner.kind, partner.partner_of, partner.share) == ("chat", base.name, base.share)


def test_a_name_is_found_with_and_without_its_prefix() -> None:
    assert find("zoo/base-40") == find("base-40") == COMMITTED / "base-40"


def test_a_misspelt_name_is_answered_with_the_close_one() -> None:
    with pytest.raises(ConfigError, match="unknown zoo model 'zoo/bas-40'; did you mean 'zoo/base-40'"):
        find("zoo/bas-40")


def test_a_model_that_is_not_built_says_how_to_build_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPT_FAST_CACHE", str(tmp_path))
    monkeypatch.setattr(sys.modules["spt_fast.zoo.catalogue"], "COMMITTED", tmp_path / "none")
    with pytest.raises(ModelError, match="zoo/base-40 is not built yet: run `spt-fast zoo build base-40`"):
        find("zoo/base-40")
    assert not any(entry.built for entry in catalogue())


def test_a_model_built_into_the_cache_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPT_FAST_CACHE", str(tmp_path))
    monkeypatch.setattr(sys.modules["spt_fast.zoo.catalogue"], "COMMITTED", tmp_path / "none")
    folder = cache_folder() / "chat-95"
    folder.mkdir(parents=True)
    (folder / "zoo.json").write_text('{"parameters": 7}')
    assert find("zoo/chat-95") == folder
    (entry,) = [entry for entry in catalogue() if entry.name == "zoo/chat-95"]
    assert entry.built
    assert entry.parameters == 7


def test_listing_the_zoo_imports_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "tokenizers", "numpy")
    code = f"import sys, spt_fast.zoo as z; z.catalogue(); print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
