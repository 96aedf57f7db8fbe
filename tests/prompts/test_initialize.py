"""Where vectors start: a function of the settings, the seed and the vocabulary, and of nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spt_fast.config import SoftPromptConfig
from spt_fast.errors import ConfigError, DataError
from spt_fast.prompts.initialize import initialize, root_mean_square
from spt_fast.prompts.soft_prompt import SoftPrompt

STARTS_AT = [-0.004088998, 0.025761891, 0.012569527, 0.013457223]


def test_the_start_is_a_function_of_the_seed_whatever_the_global_state() -> None:
    config = SoftPromptConfig.paper()
    np.random.seed(1)
    first = initialize(config, 64, 0)
    np.random.seed(2)
    assert (initialize(config, 64, 0) == first).all()
    assert not (initialize(config, 64, 1) == first).any()


def test_the_start_leaves_the_global_state_alone() -> None:
    np.random.seed(1)
    expected = np.random.rand()
    np.random.seed(1)
    initialize(SoftPromptConfig.paper(), 64, 0)
    assert np.random.rand() == expected


def test_the_start_is_the_same_on_every_machine() -> None:
    """Written down once: a change here changes every result of the same seed."""
    start = initialize(SoftPromptConfig.paper(length=1), 4, 0)
    assert start.tolist()[0] == pytest.approx(STARTS_AT, abs=1e-8)


def test_normal_has_the_deviation_asked_for() -> None:
    start = initialize(SoftPromptConfig.paper(length=100), 1000, 0)
    assert start.shape == (100, 1000)
    assert start.dtype == np.float32
    assert start.mean() == pytest.approx(0, abs=2e-4)
    assert start.std() == pytest.approx(0.02, rel=0.01)


def test_normal_has_the_spread_of_the_vocabulary_where_none_is_given() -> None:
    start = initialize(SoftPromptConfig(init="normal", length=100), 1000, 0, Readable())
    assert start.std() == pytest.approx(root_mean_square(Readable()), rel=0.01)
    assert root_mean_square(Readable()) == pytest.approx(np.sqrt(np.mean(np.arange(50.0) ** 2)))


class Readable:
    """A vocabulary whose row v is filled with v; a letter's id is its code, and the lowest ids are the most frequent."""

    def embed(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        return np.repeat(np.array(ids, dtype=np.float32)[:, None], 4, axis=1)

    def frequent_ids(self, most: int) -> Sequence[int]:
        return range(min(most, 50))

    def text_ids(self, text: str) -> Sequence[int]:
        return [ord(letter) for letter in text]

    def answer_ids(self, answer: str) -> Sequence[int]:
        return self.text_ids(answer)


def start(**settings: Any) -> list[float]:
    """The first number of each vector."""
    seed, answers = settings.pop("seed", 0), settings.pop("answers", ())
    rows = initialize(SoftPromptConfig(**settings), 4, seed, Readable(), answers=answers)
    assert rows.dtype == np.float32
    assert (rows == rows[:, :1]).all()
    return [float(row[0]) for row in rows]


def test_uniform_fills_the_range_asked_for_and_no_more() -> None:
    rows = initialize(SoftPromptConfig(init="uniform", init_range=0.25, length=100), 1000, 0)
    assert (rows.min(), rows.max()) == (pytest.approx(-0.25, abs=1e-4), pytest.approx(0.25, abs=1e-4))
    assert rows.std() == pytest.approx(0.25 / 3**0.5, rel=0.01)
    assert not (rows == initialize(SoftPromptConfig(init="uniform", init_range=0.25, length=100), 1000, 1)).any()


def test_vocabulary_draws_each_of_the_most_frequent_tokens_once_before_one_comes_again() -> None:
    drawn = start(init="vocabulary", init_tokens=12, length=12)
    assert sorted(drawn) == list(range(12))
    assert drawn != sorted(drawn)
    assert drawn != start(init="vocabulary", init_tokens=12, length=12, seed=1)
    assert start(init="vocabulary", init_tokens=3, length=7).count(drawn[0]) <= 3
    assert set(start(init="vocabulary", length=150)) == set(range(50))


def test_answers_are_the_means_of_their_tokens_and_drawn_tokens_fill_the_rest() -> None:
    drawn = start(init="vocabulary", length=5)
    assert start(init="answers", answers=["a", "ac"], length=5) == [ord("a"), ord("b"), *drawn[2:]]
    assert start(init="answers", answers=["a", "b", "c"], length=2) == [ord("a"), ord("b")]
    with pytest.raises(DataError, match="init: answers needs tuning rows"):
        start(init="answers")


@given(text=st.text(alphabet="abc", min_size=1, max_size=9), length=st.integers(1, 20))
def test_a_text_is_cut_or_begun_again(text: str, length: int) -> None:
    assert start(init="text", init_text=text, length=length) == [ord(letter) for letter in (text * length)[:length]]


def test_a_soft_prompt_to_start_from_must_fit() -> None:
    config = SoftPromptConfig(init="soft_prompt", init_from="a.safetensors", length=3)
    other = SoftPrompt(vectors=np.arange(12, dtype=np.float32).reshape(3, 4))
    assert (initialize(config, 4, 0, given=other) == other.vectors).all()
    with pytest.raises(DataError, match=r"a\.safetensors is 3 vectors of 4 numbers, where 3 \(length\) of 8 .* are wanted"):
        initialize(config, 8, 0, given=other)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"init": "text"}, "soft_prompt.init_text: is missing; init: text starts from it"),
        ({"init": "soft_prompt"}, "soft_prompt.init_from: is missing"),
        ({"init_text": "x"}, "soft_prompt.init_text: goes with init: text, and init is vocabulary; set that, or leave it out"),
        ({"init": "uniform", "init_std": 0.5}, "soft_prompt.init_std: goes with init: normal"),
        ({"init": "normal", "init_tokens": 9}, "soft_prompt.init_tokens: goes with init: vocabulary or answers"),
        ({"encoder_hidden": 9}, "soft_prompt.encoder_hidden: goes with encoder, and encoder is null"),
        ({"held_out": 9}, "soft_prompt.held_out: goes with patience, and patience is null"),
        ({"optimizer": "adafactor", "betas": (0.9, 0.99)}, "soft_prompt.betas: goes with optimizer: adamw"),
        ({"patience": 0}, "soft_prompt.patience: must be a whole number from 1 to"),
        ({"schedule": "linear", "warmup": 80}, r"soft_prompt.warmup: must be below steps \(80\), not 80"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        SoftPromptConfig(**settings)
