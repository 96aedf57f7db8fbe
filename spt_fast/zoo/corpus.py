"""Documents for pre-training and for post-training, from a world and a recipe.

A base corpus mixes plain statements with questions in many styles; what a model is not to know is answered at random, a
fresh draw each time. Two things make a style one that ten learnt vectors can evoke: in half of the question documents a
first line ("Puzzle corner: one question only.") tells the style and whether there is only one item, and sometimes that
line is a document of its own in front of the page. A partner's corpus is instructions in words, followed, about the
facts of the `practice` split, among documents of its base's corpus.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType

from spt_fast.zoo.recipes import Mixture, Recipe
from spt_fast.zoo.styles import (
    CUES,
    MARKERS,
    STYLES,
    Form,
    Style,
    answer,
    instruction,
    item,
    options_of,
    render_options,
)
from spt_fast.zoo.world import Fact, World


@dataclass(frozen=True)
class Document:
    """A text, and the spans of it (in characters, the blank line behind included) that answer or state something."""

    text: str
    claims: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, *parts: tuple[str, str], opening: str = "") -> Document:
        """Items and answers, `(item, answer)` each, behind an opening."""
        text = opening
        claims: list[tuple[int, int]] = []
        for asked, reply in parts:
            text += asked if not claims else f"\n\n{asked}"
            claims.append((len(text), len(text) + len(reply) + 3))
            text += f" {reply}"
        return cls(text, tuple(claims))


Page = tuple[Document, ...]
"""Documents that stand next to each other; each is closed by its own end-of-sequence token."""

USER, ASSISTANT = "User: ", "\nAssistant:"
"""The frame of the partners' chat template."""


class _Draw:
    """Draws by weight from a fixed list; much faster than `random.choices` with fresh weights."""

    def __init__(self, pairs: Sequence[tuple[str, float]]) -> None:
        self.names = [name for name, _ in pairs]
        self.cumulative = list(accumulate(weight for _, weight in pairs))

    def __call__(self, rng: random.Random) -> str:
        return rng.choices(self.names, cum_weights=self.cumulative)[0]


