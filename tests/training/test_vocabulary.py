"""What starts take from a model: the rows that Transformers has, and words that are answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch

from spt_fast import tasks
from spt_fast.config import SoftPromptConfig
from spt_fast.models.frozen_model import FrozenModel
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.prompts.initialize import initialize
from spt_fast.tasks.rows import load_rows
from spt_fast.training.vocabulary import ModelVocabulary, answer_words
from spt_fast.types import Example
from tests.helpers.tiny import byte_tokenizer, tiny_model
from tests.helpers.with_peft import with_peft

TEXT = "Answer in one word."


def example(*options: str, answer: str = "", target: str = "") -> Example:
    return Example(key="k", question="?", target=target or answer, answers=(answer,), options=options)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3", "granite", "opt"])
def test_a_start_from_text_is_the_models_own_rows_as_peft_has_them(family: str, tmp_path: Path) -> None:
    """Gemma's are scaled, OPT's are narrower than its hidden states."""
    folder = tiny_model(tmp_path, family, tokenizer=byte_tokenizer(bos=False))
    model, tokenizer = FrozenModel.load(folder), Tokenizer.load(folder)
    ours = initialize(
        SoftPromptConfig(init="text", init_text=TEXT, length=30), model.hidden_size, 0, ModelVocabulary(model, tokenizer)
    )
    settings = peft.PromptTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=30,
        prompt_tuning_init="TEXT",
        prompt_tuning_init_text=TEXT,
        tokenizer_name_or_path=str(folder),
        **({"token_dim": model.hidden_size} if family == "opt" else {}),
    )
    theirs = with_peft(folder, settings).prompt_encoder["default"].embedding.weight
    assert (torch.from_numpy(ours) == theirs).all()
    # And it is what enters Transformers' own forward for this text.
    ids = torch.tensor([tokenizer.text_ids(TEXT)])
    with torch.no_grad():
        by_ids = model.module(input_ids=ids).logits
        by_start = model.module(inputs_embeds=torch.from_numpy(ours[None, : ids.shape[1]])).logits
    torch.testing.assert_close(by_start, by_ids)


def test_rows_of_a_bfloat16_model_are_taken_without_rounding(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path, dtype=torch.bfloat16)
    model = FrozenModel.load(folder)
    rows = ModelVocabulary(model, Tokenizer.load(folder)).embed([5, 7])
    table: Any = model.module.get_input_embeddings()
    assert rows.dtype == np.float32
    assert (torch.from_numpy(rows).bfloat16() == table.weight[[5, 7]]).all()


def test_drawn_tokens_are_low_ids_that_are_text(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path, tokenizer=byte_tokenizer(merges=["t h", "Ġ th", "a n"]))
    tokenizer = Tokenizer.load(folder)
    ids = tokenizer.frequent_ids(5000)
    assert tokenizer.tokens(ids)[-3:] == ["th", " th", "an"]
    assert "".join(tokenizer.tokens(ids)[:95]).isascii(), "the printable bytes, and no part of a character"
    assert len(ids) == 95 + 3
    assert not set(ids) & {256, 257, 258}
    assert tokenizer.frequent_ids(10) == ids[:10]


def test_an_answers_tokens_are_those_behind_a_space(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path, tokenizer=byte_tokenizer(merges=["Ġ n", "Ġn o"]))
    vocabulary = ModelVocabulary(FrozenModel.load(folder), Tokenizer.load(folder))
    assert Tokenizer.load(folder).tokens(vocabulary.answer_ids("no")) == [" no"]


LETTERED = [example("A. Rome", "B. Paris"), example("A. dog", "B. cat", "C. cow"), example("A. 1", "B. 2", "C. 3")]
CHANGING = [example("red", "blue", answer="red"), example("1", "2", answer="2"), example("x", "2", answer="2")]
OPEN = [example(answer="4", target="2+2 #### 4"), example(answer="7"), example(answer="7")]


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        ([example("no", "yes"), example("no", "yes")], ("no", "yes")),
        (LETTERED, ("A.", "B.", "C.")),
        (CHANGING, ("2", "red")),
        (OPEN, ("7", "4")),
    ],
    ids=["the options of all rows", "the letters", "right options", "right answers of open-ended rows"],
)
def test_answer_words_are_the_class_labels_or_the_most_frequent_right_answers(
    examples: list[Example], words: tuple[str, ...]
) -> None:
    assert answer_words(examples) == words


def test_answer_words_of_the_zoo() -> None:
    choice, short = (answer_words(load_rows(tasks.get(name)).tuning) for name in ("zoo-mcq", "zoo-short"))
    assert choice == ("A.", "B.", "C.", "D.")
    assert len(short) > 10
    assert all(" " not in word and word for word in short)
