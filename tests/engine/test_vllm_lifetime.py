"""vLLM's beginning and end: dtype, prefix caching off, end tokens, closing, dying, and another engine in the same process."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from spt_fast.engine.base import EngineConfig
from spt_fast.engine.vllm import VllmEngine, engine_input, setting_names
from spt_fast.errors import EngineError
from spt_fast.prompts.soft_prompt import SoftPrompt
from tests.engine.asking import EOS, generate, ids, soft
from tests.engine.test_vllm import check_interleaved
from tests.tiny import tiny_model

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def uncached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmEngine]:
    """Prefix caching off; and a byte that models of bytes write often is an end token of the generation config."""
    folder = tiny_model(tmp_path_factory.mktemp("llama"), hidden_size=128)
    (folder / "generation_config.json").write_text(f'{{"eos_token_id": [{EOS}, {", ".join(map(str, range(128)))}]}}')
    started = VllmEngine(EngineConfig(model=str(folder), options={"enable_prefix_caching": False, "max_num_seqs": 4}))
    yield started
    started.close()


def test_two_soft_prompts_interleaved_give_what_each_gives_alone_without_prefix_caching(uncached: VllmEngine) -> None:
    check_interleaved(uncached)


def test_every_end_token_of_the_generation_config_ends_a_completion(uncached: VllmEngine) -> None:
    answers = uncached.generate([generate(ids(5, i), tokens=40) for i in range(6)])
    ends = {EOS, *range(128)}
    assert any(answer.finish_reason == "stop" for answer in answers)
    for answer in answers:
        assert not ends & {*answer.token_ids[:-1]}
        assert (answer.finish_reason == "stop") == (answer.token_ids[-1] in ends)


def test_an_engine_that_died_says_so_and_another_starts_in_the_same_process(
    tmp_path: Path, uncached: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    uncached.close()
    uncached.close()
    with pytest.raises(EngineError, match="has ended"):
        uncached.generate([generate(ids(3))])

    folder = tiny_model(tmp_path, hidden_size=128, dtype=torch.bfloat16)
    with VllmEngine(EngineConfig(model=str(folder), options={"max_num_seqs": 4})) as engine:
        prompt = soft(3)
        prompt.save(tmp_path / "saved.safetensors")
        key = engine.add(SoftPrompt.load(tmp_path / "saved.safetensors"))
        assert torch.equal(engine._held[key], torch.tensor(prompt.vectors).to(torch.bfloat16))
        with pytest.raises(EngineError, match="overflows"):
            engine.add(SoftPrompt(vectors=np.full((1, 128), np.finfo(np.float32).max, dtype=np.float32)))
        assert len(engine.generate([generate(ids(3), key)])) == 1

        def broken() -> None:
            raise RuntimeError("out of everything\nand a long tale")

        monkeypatch.setattr(engine._engine, "step", broken)
        with pytest.raises(EngineError, match=r"the engine died: RuntimeError: out of everything$"):
            engine.generate([generate(ids(3))])
        assert not engine.alive
        with pytest.raises(EngineError, match="has ended"):
            engine.generate([generate(ids(3))])
    assert multiprocessing.active_children() == []


def test_the_vectors_that_vllm_reads_are_the_soft_prompts_own() -> None:
    rows = torch.tensor(soft(0).vectors).to(torch.bfloat16)
    for place, before in (("front", 0), ("after_bos", 1)):
        made = engine_input(generate(ids(5), "0123456789abcdef", place), rows)  # type: ignore[arg-type]
        assert torch.equal(made["prompt_embeds"][before : before + 10], rows)  # type: ignore[typeddict-item]
        mask = made["is_token_ids"]  # type: ignore[typeddict-item]
        assert [i for i, real in enumerate(mask) if not real] == list(range(before, before + 10))
        real_ids = [token for token, real in zip(made["prompt_token_ids"], mask, strict=True) if real]  # type: ignore[typeddict-item]
        assert tuple(real_ids) == ids(5)
        assert made["cache_salt"] == f"0123456789abcdef:{place}"


def test_settings_of_the_grid_are_known_by_their_names_in_vllm() -> None:
    assert {"max_num_seqs", "max_model_len", "gpu_memory_utilization"} <= setting_names()
