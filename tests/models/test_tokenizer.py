"""Tokenizer: one BOS, the harness's way to part a prompt from its continuation, and the white space in between."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.api.model import TemplateLM

from spt_fast.errors import DataError, ModelError
from spt_fast.models.tokenizer import Tokenizer, continuation
from tests.helpers.tiny import BOS, CHAT_TEMPLATE, byte_tokenizer, tiny_model

BOS_ID, EOS_ID = 256, 257


def lm_eval_pair(inner: Any, context: str, continuation: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What lm-evaluation-harness makes of a pair, with what the tokenizer puts in front of a text by itself."""
    model = SimpleNamespace(backend="causal", tok_encode=inner.encode)
    given, scored = TemplateLM._encode_pair(model, context, continuation)  # type: ignore[arg-type]
    return tuple(given), tuple(scored)


def test_a_prompt_begins_with_one_bos() -> None:
    tokenizer = Tokenizer(byte_tokenizer())
    assert tokenizer.prompt_ids("a")[0] == BOS_ID
    assert tokenizer.prompt_ids("a").count(BOS_ID) == 1
    assert tokenizer.prompt_ids("") == (BOS_ID,)


def test_a_text_that_begins_with_bos_gets_no_second_one() -> None:
    tokenizer = Tokenizer(byte_tokenizer())
    assert tokenizer.prompt_ids(f"{BOS}a") == tokenizer.prompt_ids("a")


def test_a_text_that_begins_with_bos_twice_is_refused() -> None:
    with pytest.raises(ModelError, match="begins with <s> twice"):
        Tokenizer(byte_tokenizer()).prompt_ids(f"{BOS}{BOS}a")


def test_a_rendered_chat_template_that_writes_bos_keeps_one() -> None:
    tokenizer = Tokenizer(byte_tokenizer(chat_template=CHAT_TEMPLATE))
    rendered = tokenizer.render("Why?", chat=True)
    assert rendered == "<s><user>\nWhy?\n<assistant>\n"
    assert tokenizer.prompt_ids(rendered) == tokenizer.prompt_ids("Why?", chat=True)
    assert tokenizer.prompt_ids(rendered)[0] == BOS_ID
    assert tokenizer.prompt_ids(rendered).count(BOS_ID) == 1


def test_a_chat_template_that_writes_no_bos_gets_the_tokenizers() -> None:
    template = CHAT_TEMPLATE.replace("{{ bos_token }}", "")
    tokenizer = Tokenizer(byte_tokenizer(chat_template=template))
    assert tokenizer.prompt_ids("Why?", chat=True)[0] == BOS_ID


def test_a_tokenizer_that_adds_no_bos_gets_none() -> None:
    tokenizer = Tokenizer(byte_tokenizer(bos=False))
    assert tokenizer.bos_token_id is None
    assert len(tokenizer.prompt_ids("abc")) == 3


def test_a_tokenizer_that_appends_eos_does_not_end_prompts_with_it() -> None:
    from tokenizers import processors

    inner = byte_tokenizer()
    inner.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A $B </s>", special_tokens=[("<s>", BOS_ID), ("</s>", EOS_ID)]
    )
    tokenizer = Tokenizer(inner)
    assert inner.encode("a")[-1] == EOS_ID
    assert tokenizer.prompt_ids("ab") == Tokenizer(byte_tokenizer()).prompt_ids("ab")


def test_eos_and_padding_are_told_apart_from_their_absence() -> None:
    assert Tokenizer(byte_tokenizer()).eos_token_id == EOS_ID
    assert Tokenizer(byte_tokenizer(eos=False)).eos_token_id is None
    assert Tokenizer(byte_tokenizer()).pad_token_id == 258


MERGING = ["o n", "on e", ": Ġ", "Ġ t", "Ġt w", "Ġtw o"]
PAIRS = [
    ("Answer:", " one"),
    ("Answer: ", "one"),
    ("Answer:\n\n", "two"),
    ("Q: a\nAnswer:", " two\nmore"),
    ("The letters o", "n"),
]


@pytest.mark.parametrize("bos", [True, False], ids=["bos", "no_bos"])
@pytest.mark.parametrize(("prompt", "text"), PAIRS)
def test_a_pair_is_parted_as_the_harness_parts_it(prompt: str, text: str, bos: bool) -> None:
    inner = byte_tokenizer(bos=bos)
    assert Tokenizer(inner).pair(prompt, text) == lm_eval_pair(inner, prompt, text)


