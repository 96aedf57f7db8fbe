"""An engine that runs out of memory is started again with less, and the cells come to the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spt_fast.config import FewShot, GridConfig, JudgeConfig, ModelConfig, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.driver.result import GridResult
from spt_fast.driver.run import run_cells as run_in_workers
from spt_fast.engine import config_of, oom_backoff
from spt_fast.engine.base import EngineConfig
from spt_fast.engine.oom_backoff import LESS, Backoff, Rung, below, gpu_share, lowered
from spt_fast.engine.vllm.engine import VllmEngine
from spt_fast.errors import (
    CacheTooSmallError,
    EngineError,
    OutOfMemoryError,
    ShareNotFreeError,
    WeightsTooLargeError,
)
from spt_fast.models.identity import resolve
from spt_fast.plan import Stage
from spt_fast.plan.cell import SPEED_ONLY
from spt_fast.worker.events import Event, PhaseStarted
from spt_fast.worker.judge import run_judging
from tests.helpers.running import Inline, Listener, run_grid
from tests.helpers.tiny import tiny_model

SHORT = OutOfMemoryError("CUDA out of memory")
LOWEST = Rung(batches=2, share=2)


def config(**options: Any) -> EngineConfig:
    return EngineConfig(model="m", options=options)


@pytest.fixture(autouse=True)
def small_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's own batches on a smaller GPU, whatever this machine has."""
    monkeypatch.setattr(VllmEngine, "own_batches", classmethod(lambda cls, config: (256, 8192)))


def starts(
    error: OutOfMemoryError, monkeypatch: pytest.MonkeyPatch, *, on_gpu: bool = True, cuts: bool = False, **options: Any
) -> list[str]:
    """What is lowered at each start, where every one fails in the same way."""
    monkeypatch.setattr(oom_backoff.memory, "on_gpu", lambda: on_gpu)
    careful, notes = Backoff(config(**options), cuts=cuts), []
    while careful.lower(error):
        notes.append(careful.note)
    return notes


def test_batches_are_halved_twice_and_then_the_share_is_lowered_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    assert starts(SHORT, monkeypatch) == [
        "max_num_batched_tokens 4096, max_num_seqs 128",
        "max_num_batched_tokens 2048, max_num_seqs 64",
        "max_num_batched_tokens 2048, max_num_seqs 64, gpu_memory_utilization 0.782",
        "max_num_batched_tokens 2048, max_num_seqs 64, gpu_memory_utilization 0.644",
    ]


def test_a_share_that_others_hold_is_lowered_and_the_batches_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    notes = starts(ShareNotFreeError("not free"), monkeypatch, gpu_memory_utilization=0.5)
    assert notes == ["gpu_memory_utilization 0.425", "gpu_memory_utilization 0.35"]


def test_a_cache_that_is_too_small_keeps_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    notes = starts(CacheTooSmallError("no room"), monkeypatch, max_num_seqs=32)
    assert notes == ["max_num_seqs 16, max_num_batched_tokens 4096", "max_num_seqs 8, max_num_batched_tokens 2048"]


def test_a_judge_whose_cache_is_too_small_reads_as_much_as_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    small = CacheTooSmallError("To serve at least one request with the model's max seq len")
    assert starts(small, monkeypatch, cuts=True) == [
        "max_model_len -1",
        "max_num_batched_tokens 4096, max_num_seqs 128, max_model_len -1",
        "max_num_batched_tokens 2048, max_num_seqs 64, max_model_len -1",
    ]
    assert starts(small, monkeypatch, cuts=True, max_model_len=4096)[0] == "max_num_batched_tokens 4096, max_num_seqs 128"


def test_the_first_step_down_is_half_of_what_the_engine_takes_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's own numbers, on a GPU as large as an H100, an A100 or smaller."""
    from vllm import EngineArgs
    from vllm.platforms import current_platform
    from vllm.usage.usage_lib import UsageContext

    from spt_fast.engine.vllm import start

    monkeypatch.undo()
    for name, gib, first in (("NVIDIA H100 80GB HBM3", 79, 1024), ("NVIDIA A100-SXM4-80GB", 79, 256), ("NVIDIA A10", 22, 256)):
        with monkeypatch.context() as gpu:
            gpu.setattr(type(current_platform), "is_cpu", lambda self: False)
            gpu.setattr(type(current_platform), "get_device_total_memory", classmethod(lambda cls, i=0, gib=gib: gib * 2**30))
            gpu.setattr(type(current_platform), "get_device_name", classmethod(lambda cls, i=0, name=name: name))
            gpu.setattr(start.memory, "on_gpu", lambda: True)
            tokens, sequences = EngineArgs.get_batch_defaults(1)
            assert VllmEngine.own_batches(config()) == (first, tokens[UsageContext.LLM_CLASS])
            assert first == sequences[UsageContext.LLM_CLASS]
            half = f"max_num_batched_tokens {tokens[UsageContext.LLM_CLASS] // 2}, max_num_seqs {first // 2}"
            assert starts(SHORT, gpu)[0] == half


