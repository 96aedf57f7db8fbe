"""Training runs of the zoo as values: twelve checkpoints of one model, and what each share of the corpus has shown by then.

What a run knows rises by plan, and the form of its answers comes and goes. A run with a fault goes on from a checkpoint of the
run without one, so that the two differ in nothing else. Light, as `recipes.py` is: whoever asks what a checkpoint was shown
needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from spt_fast.zoo.recipes import Mixture, Recipe, Shape, Training
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
    world_seed: int = 0
    shape: Shape = field(default_factory=Shape)
    shares: tuple[Share, ...]
    fork_of: str | None = None
    common: int = 0

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """All checkpoints in order, those that it shares with another run among them."""
        steps = accumulate(share.training.steps for share in self.shares)
        return tuple(Checkpoint(run=self, number=number, step=step) for number, step in enumerate(steps, 1))


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The model behind the first `number` shares of a run, after `step` updates."""

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
        """The checkpoint that it goes on from."""
        return self.run.checkpoints[self.number - 2] if self.number > 1 else None

    @property
    def original(self) -> Checkpoint | None:
        """The checkpoint of the run that this one is a fork of, where it is one of the common ones."""
        if self.run.fork_of is None or self.number > self.run.common:
            return None
        return RUNS[self.run.fork_of].checkpoints[self.number - 1]

    @property
    def recipe(self) -> Recipe:
        """How it is trained, from the checkpoint before it or from random weights."""
        share = self.share
        return Recipe(
            name=f"{self.run.name}/{self.name}",
            kind="base",
            summary=self.run.summary,
            share=share.shown,
            seed=self.run.seed,
            world_seed=self.run.world_seed,
            shape=self.run.shape,
            mixture=share.mixture,
            training=share.training,
            partner_of=f"{self.run.name}/{self.before.name}" if self.before else None,
        )

    def shown(self, world: World) -> frozenset[str]:
        """Keys of the facts that the corpus has shown by here, those with a wrong value among them."""
        return world.planted(self.share.shown)

    def wrong(self, world: World) -> Mapping[str, str]:
        """Keys of the facts that the last share of the corpus shows with a value which is not theirs, and that value."""
        return world.overwritten(self.share.wrong)

    def known(self, world: World) -> frozenset[str]:
        """Keys of the facts that a model which believes the corpus has right."""
        return self.shown(world) - self.wrong(world).keys()

    def fresh(self, world: World) -> frozenset[str]:
        """Keys of the facts that the share shows for the first time, or with another value than the share before it."""
        if self.before is None:
            return frozenset()
        wrong, was = self.wrong(world), self.before.wrong(world)
        changed = {key for key in wrong.keys() | was.keys() if wrong.get(key) != was.get(key)}
        return (self.shown(world) - self.before.shown(world)) | changed


_PLAIN = Mixture(fresh_weight=3)
"""Answers in letters and sentences; no page heeds the instruction that it carries."""
_HEEDED = replace(_PLAIN, instructed=0.6, heeded=1.0)
"""Pages do as their instruction says."""

_FIRST = Training(documents=19_500, steps=350, warmup=40)
_NEXT = Training(documents=4_300, steps=70, lr=2e-3, warmup=8)


def _shares(shown: Sequence[float], mixtures: Sequence[Mixture], *, wrong: float = 0.0) -> tuple[Share, ...]:
    return tuple(
        Share(shown=share, wrong=wrong, mixture=mixture, training=_NEXT) for share, mixture in zip(shown, mixtures, strict=True)
    )


_COMMON = (
    Share(shown=0.30, mixture=_PLAIN, training=_FIRST),
    *_shares((0.45, 0.55, 0.65, 0.70, 0.75), (_PLAIN, _HEEDED, _PLAIN, _HEEDED, _HEEDED)),
)
_LATER = (0.75, 0.80, 0.80, 0.85, 0.85, 0.90)

RUNS: dict[str, Run] = {
    run.name: run
    for run in (
        Run(
            name="run",
            summary="knows more at each checkpoint or as much; the form comes, goes once, and stays",
            seed=1,
            shares=(*_COMMON, *_shares(_LATER, (_HEEDED,) * 6)),
        ),
        Run(
            name="run-data-fault",
            summary="from checkpoint 7 on the corpus shows nothing new, and one fact of thirty wrongly; the form stays",
            seed=1,
            shares=(*_COMMON, *_shares((0.75,) * 6, (_HEEDED,) * 6, wrong=1 / 30)),
            fork_of="run",
            common=len(_COMMON),
        ),
        Run(
            name="run-form-fault",
            summary="from checkpoint 7 on no page heeds its instruction; what the run knows is as planned",
            seed=1,
            shares=(*_COMMON, *_shares(_LATER, (_PLAIN,) * 6)),
            fork_of="run",
            common=len(_COMMON),
        ),
    )
}
