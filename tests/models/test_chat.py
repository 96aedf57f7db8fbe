"""Chat templates: all of the prompt is in what they write, their date stands still, and an opened thought is seen."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spt_fast.errors import ModelError
from spt_fast.models.chat import Clock, first_missing, is_found, open_thought
from spt_fast.models.tokenizer import Tokenizer
from tests.helpers.tiny import BOS, CHAT_TEMPLATE, byte_tokenizer, tiny_model

PROMPT = 'Answer with a letter.\n\nQuestion: Is 3 < 5, "really"?\nA. yes & no\nB. né\nAnswer:'


def user(content: str) -> str:
    """A template that writes the user's words so."""
    return (
        f"{{% for m in messages %}}<{{{{ m.role }}}}>{content}</>{{% endfor %}}{{% if add_generation_prompt %}}<a>{{% endif %}}"
    )


WHOLE = {
    "as it is": "{{ m.content }}",
    "stripped": "{{ m.content | trim }}",
    "white space folded": "{{ m.content.split() | join(' ') }}",
    "an empty line less": "{{ m.content | replace('\n\n', '\n') }}",
    "as HTML": "{{ m.content | e }}",
    "as JSON": "{{ m.content | tojson }}",
    "as JSON in ASCII": "{{ m.content | tojson(ensure_ascii=True) }}",
    "parts": "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}",
    "parts, stripped": "{% for p in m.content %}{{ p['text'] | trim }}{% endfor %}",
    "the first part": "{{ m.content[0].text }}",
    "text or parts": "{% if m.content is string %}{{ m.content }}{% else %}{{ m.content[0].text }}{% endif %}",
    "parts, or it raises": "{% if m.content is string %}{{ raise_exception('parts!') }}{% endif %}{{ m.content[0].text }}",
}


@pytest.mark.parametrize("content", WHOLE.values(), ids=WHOLE.keys())
def test_a_template_that_writes_all_of_the_prompt_its_own_way_is_taken(content: str) -> None:
    rendered = Tokenizer(byte_tokenizer(chat_template=user(content))).render(PROMPT, chat=True)
    assert rendered.startswith("<user>")
    assert rendered.endswith("</><a>")
    assert is_found(PROMPT, rendered)


def test_content_of_parts_is_written_as_text_and_not_as_python_writes_a_list() -> None:
    tokenizer = Tokenizer(byte_tokenizer(chat_template=user(WHOLE["parts"])))
    assert tokenizer.render("Why?", chat=True) == "<user>Why?</><a>"


def test_a_template_that_takes_both_is_given_text() -> None:
    both = "{% if m.content is string %}text: {{ m.content }}{% else %}parts: {{ m.content[0].text }}{% endif %}"
    assert Tokenizer(byte_tokenizer(chat_template=user(both))).render("Why?", chat=True) == "<user>text: Why?</><a>"


LOST = {
    "nothing of it": ("", "Answer with a letter. Question:"),
    "only its beginning": ("{{ m.content[:40] }}", '"really"? A. yes & no'),
    "only its end": ("{{ m.content[-8:] }}", "Answer with a letter."),
    "no line breaks": ("{{ m.content | replace('\n', '') }}", "Question: Is 3"),
    "no spaces": ("{{ m.content | replace(' ', '') }}", "with a letter."),
    "a sign less": ("{{ m.content | replace('<', '') }}", "< 5, "),
    "upper case": ("{{ m.content | upper }}", "Answer with a letter."),
    "what is behind a marker": ("{{ m.content.split('yes')[-1] }}", "with a letter."),
    "a word in between": ("{{ m.content | replace('A. ', 'A. um ') }}", "yes & no B. né"),
}


@pytest.mark.parametrize(("content", "missing"), LOST.values(), ids=LOST.keys())
def test_a_template_that_loses_part_of_the_prompt_is_refused_with_what_is_missing(content: str, missing: str) -> None:
    tokenizer = Tokenizer(byte_tokenizer(chat_template=user(content)), name="chatty")
    with pytest.raises(ModelError, match="chatty: its chat template does not write all of the prompt") as refused:
        tokenizer.render(PROMPT, chat=True)
    said = str(refused.value)
    assert missing.split()[0] in said
    assert "\n" not in said
    assert "chat_template: false" in said


def test_what_a_prompt_is_asked_of_a_template_that_loses_it_later_is_refused_too() -> None:
    """The loss need not show with every prompt: here those with a thought in them."""
    tokenizer = Tokenizer(byte_tokenizer(chat_template=user("{{ m.content.split('</think>')[-1] }}")))
    assert "Why?" in tokenizer.render("Why?", chat=True)
    with pytest.raises(ModelError, match="what is missing begins with 'What does </think> mean"):
        tokenizer.render("What does </think> mean?", chat=True)


