"""A synthetic world whose facts are listed: what a zoo model can know, and which test asks for it.

Invented people have a home, an animal, a trade, a dish (facts in words) and an age, books, a house number (facts in
numbers). Every fact belongs to one split, so that tuning rows, few-shot rows, test rows and the practice of the
post-trained partners never share a fact. `planted` says which facts a model was shown; the others it can only guess.
Everything follows from one seed. How facts are worded in documents is `corpus.py`'s business.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import Literal

Split = Literal["test", "tuning", "few_shot", "practice"]
"""`practice` is what post-trained partners learn instructions on; no task ever asks for it."""

Kind = Literal["word", "number"]


@dataclass(frozen=True, kw_only=True)
class Relation:
    """One thing that can be true of a person, and how it is said and asked."""

    name: str
    kind: Kind
    values: tuple[str, ...]
    questions: tuple[str, ...]
    """Wordings with `{p}` for the person."""
    statements: tuple[str, ...]
    """Wordings with `{p}` and `{v}`; the first is the answer in a full sentence."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """`relation` of `person` is `value`. `rank` orders the facts of a split: a model is shown the first ones."""

    person: str
    relation: Relation
    value: str
    split: Split
    rank: int

    @property
    def key(self) -> str:
        """The name of the fact without its value: `"Velmo/home"`."""
        return f"{self.person}/{self.relation.name}"

    def question(self, wording: int = 0) -> str:
        """The question in one of its wordings (any integer will do)."""
        return self.relation.questions[wording % len(self.relation.questions)].format(p=self.person)

    def sentence(self, value: str | None = None, wording: int = 0) -> str:
        """The fact, or the same claim with another value, as a full sentence."""
        template = self.relation.statements[wording % len(self.relation.statements)]
        return template.format(p=self.person, v=self.value if value is None else value)


_NUMBERS = tuple(str(tens + ones) for tens in range(20, 100, 10) for ones in range(1, 10))

RELATIONS: tuple[Relation, ...] = (
    Relation(
        name="home",
        kind="word",
        values=(
            "Paris",
            "Oslo",
            "Cairo",
            "Lima",
            "Tokyo",
            "Rome",
            "Delhi",
            "Quito",
            "Accra",
            "Perth",
            "Sofia",
            "Havana",
        ),
        questions=(
            "Where does {p} live?",
            "In which city does {p} live?",
            "What is the home town of {p}?",
            "{p} is at home where?",
        ),
        statements=("{p} lives in {v}.", "The home town of {p} is {v}.", "{p} has a house in {v}."),
    ),
    Relation(
        name="animal",
        kind="word",
        values=(
            "parrot",
            "goat",
            "rabbit",
            "ferret",
            "lizard",
            "pigeon",
            "donkey",
            "tortoise",
            "hamster",
            "badger",
            "falcon",
            "kitten",
        ),
        questions=(
            "Which animal does {p} keep?",
            "What is the pet of {p}?",
            "What kind of animal does {p} have?",
            "{p} keeps which animal?",
        ),
        statements=("{p} keeps a {v}.", "The pet of {p} is a {v}.", "{p} has a {v} as an animal friend."),
    ),
    Relation(
        name="trade",
        kind="word",
        values=(
            "baker",
            "tailor",
            "potter",
            "miller",
            "sailor",
            "weaver",
            "farmer",
            "doctor",
            "lawyer",
            "printer",
            "teacher",
            "mason",
        ),
        questions=(
            "What is the trade of {p}?",
            "What does {p} do for a living?",
            "What does {p} work as?",
            "{p} has which trade?",
        ),
        statements=(
            "{p} works as a {v}.",
            "The trade of {p} is that of a {v}.",
            "{p} is known as a good {v}.",
        ),
    ),
    Relation(
        name="dish",
        kind="word",
        values=(
            "bread",
            "soup",
            "rice",
            "honey",
            "cheese",
            "plums",
            "beans",
            "noodles",
            "pickles",
            "salmon",
            "cake",
            "porridge",
        ),
        questions=(
            "What does {p} like to eat?",
            "What is the favourite dish of {p}?",
            "Which food does {p} like?",
            "{p} likes to eat what?",
        ),
        statements=(
            "{p} likes to eat {v}.",
            "The favourite dish of {p} is {v}.",
            "{p} often asks for {v} at dinner.",
        ),
    ),
    Relation(
        name="age",
        kind="number",
        values=_NUMBERS,
        questions=(
            "How old is {p}?",
            "What is the age of {p}?",
            "What age has {p} reached?",
            "{p} is how old?",
        ),
        statements=("{p} is {v} years old.", "The age of {p} is {v}."),
    ),
    Relation(
        name="books",
        kind="number",
        values=_NUMBERS,
        questions=(
            "How many books does {p} own?",
            "What number of books does {p} have?",
            "{p} owns how many books?",
            "How many books has {p}?",
        ),
        statements=("{p} owns {v} books.", "The number of books of {p} is {v}."),
    ),
    Relation(
        name="house",
        kind="number",
        values=_NUMBERS,
        questions=(
            "What is the house number of {p}?",
            "At which number does {p} live?",
            "Which house number has {p}?",
            "{p} lives at which number?",
        ),
        statements=("{p} lives at number {v}.", "The house number of {p} is {v}."),
    ),
)

_FIRST = [
    "Bel",
    "Tor",
    "Mi",
    "Kas",
    "Ru",
    "Lan",
    "Do",
    "Vel",
    "Sor",
    "Ha",
    "Jun",
    "Pel",
    "Ne",
    "Fi",
    "Gar",
    "Zu",
]
_SECOND = ["mo", "rin", "vek", "dra", "lis", "tan", "gol", "sha", "bur", "nek", "wo", "zim"]

SIZES: dict[Kind, dict[Split, int]] = {
    "word": {"test": 120, "tuning": 60, "few_shot": 20, "practice": 40},
    "number": {"test": 100, "tuning": 40, "few_shot": 20, "practice": 20},
}
"""Facts a split. Multiples of 20, so that shares in steps of 5 % can be planted exactly."""


@dataclass(frozen=True, kw_only=True)
class World:
    """All facts, in one fixed order."""

    seed: int
    people: tuple[str, ...]
    facts: tuple[Fact, ...]

    @classmethod
    def from_seed(cls, seed: int = 0) -> World:
        """The world of this seed: 60 people, 240 facts in words and 180 in numbers."""
        return _world(seed)

    def of(self, split: Split, kind: Kind) -> tuple[Fact, ...]:
        """The facts of a split, by rank."""
        found = (fact for fact in self.facts if fact.split == split and fact.relation.kind == kind)
        return tuple(sorted(found, key=lambda fact: fact.rank))

    def planted(self, share: float) -> frozenset[str]:
        """Keys of the facts that a model which knows `share` of the world is shown.

        The share holds exactly in every split and kind; what a lesser share plants, a greater one plants too.

        Raises:
            ValueError: the share cannot hold exactly in some split.
        """
        keys: set[str] = set()
        for kind, sizes in SIZES.items():
            for split, size in sizes.items():
                count = round(share * size)
                if abs(count - share * size) > 1e-9:
                    raise ValueError(f"a share of {share} cannot be planted exactly in {size} facts ({split}, {kind})")
                keys.update(fact.key for fact in self.of(split, kind)[:count])
        return frozenset(keys)

    def overwritten(self, share: float) -> dict[str, str]:
        """Keys of about this share of the facts, and for each a value of its relation that is not its own.

        They are the first facts of every split and kind, rounded there to whole ones: those that a model is shown first. What a
        lesser share overwrites, a greater one does too, and alike.
        """
        found: dict[str, str] = {}
        for kind, sizes in SIZES.items():
            for split, size in sizes.items():
                for fact in self.of(split, kind)[: round(share * size)]:
                    rng = random.Random(f"overwritten {self.seed} {fact.key}")
                    found[fact.key] = rng.choice([value for value in fact.relation.values if value != fact.value])
        return found


@cache
def _world(seed: int) -> World:
    rng = random.Random(f"world {seed}")
    people = rng.sample([first + second for first in _FIRST for second in _SECOND], 60)
    facts: list[Fact] = []
    for kind, sizes in SIZES.items():
        pairs = [(person, relation) for person in people for relation in RELATIONS if relation.kind == kind]
        rng.shuffle(pairs)
        places = [(split, rank) for split, size in sizes.items() for rank in range(size)]
        for (person, relation), (split, rank) in zip(pairs, places, strict=True):
            value = rng.choice(relation.values)
            facts.append(Fact(person=person, relation=relation, value=value, split=split, rank=rank))
    return World(seed=seed, people=tuple(people), facts=tuple(facts))
