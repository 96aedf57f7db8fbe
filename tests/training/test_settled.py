"""Start, place and rate in units of the model: what `auto` comes to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spt_fast.config import RATE, SoftPromptConfig
from spt_fast.config.reader import parse_grid
from spt_fast.errors import ConfigError, ModelError
from spt_fast.models.frozen_model import FrozenModel
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.prompts.initialize import initialize
from spt_fast.training.task import place, settled
from spt_fast.training.vocabulary import ModelVocabulary
from tests.helpers.tiny import byte_tokenizer, tiny_model


def loaded(folder: Path, family: str = "llama", *, bos: bool = True, std: float = 0.2) -> tuple[FrozenModel, Tokenizer]:
    tiny_model(folder, family, std=std, tokenizer=byte_tokenizer(bos=bos))
    return FrozenModel.load(folder), Tokenizer.load(str(folder))


@pytest.mark.parametrize("std", [0.02, 0.2])
def test_the_rate_grows_with_what_enters_the_model(tmp_path: Path, std: float) -> None:
    model, tokenizer = loaded(tmp_path, std=std)
    rate = settled(SoftPromptConfig(), model, tokenizer).rate
    assert rate == pytest.approx(RATE * std, rel=0.05)


def test_the_scale_that_gemma_gives_its_embeddings_counts(tmp_path: Path) -> None:
    model, tokenizer = loaded(tmp_path, "gemma3", std=0.02)
    rate = settled(SoftPromptConfig(), model, tokenizer).rate
    assert rate == pytest.approx(RATE * 0.02 * 64**0.5, rel=0.05)


def test_a_normal_start_has_the_spread_of_what_enters_the_model(tmp_path: Path) -> None:
    model, tokenizer = loaded(tmp_path, "gemma3", std=0.02)
    config = SoftPromptConfig(init="normal", length=200)
    start = initialize(config, model.hidden_size, 0, ModelVocabulary(model, tokenizer))
    assert float(np.std(start)) == pytest.approx(0.02 * 64**0.5, rel=0.1)


def test_vectors_stand_behind_bos_where_there_is_one_and_in_front_elsewhere(tmp_path: Path) -> None:
    places = {}
    for bos in (True, False):
        tiny_model(tmp_path / str(bos), tokenizer=byte_tokenizer(bos=bos))
        tokenizer = Tokenizer.load(str(tmp_path / str(bos)))
        places[bos] = place(SoftPromptConfig(), tokenizer)
        assert place(SoftPromptConfig(position="front"), tokenizer) == "front"
        assert place(SoftPromptConfig(position="end"), tokenizer) == "end"
    assert places == {True: "after_bos", False: "front"}
    with pytest.raises(ModelError, match="no BOS in front of a text, so nothing can stand after it; leave position out"):
        place(SoftPromptConfig(position="after_bos"), tokenizer)


def test_numbers_that_are_given_stay(tmp_path: Path) -> None:
    model, tokenizer = loaded(tmp_path)
    given = SoftPromptConfig(lr=0.25, position="front")
    assert settled(given, model, tokenizer) == given


def protocols(text: str) -> tuple[object, ...]:
    return parse_grid(f"name: a\nmodels: [x/y]\ntasks: [mmlu]\nprotocols:\n  - {text}\n").protocols


@pytest.mark.parametrize("text", ["soft_prompt: paper", "soft_prompt: {preset: paper}"])
def test_the_papers_setting_has_one_word(text: str) -> None:
    assert protocols(text) == (SoftPromptConfig(init="normal", init_std=0.02, lr=0.001, position="front"),)


def test_what_stands_beside_a_preset_goes_before_it() -> None:
    assert protocols("soft_prompt: {preset: paper, steps: 120, init: vocabulary}") == (
        SoftPromptConfig(steps=120, init="vocabulary", lr=0.001, position="front"),
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("soft_prompt: papr", r"protocols\[0\]\.soft_prompt\.preset: unknown preset 'papr'; choose from paper"),
        ("soft_prompt: {preset: 3}", r"unknown preset 3; choose from paper"),
        ("few_shot: paper", r"protocols\[0\]\.few_shot: must be a mapping, not text"),
        ("soft_prompt: {lr: fast}", r"soft_prompt\.lr: must be a number or auto, not text"),
        ("soft_prompt: {init_std: big, init: normal}", r"init_std: must be a number or auto, not text"),
        ("lora: {lr: auto}", r"lora\.lr: must be a number"),
    ],
)
def test_a_wrong_word_is_met_with_those_that_there_are(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        protocols(text)
