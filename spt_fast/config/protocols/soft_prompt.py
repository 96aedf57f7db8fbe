"""Learnt soft prompts, several that vote, and the controls beside them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

from spt_fast.config.protocols.base import LATER, TASK, Protocol, only_with
from spt_fast.config.protocols.learning import Learning
from spt_fast.config.protocols.vectors import Vectors, with_preset
from spt_fast.config.ranges import path, whole
from spt_fast.errors import DataError

if TYPE_CHECKING:
    from spt_fast.types import Example

Encoder: TypeAlias = Literal["mlp", "lstm"]
PatienceOn: TypeAlias = Literal["loss", "format"]
ENCODER_RATE = 0.001
"""Of `lr: auto` with an `encoder`: what is learnt are weights of a network of ours, whatever the model's embeddings are."""


@dataclass(frozen=True, kw_only=True)
class SoftPromptConfig(Learning, Vectors):
    """Train `length` vectors on the training rows, with the model frozen; then prompt zero-shot behind them.

    Length, steps and batches are those of arXiv 2606.12117. Start, position and rate are in units of the model, because the
    paper's (`preset: paper`) do not train models whose embeddings are large.
    """

    name = "soft_prompt"
    in_words = "with a learnt soft prompt"
    is_treatment = True

    encoder: Encoder | None = field(default=None, metadata=LATER)
    """Train a small network that makes the vectors (P-tuning), together with its input, which `init` gives: `mlp`, as in
    PEFT, or `lstm`. It is discarded afterwards. PEFT's input is N(0, 1): `init_std: 1`."""
    encoder_hidden: int | None = field(default=None, metadata=only_with("encoder") | whole(least=1, most=65_536))
    """Hidden size of the encoder; null: that of the model."""
    patience: int | None = field(default=None, metadata={**LATER, **whole(least=1, most=10_000_000)})
    """Early stop: after so many updates without a lower loss on held-out rows; null: all steps. The result is the vectors
    with the lowest loss."""
    patience_on: PatienceOn = field(default="loss", metadata=only_with("patience"))
    """What early stop goes by: the `loss`, or the number of held-out rows whose greedy answer has the `format` asked for (as
    long as not all have it, a lower loss counts too). The result is the vectors with the most such answers."""
    held_out: int = field(default=32, metadata=only_with("patience") | whole(least=1, most=1_000_000))
    """Number of training rows to hold out for early stop, drawn by seed."""
    check_every: int = field(default=5, metadata=only_with("patience") | whole(least=1, most=10_000_000))
    """Updates between two evaluations of the held-out rows."""

    @classmethod
    def paper(cls, **more: Any) -> Self:
        """The paper's setting (`PAPER`), with other settings beside it or in its place."""
        return cls(**with_preset("paper", more))

    @property
    def looks_ahead(self) -> bool:
        """Whether vectors depend on how many steps are still to come: the first 80 of 120 are then not those of 80."""
        return super().looks_ahead or self.patience is not None

    @property
    def rows_needed(self) -> int:
        """Tuning rows that it takes, each of them once."""
        return super().rows_needed + (self.held_out if self.patience is not None else 0)


@dataclass(frozen=True, kw_only=True)
class Ensemble(SoftPromptConfig):
    """Majority vote of several soft prompts of a task (Lester et al., arXiv 2104.08691, section 6).

    The members of seed s are the soft prompts with the same settings and the seeds members * s, ..., members * s + members - 1,
    so no two ensembles share one. Each is a cell of its own, and one that the grid has anyway (`soft_prompt`) is computed once
    for both.
    """

    name = "ensemble"
    in_words = "with several soft prompts that vote"
    is_treatment = False

    members: int = field(default=5, metadata=whole(least=2, most=1000))
    """Number of soft prompts in an ensemble."""

    def parts(self, seed: int) -> tuple[tuple[Protocol, int], ...]:
        """The protocols and seeds of the cells that answer together for this one."""
        one = SoftPromptConfig(**{f.name: getattr(self, f.name) for f in fields(SoftPromptConfig)})
        return tuple((one, each) for each in range(self.members * seed, self.members * (seed + 1)))


@dataclass(frozen=True, kw_only=True)
class ShuffledLabels(SoftPromptConfig):
    """A control: a soft prompt trained on rows with the answers of other rows (closed-ended: any of the options).

    It is trained on the form as before, and on nothing about what is right: knowledge beyond it was in the model.
    """

    name = "shuffled_labels"
    in_words = "behind vectors learnt on shuffled answers"
    is_treatment = False
    is_control = True
    shuffles = True

    def learns_from(self, examples: Sequence[Example], seed: int) -> tuple[Example, ...]:
        """Examples whose targets have the form and tell nothing.

        Closed-ended: any of a row's own options, the right one as likely as the others, so that it cannot even be learnt to
        avoid. Open-ended: the target of another row; the same ones in all, each somewhere else.

        Raises:
            DataError: a single open-ended row, which has no other to take a target from.
        """
        drawn = random.Random(f"shuffled labels {seed}")
        if all(example.options for example in examples):
            return tuple(replace(example, target=drawn.choice(example.options)) for example in examples)
        if len(examples) == 1:
            raise DataError(f"{self.name} needs at least two tuning rows")
        # Along one random cycle, nobody keeps their own.
        order = list(range(len(examples)))
        drawn.shuffle(order)
        moved = list(examples)
        for here, there in zip(order, [*order[1:], order[0]], strict=True):
            moved[here] = replace(examples[here], target=examples[there].target)
        return tuple(moved)


@dataclass(frozen=True, kw_only=True)
class Transfer(SoftPromptConfig):
    """A control: vectors trained on another task (the domain shift of Lester et al., arXiv 2104.08691, section 5)."""

    name = "transfer"
    in_words = "behind vectors learnt on another task"
    is_treatment = False
    is_control = True
    transfers = True

    from_task: str = field(metadata={"key": "from", "in_label": True, "words": ("all",), **TASK, **path()})
    """The task to train on: a name, the path of a task file, or a list of these. `all`: every other task of the grid whose
    answers have the same form: both closed-ended with options written alike, or both open-ended with the same regular
    expression."""

    ALL: ClassVar[str] = "all"
    """Of `from_task`."""

    @property
    def source(self) -> str | None:
        """The task that it learns on, by name or path."""
        return self.from_task

    def on(self, source: str) -> Self:
        """The same, learning on this task."""
        return replace(self, from_task=source)
