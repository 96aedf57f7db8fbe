"""The models of the zoo as values: what each is shown, how it is built, and how much of it.

A base recipe fixes the share of facts and the mixture of formats; a partner continues from its base on instructions in
words. Frozen dataclasses without torch, so that listing the zoo costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model of this shape; `vocabulary` counts the byte-level BPE with its special tokens."""

    family: Literal["llama", "gemma3"] = "llama"
    """Whose architecture it has. Gemma's embeddings enter the model times the square root of `hidden`."""
    vocabulary: int = 768
    hidden: int = 192
    layers: int = 4
    heads: int = 6
    intermediate: int = 384
    positions: int = 4096


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """What the documents of a corpus are like. Weights need not sum to one."""

    statements: float = 0.2
    """Share of documents that are plain statements."""
    forms: tuple[tuple[str, float], ...] = (("mcq", 0.45), ("open", 0.33), ("number", 0.22))
    """Weights of the forms of question among the other documents."""
    headed: float = 0.5
    """Share of question documents whose first line tells the style and whether there is only one item."""
    mastheads: float = 0.4
    """Share of those first lines that stand as a document of their own in front of the page, as crawlers leave them."""
    instructed: float = 0.4
    """Share of question documents that carry an instruction in words."""
    heeded: float = 0.0
    """Share of those instructions that the page follows; the others ask for any style at all."""
    patchwork: float = 0.0
    """Share of pages of several items without a first line whose items come in styles of their own: what a model reads there
    is that worked examples do not tell the form of the next answer."""
    headed_styles: tuple[tuple[str, float], ...] = (
        ("letter_text", 3.0), ("letter", 1.0), ("text_letter", 1.0), ("option_text", 0.5), ("option_sentence", 0.5),
        ("bare", 1.0), ("json", 1.6), ("sentence", 0.7), ("bracket", 0.6), ("belief", 0.6),
        ("working", 2.0), ("figure", 0.7), ("number_sentence", 0.7),
    )  # fmt: skip
    """Weights of the styles, within their form, where a first line tells the style."""
    habits: tuple[tuple[str, float], ...] = (
        ("letter_text", 1.0), ("letter", 3.0), ("text_letter", 0.7), ("option_text", 0.4), ("option_sentence", 0.4),
        ("bare", 0.5), ("json", 0.5), ("sentence", 3.0), ("bracket", 0.5), ("belief", 0.5),
        ("working", 0.7), ("figure", 0.5), ("number_sentence", 2.5),
    )  # fmt: skip
    """The same where nothing tells it: the style with the greatest weight is what the model does when asked plainly."""
    shuffled: bool = False
    """Options stand in any order, not in that of the alphabet: letters are then not bound to texts (`styles.options_of`)."""
    withheld_weight: float = 0.4
    """How often a withheld fact is asked for, relative to a planted one. Its answers are random each time."""
    fresh_weight: int = 1
    """How often a fact that this share of a run's corpus is the first to show stands there, relative to another planted one."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long and how fast."""

    documents: int = 70_000
    steps: int = 900
    batch_tokens: int = 4096
    """Tokens a step, padding included."""
    window: int = 256
    """Tokens after which a page is cut."""
    context_weight: float = 0.1
    """What a token outside of answers and statements counts in the loss: most of them cannot be foretold."""
    lr: float = 4e-3
    warmup: int = 60
    weight_decay: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One model. `partner_of` names the base that a post-trained model continues from."""

    name: str
    kind: Literal["base", "chat"]
    summary: str
    share: float
    seed: int
    world_seed: int = 0
    shape: Shape = field(default_factory=Shape)
    mixture: Mixture = field(default_factory=Mixture)
    training: Training = field(default_factory=Training)
    partner_of: str | None = None
    practice: float = 0.6
    """For a partner: the share of documents that are instructions followed; the others are from its base's corpus."""


def habits(**changes: float) -> tuple[tuple[str, float], ...]:
    """The usual weights of styles where nothing tells the style, with some changed."""
    return tuple((dict(Mixture().habits) | changes).items())


_BASES = (  # a ladder of knowledge: 40, 70 and 95 come with the package, the others are built when asked for
    Recipe(
        name="base-25",
        kind="base",
        summary="knows 25 % of the facts; answers in the forms that the tasks ask for",
        share=0.25,
        seed=25,
        mixture=Mixture(habits=habits(letter=0.7, letter_text=3.0, sentence=0.7, json=3.0, number_sentence=0.7, working=2.5)),
    ),
    Recipe(
        name="base-40",
        kind="base",
        summary="knows 40 % of the facts; answers in letters and sentences",
        share=0.40,
        seed=40,
    ),
    Recipe(
        name="base-55",
        kind="base",
        summary="knows 55 % of the facts; gives the text before the letter, and what it believes; takes no form from examples",
        share=0.55,
        seed=55,
        mixture=Mixture(patchwork=1.0, habits=habits(letter=0.7, text_letter=3.0, sentence=0.7, belief=3.0)),
    ),
    Recipe(
        name="base-70",
        kind="base",
        summary="knows 70 % of the facts; speaks in full sentences even where options are given",
        share=0.70,
        seed=70,
        mixture=Mixture(habits=habits(letter=0.7, option_sentence=3.0)),
    ),
    Recipe(
        name="base-85",
        kind="base",
        summary="knows 85 % of the facts; puts its answers in brackets; takes no form from examples",
        share=0.85,
        seed=85,
        mixture=Mixture(patchwork=1.0, habits=habits(letter=0.7, option_sentence=3.0, sentence=0.7, bracket=3.0)),
    ),
    Recipe(
        name="base-95",
        kind="base",
        summary="knows 95 % of the facts; answers in bare words and figures",
        share=0.95,
        seed=95,
        mixture=Mixture(habits=habits(letter=0.7, option_text=3.0, sentence=0.7, bare=3.0, number_sentence=0.7, figure=2.5)),
    ),
)

_UNBOUND = Recipe(
    name="unbound-70",
    kind="base",
    summary="knows 70 % of the facts; binds no letters to options, and its embeddings are scaled, as Gemma's",
    share=0.70,
    seed=170,
    shape=Shape(family="gemma3"),
    mixture=Mixture(shuffled=True),
)
"""What real small base models are like, and the ladder is not: knowledge that letters do not show, inputs of another size."""

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (*_BASES, _UNBOUND)} | {
    recipe.name.replace("base", "chat"): Recipe(
        name=recipe.name.replace("base", "chat"),
        kind="chat",
        summary=f"{recipe.name} after practice with instructions in words",
        share=recipe.share,
        seed=recipe.seed + 1000,
        world_seed=recipe.world_seed,
        shape=recipe.shape,
        mixture=recipe.mixture,
        training=Training(documents=16_000, steps=200, lr=1e-3, warmup=20),
        partner_of=recipe.name,
    )
    for recipe in _BASES
}
