"""Which model it is: new weights under an old path are a new model; a copy elsewhere is the same one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from spt_fast.config import ModelConfig
from spt_fast.errors import ConfigError
from spt_fast.models.identity import WHOLE, fingerprint, resolve
from tests.helpers.weights import model_folder


def test_a_copy_elsewhere_has_the_same_fingerprint(tmp_path: Path) -> None:
    here = model_folder(tmp_path / "here")
    there = Path(shutil.copytree(here, tmp_path / "there"))
    assert fingerprint(here) == fingerprint(there)


def test_new_weights_under_an_old_path_have_a_new_fingerprint(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    before = fingerprint(folder)
    model_folder(folder, seed=1)
    assert fingerprint(folder) != before


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "modeling.py"])
def test_whatever_can_change_an_answer_changes_the_fingerprint(name: str, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    before = fingerprint(folder)
    (folder / name).write_text('{"changed": true}')
    assert fingerprint(folder) != before


def test_a_large_tensor_is_sampled_and_training_it_is_seen(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", size=WHOLE)
    before = fingerprint(folder)
    model_folder(folder, seed=1, size=WHOLE)
    assert fingerprint(folder) != before


def test_a_weight_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-8])
    with pytest.raises(ConfigError, match="not a whole safetensors file"):
        fingerprint(folder)


def test_pickled_weights_are_refused_with_the_reason(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"pytorch_model\.bin could run code"):
        fingerprint(folder)


def test_checkpoints_come_in_natural_order(tmp_path: Path) -> None:
    for step in (100, 20, 3):
        model_folder(tmp_path / "run" / f"step-{step}", seed=step)
    models = resolve(ModelConfig(id=str(tmp_path / "run"), checkpoints="step-*"))
    assert [model.name for model in models] == ["run/step-3", "run/step-20", "run/step-100"]


def test_a_partner_is_resolved_beside_its_base_model(tmp_path: Path) -> None:
    base, chat = model_folder(tmp_path / "m" / "base"), model_folder(tmp_path / "m" / "chat", seed=1)
    models = resolve(ModelConfig(id=str(base), post_trained=str(chat)))
    assert [(model.name, model.post_trained, model.partner_of) for model in models] == [
        ("m/base", "m/chat", None),
        ("m/chat", None, "m/base"),
    ]
    assert [model.chat_template for model in models] == ["never", "if_any"]


def test_a_model_of_the_hub_that_cannot_be_reached_is_no_error_of_the_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (model,) = resolve(ModelConfig(id="nobody/has-this"))
    assert model.unresolved is not None
    assert "nobody/has-this" in model.unresolved


def test_a_commit_needs_no_hub() -> None:
    (model,) = resolve(ModelConfig(id="some/model", revision="0" * 40))
    assert (model.revision, model.fingerprint, model.unresolved) == ("0" * 40, f"commit:{'0' * 40}", None)