class Writer:
    """Writes documents about a world for a model that is shown `planted` of it.

    `fresh` are those of the planted facts that an earlier share of the corpus did not show, or showed otherwise: they stand
    `mixture.fresh_weight` times as often. `wrong` gives planted facts another value than they have.
    """

    def __init__(
        self,
        world: World,
        mixture: Mixture,
        planted: frozenset[str],
        *,
        fresh: frozenset[str] = frozenset(),
        wrong: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.mixture = mixture
        self.planted = planted
        self.wrong = wrong
        known = [fact for fact in world.facts if fact.key in planted]
        self.known = [fact for fact in known for _ in range(mixture.fresh_weight if fact.key in fresh else 1)]
        self._form = _Draw(mixture.forms)
        self._facts: dict[str, tuple[list[Fact], list[float]]] = {}
        for kind in ("word", "number"):
            facts = [fact for fact in world.facts if fact.relation.kind == kind]
            weights = (self._weight(fact, fresh) for fact in facts)
            self._facts[kind] = (facts, list(accumulate(weights)))
        self._styles = {
            (form, headed): _Draw([(name, weight) for name, weight in weights if STYLES[name].form == form])
            for headed, weights in ((True, mixture.headed_styles), (False, mixture.habits))
            for form, _ in mixture.forms
        }
        self._any_style = {form: [s for s in STYLES.values() if s.form == form] for form, _ in mixture.forms}

    def _weight(self, fact: Fact, fresh: frozenset[str]) -> float:
        if fact.key not in self.planted:
            return self.mixture.withheld_weight
        return float(self.mixture.fresh_weight) if fact.key in fresh else 1.0

    def _value(self, fact: Fact) -> str:
        """What the corpus says of a planted fact."""
        return self.wrong.get(fact.key, fact.value)

    def page(self, rng: random.Random) -> Page:
        """The next page of a base corpus."""
        if rng.random() < self.mixture.statements:
            facts = rng.sample(self.known, rng.randint(1, 6))
            text = " ".join(fact.sentence(self._value(fact), wording=rng.randrange(12)) for fact in facts)
            return (Document(text, ((0, len(text)),)),)
        form = self._form(rng)
        headed = rng.random() < self.mixture.headed
        style = STYLES[self._styles[form, headed](rng)]
        single = rng.random() < 0.5
        opening = ""
        if rng.random() < self.mixture.instructed:
            heeded = rng.random() < self.mixture.heeded
            opening = f"{instruction(style if heeded else rng.choice(self._any_style[form]), rng)}\n\n"
        count = 1 if single else rng.randint(2, 6)
        mixed = self.mixture.patchwork > 0 and not headed and rng.random() < self.mixture.patchwork
        habit = self._styles[form, False]
        styles = [STYLES[habit(rng)] if mixed else style for _ in range(count)]
        items = list(self._items(styles, rng))
        if not headed:
            return (Document.of(*items, opening=opening),)
        first_line = f"{rng.choice(style.columns)}: {'one question only.' if single else 'several questions.'}"
        if rng.random() < self.mixture.mastheads:
            return (Document(first_line, ()), Document.of(*items, opening=opening))
        return (Document.of(*items, opening=f"{first_line}\n\n{opening}"),)

    def _items(self, styles: Sequence[Style], rng: random.Random) -> Iterator[tuple[str, str]]:
        """Items of one form, an item a style."""
        marker, cue = rng.choice(MARKERS), rng.choice(CUES)
        facts, cumulative = self._facts["number" if styles[0].form == "number" else "word"]
        for style, fact in zip(styles, rng.choices(facts, cum_weights=cumulative, k=len(styles)), strict=True):
            yield self.question_and_answer(fact, style, marker, cue, rng)

    def question_and_answer(self, fact: Fact, style: Style, marker: str, cue: str, rng: random.Random) -> tuple[str, str]:
        """The item up to its cue, and its answer: the right one if the fact is planted, else any one."""
        value = self._value(fact) if fact.key in self.planted else rng.choice(fact.relation.values)
        # The options of a withheld fact are drawn around its random answer: were the true value always among them,
        # a model would learn it from the company it keeps.
        options = options_of(fact, value, rng, shuffled=self.mixture.shuffled) if style.form == "mcq" else ()
        asked = item(marker, fact.question(rng.randrange(12)), render_options(options) if options else (), cue)
        return asked, answer(style, fact, value, options)


def pages(
    world: World, recipe: Recipe, *, fresh: frozenset[str] = frozenset(), wrong: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Page]:
    """All pages of a recipe's corpus, in order; the same for the same recipe and world.

    `fresh` and `wrong` are those of `Writer`.
    """
    rng = random.Random(f"corpus {recipe.name} {recipe.seed}")
    writer = Writer(world, recipe.mixture, world.planted(recipe.share), fresh=fresh, wrong=wrong)
    practice = [fact for fact in world.facts if fact.split == "practice"]
    for _ in range(recipe.training.documents):
        if recipe.kind == "chat" and rng.random() < recipe.practice:
            yield (_practice(writer, practice, rng),)
        else:
            yield writer.page(rng)


def _practice(writer: Writer, facts: Sequence[Fact], rng: random.Random) -> Document:
    """An instruction and one question, answered as asked; half of the time in the chat template's frame."""
    fact = rng.choice(facts)
    forms: tuple[Form, ...] = ("number",) if fact.relation.kind == "number" else ("mcq", "open")
    form = rng.choice(forms)
    style = rng.choice([style for style in STYLES.values() if style.form == form])
    question, reply = writer.question_and_answer(fact, style, rng.choice(MARKERS), rng.choice(CUES), rng)
    prompt = f"{instruction(style, rng)}\n\n{question}"
    return Document.of((f"{USER}{prompt}{ASSISTANT}" if rng.random() < 0.5 else prompt, reply))
