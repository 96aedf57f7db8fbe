"""The engine without a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from spt_fast.engine import open_engine
from spt_fast.engine.base import Engine, EngineConfig
from spt_fast.errors import EngineError
from tests.helpers.engine_requests import generate, ids, score, soft
from tests.helpers.tiny import tiny_model


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("llama"), hidden_size=128)


def echo(llama: Path, **options: object) -> Engine:
    return open_engine(EngineConfig(kind="echo", model=str(llama), options=options))


def test_the_same_request_has_the_same_answer_in_every_engine(llama: Path) -> None:
    with echo(llama) as one, echo(llama) as another:
        assert one.generate([generate(ids(20))]) == another.generate([generate(ids(20))])
        assert one.score([score(ids(20))]) == another.score([score(ids(20))])


def test_a_soft_prompt_changes_the_answer(llama: Path) -> None:
    with echo(llama) as engine:
        keys = [None, engine.add(soft(1)), engine.add(soft(2))]
        assert len({engine.score([score(ids(20), key)])[0].token_logprobs for key in keys}) == 3
        assert len({engine.generate([generate(ids(20), key)])[0].token_ids for key in keys}) > 1
        with pytest.raises(EngineError, match="holds no soft prompt"):
            engine.generate([generate(ids(20), "0123456789abcdef")])


def test_it_dies_when_it_is_told_to(llama: Path) -> None:
    with echo(llama, die_after=2) as engine:
        with pytest.raises(EngineError, match="died"):
            engine.generate([generate(ids(4))] * 3)
        assert not engine.alive


def test_wrong_settings_and_refusals_are_sentences(llama: Path) -> None:
    with pytest.raises(EngineError, match="has no setting 'speed'"):
        echo(llama, speed=1)
    with pytest.raises(EngineError, match="refused"):
        echo(llama, refuse=True)
