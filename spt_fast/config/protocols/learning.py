"""Learning on tuning rows, whatever is learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from spt_fast.config import plugins
from spt_fast.config.protocols.base import AUTO, LATER, Protocol, only_with
from spt_fast.config.ranges import name_in, number, whole
from spt_fast.errors import ConfigError

if TYPE_CHECKING:
    from spt_fast.types import Example

OPTIMIZERS: plugins.Plugins[Any] = plugins.Plugins(
    plugins.OPTIMIZERS,
    "optimiser",
    {"adamw": "spt_fast.training.optimizers:adamw", "adafactor": "spt_fast.training.optimizers:adafactor"},
    plugins.callable_,
)
"""Name -> (the protocol, parameters) -> a PyTorch optimiser at the rate `protocol.rate`."""
Schedule: TypeAlias = Literal["constant", "linear", "cosine"]
RATE = 0.1
"""Of `lr: auto`, in root mean squares of what enters the model: the middle of the plateau of benchmarks/tuning/starts.py."""


@dataclass(frozen=True, kw_only=True)
class Learning(Protocol):
    """What every protocol has that learns something on the tuning rows.

    Two of them with the same batches see the same rows in the same order, by seed. AdamW at a constant rate, as in
    arXiv 2606.12117, section 3 of its protocol.
    """

    name = "learning"
    seeded = True
    learns = True

    steps: int = field(default=80, metadata=whole(least=1, most=10_000_000))
    """Number of updates."""
    batch_size: int = field(default=8, metadata=whole(least=1, most=1_000_000))
    """Examples an update."""
    optimizer: str = field(default="adamw", metadata={**LATER, **name_in(OPTIMIZERS)})
    """`adafactor` is without momentum and without parameter scaling, as in Lester et al., who use `lr: 0.3` and
    `weight_decay: 1e-5` with it."""
    lr: float | Literal["auto"] = field(default=AUTO, metadata=number(above=0, most=1000, words=(AUTO,)))
    """Peak learning rate. `auto`: 0.1 times the root mean square of the embeddings of frequent tokens, which differs by a
    factor of 60 between models; with an `encoder`, 0.001."""
    schedule: Schedule = field(default="constant", metadata=LATER)
    """Learning-rate schedule after the warm-up: constant, or `linear` or `cosine` to 0 at the last step."""
    warmup: int = field(default=0, metadata={**LATER, **whole(least=0, most=10_000_000)})
    """Updates in which the rate rises linearly to `lr`."""
    weight_decay: float = field(default=0.0, metadata=number(least=0, most=1000))
    """Decoupled weight decay, times the learning rate, in both optimisers."""
    betas: tuple[float, float] = field(
        default=(0.9, 0.999), metadata=only_with("optimizer", "adamw", later=False) | number(least=0, below=1)
    )
    """Betas of AdamW."""
    max_grad_norm: float | None = field(default=None, metadata=number(above=0, most=1e9))
    """Clip the gradient to this L2 norm; null: no clipping."""
    repeat_rows: bool = False
    """Repeat the training rows where there are fewer than steps x batch_size. Without it, such a cell fails."""
    evaluate_at: tuple[int, ...] = field(default=(), metadata=whole(least=0, most=10_000_000))
    """Steps at which to evaluate; 0 is before training. The last step is always evaluated."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optimizer not in OPTIMIZERS.ours:
            OPTIMIZERS[self.optimizer]  # a package that cannot be used is no matter of a cell
        if self.warmup >= self.steps and self.schedule != "constant":
            raise ConfigError(
                f"{self.name}.warmup: must be below steps ({self.steps}), not {self.warmup}: the rate decays after it"
            )
        for step in self.evaluate_at:
            if step > self.steps:
                raise ConfigError(f"{self.name}.evaluate_at: step {step} is outside 0..{self.steps} (steps: {self.steps})")
        if len(set(self.evaluate_at)) != len(self.evaluate_at):
            raise ConfigError(f"{self.name}.evaluate_at: a step appears twice")

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """Steps at which what is learnt is kept and evaluated, in order, the last step included."""
        return tuple(sorted({*self.evaluate_at, self.steps}))

    def too_few(self, rows: int) -> str:
        """Why so many tuning rows (at least one) are too few, and what to do about it; empty where they are enough."""
        wanted = self.rows_needed
        if rows >= wanted or self.repeat_rows:
            return ""
        held_out = wanted - self.steps * self.batch_size
        steps = max(0, rows - held_out) // self.batch_size
        fewer = f"lower steps to {steps}, or " if steps else ""
        return (
            f"{self.steps} steps of {self.batch_size}{f' and {held_out} held out' if held_out else ''} "
            f"take {wanted} tuning rows, and there are {rows}; "
            f"{fewer}set repeat_rows: true of {self.name} to go through them {wanted / rows:.1f} times"
        )

    def learns_from(self, examples: Sequence[Example], seed: int) -> Sequence[Example]:
        """The rows that it is taught, from the tuning rows, as many and in their order.

        Raises:
            DataError: they cannot be had from these.
        """
        return examples

    @property
    def rate(self) -> float:
        """`lr` as a number; `tuning.settled` puts one in the place of `auto`."""
        assert self.lr != AUTO, "lr: auto was not settled"
        return self.lr

    @property
    def looks_ahead(self) -> bool:
        """Whether a step depends on how many are still to come: the first 80 of 120 are then not those of 80."""
        return self.schedule != "constant"

    @property
    def rows_needed(self) -> int:
        """Tuning rows that it takes, each of them once."""
        return self.steps * self.batch_size
