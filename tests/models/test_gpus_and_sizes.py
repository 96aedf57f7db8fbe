"""What a model takes of a machine: GPUs, as the grid has them, and bytes, as its files have them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from spt_fast import plan
from spt_fast.config import JudgeConfig, ModelConfig
from spt_fast.config.reader import parse_grid
from spt_fast.errors import ConfigError
from spt_fast.models.identity import Model, resolve
from spt_fast.models.weights import INDEX, UNKNOWN, Size, size_of, weight_files
from tests.helpers.weights import model_folder

GRID = """
name: shared
models:
  - zoo/base-40
  - {id: zoo/base-70, gpus: 0.25}
  - {id: zoo/base-95, tensor_parallel: 2, gpus: 2}
  - {id: zoo/chat-70, tensor_parallel: 2, pipeline_parallel: 3}
tasks: [zoo-short]
protocols: [zero_shot]
judge: {model: zoo/chat-40, gpus: 0.5}
"""


# GPUs


def test_a_model_takes_as_many_gpus_as_it_is_spread_over_or_the_share_it_is_given() -> None:
    cells = plan.expand(parse_grid(GRID))
    gpus = {cell.model.name: cell.model.gpus for cell in cells}
    assert gpus == {"zoo/base-40": 1.0, "zoo/base-70": 0.25, "zoo/base-95": 2.0, "zoo/chat-70": 6.0}
    judge = cells[0].judge
    assert judge is not None
    assert judge.model.gpus == 0.5


def test_gpus_are_part_of_no_key() -> None:
    alone = GRID.replace(", gpus: 0.25", "").replace(", gpus: 2", "").replace(", gpus: 0.5", "")
    alone = alone.replace(", tensor_parallel: 2", "").replace(", pipeline_parallel: 3", "")
    assert alone.count("gpus") == alone.count("parallel") == 0
    assert [cell.key for cell in plan.expand(parse_grid(GRID))] == [cell.key for cell in plan.expand(parse_grid(alone))]


@given(
    gpus=st.floats() | st.floats(0, 1) | st.integers(0, 24).map(float),
    tensor=st.integers(1, 8),
    pipeline=st.integers(1, 3),
)
def test_gpus_are_a_share_of_one_or_those_the_model_is_spread_over(gpus: float, tensor: int, pipeline: int) -> None:
    good = (0 < gpus < 1 and tensor * pipeline == 1) or gpus == tensor * pipeline
    for build in (
        lambda: ModelConfig(id="some/model", gpus=gpus, tensor_parallel=tensor, pipeline_parallel=pipeline),
        lambda: JudgeConfig(model="some/judge", gpus=gpus, tensor_parallel=tensor, pipeline_parallel=pipeline),
    ):
        if good:
            assert build().gpus == gpus
        else:
            with pytest.raises(ConfigError, match=r"^gpus: "):
                build()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            "gpus: 2",
            "models[0].gpus: must be a share of one GPU (0.5) or as many as tensor_parallel (1), not 2; "
            "to spread a model over several, set tensor_parallel",
        ),
        (
            "gpus: 0.5, tensor_parallel: 2",
            "models[0].gpus: 0.5 is a share of one GPU, and tensor_parallel spreads the model over 2; leave one of them out",
        ),
        (
            "gpus: 2, pipeline_parallel: 4",
            "models[0].gpus: must be a share of one GPU (0.5) or as many as tensor_parallel x pipeline_parallel (4), not 2; "
            "to spread a model over several, set tensor_parallel",
        ),
        ("pipeline_parallel: 0", "models[0].pipeline_parallel: must be a whole number from 1 to 1024, not 0"),
        (
            "engine: {pipeline_parallel_size: 2}",
            "models[0].engine.pipeline_parallel_size: is set by spt-fast; set pipeline_parallel of the model",
        ),
        ("gpus: half", "models[0].gpus: must be a number, not text ('half')"),
    ],
)
def test_gpus_that_do_not_fit_are_a_sentence_with_the_mend(settings: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_grid(GRID.replace("zoo/base-40", f"{{id: zoo/base-40, {settings}}}"))
    assert str(refused.value) == sentence


# sizes


def shards(folder: Path, names: list[str]) -> Path:
    """A model folder whose weights are 3 x 4 numbers in each of these files, and an index of them."""
    model_folder(folder)
    (folder / "model.safetensors").unlink()
    for name in names:
        save_file({name: np.zeros((3, 4), dtype=np.float16), "step": np.zeros((), dtype=np.int64)}, folder / name)
    index = {"weight_map": {name: name for name in names}}
    (folder / INDEX).write_text(json.dumps(index))
    return folder


def test_a_folder_tells_its_bytes_and_numbers_whatever_the_number_of_files(tmp_path: Path) -> None:
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    folder = shards(tmp_path / "model", names)
    (model,) = resolve(ModelConfig(id=str(folder)))
    assert model.parameters == 2 * (3 * 4 + 1)
    assert model.weight_bytes == sum((folder / name).stat().st_size for name in names)


def test_weights_that_are_there_a_second_time_are_counted_once(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mistral")
    once = size_of(folder)
    (folder / "consolidated.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    assert size_of(folder) == once == Size(weight_bytes=(folder / "model.safetensors").stat().st_size, parameters=128)
    assert weight_files(["consolidated.safetensors", "config.json", "onnx/model.safetensors"]) == ["consolidated.safetensors"]


def test_of_weights_that_are_not_all_there_nothing_is_known(tmp_path: Path) -> None:
    """A download that was interrupted leaves a cache like that."""
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    folder = shards(tmp_path / "model", names)
    (folder / names[1]).unlink()
    assert size_of(folder) == UNKNOWN
    assert size_of(tmp_path / "nothing") == UNKNOWN
    (folder / names[1]).write_bytes(b"version https://git-lfs.github.com/spec/v1")
    assert size_of(folder) == UNKNOWN


@given(content=st.binary(max_size=64) | st.binary(max_size=40).map(lambda text: len(text).to_bytes(8, "little") + text))
def test_any_file_has_a_size_or_none(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(content)
    found = size_of(folder)
    assert found == UNKNOWN or found.weight_bytes == len(content)


def test_the_size_of_a_model_is_part_of_no_key() -> None:
    small, large = (Model(name="m", source="/m", fingerprint="sha256:0", weight_bytes=n, parameters=n) for n in (1, 10**9))
    assert small.content == large.content