@pytest.mark.parametrize("bos", [True, False], ids=["bos", "no_bos"])
@pytest.mark.parametrize(("prompt", "text"), PAIRS)
def test_no_part_of_a_continuation_goes_unscored_whatever_reaches_across_the_seam(prompt: str, text: str, bos: bool) -> None:
    inner = byte_tokenizer(bos=bos, merges=MERGING)
    given, scored = Tokenizer(inner).pair(prompt, text)
    assert (*given, *scored) == tuple(inner.encode(prompt + text))
    assert given == tuple(inner.encode(prompt.rstrip()))[: len(given)], "what is given is of the prompt alone"
    harness = lm_eval_pair(inner, prompt, text)
    crossed = len(given) < len(harness[0])
    assert crossed or (given, scored) == harness
    assert inner.decode(scored).endswith(text)


def test_a_token_across_the_seam_is_scored_which_the_harness_leaves_out() -> None:
    inner = byte_tokenizer(bos=False, merges=[": Ġ", ":Ġ A"])
    tokenizer = Tokenizer(inner)
    given, scored = tokenizer.pair("Answer:", " A. Rome")
    assert tokenizer.decode(given) == "Answer"
    assert tokenizer.tokens(scored)[:2] == [": A", "."]
    assert inner.decode(lm_eval_pair(inner, "Answer:", " A. Rome")[1]) == ". Rome"
    assert tokenizer.across_the_seam("Answer:", [" B", " A"]) == ": "
    assert tokenizer.across_the_seam("Answer:", [" A", " B"]) == ": A"
    assert tokenizer.across_the_seam("Answer:\n", ["A", "B"]) is None


def test_all_options_of_a_question_are_scored_from_the_same_place() -> None:
    """Else one that keeps the cue's colon would get it for nothing."""
    tokenizer = Tokenizer(byte_tokenizer(merges=[": Ġ", ":Ġ A", ":Ġ B"]))
    pairs = tokenizer.pairs("Answer:", [" A", " B", "\nC"])
    assert [tokenizer.decode(given) for given, _ in pairs] == ["Answer"] * 3
    assert [tokenizer.decode(scored) for _, scored in pairs] == [": A", ": B", ":\nC"]


@pytest.mark.parametrize("prompt", ["Answer:", "Answer:\n", "Q: A\nAnswer:"])
def test_what_is_written_behind_a_prompt_leaves_its_tokens_as_they_are(prompt: str) -> None:
    tokenizer = Tokenizer(byte_tokenizer(merges=[": Ġ", ":Ġ A"]))
    ids = tokenizer.ids_behind(prompt, " A")
    assert tokenizer.decode((*tokenizer.prompt_ids(prompt), *ids)) == f"{prompt} A"


ACROSS = Tokenizer(byte_tokenizer(merges=[": Ġ", ":Ġ A", "Ġ A", "r :", "A A", "Ċ A", ": Ċ"]))
PIECES = st.lists(st.sampled_from(["A", " ", ":", "r", "\n", "é"]), min_size=1, max_size=6).map("".join)


@given(prompt=PIECES.filter(str.strip), texts=st.lists(PIECES, min_size=1, max_size=4))
def test_options_are_scored_whole_from_one_place_whatever_merges(prompt: str, texts: list[str]) -> None:
    pairs = ACROSS.pairs(prompt, texts)
    alone = ACROSS.prompt_ids(prompt.rstrip())
    assert len({given for given, _ in pairs}) == 1
    assert pairs[0][0] == alone[: len(pairs[0][0])]
    assert [(*given, *scored) for given, scored in pairs] == [ACROSS.prompt_ids(prompt + text) for text in texts]
    assert (ACROSS.across_the_seam(prompt, texts) is None) == (pairs[0][0] == alone)
    for text in texts:
        assert ACROSS.decode((*ACROSS.prompt_ids(prompt), *ACROSS.ids_behind(prompt, text))) == prompt + text