WORDS = st.lists(st.text("ab<&\"'\\{é", min_size=1, max_size=4), min_size=1, max_size=6)
BLANKS = st.sampled_from([" ", "\n", "\t ", "\n\n"])


@given(words=WORDS, blanks=st.lists(BLANKS, min_size=6, max_size=6), others=st.lists(BLANKS, min_size=6, max_size=6))
def test_a_text_is_found_whatever_white_space_and_not_without_one_of_its_words(
    words: list[str], blanks: list[str], others: list[str]
) -> None:
    text, rendered = ("".join(w + b for w, b in zip(words, blank, strict=False)).strip() for blank in (blanks, others))
    assert is_found(text, f"<user>{rendered}</>")
    assert is_found(text, f"<user>{html.escape(rendered)}</>")
    assert is_found(text, json.dumps({"content": text}))
    assert not is_found(f"{text} yes", f"<user>{rendered}</>")
    assert not is_found(f"{text}\nno {text}", f"<user>{rendered} {text}</>")


def test_where_a_text_stops_being_there_is_found_word_by_word() -> None:
    assert first_missing("one two  three\nfour", "<u>one two three</u>") == "four"
    assert first_missing("one two", "") == "one two"
    assert first_missing("x" * 100, "") == "x" * 60


OPEN = {
    "<|assistant|>\n<think>\n": "<think>",
    "<think>": "<think>",
    "<thinking>\n": "<thinking>",
    "<thought>": "<thought>",
    "<reasoning>\n": "<reasoning>",
    "[THINK]": "[THINK]",
    "<|start|>assistant<|channel|>analysis<|message|>": "<|channel|>analysis",
    "<|channel>thought\n": "<|channel>thought",
    "<|START_THINKING|>": "<|START_THINKING|>",
    "<|begin_of_thought|>\n\n": "<|begin_of_thought|>",
    "<|think_start|>": "<|think_start|>",
    "<seed:think>": "<seed:think>",
    "◁think▷": "◁think▷",
    "<|inner_prefix|>": "<|inner_prefix|>",
    "<unused94>thought\n": "thought",
    "<think>\n<reflect></reflect>": "<think>",
    "<think>\n</think>\n<think>\n": "<think>",
    "\nThought:": "Thought:",
    "Assistant: Let's think step by step.": "think step by step.",
}
CLOSED = [
    "",
    "<|im_start|>assistant\n",
    "<think>\n\n</think>\n\n",
    "<think></think>",
    "</think>",
    "[/INST]",
    "[THINK][/THINK]",
    "<|start|>assistant",
    "<|start|>assistant<|channel|>final<|message|>",
    "<|channel|>analysis<|message|><|end|><|start|>assistant<|channel|>final<|message|>",
    "<|channel>thought\n<channel|>",
    "<|START_THINKING|><|END_THINKING|>",
    "<|begin_of_thought|>\n<|end_of_thought|>",
    "<|think_start|><|think_end|>",
    "<seed:think><seed:cot_budget_reflect>0</seed:cot_budget_reflect></seed:think>",
    "◁think▷◁/think▷",
    "<|inner_prefix|><|inner_suffix|>",
    "<|no_think|>",
    "### Response:\n",
    "Answer:",
    "I think the answer is",
]


@pytest.mark.parametrize(("cue", "marker"), OPEN.items())
def test_a_thought_that_a_cue_opens_is_seen_by_its_marker(cue: str, marker: str) -> None:
    assert open_thought(cue) == marker


@pytest.mark.parametrize("cue", CLOSED)
def test_a_cue_without_a_thought_or_with_a_closed_one_is_fine(cue: str) -> None:
    assert open_thought(cue) is None


THINKS = {
    # what a template writes behind its cue -> the settings with which it opens no thought
    "enable_thinking, on by itself": (
        "<think>\n{% if enable_thinking is defined and not enable_thinking %}\n</think>\n\n{% endif %}",
        {"enable_thinking": False},
    ),
    "thinking": ("{% if thinking is not defined or thinking %}<think>{% else %}</think>{% endif %}", {"thinking": False}),
    "an effort": ("{% if reasoning_effort != 'none' %}[THINK]{% endif %}", {"reasoning_effort": "none"}),
    "a budget": ("<seed:think>{% if thinking_budget == 0 %}</seed:think>{% endif %}", {"thinking_budget": 0}),
    "no switch": ("<think>\n", None),
}


@pytest.mark.parametrize(("cue", "switch"), THINKS.values(), ids=THINKS.keys())
def test_the_switch_that_closes_a_thought_is_found_by_trying(cue: str, switch: dict[str, Any] | None) -> None:
    template = CHAT_TEMPLATE.replace("<assistant>\n", f"<assistant>\n{cue}")
    tokenizer = Tokenizer(byte_tokenizer(chat_template=template))
    assert tokenizer.open_thought is not None
    assert tokenizer.switch == switch
    if switch is not None:
        assert Tokenizer(byte_tokenizer(chat_template=template), chat_template_kwargs=switch).open_thought is None


