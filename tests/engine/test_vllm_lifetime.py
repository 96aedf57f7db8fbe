"""vLLM's beginning and end: dtype, prefix caching off, end tokens, closing, dying, and another engine in the same process."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spt_fast import zoo
from spt_fast.engine.base import EngineConfig
from spt_fast.engine.oom_backoff import SHARE
from spt_fast.engine.vllm.engine import VllmEngine
from spt_fast.engine.vllm.requests import engine_input
from spt_fast.engine.vllm.start import _room, engine_options, setting_names
from spt_fast.errors import CacheTooSmallError, EngineError, OutOfMemoryError, ShareNotFreeError
from spt_fast.models import memory
from spt_fast.prompts.soft_prompt import SoftPrompt
from tests.helpers.engine_requests import EOS, SMALL_SHARE, generate, ids, soft
from tests.helpers.interleaved import check_interleaved
from tests.helpers.tiny import tiny_model

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def uncached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmEngine]:
    """Prefix caching off; and a byte that models of bytes write often is an end token of the generation config."""
    folder = tiny_model(tmp_path_factory.mktemp("llama"), hidden_size=128)
    (folder / "generation_config.json").write_text(f'{{"eos_token_id": [{EOS}, {", ".join(map(str, range(128)))}]}}')
    started = VllmEngine(
        EngineConfig(gpus=SMALL_SHARE, model=str(folder), options={"enable_prefix_caching": False, "max_num_seqs": 4})
    )
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
    with VllmEngine(EngineConfig(gpus=SMALL_SHARE, model=str(folder), options={"max_num_seqs": 4})) as engine:
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

        def short() -> None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        monkeypatch.setattr(engine, "_alive", True)
        monkeypatch.setattr(engine._engine, "step", short)
        with pytest.raises(OutOfMemoryError, match=r"^CUDA out of memory\. Tried to allocate 2\.00 GiB$"):
            engine.generate([generate(ids(3))])
        assert not engine.alive
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"gpu_memory_utilization": 0.9999}, ShareNotFreeError, r"^Available memory on node .* is less than desired CPU "),
        ({"kv_cache_memory_bytes": 200_000}, CacheTooSmallError, r"^To serve at least one request .* GiB KV cache is needed"),
    ],
)
def test_an_engine_that_lacks_memory_at_its_start_says_what_there_is_too_little_of(
    options: dict[str, float], kind: type[OutOfMemoryError], said: str, tmp_path: Path
) -> None:
    with pytest.raises(OutOfMemoryError, match=said) as caught:
        VllmEngine(EngineConfig(gpus=SMALL_SHARE, model=str(tiny_model(tmp_path, hidden_size=128)), options=options))
    assert type(caught.value) is kind


def test_a_worker_that_shares_a_gpu_gives_vllm_its_part_of_it() -> None:
    half = EngineConfig(model="m", gpus=0.5)
    assert engine_options(half, on_cpu=False)["gpu_memory_utilization"] == 0.45
    assert engine_options(replace(half, options={"gpu_memory_utilization": 0.3}), on_cpu=False)["gpu_memory_utilization"] == 0.3
    assert "gpu_memory_utilization" not in engine_options(half, on_cpu=True)
    assert "gpu_memory_utilization" not in engine_options(replace(half, gpus=1.0), on_cpu=False)


@pytest.mark.filterwarnings("ignore")  # what vLLM and its imports warn of is not ours to mend
def test_a_model_on_several_nodes_is_started_on_each_with_what_vllm_documents() -> None:
    from vllm import EngineArgs

    one = EngineConfig(model=str(zoo.find("zoo/base-70")), tensor_parallel=2, pipeline_parallel=2)
    assert engine_options(one, on_cpu=True).keys().isdisjoint({"nnodes", "node_rank", "master_addr", "master_port"})
    assert one.devices == 4
    two = replace(one, nodes=("10.0.0.1", "10.0.0.2"))
    assert two.devices == 2
    for rank in (0, 1):
        made = EngineArgs(**engine_options(two, on_cpu=True, rank=rank, port=29500)).create_engine_config(headless=rank > 0)
        parallel = made.parallel_config
        assert (parallel.nnodes, parallel.node_rank) == (2, rank)
        assert (parallel.master_addr, parallel.master_port) == ("10.0.0.1", 29500)
        assert (parallel.world_size, parallel.local_world_size) == (4, 2)
        assert parallel.distributed_executor_backend == "mp"


def test_a_share_that_is_not_free_is_said_before_vllm_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "FREED_S", 0)
    monkeypatch.setattr(memory, "free_and_total", lambda devices: (60 * 2**30, 80 * 2**30))
    with _room(EngineConfig(model="m"), 0.75):
        pass
    said = r"^60\.0 of 80\.0 GiB of GPU memory are free after 0 s, and gpu_memory_utilization 0\.92 asks for 73\.6; "
    with pytest.raises(ShareNotFreeError, match=said), _room(EngineConfig(model="m"), 0.92):
        pytest.fail("it was started")


def test_the_vectors_that_vllm_reads_are_the_soft_prompts_own() -> None:
    rows = torch.tensor(soft(0).vectors).to(torch.bfloat16)
    for place, before in (("front", 0), ("after_bos", 1), ("end", 5)):
        made = engine_input(generate(ids(5), "0123456789abcdef", place), rows)  # type: ignore[arg-type]
        assert torch.equal(made["prompt_embeds"][before : before + 10], rows)  # type: ignore[typeddict-item]
        mask = made["is_token_ids"]  # type: ignore[typeddict-item]
        assert [i for i, real in enumerate(mask) if not real] == list(range(before, before + 10))
        real_ids = [token for token, real in zip(made["prompt_token_ids"], mask, strict=True) if real]  # type: ignore[typeddict-item]
        assert tuple(real_ids) == ids(5)
        assert made["cache_salt"] == f"0123456789abcdef:{place}"


def test_settings_of_the_grid_are_known_by_their_names_in_vllm() -> None:
    assert {"max_num_seqs", "max_model_len", "gpu_memory_utilization"} <= setting_names()


def test_the_share_that_vllm_asks_for_by_itself_is_the_one_we_count_with() -> None:
    from vllm import EngineArgs

    assert EngineArgs.gpu_memory_utilization == SHARE
