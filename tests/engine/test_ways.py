"""vLLM's faster ways, forced options and virtual tokens, beside its plain ones; and how it is found out that they do not do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from spt_fast.engine import config_of
from spt_fast.engine.base import EngineConfig
from spt_fast.engine.transformers import TransformersEngine
from spt_fast.engine.vllm import engine as vllm
from spt_fast.engine.vllm import forced, start, virtual_rows
from spt_fast.engine.vllm.engine import VllmEngine, _Bundles
from spt_fast.engine.vllm.requests import CONTINUATION, engine_input, sampling_params
from spt_fast.engine.vllm.start import FAST, PLAIN, PROCESSOR, ROOM
from spt_fast.errors import EngineError
from spt_fast.models.identity import Model
from spt_fast.types import Generate, LogLikelihood, Request, Sampling, Score
from tests.helpers.both_ways import SETTINGS, check_equal, everything, numbers, options_of, plainly
from tests.helpers.engine_requests import BOS, EOS, PLACES, SMALL_SHARE, H, generate, ids, soft
from tests.helpers.tiny import tiny_model

pytestmark = pytest.mark.vllm

VOCABULARY = 272
"""Of the tiny model: 259 tokens, and rows that no tokenizer has."""


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("llama"), hidden_size=128)


@pytest.fixture(scope="module")
def engine(llama: Path) -> Iterator[VllmEngine]:
    with VllmEngine(EngineConfig(gpus=SMALL_SHARE, model=str(llama), options=SETTINGS)) as started:
        yield started


def test_forced_options_behind_soft_rows_are_worth_what_prompt_logprobs_say(engine: VllmEngine) -> None:
    assert engine.ways == FAST
    settings = engine._engine.vllm_config  # type: ignore[union-attr]
    assert not settings.model_config.enable_prompt_embeds
    check_equal(engine, seeds=(0, 1))


def test_options_are_worth_what_transformers_says(engine: VllmEngine, llama: Path) -> None:
    key = engine.add(soft(0))
    asked = everything([None, key])
    with TransformersEngine(EngineConfig(kind="transformers", model=str(llama), options={"device": "cpu"})) as reference:
        reference.add(soft(0))
        theirs = numbers(reference.score(asked))
    assert np.abs(numbers(engine.score(asked)) - theirs).max() < 1e-4


def test_completions_beside_forced_options_are_what_they_are_alone(engine: VllmEngine) -> None:
    """Greedy ones, drawn ones and ones under a grammar, whose logits are in the same batches."""
    key = engine.add(soft(0))
    drawn = Generate(token_ids=ids(9), sampling=Sampling(max_tokens=8, temperature=1.0, seed=1), soft_prompt=key)
    choice = Generate(token_ids=ids(8), sampling=Sampling(max_tokens=8, choices=("FOLLOWS", "NO")))
    completions = [generate(ids(40), key), drawn, choice, generate(ids(40), key, "after_bos"), drawn, choice]
    alone = [engine.generate([request])[0] for request in completions]
    scored = options_of(ids(40), key)
    together: list[Request] = [each for pair in zip(completions, scored, strict=False) for each in pair]
    answers = dict(engine.stream(together))
    assert [answers[i] for i in range(0, len(together), 2)] == alone
    assert alone[2].text in ("FOLLOWS", "NO")
    found = [answer for i in range(1, len(together), 2) if isinstance(answer := answers[i], LogLikelihood)]
    assert np.abs(numbers(found) - plainly(engine, scored[: len(completions)])).max() < 1e-5


def test_a_prompt_that_was_just_completed_is_not_computed_again_for_its_options(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs: list[Any] = []
    step = engine._step

    def seen() -> list[Any]:
        outputs.extend(found := step())
        return found

    monkeypatch.setattr(engine, "_step", seen)
    key, prompt = engine.add(soft(0)), ids(100, seed=3)
    list(engine.stream([generate(prompt, key), *options_of(prompt, key)]))
    cached = sorted(output.num_cached_tokens for output in outputs)
    assert cached == [0, *[96] * (len(cached) - 1)]  # of 110 positions, in blocks of 32
    assert len(cached) == 1 + len(options_of(prompt)) - 1, "the first two options, of one token each, are one request"


def test_an_engine_that_writes_something_else_is_found_out(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forced.ForcedTokens, "apply", lambda self, logits: logits)
    with pytest.raises(EngineError, match="did not write the continuation that it was given"):
        engine.score([Score(token_ids=ids(5), continuation=(65, 66))])
    assert engine.alive


def test_an_engine_that_does_not_force_is_found_out_at_its_start(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engine, "_ways", dict(PLAIN))
    monkeypatch.setattr(engine, "_obstacles", {})
    monkeypatch.setattr(forced.ForcedTokens, "apply", lambda self, logits: logits)
    engine._choose_ways(EngineConfig(model=""))
    assert engine.ways["scoring"].startswith("prompt_logprobs (forced: vLLM did not write")
    assert engine.ways["injection"] == "rows", "which need nothing of it"
    assert "engine.scoring: forced is not taken: vLLM did not write" in caplog.text
    (answer,) = engine.score([Score(token_ids=ids(5), continuation=(65, 66))])
    assert len(answer.token_logprobs) == 2


def test_log_probabilities_of_what_was_forced_upon_the_model_are_found_out(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler: Any = engine._engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner.sampler  # type: ignore[union-attr]
    monkeypatch.setattr(sampler, "logprobs_mode", "processed_logprobs")
    monkeypatch.setattr(engine, "_ways", dict(PLAIN))
    monkeypatch.setattr(engine, "_obstacles", {})
    assert engine._fastest("scoring", ["forced"]) == "prompt_logprobs"
    assert engine._obstacles["forced"].startswith("log-probabilities differ by ")
    assert engine.alive


def test_vectors_that_arrive_changed_are_found_out_at_the_start(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_row_late(request: Request, rows: torch.Tensor | None, *, soft_ids: Any, **more: Any) -> Any:
        late = range(soft_ids.start - 1, soft_ids.stop - 1) if isinstance(soft_ids, range) else soft_ids
        return engine_input(request, rows, soft_ids=late, **more)

    monkeypatch.setattr(vllm, "engine_input", one_row_late)
    monkeypatch.setattr(engine, "_ways", dict(PLAIN))
    monkeypatch.setattr(engine, "_obstacles", {})
    engine._choose_ways(EngineConfig(model=""))
    assert engine.ways["scoring"] == "forced"
    assert engine.ways["injection"].startswith("mixed (rows: log-probabilities differ by ")


@pytest.mark.parametrize(
    "changed",
    [lambda rows: rows.roll(1, 0), lambda rows: 1.1 * rows, lambda rows: torch.cat([rows[:-1], rows[:1]])],
    ids=["rows swapped", "another scale", "one row wrong"],
)
def test_rows_that_are_held_otherwise_than_they_were_sent_are_found_out_at_the_start(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch, changed: Any
) -> None:
    add = virtual_rows.VirtualRows.add
    monkeypatch.setattr(virtual_rows.VirtualRows, "add", lambda self, first, rows: add(self, first, changed(rows)))
    monkeypatch.setattr(engine, "_first_ids", {})
    monkeypatch.setattr(engine, "_ways", {**PLAIN, "scoring": "forced"})
    monkeypatch.setattr(engine, "_obstacles", {})
    assert engine._fastest("injection", ["rows"]) == "mixed"
    assert engine._obstacles["rows"].startswith("log-probabilities differ by ")


def test_ids_that_are_given_to_two_soft_prompts_are_found_out_at_the_start(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = engine._hold(torch.zeros(10, H))
    monkeypatch.setattr(engine, "_hold", lambda rows: first)
    monkeypatch.setattr(engine, "_first_ids", {})
    monkeypatch.setattr(engine, "_obstacles", {})
    monkeypatch.setattr(engine, "_ways", {**PLAIN, "scoring": "forced"})
    assert engine._fastest("injection", ["rows"]) == "mixed"
    assert engine._obstacles["rows"].startswith("log-probabilities differ by ")


def test_a_way_that_is_insisted_on_and_does_not_prove_equal_is_an_error(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_ways", dict(PLAIN))
    monkeypatch.setattr(engine, "_obstacles", {})
    monkeypatch.setattr(engine, "_disproof", lambda trial, matter, way: "it rains")
    said = r"^engine\.injection: rows cannot be used here \(it rains\); `auto` takes what can$"
    with pytest.raises(EngineError, match=said):
        engine._choose_ways(EngineConfig(model="", injection="rows"))
    monkeypatch.setattr(engine, "_obstacles", {})
    engine._choose_ways(EngineConfig(model="", scoring="prompt_logprobs", injection="mixed"))
    assert engine.ways == PLAIN, "and those that are plain need no proof"


def settings_of(**more: Any) -> Any:
    model = SimpleNamespace(
        logprobs_mode="raw_logprobs",
        logits_processors=["theirs:One"],
        enable_trace_replay=False,
    )
    made = {
        "model_config": model,
        "parallel_config": SimpleNamespace(worker_cls="vllm.v1.worker.gpu_worker.Worker"),
        "additional_config": {"theirs": 1},
        "speculative_config": None,
        "use_v2_model_runner": False,
        **more,
    }
    return SimpleNamespace(**made)


def test_vllm_is_set_up_for_the_ways_that_may_be_tried() -> None:
    config = EngineConfig(model="")
    assert start._prepare_forcing(config, older := settings_of(), {}) == {}
    assert older.model_config.logits_processors == ["theirs:One", PROCESSOR]
    assert start._prepare_forcing(config, newer := settings_of(use_v2_model_runner=True), {}) == {}
    assert newer.model_config.enable_trace_replay
    assert newer.model_config.logits_processors == ["theirs:One"]
    assert start._no_rows(config, {}) is None
    assert start._prepare_rows(older, None) == {}
    assert older.parallel_config.worker_cls == "spt_fast.engine.vllm.worker.Worker"
    assert older.additional_config == {"theirs": 1, ROOM: 2**27}
    plain = EngineConfig(model="", scoring="prompt_logprobs", injection="mixed")
    for asked, known in ((plain, {}), (config, dict.fromkeys(("forced", "rows"), "died"))):
        assert start._prepare_forcing(asked, untouched := settings_of(), known) == {}
        no_rows = start._no_rows(asked, known)
        assert start._prepare_rows(untouched, no_rows) == ({"rows": "died"} if known else {})
        assert untouched.additional_config == {"theirs": 1}
        assert untouched.model_config.logits_processors == ["theirs:One"]


def test_ways_that_cannot_be_tried_say_why() -> None:
    processed = settings_of()
    processed.model_config.logprobs_mode = "processed_logprobs"
    config = EngineConfig(model="")
    assert start._prepare_forcing(config, processed, {}) == {"forced": "logprobs_mode is processed_logprobs"}
    drafts = settings_of(speculative_config=object())
    assert start._prepare_forcing(config, drafts, {}) == {"forced": "speculative decoding takes no logits processor"}
    for options, said in (
        ({"speculative_config": {"method": "eagle"}}, "a model that drafts has none of them"),
        ({"worker_cls": "theirs.Worker"}, "worker_cls is theirs.Worker"),
    ):
        assert start._no_rows(EngineConfig(model="", options=options), {}) == said
    elsewhere = settings_of(parallel_config=SimpleNamespace(worker_cls="vllm.v1.worker.xpu_worker.XPUWorker"))
    assert start._prepare_rows(elsewhere, None) == {"rows": "vLLM's worker is vllm.v1.worker.xpu_worker.XPUWorker here"}
    assert elsewhere.parallel_config.worker_cls == "vllm.v1.worker.xpu_worker.XPUWorker"


@pytest.mark.parametrize(("place", "before"), [("front", 0), ("after_bos", 1), ("end", 50)])
def test_virtual_tokens_stand_where_soft_rows_do(place: Any, before: int) -> None:
    made: Any = engine_input(
        generate(ids(50), "0123456789abcdef", place), torch.tensor(soft(0).vectors), soft_ids=range(300, 310)
    )
    assert made["prompt_token_ids"] == [*ids(50)[:before], *range(300, 310), *ids(50)[before:]]
    assert "prompt_embeds" not in made


def test_a_processor_is_told_what_is_no_continuation() -> None:
    from vllm import SamplingParams

    for wrong in ([], [1.5], [-1], ["a"]):
        with pytest.raises(ValueError, match="must be token ids"):
            forced.ForcedTokens.validate_params(SamplingParams(extra_args={CONTINUATION: wrong}))
    forced.ForcedTokens.validate_params(SamplingParams(extra_args={CONTINUATION: [1, 2]}))
    forced.ForcedTokens.validate_params(SamplingParams())
    module, _, name = PROCESSOR.partition(":")
    assert (module, name) == (forced.ForcedTokens.__module__, forced.ForcedTokens.__name__)


def test_the_newer_model_runner_is_given_a_trace_to_replay() -> None:
    from vllm import SamplingParams

    made = sampling_params([Score(token_ids=(BOS,), continuation=(5, EOS, 7))], "trace")
    assert isinstance(made, SamplingParams)
    assert (made.trace_decode_token_ids, made.max_tokens, made.logprobs, made.extra_args) == ([5, EOS, 7], 3, 0, None)
    assert made.ignore_eos


def one(token: int, prompt: int = 1, key: str | None = None) -> Score:
    return Score(token_ids=(prompt,), continuation=(token,), soft_prompt=key)


def test_options_of_one_token_that_follow_each_other_make_a_bundle() -> None:
    two = Score(token_ids=(1,), continuation=(5, 6))
    asked: list[Request] = [generate((1,)), one(5), one(6), one(5), two, one(7), one(5, 2), one(5, 2, "a" * 16), generate((2,))]
    source = _Bundles(asked, together=True)
    taken = []
    while bundle := source.take(10):
        taken.append([index for index, _ in bundle])
    assert taken == [[0], [1, 2, 3], [4], [5], [6], [7], [8]]
    alone = _Bundles(asked, together=False)
    assert [len(alone.take(10)) for _ in asked] == [1] * len(asked)


def test_a_bundle_has_no_more_than_there_is_room_for_and_reads_no_further() -> None:
    read = 0

    def source() -> Iterator[Request]:
        nonlocal read
        for i in range(300):
            read += 1
            yield one(i)

    bundles = _Bundles(source(), together=True)
    assert [len(bundles.take(3)), read] == [3, 3]
    assert [len(bundles.take(1)), read] == [1, 4]
    assert [len(bundles.take(200)), read] == [128, 132]


def test_ways_are_settings_of_ours_and_not_of_vllm(llama: Path) -> None:
    model = Model(name="m", source=str(llama), fingerprint="f", dtype="auto")
    made = config_of(model, {"scoring": "forced", "injection": "mixed", "max_num_seqs": 2})
    assert (made.scoring, made.injection, made.options) == ("forced", "mixed", {"max_num_seqs": 2})


def test_two_soft_prompts_are_two_to_the_prefix_cache(engine: VllmEngine) -> None:
    keys = [engine.add(soft(seed)) for seed in (0, 1)]
    asked = [generate(ids(length), key, place) for length in (2, 40, 70) for key in keys for place in PLACES]
    first = engine.generate(asked)
    assert engine.generate(asked) == first
    assert first[0].token_ids != first[2].token_ids


def test_a_soft_prompt_keeps_its_virtual_tokens_and_no_model_writes_them(engine: VllmEngine) -> None:
    keys = [engine.add(soft(seed)) for seed in (0, 1)]
    drawn = [
        Generate(token_ids=ids(9), sampling=Sampling(max_tokens=32, temperature=2.0, seed=seed), soft_prompt=key)
        for seed, key in enumerate(keys)
    ]
    assert max(token for answer in engine.generate(drawn) for token in answer.token_ids) < VOCABULARY
    given = dict(engine._first_ids)
    assert len({given[key] for key in keys}) == 2
    again = engine.add(soft(2))
    engine.generate([generate(ids(9), each) for each in (*keys, again)])
    assert {key: engine._first_ids[key] for key in keys} == {key: given[key] for key in keys}
    assert engine._first_ids[again] >= max(given.values()) + 10, "its own, behind all that were given"


def test_soft_prompts_for_which_the_workers_have_no_room_wait_until_others_are_done(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for two of three, asked in turn: what runs is done before its ids are given to others."""
    keys = [engine.add(soft(seed)) for seed in (20, 21, 22)]
    asked = [generate(ids(length), key, place) for length in (40, 70) for key in keys for place in PLACES]
    expected = [answer.token_ids for answer in engine.generate(asked)]
    assert len(set(expected)) > 6
    calls: list[str] = []
    rpc = engine._engine.collective_rpc  # type: ignore[union-attr]
    monkeypatch.setattr(engine._engine, "collective_rpc", lambda name, **more: (calls.append(name), rpc(name, **more))[1])
    engine._first_ids.clear()
    for room in (20, 10):
        monkeypatch.setattr(engine, "_room", room)
        assert [answer.token_ids for answer in engine.generate(asked)] == expected
        assert engine._rows_sent <= room
    assert calls.count(vllm.FORGET_ROWS) >= 4
