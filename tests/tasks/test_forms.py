"""The form of closed-ended answers, as a careful reader has it; real completions of gemma-3-270m among them."""

from __future__ import annotations

import pytest

from spt_fast.tasks.forms import bare_texts, bound, in_form_asked, written

POLES = (
    "A. the like poles attract",
    "B. the like poles repel",
    "C. the unlike poles repel",
    "D. nothing at all happens to the magnets",
)
TOWNS = ("A. Rome", "B. Paris", "C. Oslo", "D. Bern")
LONG = (
    "A. Put the wedge under the door, and push it in with your foot until it sits tight.",
    "B. Put the wedge of cheese next to the door, and eat it when the wind has gone.",
)


@pytest.mark.parametrize(
    ("text", "options", "in_form", "binds"),
    [
        ("B. Paris", TOWNS, True, True),
        ("A. Paris", TOWNS, True, False),  # B's text
        ("A. the like poles repel", POLES, True, False),
        ("B. the like poles repel.", POLES, True, False),  # a full stop more
        ("D. nothing happens to the magnets", POLES, True, False),  # words left out
        ("D. Nothing at all happens to the magnet", POLES, True, False),
        ("D. sulfur", ("A. iron", "B. gold", "C. tin", "D. sulfur (S)"), True, False),
        ("B. London", TOWNS, True, False),  # nobody's text, and a text all the same
        ("B.  Paris", TOWNS, True, False),
        ("B. Paris, France", TOWNS, True, False),
        ("A. vitamin C. It cures scurvy", ("A. vitamin C. It cures scurvy", "B. rest"), True, True),
        (LONG[1], LONG, True, True),
        (LONG[1].replace(" of cheese", ""), LONG, True, False),
        ("A. +", ("A. +", "B. -"), True, True),
    ],
)
def test_the_form_is_there_whosever_the_text_is(text: str, options: tuple[str, ...], in_form: bool, binds: bool) -> None:
    assert in_form_asked(text, options) is in_form
    assert bound(text, options) is binds


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", TOWNS),
        ("B", TOWNS),  # the letter alone
        ("B.", TOWNS),
        ("Paris", TOWNS),  # the text alone
        ("B) Paris", TOWNS),  # another mark
        ("(B) Paris", TOWNS),
        ("b. Paris", TOWNS),
        ("B.Paris", TOWNS),
        ("E. Paris", TOWNS),  # no such letter
        ("B. Paris\nC. Oslo", TOWNS),  # a second line
        ("A. Rome B. Paris", TOWNS),  # two options
        ("A. B. Paris", TOWNS),
        ("A. B", TOWNS),
        ("B. Paris because it is the seat of the government", TOWNS),  # explanations
        ("B. Paris. It is the capital of France.", TOWNS),
        ("B. the like poles repel. This is because of their fields.", POLES),
        ("B. I think that it could be any of these towns but Bern", TOWNS),  # far too long
        ("B. ...", TOWNS),
        ("The answer is B. Paris", TOWNS),
        (LONG[0] + " Then the wind cannot move it.", LONG),
    ],
)
def test_what_is_no_answer_in_that_form_is_not_taken_for_one(text: str, options: tuple[str, ...]) -> None:
    assert not in_form_asked(text, options)


def test_letters_alone_and_texts_alone_are_one_of_the_options_or_nothing() -> None:
    letters, texts = ("A", "B"), ("no", "yes")
    assert [in_form_asked(text, letters) for text in ("A", "B", "C", "A.", "A. Rome", "")] == [True, True, *[False] * 4]
    assert [in_form_asked(text, texts) for text in ("no", "yes", "Yes", "no.", "maybe")] == [True, True, *[False] * 3]
    assert bound("A", letters) is None
    assert bound("no", texts) is None


def test_how_options_are_written_and_their_texts() -> None:
    assert [written(options) for options in (TOWNS, ("A", "B"), ("no", "yes"))] == ["", "letter", "text"]
    assert [bare_texts(options) for options in (TOWNS, ("A", "B"), ("no", "yes"))] == [
        ("Rome", "Paris", "Oslo", "Bern"),
        (),
        ("no", "yes"),
    ]