def test_weights_that_are_too_large_are_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert starts(WeightsTooLargeError("too large"), monkeypatch) == []


def test_on_a_cpu_a_share_is_lowered_only_where_the_grid_asks_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(starts(SHORT, monkeypatch, on_gpu=False)) == 2
    assert starts(SHORT, monkeypatch, on_gpu=False, gpu_memory_utilization=0.8)[-1].endswith(
        "0.56, max_num_batched_tokens 2048, max_num_seqs 64"
    )


def test_a_cache_of_a_size_that_the_grid_names_is_made_smaller_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    notes = starts(ShareNotFreeError("not free"), monkeypatch, on_gpu=False, kv_cache_memory_bytes=1000)
    assert notes == ["kv_cache_memory_bytes 850", "kv_cache_memory_bytes 700"]


def test_settings_that_cannot_be_lowered_are_not_tried_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    notes = starts(CacheTooSmallError("no room"), monkeypatch, max_num_seqs=1, enable_chunked_prefill=False)
    assert notes == []


def test_transformers_halves_its_own_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oom_backoff.memory, "on_gpu", lambda: True)
    assert not Backoff(EngineConfig(kind="transformers", model="m")).lower(SHORT)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "max_num_seqs": st.integers(1, 2048),
            "max_num_batched_tokens": st.integers(1, 65536),
            "gpu_memory_utilization": st.floats(0.05, 1),
            "kv_cache_memory_bytes": st.integers(2**20, 2**40),
            "enable_chunked_prefill": st.booleans(),
            "max_model_len": st.integers(1, 10**6),
        },
    ),
    st.sampled_from([0.25, 0.5, 1.0, 4.0]),
)
def test_nothing_the_grid_sets_is_exceeded_and_only_speed_changes(options: dict[str, Any], gpus: float) -> None:
    first = EngineConfig(model="m", options=options, gpus=gpus)
    for rung in [Rung(), *below(Rung(), SHORT)]:
        then = lowered(first, rung, on_gpu=True)
        changed = {name: value for name, value in then.options.items() if options.get(name) != value}
        assert set(changed) <= SPEED_ONLY
        assert all(value <= options.get(name, value) and value > 0 for name, value in changed.items())
        assert gpu_share(then) <= gpu_share(first)
        if "max_num_batched_tokens" in changed:
            assert then.options["max_num_seqs"] <= then.options["max_num_batched_tokens"]
        assert replace(then, options=options) == first
    assert lowered(first, Rung(), on_gpu=True) == first


def test_the_way_down_has_as_many_steps_as_are_written_down() -> None:
    assert below(Rung(), SHORT)[-1] == LOWEST
    assert len(below(Rung(), SHORT)) == sum(len(LESS[remedy]) - 1 for remedy in SHORT.helps)
    assert below(LOWEST, SHORT) == []


def test_what_was_tried_is_told_with_the_error_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oom_backoff.memory, "on_gpu", lambda: True)
    careful = Backoff(config())
    assert careful.failure(ShareNotFreeError("first")) is None
    assert careful.failure(ShareNotFreeError("second")) is None
    assert careful.restarts == 2
    said = careful.failure(ShareNotFreeError("60 of 80 GiB are free"))
    assert isinstance(said, ShareNotFreeError)
    tried = "the settings asked for; gpu_memory_utilization 0.782"
    assert str(said) == f"60 of 80 GiB are free (gpu_memory_utilization 0.644; tried before: {tried})"
    died = EngineError("the engine died: of something else")
    assert careful.failure(died) is died


@pytest.mark.parametrize(
    ("gpus", "options", "expected"),
    [(None, {}, 0.92), (1.0, {}, 0.92), (0.5, {}, 0.45), (0.3, {}, 0.27), (0.5, {"gpu_memory_utilization": 0.3}, 0.3)],
)
def test_a_worker_asks_for_its_part_of_the_gpu(
    gpus: float | None, options: dict[str, Any], expected: float, model: Path
) -> None:
    (resolved,) = resolve(ModelConfig(id=str(model), gpus=gpus))
    made = config_of(resolved, options)
    assert made.gpus == (gpus or 1.0)
    assert made.options == options
    assert gpu_share(made) == expected


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"), hidden_size=32, positions=4096)


