"""SoftPrompt: the vectors to the bit, and a file that is whole or not there."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from spt_fast.errors import StoreError
from spt_fast.prompts.soft_prompt import SoftPrompt, load_steps, save_steps


def some(seed: int = 0, shape: tuple[int, ...] = (3, 8)) -> SoftPrompt:
    values = np.random.RandomState(seed).standard_normal(shape).astype(np.float32)
    return SoftPrompt(vectors=values, provenance={"task": "toy", "name": "Ünï\n"})


def test_saved_and_loaded_vectors_are_the_same_to_the_bit(tmp_path: Path) -> None:
    prompt = some()
    prompt.save(tmp_path / "prompt.safetensors")
    loaded = SoftPrompt.load(tmp_path / "prompt.safetensors")
    assert loaded.vectors.tobytes() == prompt.vectors.tobytes()
    assert loaded.key == prompt.key
    assert loaded.provenance == prompt.provenance
    assert (loaded.length, loaded.hidden_size) == (3, 8)


def test_a_loaded_prompt_enters_a_bf16_model_with_the_trained_bits(tmp_path: Path) -> None:
    trained = torch.from_numpy(some().vectors.copy()).requires_grad_(True)
    entered = trained.to(torch.bfloat16)
    SoftPrompt(vectors=trained.detach().numpy()).save(tmp_path / "prompt.safetensors")
    loaded = SoftPrompt.load(tmp_path / "prompt.safetensors").vectors
    assert torch.equal(torch.from_numpy(loaded.copy()).to(torch.bfloat16), entered)


def test_steps_come_back_in_order_and_the_last_is_the_prompt(tmp_path: Path) -> None:
    path = tmp_path / "prompt.safetensors"
    save_steps({80: some(2), 0: some(0), 10: some(1)}, path)
    assert list(load_steps(path)) == [0, 10, 80]
    assert SoftPrompt.load(path).key == some(2).key


def test_the_key_follows_the_vectors_and_their_shape() -> None:
    assert some().key == some().key
    assert some(0).key != some(1).key
    flat = some().vectors.reshape(8, 3)
    assert SoftPrompt(vectors=flat).key != some().key


def test_the_vectors_are_a_copy_that_nobody_writes_to() -> None:
    values = np.zeros((2, 4), dtype=np.float32)
    prompt = SoftPrompt(vectors=values)
    values[0, 0] = 1  # the caller's own array stays writable
    assert prompt.vectors[0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        prompt.vectors[0, 0] = 1


def test_a_soft_prompt_crosses_processes() -> None:
    assert pickle.loads(pickle.dumps(some())).key == some().key


@pytest.mark.parametrize("shape", [(3,), (0, 8), (3, 0), (1, 2, 3)])
def test_what_is_no_matrix_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="is a matrix"):
        SoftPrompt(vectors=np.zeros(shape, dtype=np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        SoftPrompt(vectors=np.array([[0.0, value]], dtype=np.float32))


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "prompt.safetensors"
    some(0).save(path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        some(1).save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["prompt.safetensors"]
    assert SoftPrompt.load(path).key == some(0).key


def test_a_failed_first_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        some().save(tmp_path / "prompt.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="File exists"):
        some().save(tmp_path / "file" / "prompt.safetensors")


def test_others_may_read_what_is_written(tmp_path: Path) -> None:
    path, plain = tmp_path / "prompt.safetensors", tmp_path / "plain"
    some().save(path)
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("content", [None, b"", b"not a tensor file at all"])
def test_a_file_that_is_missing_or_broken_is_one_sentence(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "prompt.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError, match="reading"):
        SoftPrompt.load(path)


def test_a_file_of_somebody_else_is_one_sentence(tmp_path: Path) -> None:
    save_file({"weight": np.zeros((2, 2), dtype=np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(StoreError, match="tensor 'weight' is not a soft prompt of spt-fast"):
        SoftPrompt.load(tmp_path / "other.safetensors")


def test_a_file_without_tensors_is_one_sentence(tmp_path: Path) -> None:
    save_file({}, tmp_path / "empty.safetensors", metadata={"by": "somebody"})
    with pytest.raises(StoreError, match="holds no soft prompt"):
        SoftPrompt.load(tmp_path / "empty.safetensors")
