"""A worked example as token ids: the prompt as it is asked, the target, and the end."""

from __future__ import annotations

import pytest

from spt_fast.errors import DataError, ModelError
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.training.rows import tuning_row
from tests.helpers.tiny import CHAT_TEMPLATE, byte_tokenizer

EOS_ID = 257


def test_a_target_begins_with_a_space_and_ends_with_eos() -> None:
    tokenizer = Tokenizer(byte_tokenizer())
    row = tuning_row(tokenizer, "Answer:", "B. Paris")
    assert row.prompt_ids == tokenizer.prompt_ids("Answer:")
    assert tokenizer.tokens(row.target_ids) == [*" B. Paris", "</s>"]


def test_behind_a_chat_template_a_target_begins_with_no_space() -> None:
    tokenizer = Tokenizer(byte_tokenizer(chat_template=CHAT_TEMPLATE))
    row = tuning_row(tokenizer, tokenizer.render("Why?", chat=True), "B")
    assert row.prompt_ids == tokenizer.prompt_ids("Why?", chat=True)
    assert row.target_ids == (*tokenizer.text_ids("B"), EOS_ID)


def test_the_prompt_is_what_is_asked_later_even_where_a_token_would_cross_the_seam() -> None:
    tokenizer = Tokenizer(byte_tokenizer(merges=["o n", "on e", ": Ġ"]))
    row = tuning_row(tokenizer, "Answer:", "one")
    assert row.prompt_ids == tokenizer.prompt_ids("Answer:")
    assert tokenizer.tokens(row.target_ids) == [" ", "one", "</s>"]


def test_a_tokenizer_without_eos_is_refused_because_nothing_could_stop() -> None:
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        tuning_row(Tokenizer(byte_tokenizer(eos=False)), "Answer:", "B")


def test_an_empty_target_is_refused() -> None:
    with pytest.raises(DataError, match="empty target"):
        tuning_row(Tokenizer(byte_tokenizer()), "Answer:", " ")
