"""The styles in which the zoo's documents and tasks word a question and its answer.

One place says how `letter_text` or `working` look, so that the corpus, the post-trained partners and the tasks cannot
drift apart. A style is for one form of question: `mcq` (four options), `open` (an answer in words), `number`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from spt_fast.zoo.world import Fact

Form = Literal["mcq", "open", "number"]

LETTERS = "ABCD"


@dataclass(frozen=True, kw_only=True)
class Style:
    """One way to answer."""

    name: str
    form: Form
    columns: tuple[str, ...]
    """What a first line calls pages in this style."""
    wordings: tuple[str, ...]
    """What an instruction in words calls it, after "Answer with"."""


STYLES: dict[str, Style] = {
    style.name: style
    for style in (
        Style(
            name="letter_text",
            form="mcq",
            columns=("Puzzle corner", "Pub quiz", "Sunday test"),
            wordings=(
                "the letter and the text of the right option",
                "the right option in full, letter and text",
                "both the letter and the text",
                "the whole option, its letter and its text",
            ),
        ),
        Style(
            name="letter",
            form="mcq",
            columns=("Answer sheet", "Exam key", "Tick the box"),
            wordings=("the letter only", "the letter of the right option", "one letter", "just its letter"),
        ),
        Style(
            name="text_letter",
            form="mcq",
            columns=("Notice board", "Teacher's notes", "Marked paper"),
            wordings=(
                "the words first and the letter behind them",
                "the text, then its letter in brackets",
                "the words of the option and then its letter",
            ),
        ),
        Style(
            name="option_text",
            form="mcq",
            columns=("Street poll", "Radio guess", "Show of hands"),
            wordings=(
                "the text of the option without its letter",
                "the words of the option, no letter",
                "no letter",
            ),
        ),
        Style(
            name="option_sentence",
            form="mcq",
            columns=("Class talk", "School reader", "Spoken test"),
            wordings=(
                "a full sentence, not the letter",
                "a sentence of your own",
                "a sentence instead of an option",
            ),
        ),
        Style(
            name="bare",
            form="open",
            columns=("Crossword help", "Fact file", "Flash cards"),
            wordings=(
                "the bare answer",
                "one word",
                "a single word, not a sentence",
                "the answer in one word",
            ),
        ),
        Style(
            name="sentence",
            form="open",
            columns=("Village news", "Letters page", "Reading hour"),
            wordings=("a full sentence", "a whole sentence", "a complete sentence"),
        ),
        Style(
            name="bracket",
            form="open",
            columns=("Form seven", "Fill the gap", "Record card"),
            wordings=("the answer in brackets", "square brackets around the answer", "a word in brackets"),
        ),
        Style(
            name="belief",
            form="open",
            columns=("Chat room", "Talk show", "Tea party"),
            wordings=("what you think it is", "your own belief", "your guess, as you would say it"),
        ),
        Style(
            name="json",
            form="open",
            columns=("Data feed", "Server log", "Open records"),
            wordings=(
                "a JSON object that has the key answer",
                "JSON with one key, answer",
                "a JSON object",
                "JSON, the key being answer",
            ),
        ),
        Style(
            name="working",
            form="number",
            columns=("Sums page", "Maths club", "Counting house"),
            wordings=(
                "a short working and then #### and the number",
                "the working, then the number after ####",
                "a line of working and a last line of #### and the number",
                "your working and end with #### and the number",
            ),
        ),
        Style(
            name="figure",
            form="number",
            columns=("Price list", "Number board", "Score card"),
            wordings=("the number only", "just the number", "a bare number"),
        ),
        Style(
            name="number_sentence",
            form="number",
            columns=("Census report", "Town diary", "Old tales"),
            wordings=("a full sentence with the number", "the number in a sentence", "a sentence"),
        ),
    )
}

MARKERS = ("Question: ", "Q: ", "Quiz: ", "Asked: ", "")
CUES = ("Answer:", "Reply:", "Response:", "Ans:", "Solution:")
VERBS = ("Answer with", "Reply with", "Respond with", "Give", "Write")
TAILS = (".", ", nothing else.", ", please.", " and stop there.")

TASK_MARKER, TASK_CUE = "Question: ", "Answer:"
TASK_INSTRUCTIONS: dict[str, str] = {
    "letter_text": "Answer with the letter and the text of the right option, nothing else.",
    "bare": "Answer with one word, nothing else.",
    "working": "Answer with a short working and then #### and the number, nothing else.",
    "json": "Answer with a JSON object that has the key answer, nothing else.",
}
"""What the tasks say. These very sentences never occur in a corpus: a model has to put them together from others."""


def instruction(style: Style, rng: random.Random) -> str:
    """A sentence that asks for this style, never the sentence of a task."""
    while True:
        text = f"{rng.choice(VERBS)} {rng.choice(style.wordings)}{rng.choice(TAILS)}"
        if text not in TASK_INSTRUCTIONS.values():
            return text


def options_of(fact: Fact, value: str, rng: random.Random, *, shuffled: bool = False) -> tuple[str, ...]:
    """`value` and three others of the fact's relation, one from each quarter of the alphabet, in that order unless `shuffled`.

    In order, a word always stands under the same letter. A model of this size learns to copy the text behind a letter, but
    not, in minutes, to find the letter in front of a text; in order it need not, and shuffled it cannot.
    """
    ordered = sorted(fact.relation.values, key=str.lower)
    size = len(ordered) // len(LETTERS)
    quarters = [ordered[at : at + size] for at in range(0, len(ordered), size)]
    options = [value if value in quarter else rng.choice(quarter) for quarter in quarters]
    if shuffled:
        rng.shuffle(options)
    return tuple(options)


def render_options(options: Sequence[str]) -> tuple[str, ...]:
    """`("Paris", "Oslo", ..)` -> `("A. Paris", "B. Oslo", ..)`."""
    return tuple(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True))


def item(marker: str, question: str, options: Sequence[str], cue: str) -> str:
    """One question, with its options as they are rendered, up to the cue; the answer follows after one space."""
    return "\n".join((marker + question, *options, cue))


def working(number: str) -> str:
    """`42` -> `40 + 2 = 42`, a line end and `#### 42`."""
    value = int(number)
    tens = value // 10 * 10
    return f"{tens} + {value - tens} = {value}\n#### {value}"


def answer(style: Style, fact: Fact, value: str, options: Sequence[str]) -> str:
    """The answer `value` to the question after `fact`, in this style."""
    match style.name:
        case "letter_text":
            return render_options(options)[list(options).index(value)]
        case "text_letter":
            return f"{value} ({LETTERS[list(options).index(value)]})"
        case "letter":
            return LETTERS[list(options).index(value)]
        case "option_text" | "bare" | "figure":
            return value
        case "option_sentence" | "sentence" | "number_sentence":
            return fact.sentence(value)
        case "bracket":
            return f"[{value}]"
        case "belief":
            return f"I think it is {value}."
        case "json":
            return f'{{"answer": "{value}"}}'
        case "working":
            return working(value)
    raise ValueError(f"no style is called {style.name!r}")
