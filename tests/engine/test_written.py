"""The text of a completion from its token ids: ends, stop strings, seams, half characters."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from spt_fast.engine.written import Text
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.types import Generate, Sampling
from tests.helpers.engine_requests import BOS, EOS
from tests.helpers.tiny import byte_tokenizer

TOKENIZER = Tokenizer(byte_tokenizer(merges=("W h", ". Ċ", "ĊĊ Q", "Ċ Ċ")))

B_ROME = TOKENIZER.text_ids(" B. Rome")


def text(written: str | Sequence[int], *stop: str, ended: bool = False, prompt: str = "Answer:") -> str:
    ids = TOKENIZER.text_ids(written) if isinstance(written, str) else tuple(written)
    request = Generate(token_ids=(BOS, *TOKENIZER.text_ids(prompt)), sampling=Sampling(max_tokens=9, stop=stop))
    return Text(TOKENIZER, request).of(ids, ended=ended)


def test_an_end_token_is_no_text_whether_it_is_special_or_not() -> None:
    assert text((*B_ROME, EOS), ended=True) == " B. Rome"
    (ordinary,) = TOKENIZER.text_ids("Wh")
    assert text((*B_ROME, ordinary), ended=True) == " B. Rome"
    assert text((*B_ROME, ordinary)) == " B. RomeWh", "where it ends nothing it is what it says"
    assert text((EOS,), ended=True) == text((ordinary,), ended=True) == ""


def test_an_end_token_is_no_stop_string_either() -> None:
    (ordinary,) = TOKENIZER.text_ids("Wh")
    assert text((*TOKENIZER.text_ids(" who"), ordinary), "W", ended=True) == " who"


@pytest.mark.parametrize("stops", [("Q", "\n\n", "."), (".", "\n\n", "Q"), ("\n\n", "Q", ".")])
def test_of_stop_strings_that_end_in_one_token_the_first_in_the_text_counts(stops: tuple[str, ...]) -> None:
    assert len(TOKENIZER.text_ids(".\n")) == 1
    assert text("Rome.\n\nQ", *stops) == "Rome"


def test_a_stop_string_may_begin_and_end_within_tokens() -> None:
    assert text("Rome.\nQuestion", ".\nQues") == "Rome"
    assert text("Rome.\nQuestion", "\nQuestion") == "Rome."
    assert text("Rome.\nQues", "\nQuestion") == "Rome.\nQues"


def test_a_stop_string_is_not_looked_for_in_the_prompt_or_across_its_end() -> None:
    assert text(" Rome", "Answer", ": R") == " Rome"


def test_the_bytes_of_half_a_character_are_held_back_and_those_of_a_whole_one_are_read() -> None:
    euro, five = TOKENIZER.text_ids("\u20ac"), TOKENIZER.text_ids("5 ")
    assert len(euro) == 3
    assert text((*five, *euro[:2])) == "5 "
    assert text((*five, *euro)) == "5 \u20ac"
    assert text((*euro[:2], *five)) == "\ufffd5 "


def test_stops_says_when_to_end() -> None:
    request = Generate(token_ids=(BOS, 65), sampling=Sampling(max_tokens=9, stop=("\n\n", "Q:")))
    read = Text(TOKENIZER, request)
    assert not read.stops(TOKENIZER.text_ids("Rome\n"))
    assert read.stops(TOKENIZER.text_ids("Rome\n\n"))
    assert read.stops(TOKENIZER.text_ids("RomeQ: "))
