"""Whether a checkpoint is whole is told by its content, at every moment of its being written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from spt_fast.models.faults import fault_of
from spt_fast.models.whole import is_begun, lacking, signature
from tests.helpers.tiny import tiny_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "step-1", hidden_size=32)


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "step-1"))


def sharded(model: Path) -> Path:
    """The same in two shards with an index."""
    tensors = load_file(model / "model.safetensors")
    names = sorted(tensors)
    parts = {f"model-0000{i}-of-00002.safetensors": names[i - 1 :: 2] for i in (1, 2)}
    for file, mine in parts.items():
        save_file({name: tensors[name] for name in mine}, model / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, mine in parts.items() for name in mine}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    (model / "model.safetensors").unlink()
    return model


def test_a_whole_checkpoint_lacks_nothing(model: Path) -> None:
    assert lacking(model) is None
    assert lacking(sharded(model)) is None
    assert fault_of(model) is None


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_file_that_is_cut_anywhere_is_still_being_written(model: Path, name: str) -> None:
    data = (model / name).read_bytes()
    for size in (0, 1, 7, 8, 9, 100, len(data) // 2, len(data.rstrip()) - 1):
        (model / name).write_bytes(data[:size])
        assert lacking(model), size
    (model / name).write_bytes(data)
    assert lacking(model) is None


def test_what_is_written_file_by_file_is_whole_with_the_last_that_matters(model: Path, tmp_path: Path) -> None:
    sharded(model)
    later = tmp_path / "step-2"
    later.mkdir()
    order = ["config.json", *sorted(p.name for p in model.glob("model*")), "tokenizer_config.json", "tokenizer.json"]
    said = []
    for name in order:
        said.append(lacking(later))
        shutil.copy(model / name, later / name)
    assert said == [
        "has no config.json yet",
        "has no weights in safetensors yet",
        "model-00002-of-00002.safetensors is not there yet",
        "has no tokenizer yet",
        "has no tokenizer yet",
        "has no tokenizer yet",
    ]
    assert lacking(later) is None


def test_an_index_that_is_there_first_names_what_is_to_come(model: Path) -> None:
    sharded(model)
    (model / "model-00001-of-00002.safetensors").unlink()
    assert lacking(model) == "model-00001-of-00002.safetensors is not there yet"


@pytest.mark.parametrize("name", ["model.safetensors.tmp", ".model.safetensors.Xy12ab", "tokenizer.json.part", "x.incomplete"])
def test_a_file_that_somebody_is_writing_beside_it_is_waited_for(model: Path, name: str) -> None:
    (model / name).write_bytes(b"")
    assert lacking(model) == f"{name} is being written"


def test_room_that_was_reserved_and_not_written_yet_is_not_whole(model: Path) -> None:
    size = (model / "model.safetensors").stat().st_size
    (model / "model.safetensors").write_bytes(bytes(size))
    assert lacking(model) == "model.safetensors has no whole header yet"


@pytest.mark.parametrize("text", ["<html>not there</html>" * 10, "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"])
def test_weights_that_will_never_be_weights_are_whole_and_a_fault(model: Path, text: str) -> None:
    (model / "model.safetensors").write_text(text)
    assert lacking(model) is None
    assert fault_of(model) is not None


def test_a_checkpoint_of_pickles_or_of_an_adapter_is_not_waited_for(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(b"x")
    assert lacking(model) is None
    assert "could run code" in str(fault_of(model))
    (model / "config.json").unlink()
    (model / "adapter_config.json").write_text("{}")
    assert lacking(model) is None


def test_a_folder_of_logs_is_no_checkpoint_that_was_begun(tmp_path: Path) -> None:
    (tmp_path / "events.log").write_text("x")
    assert not is_begun(tmp_path)
    (tmp_path / "config.json").write_text("")
    assert is_begun(tmp_path)


def test_the_signature_changes_with_what_the_model_is_read_from_and_with_nothing_else(model: Path) -> None:
    before = signature(model)
    (model / "optimizer.pt").write_bytes(b"x")
    (model / "trainer_state.json").write_text("{}")
    assert signature(model) == before
    data = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(data[:-4] + b"1234")
    assert signature(model) != before
