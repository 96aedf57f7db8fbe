"""vLLM's faster ways in other models, settings and processes, and in an engine that dies of one: an engine a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spt_fast.engine.base import EngineConfig
from spt_fast.engine.vllm import forced, start, virtual_rows
from spt_fast.engine.vllm.engine import VllmEngine
from spt_fast.engine.vllm.start import EMBEDS, FAST
from spt_fast.errors import EngineError
from spt_fast.types import Score
from tests.helpers.both_ways import SETTINGS, check_equal, numbers, plainly
from tests.helpers.engine_requests import PLACES, SMALL_SHARE, generate, ids, soft
from tests.helpers.tiny import tiny_model

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("llama"), hidden_size=128)


def test_forced_options_are_worth_the_same_with_windows_caps_and_scaled_embeddings(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path, "gemma2", hidden_size=128)
    with VllmEngine(EngineConfig(gpus=SMALL_SHARE, model=str(folder), options=SETTINGS)) as engine:
        assert engine.ways == FAST
        check_equal(engine)


def test_they_are_worth_the_same_without_a_prefix_cache_and_with_prompts_in_chunks(llama: Path) -> None:
    options = {**SETTINGS, "enable_prefix_caching": False, "max_num_batched_tokens": 64}
    with VllmEngine(EngineConfig(gpus=SMALL_SHARE, model=str(llama), options=options)) as engine:
        assert engine.ways == FAST
        check_equal(engine)


def test_they_are_worth_the_same_where_requests_are_preempted(llama: Path) -> None:
    """The cache has room for one long sequence and a half."""
    per_block = 2 * 2 * 2 * 32 * 32 * 4  # keys and values, layers, heads, their size, tokens, bytes
    options = {"max_num_seqs": 4, "max_model_len": 256, "kv_cache_memory_bytes": 12 * per_block}
    with VllmEngine(EngineConfig(gpus=SMALL_SHARE, model=str(llama), options=options)) as engine:
        preempted = count_preemptions(engine)
        keys = [engine.add(soft(seed)) for seed in (0, 1)]
        long = tuple(range(32, 112))
        asked = [
            Score(token_ids=ids(90, seed), continuation=long, soft_prompt=key, position=place)
            for seed, (key, place) in enumerate((key, place) for key in keys for place in PLACES)
        ]
        plain = plainly(engine, asked)
        engine.forget()
        before = len(preempted)
        assert np.abs(numbers(engine.score(asked)) - plain).max() < 1e-4
        assert len(preempted) > before, "nothing was preempted, so this shows nothing"


def count_preemptions(engine: VllmEngine) -> list[object]:
    scheduler: Any = engine._engine.engine_core.engine_core.scheduler  # type: ignore[union-attr]
    seen: list[object] = []
    original = scheduler._preempt_request

    def preempt(*args: Any, **kwargs: Any) -> Any:
        seen.append(args)
        return original(*args, **kwargs)

    scheduler._preempt_request = preempt
    return seen


def test_an_engine_that_dies_of_a_faster_way_is_started_again_without_it(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, logits: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(forced.ForcedTokens, "apply", broken)
    with VllmEngine(EngineConfig(gpus=SMALL_SHARE, model=str(llama), options=SETTINGS)) as engine:
        assert engine.ways["scoring"] == "prompt_logprobs (forced: the engine died: RuntimeError: no such kernel)"
        assert engine.alive
        settings = engine._engine.vllm_config  # type: ignore[union-attr]
        assert not settings.model_config.logits_processors, "the processor is not even loaded the second time"


@pytest.mark.slow
def test_an_engine_in_a_process_of_its_own_takes_all_too(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the processor and the worker are found by their paths."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    with VllmEngine(EngineConfig(gpus=SMALL_SHARE, model=str(llama), options=SETTINGS)) as engine:
        assert engine.ways == FAST
        check_equal(engine)


@pytest.mark.slow
def test_a_model_that_has_no_place_for_rows_is_asked_by_prompt_embeds_while_vllm_has_them(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And once it has none, that is what a soft prompt's cells fail of; all others go on."""

    def unknown(model: object) -> Any:
        raise ValueError("it is not known where this looks up its embeddings")

    key = soft(0).key
    asked = [generate(ids(length), key, place) for length in (2, 40) for place in PLACES]
    with VllmEngine(EngineConfig(gpus=SMALL_SHARE, model=str(llama), options=SETTINGS)) as engine:
        engine.add(soft(0))
        expected, plain = engine.generate(asked), engine.generate([generate(ids(9))])
    monkeypatch.setattr(virtual_rows, "_where_ids_are_met", unknown)
    with VllmEngine(EngineConfig(gpus=SMALL_SHARE, model=str(llama), options=SETTINGS)) as mixed:
        assert mixed.ways["injection"].startswith("mixed (rows: vLLM refused a request: ValueError: it is not known where ")
        mixed.add(soft(0))
        assert mixed.generate(asked) == expected
    names = start.setting_names() - {EMBEDS}
    monkeypatch.setattr(start, "setting_names", lambda: names)
    with VllmEngine(EngineConfig(gpus=SMALL_SHARE, model=str(llama), options=SETTINGS)) as none:
        said = "cannot be brought to this model by vLLM: rows: .*not known where.*; mixed: this version of vLLM takes no prompt"
        with pytest.raises(EngineError, match=said):
            none.add(soft(0))
        assert none.generate([generate(ids(9))]) == plain