def grid(model: Path, folder: Path, **engine: Any) -> GridConfig:
    return GridConfig(
        name="g",
        models=(ModelConfig(id=str(model)),),
        tasks=(TaskConfig(task="zoo-mcq"), TaskConfig(task="zoo-json")),
        protocols=(ZeroShot(), SoftPromptConfig(length=3, steps=2, batch_size=2, lr=0.05)),
        limit=4,
        engine={"kind": "echo", **engine},
        output=folder,
    )


def told(result: GridResult) -> dict[str, Any]:
    """Results by the cells' names: their keys differ by the options that make `echo` run out of memory."""
    return {cell.title: result.results[cell.key].metrics for cell in result.cells}


@pytest.fixture(scope="module")
def expected(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the cells come to with memory enough."""
    return told(run_grid(grid(model, tmp_path_factory.mktemp("run"))))


@pytest.mark.parametrize(
    ("engine", "note", "times"),
    [
        ({"most": {"max_num_seqs": 100}}, "max_num_batched_tokens 2048, max_num_seqs 64", 2),
        ({"most": {"max_num_seqs": 200}, "die_after": 30}, "max_num_batched_tokens 4096, max_num_seqs 128", 1),
        (
            {"most": {"gpu_memory_utilization": 0.8}, "gpu_memory_utilization": 0.9},
            "gpu_memory_utilization 0.765",
            1,
        ),
    ],
    ids=["at its start", "at work", "share held by others"],
)
def test_an_engine_that_runs_out_of_memory_costs_no_cell(
    engine: dict[str, Any], note: str, times: int, model: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    listener = Listener()
    result = run_grid(grid(model, tmp_path / "run", **engine), watch=listener.watch)
    assert result.failures == {}
    assert told(result) == expected
    begun = [event.note for event in listener.seen if isinstance(event, PhaseStarted) and event.phase == "engine"]
    assert (begun[0], begun[-1], len(begun)) == ("", note, times + 1)
    last = [result.results[cell.key] for cell in result.cells if result.results[cell.key].provenance.get("engine_lowered")]
    assert last
    for stored in last:
        assert stored.provenance["engine_lowered"] == note
        assert stored.costs["engine_out_of_memory"] == times
    lines = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert note in [line.get("note") for line in lines]


class JudgedHere(Inline):
    """Judges in this process too."""

    def run(self, stages: Sequence[Stage], earlier: Callable[[Stage], Any]) -> Generator[tuple[Stage, Event]]:
        for stage in stages:
            if stage.judge is None:
                yield from super().run([stage], earlier)
            else:
                events: list[Event] = []
                run_judging(stage, earlier(stage), events.append)
                yield from ((stage, event) for event in events)


def test_a_judge_that_runs_out_of_memory_gives_the_same_verdicts(model: Path, tmp_path: Path) -> None:
    def judged(name: str, **engine: Any) -> GridResult:
        judge = JudgeConfig(model=str(model), engine={"kind": "echo", **engine})
        tasks, protocols = (TaskConfig(task="zoo-json"),), (ZeroShot(), FewShot(shots=1))
        return run_in_workers(
            replace(grid(model, tmp_path / name), tasks=tasks, protocols=protocols, judge=judge), executor=JudgedHere()
        )

    plain, short = judged("plain"), judged("short", most={"max_num_seqs": 100}, die_after=5)
    assert short.failures == {}
    assert told(short) == told(plain)
    lowered = {stored.provenance.get("judge_engine_lowered") for stored in short.results.values()}
    assert "max_num_batched_tokens 2048, max_num_seqs 64" in lowered


def test_cells_fail_once_with_what_was_tried_when_nothing_helps(model: Path, tmp_path: Path) -> None:
    listener = Listener()
    result = run_grid(grid(model, tmp_path / "run", most={"max_num_seqs": 0}), watch=listener.watch)
    assert len(result.failures) == len(result.cells) == 4
    for failure in result.failures.values():
        assert failure.kind == "OutOfMemoryError"
        assert "out of memory with 64 sequences, as asked" in failure.reason
        assert "tried before: the settings asked for; max_num_batched_tokens 4096, max_num_seqs 128" in failure.reason
    begun = [event for event in listener.seen if isinstance(event, PhaseStarted) and event.phase == "engine"]
    assert len(begun) == 3


def test_an_engine_that_cannot_start_for_another_reason_is_started_once(model: Path, tmp_path: Path) -> None:
    listener = Listener()
    result = run_grid(grid(model, tmp_path / "run", refuse=True), watch=listener.watch)
    assert len(result.failures) == len(result.cells) == 4
    assert all("refused, as asked" in failure.reason for failure in result.failures.values())
    begun = [event for event in listener.seen if isinstance(event, PhaseStarted) and event.phase == "engine"]
    assert len(begun) == 1
