"""vLLM's faster ways, forced options, virtual tokens and short embeds, beside its plain ones; and how it is found out that they
do not do."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
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
from spt_fast.engine.vllm import equivalence, forced, short_embeds, start
from spt_fast.engine.vllm.engine import VllmEngine, _Bundles
from spt_fast.engine.vllm.requests import CONTINUATION, engine_input, sampling_params
from spt_fast.engine.vllm.start import EXTENSION, FAST, PLAIN, PROCESSOR, WAYS
from spt_fast.errors import EngineError
from spt_fast.models.identity import Model
from spt_fast.types import Generate, LogLikelihood, Request, Sampling, Score
from tests.helpers.both_ways import SETTINGS, check_equal, everything, numbers, options_of, plainly, ways
from tests.helpers.engine_requests import BOS, EOS, PLACES, H, generate, ids, soft
from tests.helpers.tiny import tiny_model

pytestmark = pytest.mark.vllm

VOCABULARY = 272
"""Of the tiny model: 259 tokens, and rows that no tokenizer has."""


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("llama"), hidden_size=128)


@pytest.fixture(scope="module")
def engine(llama: Path) -> Iterator[VllmEngine]:
    with VllmEngine(EngineConfig(model=str(llama), options=SETTINGS)) as started:
        yield started


def test_forced_options_behind_soft_rows_are_worth_what_prompt_logprobs_say(engine: VllmEngine) -> None:
    assert engine.ways == FAST
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
    assert engine.ways["injection"] == "short (rows: prompt_logprobs looks every token of a prompt up among the logits)"
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
    def one_row_late(request: Request, rows: torch.Tensor | None, *, first_id: int | None, short: bool, **more: Any) -> Any:
        first_id = None if first_id is None else first_id - 1
        return engine_input(
            request, rows.roll(1, 0) if rows is not None and short else rows, first_id=first_id, short=short, **more
        )

    monkeypatch.setattr(vllm, "engine_input", one_row_late)
    monkeypatch.setattr(engine, "_ways", dict(PLAIN))
    monkeypatch.setattr(engine, "_obstacles", {})
    engine._choose_ways(EngineConfig(model=""))
    assert engine.ways["scoring"] == "forced"
    assert re.fullmatch(
        r"mixed \(rows: log-probabilities differ by .*; short: log-probabilities differ by .*\)", engine.ways["injection"]
    )


def test_two_soft_prompts_that_a_cache_mixes_up_are_found_out_at_the_start(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.v1.core import kv_cache_utils

    def unsalted(*arguments: Any, short: bool, **more: Any) -> Any:
        made: Any = engine_input(*arguments, short=short, **more)
        if short:
            made.pop("cache_salt", None)
        return made

    keys = kv_cache_utils._gen_prompt_embeds_extra_hash_keys

    def without_rows(request: Any, start: int, end: int) -> Any:
        short = request.prompt_embeds is not None and len(request.prompt_embeds) < len(request.prompt_token_ids)
        return [] if short else keys(request, start, end)

    monkeypatch.setattr(vllm, "engine_input", unsalted)
    monkeypatch.setattr(kv_cache_utils, "_gen_prompt_embeds_extra_hash_keys", without_rows)
    for scoring, said in (("forced", "log-probabilities differ by "), ("prompt_logprobs", "greedy completions differ")):
        monkeypatch.setattr(engine, "_ways", {"scoring": scoring, "injection": "mixed"})
        monkeypatch.setattr(engine, "_obstacles", {})
        assert engine._fastest("injection", ["short"]) == "mixed"
        assert engine._obstacles["short"].startswith(said)


def test_ids_that_are_given_to_two_soft_prompts_are_found_out_at_the_start(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = engine._first_id("x" * 16, torch.zeros(10, H))
    assert first is not None
    monkeypatch.setattr(engine, "_first_id", lambda key, rows: first)
    monkeypatch.setattr(engine, "_obstacles", {})
    monkeypatch.setattr(engine, "_ways", {**PLAIN, "scoring": "forced"})
    assert engine._fastest("injection", ["rows"]) == "mixed"
    assert engine._obstacles["rows"].startswith("log-probabilities differ by ")


def test_a_way_that_is_insisted_on_and_does_not_prove_equal_is_an_error(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_ways", dict(PLAIN))
    monkeypatch.setattr(engine, "_obstacles", {})
    monkeypatch.setattr(engine, "_disproof", lambda trial, way: "it rains")
    said = r"^engine\.injection: short cannot be used here \(it rains\); `auto` takes what can$"
    with pytest.raises(EngineError, match=said):
        engine._choose_ways(EngineConfig(model="", injection="short"))
    monkeypatch.setattr(engine, "_obstacles", {})
    engine._choose_ways(EngineConfig(model="", scoring="prompt_logprobs", injection="mixed"))
    assert engine.ways == PLAIN, "and those that are plain need no proof"


def settings_of(**more: Any) -> Any:
    model = SimpleNamespace(logprobs_mode="raw_logprobs", logits_processors=["theirs:One"], enable_trace_replay=False)
    parallel = SimpleNamespace(worker_extension_cls="")
    made = {
        "model_config": model,
        "parallel_config": parallel,
        "speculative_config": None,
        "use_v2_model_runner": False,
        **more,
    }
    return SimpleNamespace(**made)


def test_vllm_is_set_up_for_the_ways_that_may_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_embeds, "install", lambda: None)
    monkeypatch.setenv(short_embeds.SWITCH, "")
    config = EngineConfig(model="")
    assert start._prepare_ways(config, older := settings_of(), {}) == {}
    assert older.model_config.logits_processors == ["theirs:One", PROCESSOR]
    assert older.parallel_config.worker_extension_cls == EXTENSION
    assert os.environ[short_embeds.SWITCH] == "1"
    assert start._prepare_ways(config, newer := settings_of(use_v2_model_runner=True), {}) == {}
    assert newer.model_config.enable_trace_replay
    assert newer.model_config.logits_processors == ["theirs:One"]
    plain = EngineConfig(model="", scoring="prompt_logprobs", injection="mixed")
    for asked, known in ((plain, {}), (config, dict.fromkeys(("forced", "rows", "short"), "died"))):
        assert start._prepare_ways(asked, untouched := settings_of(), known) == {}
        assert untouched == settings_of()
        assert os.environ[short_embeds.SWITCH] == "0"


def test_ways_that_cannot_be_tried_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(short_embeds.SWITCH, "")
    monkeypatch.setattr(short_embeds, "KNOWN", "0.1.")
    processed = settings_of()
    processed.model_config.logprobs_mode = "processed_logprobs"
    found = start._prepare_ways(EngineConfig(model=""), processed, {})
    assert found["forced"] == "logprobs_mode is processed_logprobs"
    assert found["short"].endswith("and they are written for 0.1.*")
    assert "rows" not in found, "they change nothing of vLLM"
    found = start._prepare_ways(EngineConfig(model=""), settings_of(speculative_config=object()), {})
    assert found["forced"] == "speculative decoding takes no logits processor"
    assert found["rows"] == "a model that drafts has none of them"
    theirs = settings_of(parallel_config=SimpleNamespace(worker_extension_cls="theirs.Worker"))
    assert start._prepare_ways(EngineConfig(model=""), theirs, {})["rows"] == "worker_extension_cls is theirs.Worker"
    assert theirs.parallel_config.worker_extension_cls == "theirs.Worker"


def test_no_wheel_of_ours_leaves_the_plug_in_out() -> None:
    assert short_embeds.missing() is None


def test_the_plug_in_does_nothing_to_engines_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_embeds, "install", lambda: pytest.fail("it was installed"))
    for value in (None, "0", ""):
        monkeypatch.delenv(short_embeds.SWITCH, raising=False)
        if value is not None:
            monkeypatch.setenv(short_embeds.SWITCH, value)
        short_embeds.register()


def test_the_plug_in_leaves_a_vllm_alone_that_has_not_what_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.v1 import request
    from vllm.v1.core import kv_cache_utils

    before = request.Request.__init__
    monkeypatch.delattr(kv_cache_utils, "_gen_prompt_embeds_extra_hash_keys")
    assert "vLLM has not what they change" in str(short_embeds.install())
    assert request.Request.__init__ is before


def test_the_plug_in_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_PLUGINS", "others")
    assert short_embeds.missing() == "VLLM_PLUGINS leaves spt_fast_short_embeds out"
    monkeypatch.setattr(short_embeds, "NAME", "nobody")
    assert short_embeds.missing() == "the entry point nobody is not installed; `make install`"


def test_a_prompt_is_as_long_as_its_ids_and_never_shorter_than_its_rows() -> None:
    rows = torch.zeros(3, 4)
    assert short_embeds.length([1, 2, 3, 4, 5], rows) == 5
    assert short_embeds.length([1, 2, 3], rows) == 3
    assert short_embeds.length(None, rows) == 3
    assert short_embeds.length([1], None) == 1
    with pytest.raises(ValueError, match="3 rows of prompt embeds for 2 token ids"):
        short_embeds.length([1, 2], rows)
    with pytest.raises(ValueError, match="Neither"):
        short_embeds.length(None, None)


@pytest.mark.parametrize(("place", "before"), [("front", 0), ("after_bos", 1)])
def test_short_embeds_end_with_the_soft_rows(place: Any, before: int) -> None:
    rows = torch.tensor(soft(0).vectors)
    made: Any = engine_input(generate(ids(50), "0123456789abcdef", place), rows, short=True)
    assert torch.equal(made["prompt_embeds"][before:], rows)
    assert made["is_token_ids"] == [True] * before + [False] * 10
    assert len(made["prompt_token_ids"]) == 60


@pytest.mark.parametrize(("place", "before"), [("front", 0), ("after_bos", 1)])
def test_virtual_tokens_stand_where_soft_rows_do(place: Any, before: int) -> None:
    made: Any = engine_input(generate(ids(50), "0123456789abcdef", place), torch.tensor(soft(0).vectors), first_id=300)
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


def test_equal_answers_prove_nothing_where_soft_prompts_change_nothing() -> None:
    def same(value: float, n: int = 4) -> list[LogLikelihood]:
        return [LogLikelihood(token_logprobs=(value, -1.0))] * n

    assert equivalence.difference(same(-2.0), same(-2.0), itemsize=4) is None
    assert "too little difference" in str(equivalence.difference(same(-2.0), same(-2.0), itemsize=4, halves_differ=True))
    apart = [*same(-2.0, 2), *same(-3.0, 2)]
    assert equivalence.difference(apart, apart, itemsize=4, halves_differ=True) is None
    assert "differ by 0.01" in str(equivalence.difference(same(-2.0), same(-2.01), itemsize=4))
    assert equivalence.difference(same(-2.0), same(-2.01), itemsize=2) is None
    assert "differ by inf" in str(equivalence.difference(same(-2.0), same(float("nan")), itemsize=2))


def test_ways_are_settings_of_ours_and_not_of_vllm(llama: Path) -> None:
    model = Model(name="m", source=str(llama), fingerprint="f", dtype="auto")
    made = config_of(model, {"scoring": "forced", "injection": "mixed", "max_num_seqs": 2})
    assert (made.scoring, made.injection, made.options) == ("forced", "mixed", {"max_num_seqs": 2})


def written(engine: VllmEngine, asked: Sequence[Generate], injection: str) -> list[tuple[int, ...]]:
    with ways(engine, injection=injection):
        return [answer.token_ids for answer in engine.generate(asked)]


def test_completions_behind_soft_rows_are_the_same_however_these_travel(engine: VllmEngine) -> None:
    keys = [engine.add(soft(seed)) for seed in (0, 1)]
    asked = [generate(ids(length), key, place) for length in (2, 40, 70) for key in keys for place in PLACES]
    by_rows, short, mixed = (written(engine, asked, injection) for injection in WAYS["injection"])
    assert by_rows == short == mixed
    assert by_rows[0] != by_rows[2]


def test_a_soft_prompt_keeps_its_virtual_tokens_and_no_model_writes_them(engine: VllmEngine) -> None:
    keys = [engine.add(soft(seed)) for seed in (0, 1)]
    drawn = [
        Generate(token_ids=ids(9), sampling=Sampling(max_tokens=32, temperature=2.0, seed=seed), soft_prompt=key)
        for seed, key in enumerate(keys)
    ]
    with ways(engine, injection="rows"):
        assert max(token for answer in engine.generate(drawn) for token in answer.token_ids) < VOCABULARY
        given = dict(engine._first_ids)
        assert len({given[key] for key in keys}) == 2
        again = engine.add(soft(2))
        engine.generate([generate(ids(9), each) for each in (*keys, again)])
    assert {key: engine._first_ids[key] for key in keys} == {key: given[key] for key in keys}
    assert engine._first_ids[again] >= max(given.values()) + 10, "its own, behind all that were given"


def test_soft_prompts_for_which_the_workers_have_no_room_travel_with_their_requests(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm, "MOST_ROW_BYTES", (engine._rows_sent + 15) * H * 4)
    fits, waits = (engine.add(soft(seed)) for seed in (20, 21))
    asked = [generate(ids(40), key, place) for key in (fits, waits) for place in PLACES]
    found = written(engine, asked, "rows")
    assert fits in engine._first_ids
    assert waits not in engine._first_ids
    assert found == written(engine, asked, "mixed")
