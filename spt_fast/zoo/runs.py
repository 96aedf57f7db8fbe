"""Training runs of the zoo as values: twelve checkpoints of one model, and what each share of the corpus has shown by then.

A run goes on from a base model of the zoo, which is its first 900 updates: that is where a model of this size has learnt to
answer at all. From there on what it knows rises by plan, and the form of its answers comes and goes. A run with a fault goes on
from a checkpoint of the run without one, so that the two differ in nothing else. Light, as `recipes.py` is: whoever asks what a
checkpoint was shown needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from spt_fast.zoo.recipes import RECIPES, Mixture, Recipe, Training, habits
from spt_fast.zoo.world import World


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of a run's corpus, behind which a checkpoint is kept."""

    shown: float
    """Share of the world's facts that were shown by the end of it."""
    wrong: float = 0.0
    """Share of the world's facts that it shows with a value which is not theirs."""
    mixture: Mixture
    training: Training


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training run. One that is a fork has the first `common` checkpoints of the run that it is a fork of."""

    name: str
    summary: str
    seed: int
    trunk: str
    """The base model that it goes on from."""
    shares: tuple[Share, ...]
    fork_of: str | None = None
    common: int = 0

    @property
    def base(self) -> Recipe:
        """The recipe of the model that it goes on from."""
        return RECIPES[self.trunk]

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """All checkpoints in order, those that it shares with another run among them."""
        steps = accumulate((share.training.steps for share in self.shares), initial=self.base.training.steps)
        return tuple(Checkpoint(run=self, number=number, step=step) for number, step in enumerate(steps) if number)

    @property
    def world(self) -> World:
        """What it is told about."""
        return World.from_seed(self.base.world_seed)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The model behind the first `number` shares of a run, after `step` updates, those of its base among them."""

    run: Run
    number: int
    step: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"step-{self.step}"

    @property
    def share(self) -> Share:
        """What it was trained on last."""
        return self.run.shares[self.number - 1]

    @property
    def before(self) -> Checkpoint | None:
        """The checkpoint that it goes on from; None: the run's base."""
        return self.run.checkpoints[self.number - 2] if self.number > 1 else None

    @property
    def original(self) -> Checkpoint | None:
        """The checkpoint of the run that this one is a fork of, where it is one of the common ones."""
        if self.run.fork_of is None or self.number > self.run.common:
            return None
        return RUNS[self.run.fork_of].checkpoints[self.number - 1]

    @property
    def recipe(self) -> Recipe:
        """How it is trained, from the model before it."""
        share, base = self.share, self.run.base
        return Recipe(
            name=f"{self.run.name}/{self.name}",
            kind="base",
            summary=self.run.summary,
            share=share.shown,
            seed=self.run.seed,
            world_seed=base.world_seed,
            shape=base.shape,
            mixture=share.mixture,
            training=share.training,
            partner_of=f"{self.run.name}/{self.before.name}" if self.before else base.name,
        )

    @property
    def shown(self) -> frozenset[str]:
        """Keys of the facts that the corpus has shown by here, those with a wrong value among them."""
        return self.run.world.planted(self.share.shown)

    @property
    def wrong(self) -> Mapping[str, str]:
        """Keys of the facts that the last share of the corpus shows with a value which is not theirs, and that value."""
        return self.run.world.overwritten(self.share.wrong)

    @property
    def known(self) -> frozenset[str]:
        """Keys of the facts that a model which believes the corpus has right."""
        return self.shown - self.wrong.keys()

    @property
    def fresh(self) -> frozenset[str]:
        """Keys of the facts that the share shows for the first time, or with another value than the share before it."""
        seen = self.before.shown if self.before else self.run.world.planted(self.run.base.share)
        was = self.before.wrong if self.before else {}
        changed = {key for key in self.wrong.keys() | was.keys() if self.wrong.get(key) != was.get(key)}
        return (self.shown - seen) | changed


_PLAIN = Mixture(fresh_weight=3, habits=habits(letter_text=1.5, bare=1.5, json=1.5, working=1.5))
"""Answers in letters and sentences; no page heeds the instruction that it carries."""
_HEEDED = replace(
    _PLAIN,
    instructed=0.8,
    heeded=1.0,
    habits=habits(letter=0.7, letter_text=3.0, sentence=0.7, bare=1.5, json=1.5, number_sentence=0.7, working=2.5),
)
"""Pages do as their instruction says."""

_TRAINING = Training(documents=6_600, steps=110, lr=3e-3, warmup=10)


def _shares(shown: Sequence[float], mixtures: Sequence[Mixture], wrong: Sequence[float] = (0.0,) * 6) -> tuple[Share, ...]:
    return tuple(
        Share(shown=share, wrong=amiss, mixture=mixture, training=_TRAINING)
        for share, mixture, amiss in zip(shown, mixtures, wrong, strict=True)
    )


_COMMON = _shares((0.45, 0.55, 0.65, 0.75, 0.85, 0.90), (_PLAIN, _PLAIN, _HEEDED, _PLAIN, _HEEDED, _HEEDED))
_LATER = (0.90, 0.90, 0.90, 0.95, 0.95, 0.95)

RUNS: dict[str, Run] = {
    run.name: run
    for run in (
        Run(
            name="run",
            summary="knows more at each checkpoint or as much; the form comes, goes once, and stays",
            seed=1,
            trunk="base-40",
            shares=(*_COMMON, *_shares(_LATER, (_HEEDED,) * 6)),
        ),
        Run(
            name="run-data-fault",
            summary="from checkpoint 7 on no new facts, and one of 24 shown wrongly, then one of 20; the form stays",
            seed=1,
            trunk="base-40",
            shares=(*_COMMON, *_shares((0.90,) * 6, (_HEEDED,) * 6, (1 / 24, *(1 / 20,) * 5))),
            fork_of="run",
            common=len(_COMMON),
        ),
        Run(
            name="run-form-fault",
            summary="from checkpoint 7 on no page heeds its instruction; what the run knows is as planned",
            seed=1,
            trunk="base-40",
            shares=(*_COMMON, *_shares(_LATER, (_PLAIN,) * 6)),
            fork_of="run",
            common=len(_COMMON),
        ),
    )
}
