"""vLLM on this machine's CPU or GPU, and Transformers beside it: the silent faults of soft prompts, and everyday use."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest

from spt_fast.engine.base import EngineConfig
from spt_fast.engine.transformers import TransformersEngine
from spt_fast.engine.vllm.engine import VllmEngine
from spt_fast.errors import EngineError
from spt_fast.models import memory
from spt_fast.models.frozen_model import FrozenModel
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.types import Completion, Generate, LogLikelihood, Request, Sampling, Score
from tests.helpers.engine_requests import BOS, LENGTHS, PLACES, SMALL_SHARE, generate, ids, score, soft
from tests.helpers.interleaved import check_interleaved, logprobs
from tests.helpers.tiny import tiny_model

pytestmark = pytest.mark.vllm
WINDOW = 6


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("llama"), hidden_size=128)


@pytest.fixture(scope="module")
def engine(llama: Path) -> Iterator[VllmEngine]:
    # Short blocks, so that prefixes of these short prompts are found in the cache.
    config = EngineConfig(gpus=SMALL_SHARE, model=str(llama), window=WINDOW, options={"max_num_seqs": 4, "block_size": 32})
    started = VllmEngine(config)
    yield started
    started.close()


@pytest.fixture(scope="module")
def reference(llama: Path) -> Iterator[TransformersEngine]:
    started = TransformersEngine(EngineConfig(kind="transformers", model=str(llama), options={"device": "cpu"}))
    yield started
    started.close()


def readable(text: str) -> str:
    return text.replace("\ufffd", "")


def test_an_fp32_checkpoint_is_run_in_fp32_as_it_was_trained(engine: VllmEngine, reference: TransformersEngine) -> None:
    assert reference.dtype == "float32"
    prompt = soft(0)
    held = engine._held[engine.add(prompt)]
    assert str(held.dtype) == "torch.float32"
    assert np.array_equal(held.numpy(), prompt.vectors)


def test_vllm_copies_no_tokenizer_for_threads_that_are_not_there(engine: VllmEngine) -> None:
    from vllm.renderers import hf
    from vllm.tokenizers.hf import ThreadSafeHFTokenizerMixin, maybe_make_thread_pool

    assert engine._engine is not None
    assert not isinstance(engine._engine.get_tokenizer(), ThreadSafeHFTokenizerMixin)
    assert hf.maybe_make_thread_pool is maybe_make_thread_pool, "and vLLM is as it was"


@pytest.mark.skipif(memory.on_gpu(), reason="a GPU's allocator keeps memory itself")
def test_the_sampler_of_a_cpu_keeps_its_buffers(engine: VllmEngine) -> None:
    worker = "model_executor.driver_worker.worker.model_runner.sampler"
    sampler = attrgetter(f"engine_core.engine_core.{worker}")(engine._engine)
    assert type(sampler).__name__ == "LightSampler"


def test_completions_equal_those_of_transformers_in_batches_of_mixed_lengths(
    engine: VllmEngine, reference: TransformersEngine
) -> None:
    key = engine.add(soft(0))
    reference.add(soft(0))
    asked = [generate(ids(length), k, place) for length in LENGTHS for k in (None, key) for place in PLACES]
    ours, theirs = engine.generate(asked), reference.generate(asked)
    assert [answer.token_ids for answer in ours] == [answer.token_ids for answer in theirs]
    assert [answer.finish_reason for answer in ours] == [answer.finish_reason for answer in theirs]


def test_log_likelihoods_equal_those_of_transformers(engine: VllmEngine, reference: TransformersEngine) -> None:
    key = engine.add(soft(0))
    reference.add(soft(0))
    asked = [score(ids(length), k, place) for length in LENGTHS for k in (None, key) for place in PLACES]
    assert np.abs(logprobs(engine, asked) - logprobs(reference, asked)).max() < 1e-4


def test_a_soft_prompt_counts_and_so_does_where_it_stands(engine: VllmEngine) -> None:
    key = engine.add(soft(0))
    plain, front, behind = logprobs(engine, [score(ids(7)), score(ids(7), key), score(ids(7), key, "after_bos")])
    assert np.abs(plain - front).max() > 0.1
    assert np.abs(front - behind).max() > 0.1


def test_embeddings_of_ten_real_tokens_give_what_the_text_gives(engine: VllmEngine, llama: Path) -> None:
    text, rest = ids(10), ids(40, seed=1)[1:]
    model = FrozenModel.load(llama, device="cpu")
    weight = model.module.get_input_embeddings().weight
    key = engine.add(SoftPrompt(vectors=weight[list(text)].detach().numpy()))
    model.free()
    as_text, as_vectors = engine.generate([generate(text + rest), generate(rest, key)])
    assert as_vectors.token_ids == as_text.token_ids
    apart = logprobs(engine, [score(text + rest)]) - logprobs(engine, [score(rest, key)])
    assert np.abs(apart).max() < 1e-4


def test_two_soft_prompts_interleaved_give_what_each_gives_alone_with_prefix_caching(engine: VllmEngine) -> None:
    check_interleaved(engine)


def test_mixed_answers_carry_the_places_of_their_requests(engine: VllmEngine) -> None:
    asked: list[Request] = [generate(ids(5, i), tokens=1 + i % 4) if i % 3 else score(ids(5, i)) for i in range(20)]
    answers = dict(engine.stream(asked))
    assert sorted(answers) == list(range(20))
    for i, request in enumerate(asked):
        answer = answers[i]
        assert isinstance(answer, LogLikelihood if isinstance(request, Score) else Completion)
        if isinstance(answer, Completion) and answer.finish_reason == "length":
            assert len(answer.token_ids) == 1 + i % 4


def test_requests_are_read_no_further_than_the_window(engine: VllmEngine) -> None:
    read = 0

    def source() -> Iterator[Request]:
        nonlocal read
        for i in range(30):
            read += 1
            yield generate(ids(5, i), tokens=1 + i % 5)

    for answered, _ in enumerate(engine.stream(source())):
        assert read <= answered + WINDOW
    assert read == 30


def test_a_stream_that_is_left_midway_takes_its_requests_back(engine: VllmEngine) -> None:
    stream = engine.stream(generate(ids(5, i), tokens=1 + 20 * (i % 2)) for i in range(12))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert not engine._engine.has_unfinished_requests()  # type: ignore[union-attr]
    asked = [generate(ids(6, i)) for i in range(4)]
    assert engine.generate(asked) == [engine.generate([request])[0] for request in asked]


def test_requests_that_nobody_waits_for_are_taken_back_and_the_others_are_answered(engine: VllmEngine) -> None:
    asked = [generate(ids(5, i), tokens=20 if i % 2 else 1) for i in range(12)]
    stream, answered = engine.stream(asked), {}
    for number, answer in stream:
        answered[number] = answer
        engine.cancel([number for number in range(12) if number % 2])  # those in flight; later ones are still to be sent
    assert set(answered) >= set(range(0, 12, 2))
    assert not engine._engine.has_unfinished_requests()  # type: ignore[union-attr]
    assert answered[4] == engine.generate([asked[4]])[0]
    assert len(answered) < 12


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (generate(()), "without tokens"),
        (Score(token_ids=(BOS,), continuation=()), "continuation without tokens"),
        (generate((BOS, 272)), "outside the vocabulary"),
        (generate((BOS, -1)), "outside the vocabulary"),
        (generate((65,) * 512), "do not fit"),
        (Score(token_ids=(65,) * 511, continuation=(65,)), "do not fit"),
        (generate((BOS,), "0123456789abcdef"), "holds no soft prompt"),
        (generate((BOS,), tokens=0), "max_tokens"),
        (Generate(token_ids=(BOS,), sampling=Sampling(max_tokens=1, top_p=2.0)), "vLLM refused"),
    ],
)
def test_an_impossible_request_is_a_sentence_and_the_engine_goes_on(engine: VllmEngine, request_: Request, said: str) -> None:
    with pytest.raises(EngineError, match=said):
        list(engine.stream([generate(ids(4)), request_]))
    assert engine.alive
    assert not engine._engine.has_unfinished_requests()  # type: ignore[union-attr]
    assert len(engine.generate([generate(ids(4))])) == 1


def test_a_soft_prompt_for_another_model_is_refused(engine: VllmEngine) -> None:
    with pytest.raises(EngineError, match="H = 64, the model H = 128"):
        engine.add(soft(0, hidden_size=64))
    assert engine.alive


def test_a_completion_ends_in_front_of_a_stop_string_and_behind_an_end_token(
    engine: VllmEngine, reference: TransformersEngine
) -> None:
    prompt = ids(5)
    (free,) = engine.generate([generate(prompt, tokens=24)])
    printable = next(character for character in free.text if character.isascii() and character.isprintable())
    stopped = Generate(token_ids=prompt, sampling=Sampling(max_tokens=24, stop=("never written", printable)))
    for answer in (*engine.generate([stopped]), *reference.generate([stopped])):
        assert answer.finish_reason == "stop"
        # Random bytes are no characters: how many "\ufffd" stand for them depends on how they come.
        assert readable(answer.text) == readable(free.text[: free.text.index(printable)])
        assert answer.token_ids == free.token_ids[: len(answer.token_ids)]
    assert free.finish_reason == "length"
    assert len(free.token_ids) == 24
