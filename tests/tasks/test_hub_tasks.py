"""GSM8K and MMLU: what a published row becomes."""

from __future__ import annotations

import pytest

from spt_fast.tasks.benchmarks.gsm8k import TASK as GSM8K
from spt_fast.tasks.benchmarks.mmlu import TASK as MMLU

WORD_PROBLEM = {
    "question": "A box holds 6 eggs. How many do 3 boxes hold? ",
    "answer": "They hold 6*3=<<6*3=18>>18 eggs. \nThat is $<<18=18>>1,018 worth.\n#### 1,018",
}
CHOICE = {
    "question": " Capital of France?",
    "subject": "world_facts",
    "choices": ["Rome", " Paris\n x", "Lima", "Oslo"],
    "answer": 1,
}


def test_a_word_problem_loses_its_calculator_marks_and_keeps_its_working() -> None:
    example = GSM8K.read_row(WORD_PROBLEM)
    assert example.target == "They hold 6*3=18 eggs.\nThat is $1,018 worth.\n#### 1018"
    assert example.answers == ("1018",)
    assert GSM8K.follows_format(example.target, example)


def test_the_number_of_a_word_problem_is_compared_as_a_number() -> None:
    example = GSM8K.read_row({"question": "?", "answer": "So it is.\n#### 100"})
    assert GSM8K.accepts("$100.00", example)
    assert not GSM8K.accepts("10", example)
    assert not GSM8K.accepts("1000", example)


def test_the_prompt_of_a_word_problem_says_what_form_the_answer_has() -> None:
    prompt = GSM8K.template.prompt(GSM8K.read_row(WORD_PROBLEM))
    assert "step by step" in prompt
    assert "#### 42" in prompt
    assert prompt.endswith("\n\nQuestion: A box holds 6 eggs. How many do 3 boxes hold?\nAnswer:")


def test_a_word_problem_without_the_mark_is_refused() -> None:
    with pytest.raises(ValueError, match="####"):
        GSM8K.read_row({"question": "?", "answer": "18"})


def test_options_are_rendered_in_full_on_one_line_each() -> None:
    example = MMLU.read_row(CHOICE)
    assert example.options == ("A. Rome", "B. Paris x", "C. Lima", "D. Oslo")
    assert (example.gold, example.target) == (1, "B. Paris x")
    assert MMLU.template.prompt(example).endswith(
        "\n\nQuestion (world facts): Capital of France?\nA. Rome\nB. Paris x\nC. Lima\nD. Oslo\nAnswer:"
    )


def test_options_and_answer_may_be_text_as_csv_has_them() -> None:
    row = {**CHOICE, "choices": '["Rome", " Paris\\n x", "Lima", "Oslo"]', "answer": "1"}
    assert MMLU.read_row(row) == MMLU.read_row(CHOICE)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"choices": ["a", "b"]}, "has 2 options"),
        ({"answer": 4}, "'answer' is 4"),
        ({"answer": 2.5}, "'answer' is 2.5"),
        ({"answer": "B"}, "'answer' is 'B'; it is 0 to 3"),
    ],
)
def test_a_choice_out_of_range_is_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        MMLU.read_row({**CHOICE, **wrong})
