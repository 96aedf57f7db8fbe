"""Low-rank changes of the weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from spt_fast.config.protocols.learning import Learning
from spt_fast.config.protocols.vectors import AUTO
from spt_fast.config.ranges import number, text, whole
from spt_fast.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Lora(Learning):
    """A control: learn low-rank changes of the model's weights (LoRA, Hu et al., arXiv 2106.09685) on the rows that a soft
    prompt of the same seed learns on, in the same order, then ask plainly. What more parameters add is the form, or knowledge.

    Needs PEFT to learn (`pip install spt-fast[lora]`).
    """

    name = "lora"
    in_words = "with low-rank changes of its weights"
    attaches = "adapter"

    lr: float | Literal["auto"] = field(default=0.0002, metadata=number(above=0, most=1000))
    """Learning rate at its highest; a number."""
    rank: int = field(default=8, metadata=whole(least=1, most=4096))
    """Of each change `B A`, `R`: `A` is `[R, in]`, `B` `[out, R]`."""
    alpha: float = field(default=16, metadata=number(above=0, most=1e6))
    """The change counts alpha / rank times."""
    targets: tuple[str, ...] = field(default=("attention",), metadata=text(200, empty=True))
    """What is changed: `attention`, all linear layers of it; `linear`, all of the body; or names of layers (q_proj)."""
    dropout: float = field(default=0.0, metadata=number(least=0, below=1))
    """Of what enters a change, in training."""

    def __post_init__(self) -> None:
        if self.lr == AUTO:
            raise ConfigError(f"{self.name}.lr: must be a number; auto is measured for soft prompts alone")
        super().__post_init__()
        if not self.targets or not all(target.strip() for target in self.targets):
            raise ConfigError(f"{self.name}.targets: is empty; leave it out for attention, or name layers")
