"""The reference engine, by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from spt_fast.engine import open_engine
from spt_fast.engine.base import EngineConfig
from spt_fast.engine.transformers import TransformersEngine
from spt_fast.errors import EngineError, OutOfMemoryError
from spt_fast.types import Generate, Request, Sampling, Score
from tests.helpers.engine_requests import LENGTHS, PLACES, generate, ids, score, soft
from tests.helpers.tiny import tiny_model


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("llama"), hidden_size=128)


@pytest.fixture(scope="module")
def engine(llama: Path) -> Iterator[TransformersEngine]:
    options = {"batch_size": 3, "device": "cpu"}
    started = TransformersEngine(EngineConfig(kind="transformers", model=str(llama), window=6, options=options))
    yield started
    started.close()


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "opt", "gemma2"])
def test_a_batch_of_different_lengths_gives_what_each_gives_alone(tmp_path: Path, family: str) -> None:
    folder = tiny_model(tmp_path, family, hidden_size=128)
    options = {"batch_size": 8, "device": "cpu"}
    with open_engine(EngineConfig(kind="transformers", model=str(folder), options=options)) as engine:
        prompt = soft(0, hidden_size=engine.hidden_size)
        key = engine.add(prompt)
        asked = [generate(ids(length), k, "front", tokens=4) for length in LENGTHS for k in (None, key)]
        alone = [engine.generate([request])[0] for request in asked]
        assert engine.generate(asked) == alone
        scored = [score(ids(length), k, "after_bos") for length in LENGTHS for k in (None, key)]
        each = np.array([engine.score([request])[0].token_logprobs for request in scored])
        assert np.abs(np.array([answer.token_logprobs for answer in engine.score(scored)]) - each).max() < 1e-4


def test_greedy_completions_are_the_likeliest_tokens_by_their_own_scores(engine: TransformersEngine) -> None:
    """The cache, the positions and the mask of the decode loop, against one forward without any of them."""
    key = engine.add(soft(0))
    for place in PLACES:
        prompt = ids(9)
        (answer,) = engine.generate([generate(prompt, key, place, tokens=5)])
        *until, written = answer.token_ids
        ways = [(*until, i) for i in range(272)]
        asked = [Score(token_ids=prompt, continuation=way, soft_prompt=key, position=place) for way in ways]
        totals = [answer.total for answer in engine.score(asked)]
        assert int(np.argmax(totals)) == written


def test_what_is_drawn_depends_on_the_seed_and_not_on_the_batch(engine: TransformersEngine) -> None:
    def drawn(seed: int | None, length: int = 5) -> Generate:
        return Generate(token_ids=ids(length), sampling=Sampling(max_tokens=6, temperature=1.5, top_p=0.9, seed=seed))

    first, again, other = engine.generate([drawn(1), drawn(1), drawn(2)])
    assert first == again
    assert first.token_ids != other.token_ids
    assert engine.generate([drawn(3, 30), generate(ids(2)), drawn(1)])[2] == first


def test_requests_are_read_no_further_than_the_window(engine: TransformersEngine) -> None:
    read = 0

    def source() -> Iterator[Request]:
        nonlocal read
        for i in range(14):
            read += 1
            yield generate(ids(3 + i), tokens=1) if i % 2 else score(ids(3 + i))

    found = []
    for answered, (index, _) in enumerate(engine.stream(source())):
        assert read <= answered + 6
        found.append(index)
    assert sorted(found) == list(range(14))


def test_wrong_requests_and_settings_are_sentences(engine: TransformersEngine, llama: Path) -> None:
    with pytest.raises(EngineError, match="H = 64, the model H = 128"):
        engine.add(soft(0, hidden_size=64))
    for request, said in (
        (generate(()), "without tokens"),
        (generate((272,)), "outside the vocabulary"),
        (generate((65,) * 512), "do not fit"),
        (Score(token_ids=(65,) * 511, continuation=(65,)), "do not fit"),
        (generate((65,), "0123456789abcdef"), "holds no soft prompt"),
    ):
        with pytest.raises(EngineError, match=said):
            engine.generate([request])
    with pytest.raises(EngineError, match="has no setting 'max_num_seqs'"):
        open_engine(EngineConfig(kind="transformers", model=str(llama), options={"max_num_seqs": 1}))
    with pytest.raises(EngineError, match="batch_size"):
        TransformersEngine(EngineConfig(kind="transformers", model=str(llama), options={"batch_size": 0}))


@pytest.mark.parametrize("most", [3, 1])
def test_a_batch_that_memory_has_no_room_for_is_answered_in_halves(
    most: int, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"batch_size": 8, "device": "cpu"}
    asked = [generate(ids(4 + i), tokens=3) for i in range(8)]
    scored = [score(ids(4 + i)) for i in range(8)]
    with TransformersEngine(EngineConfig(kind="transformers", model=str(llama), options=options)) as engine:
        expected, totals = engine.generate(asked), [answer.total for answer in engine.score(scored)]
        sizes: list[int] = []
        pad = torch.nn.utils.rnn.pad_sequence

        def padded(rows: Sequence[torch.Tensor], **settings: Any) -> torch.Tensor:
            sizes.append(len(rows))
            return torch.empty(2**60) if len(rows) > most else pad(rows, **settings)

        monkeypatch.setattr(torch.nn.utils.rnn, "pad_sequence", padded)
        assert engine.generate(asked) == expected
        assert max(size for size in sizes if size <= most) == {3: 2, 1: 1}[most]
        assert [answer.total for answer in engine.score(scored)] == pytest.approx(totals, abs=1e-4)
        assert [size for size in sizes if size > most] == {3: [8, 4], 1: [8, 4, 2]}[most], "what fits is remembered"


def test_a_request_that_does_not_fit_alone_is_a_lack_of_memory(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TransformersEngine(EngineConfig(kind="transformers", model=str(llama), options={"device": "cpu"})) as engine:
        monkeypatch.setattr(torch.nn.utils.rnn, "pad_sequence", lambda *_, **__: torch.empty(2**60))
        said = r"^out of memory while scoring one request of 7 positions \(.* GiB of memory are free without it: .*allocate"
        with pytest.raises(OutOfMemoryError, match=said):
            engine.score([score(ids(4))])


def test_a_closed_engine_says_so(llama: Path) -> None:
    engine = TransformersEngine(EngineConfig(kind="transformers", model=str(llama), options={"device": "cpu"}))
    engine.close()
    engine.close()
    assert not engine.alive
    with pytest.raises(EngineError, match="has ended"):
        engine.generate([generate(ids(3))])


class Syncs(TorchDispatchMode):
    """Counts how often a number is read from a tensor: a GPU is waited for each time. In inference mode that is `item`."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten.item.default, torch.ops.aten._local_scalar_dense.default)
        return func(*args, **(kwargs or {}))


def test_a_step_of_greedy_decoding_waits_for_the_device_no_more_often_with_more_rows(engine: TransformersEngine) -> None:
    def waits(rows: int, **sampling: Any) -> int:
        sampled = Sampling(max_tokens=8, **sampling)
        asked = [replace(generate(ids(9, seed=seed)), sampling=sampled) for seed in range(rows)]
        with Syncs() as syncs:
            engine.generate(asked)
        return syncs.count

    assert waits(1) == waits(3)
    assert waits(3, temperature=1.0, seed=0) > waits(1, temperature=1.0, seed=0), "what is drawn is read row by row"