def test_words_of_the_question_open_no_thought() -> None:
    tokenizer = Tokenizer(byte_tokenizer(chat_template="<think>{{ messages[0].content }}<a>"))
    assert tokenizer.open_thought is None


DATED = "{{ strftime_now('%d %b %Y, %H:%M') }}" + CHAT_TEMPLATE.replace("{{ bos_token }}", "")


def test_the_date_of_a_template_is_the_one_it_is_told() -> None:
    tokenizer = Tokenizer(byte_tokenizer(chat_template=DATED))
    assert tokenizer.asks_the_date
    assert tokenizer.render("Why?", chat=True) == "26 Jul 2024, 00:00<user>\nWhy?\n<assistant>\n"
    other = Tokenizer(byte_tokenizer(chat_template=DATED), chat_date="2025-03-01")
    assert other.render("Why?", chat=True).startswith("01 Mar 2025, 00:00<user>")


def test_a_template_that_is_told_its_date_by_a_setting_asks_for_none() -> None:
    template = "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}{{ date_string }}"
    inner = byte_tokenizer(chat_template=template + CHAT_TEMPLATE)
    assert Tokenizer(inner).asks_the_date
    told = Tokenizer(inner, chat_template_kwargs={"date_string": "1 May 2020"})
    assert not told.asks_the_date
    assert told.render("Why?", chat=True).startswith("1 May 2020")


def test_a_template_without_a_date_asks_for_none() -> None:
    assert not Tokenizer(byte_tokenizer(chat_template=CHAT_TEMPLATE)).asks_the_date


def test_the_clock_stands_still_and_counts_who_asks() -> None:
    clock = Clock("2020-02-29")
    assert [clock("%Y-%m-%d"), clock("%A"), clock("%H:%M:%S")] == ["2020-02-29", "Saturday", "00:00:00"]
    assert clock.asked == 3


def test_white_space_in_front_of_bos_puts_no_second_one_there() -> None:
    tokenizer = Tokenizer(byte_tokenizer(chat_template="\n" + CHAT_TEMPLATE))
    rendered = tokenizer.render("Why?", chat=True)
    assert rendered.startswith(f"{BOS}<user>")
    assert tokenizer.prompt_ids(rendered) == Tokenizer(byte_tokenizer(chat_template=CHAT_TEMPLATE)).prompt_ids(
        "Why?", chat=True
    )


def test_a_template_that_refuses_a_system_message_is_not_given_one() -> None:
    template = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}{% endfor %}"
    assert "Why?" in Tokenizer(byte_tokenizer(chat_template=template + CHAT_TEMPLATE)).render("Why?", chat=True)


def test_the_cue_is_asked_for() -> None:
    assert Tokenizer(byte_tokenizer(chat_template=CHAT_TEMPLATE)).render("Why?", chat=True).endswith("<assistant>\n")


HEADED = "{% for m in messages %}<{{ m.role }}>\n{{ m.content }}\n{% endfor %}"
CUES = {
    "none": (HEADED, "<assistant>"),
    "as in past turns": (CHAT_TEMPLATE, None),
    "without the empty thought of past turns": (
        "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}"
        "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
        None,
    ),
}


@pytest.mark.parametrize(("template", "missing"), CUES.values(), ids=CUES.keys())
def test_a_template_without_a_cue_is_known_by_its_past_turns(template: str, missing: str | None) -> None:
    assert Tokenizer(byte_tokenizer(chat_template=template)).missing_cue == missing


def named_templates(**templates: str) -> Tokenizer:
    """A tokenizer with several chat templates."""
    inner = byte_tokenizer()
    inner.chat_template = templates
    return Tokenizer(inner, name="several")


def test_of_several_templates_the_default_is_taken() -> None:
    tokenizer = named_templates(default=CHAT_TEMPLATE, tool_use="{{ raise_exception('tools') }}")
    assert tokenizer.has_chat_template
    assert "<user>\nWhy?" in tokenizer.render("Why?", chat=True)
    assert tokenizer.chat_template_hash == Tokenizer(byte_tokenizer(chat_template=CHAT_TEMPLATE)).chat_template_hash


def test_several_templates_without_a_default_are_one_sentence() -> None:
    with pytest.raises(ModelError, match="several: its chat templates have no default") as refused:
        named_templates(rag=CHAT_TEMPLATE).render("Why?", chat=True)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("plainly", [False, True])
def test_a_template_in_a_file_of_its_own_is_read(tmp_path: Path, plainly: bool) -> None:
    folder = tiny_model(tmp_path, tokenizer=byte_tokenizer())
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    tokenizer = Tokenizer.load(folder, plainly=plainly)
    assert tokenizer.render("Why?", chat=True) == "<s><user>\nWhy?\n<assistant>\n"
    assert tokenizer.prompt_ids("Why?", chat=True).count(256) == 1