def test_what_stands_behind_a_prompt_gets_no_space_that_sentencepiece_puts_before_a_text() -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = [("<unk>", 0.0), *((piece, -5.0) for piece in "▁QA:.a\n"), ("\nA", -1.0)]
    backend = Backend(models.Unigram(pieces, unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    backend.decoder = decoders.Metaspace(prepend_scheme="always", split=False)
    tokenizer = Tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"))
    assert tokenizer.tokens(tokenizer.prompt_ids("Q:\nA"))[-1] == "\nA"
    ids = tokenizer.ids_behind("Q:\n", "A")
    assert tokenizer.decode((*tokenizer.prompt_ids("Q:\n"), *ids)) == "Q:\nA"
    assert len(ids) == 1
    assert tokenizer.decode((*tokenizer.prompt_ids("Q:\n"), *tokenizer.text_ids("A"))) == "Q:\n A", "what is to be avoided"


def test_a_continuation_without_tokens_is_refused() -> None:
    from tokenizers import normalizers

    inner = byte_tokenizer()
    inner.backend_tokenizer.normalizer = normalizers.Strip()
    with pytest.raises(DataError, match="' ' has no tokens of its own"):
        Tokenizer(inner).pair("Answer:", " ")


def test_an_answer_begins_with_a_space_unless_the_prompt_ends_in_white_space() -> None:
    assert continuation("Answer:", "B. Paris") == " B. Paris"
    assert continuation("<assistant>\n", "B. Paris") == "B. Paris"
    assert continuation("", "B. Paris") == " B. Paris"


CUES = {
    # cue of the assistant's turn, what the template writes in front of its words -> how an answer begins
    "nothing": ("<|assistant|>", "", "B. Paris"),
    "a space": ("Assistant:", " ", " B. Paris"),
    "a line break of the cue": ("<|assistant|>\n", "", "B. Paris"),
    "a line break of its own": ("<|assistant|>", "\n", "\nB. Paris"),
}


@pytest.mark.parametrize(("cue", "seam", "answer"), CUES.values(), ids=CUES.keys())
def test_behind_a_chat_template_an_answer_begins_as_the_template_begins_it(cue: str, seam: str, answer: str) -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}{% else %}"
        f"{cue}{seam}{{{{ m.content }}}}{{% endif %}}{{% endfor %}}{{% if add_generation_prompt %}}{cue}{{% endif %}}"
    )
    tokenizer = Tokenizer(byte_tokenizer(chat_template=template))
    prompt = tokenizer.render("Capital?", chat=True)
    assert tokenizer.continuation(prompt, "B. Paris", chat=True) == answer
    assert tokenizer.continuation("Answer:", "B. Paris", chat=False) == " B. Paris"


def test_a_chat_template_that_shows_no_seam_leaves_the_common_rule() -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    tokenizer = Tokenizer(byte_tokenizer(chat_template=template))
    assert tokenizer.continuation("a<|assistant|>", "B", chat=True) == " B"


def test_settings_of_the_chat_template_reach_it() -> None:
    template = "{{ messages[0].content }}{% if enable_thinking is false %}<think></think>{% endif %}"
    inner = byte_tokenizer(chat_template=template)
    assert Tokenizer(inner).render("a", chat=True) == "a"
    assert Tokenizer(inner, chat_template_kwargs={"enable_thinking": False}).render("a", chat=True) == "a<think></think>"


def test_text_survives_the_way_to_ids_and_back() -> None:
    tokenizer = Tokenizer(byte_tokenizer())
    text = "  Ä  B .\n\n#### 42 , it 's "
    assert tokenizer.decode(tokenizer.prompt_ids(text)) == text


def test_decoding_leaves_special_tokens_out_and_showing_keeps_them() -> None:
    tokenizer = Tokenizer(byte_tokenizer())
    ids = (*tokenizer.prompt_ids("a b"), EOS_ID)
    assert tokenizer.decode(ids) == "a b"
    assert tokenizer.tokens(ids) == ["<s>", "a", " ", "b", "</s>"]


def test_a_part_of_a_character_is_shown_by_name() -> None:
    tokenizer = Tokenizer(byte_tokenizer(bos=False))
    assert tokenizer.tokens(tokenizer.prompt_ids("ä")) == ["Ã", "¤"]


def test_a_missing_chat_template_is_one_sentence() -> None:
    tokenizer = Tokenizer(byte_tokenizer(), name="base")
    assert not tokenizer.has_chat_template
    assert tokenizer.chat_template_hash is None
    with pytest.raises(ModelError, match="base: the tokenizer has no chat template"):
        tokenizer.render("Why?", chat=True)


def test_a_chat_template_that_refuses_is_one_sentence() -> None:
    tokenizer = Tokenizer(byte_tokenizer(chat_template="{{ raise_exception('only emperors') }}"))
    with pytest.raises(ModelError, match=r"its chat template fails: .*only emperors"):
        tokenizer.render("Why?", chat=True)


def test_the_hash_of_a_chat_template_follows_its_text() -> None:
    hashes = {
        Tokenizer(byte_tokenizer(chat_template=template)).chat_template_hash
        for template in (CHAT_TEMPLATE, CHAT_TEMPLATE, CHAT_TEMPLATE + " ")
    }
    assert len(hashes) == 2


def test_a_tokenizer_loads_from_a_models_folder(tmp_path: Path) -> None:
    inner = byte_tokenizer(chat_template=CHAT_TEMPLATE)
    tokenizer = Tokenizer.load(tiny_model(tmp_path, tokenizer=inner))
    assert tokenizer.has_chat_template
    assert tokenizer.prompt_ids("Why?") == Tokenizer(inner).prompt_ids("Why?")


def test_a_folder_without_a_tokenizer_is_one_sentence(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match="tokenizer") as caught:
        Tokenizer.load(folder)
    assert "\n" not in str(caught.value)
