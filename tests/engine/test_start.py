"""What vLLM is started with, by its own config objects: no engine is started here."""

from __future__ import annotations

import inspect
import json
import os
import warnings
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from spt_fast.engine.base import READY_S, EngineConfig
from spt_fast.engine.vllm import shared_graphs
from spt_fast.engine.vllm.start import WORKER, _settings, prepare_environment
from spt_fast.scheduling.limits import LIMITS
from tests.helpers.tiny import tiny_model

pytestmark = pytest.mark.vllm


def test_an_engine_has_an_hour_to_become_ready_and_is_not_killed_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_ENGINE_READY_TIMEOUT_S", raising=False)
    prepare_environment()
    from vllm import envs

    assert envs.VLLM_ENGINE_READY_TIMEOUT_S == READY_S == 3600
    assert LIMITS.stalled_s > READY_S, "vLLM is to say itself what it has waited for"


def test_how_long_a_user_lets_vllm_wait_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_ENGINE_READY_TIMEOUT_S", "60")
    prepare_environment()
    from vllm import envs

    assert envs.VLLM_ENGINE_READY_TIMEOUT_S == 60


# as many positions as are needed


def settings_for(folder: Path, **more: Any) -> tuple[Any, Any]:
    """vLLM's own settings for an engine, and what we say of them."""
    prepare_environment()
    options = {"kv_cache_memory_bytes": 1 << 24, **more.pop("options", {})}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what vLLM and its imports warn of
        return _settings(EngineConfig(model=str(folder), options=options, **more), {}, on_cpu=True)


@pytest.fixture(scope="module")
def long_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("long"), positions=131_072)


@pytest.mark.parametrize(
    ("positions", "expected"), [(None, 131_072), (3, 1024), (1025, 2048), (5000, 8192), (8193, 12_288), (500_000, 131_072)]
)
def test_vllm_is_started_for_as_many_positions_as_are_needed(positions: int | None, expected: int, long_model: Path) -> None:
    settings, started = settings_for(long_model, positions=positions)
    assert settings.model_config.max_model_len == expected
    assert started.most_positions == 131_072


def test_positions_that_the_grid_names_stay(long_model: Path) -> None:
    settings, started = settings_for(long_model, positions=100, options={"max_model_len": 4096})
    assert settings.model_config.max_model_len == started.most_positions == 4096


def test_a_model_whose_frequencies_depend_on_its_positions_is_started_for_all_of_them(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path, positions=8192)
    about = json.loads((folder / "config.json").read_text())
    factors = [1.0] * (about["hidden_size"] // about["num_attention_heads"] // 2)
    rope = {"rope_type": "longrope", "short_factor": factors, "long_factor": [4.0] * len(factors), "rope_theta": 10000.0}
    about |= {"rope_parameters": {**rope, "factor": 2.0, "original_max_position_embeddings": 4096}}
    (folder / "config.json").write_text(json.dumps(about))
    settings, started = settings_for(folder, positions=100)
    assert settings.model_config.max_model_len == started.most_positions == 8192


def test_a_grid_can_have_logits_in_float32_of_a_model_in_bfloat16(long_model: Path) -> None:
    """In bfloat16 those from 16 to 32 lie 0.125 apart, so that two options can be exactly as likely."""
    settings, _ = settings_for(long_model, dtype="bfloat16", options={"hf_overrides": {"head_dtype": "float32"}})
    assert (settings.model_config.dtype, settings.model_config.head_dtype) == (torch.bfloat16, torch.float32)
    plain, _ = settings_for(long_model, dtype="bfloat16")
    assert plain.model_config.head_dtype == torch.bfloat16


# compiled graphs


def hash_of(folder: Path, **more: Any) -> str:
    settings, _ = settings_for(folder, **more)
    found: str = settings.compute_hash()
    return found


def test_checkpoints_of_one_architecture_share_their_compiled_graphs(tmp_path: Path) -> None:
    first, second = (tiny_model(tmp_path / f"step-{seed}", seed=seed) for seed in (0, 1))
    assert hash_of(first) == hash_of(second)
    assert os.environ[shared_graphs.SWITCH] == "1", "and the other processes of vLLM do as this one"


@pytest.mark.parametrize("switch", ["1", "0"])
def test_a_process_of_vllms_shares_graphs_where_our_engine_says_so(switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them imports our worker class by its path."""
    prepare_environment()
    from vllm.config import ModelConfig

    plain = inspect.unwrap(ModelConfig.compute_hash)
    monkeypatch.setattr(ModelConfig, "compute_hash", plain)
    monkeypatch.setenv(shared_graphs.SWITCH, switch)
    found = find_spec(WORKER)
    assert found is not None
    assert found.loader is not None
    found.loader.exec_module(module_from_spec(found))
    assert (ModelConfig.compute_hash is not plain) is (switch == "1")


def test_what_graphs_depend_on_still_tells_models_apart(tmp_path: Path) -> None:
    plain = tiny_model(tmp_path / "plain")
    expected = hash_of(plain)
    others = {
        "wider": hash_of(tiny_model(tmp_path / "wider", hidden_size=128)),
        "deeper": hash_of(tiny_model(tmp_path / "deeper", layers=3)),
        "eps": hash_of(changed(tmp_path / "eps", rms_norm_eps=1e-3)),
        "theta": hash_of(changed(tmp_path / "theta", rope_parameters={"rope_type": "default", "rope_theta": 500.0})),
        "family": hash_of(tiny_model(tmp_path / "qwen2", "qwen2")),
        "dtype": hash_of(plain, dtype="bfloat16"),
        "length": hash_of(plain, options={"max_model_len": 128}),
        "remote code": hash_of(plain, trust_remote_code=True),
    }
    assert expected not in others.values()
    assert len(set(others.values())) == len(others)


def test_a_quantized_checkpoint_keeps_graphs_of_its_own(tmp_path: Path) -> None:
    first, second = (settings_for(tiny_model(tmp_path / str(seed), seed=seed))[0].model_config for seed in (0, 1))
    assert first.compute_hash() == second.compute_hash()
    first.quantization = second.quantization = "fp8"
    assert first.compute_hash() != second.compute_hash()


def changed(folder: Path, **config: Any) -> Path:
    """The tiny model, with other settings in its config.json."""
    about = json.loads((tiny_model(folder) / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**about, **config}))
    return folder
