"""Low-rank changes of the weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from spt_fast.config.protocols.base import AUTO
from spt_fast.config.protocols.learning import Learning
from spt_fast.config.ranges import number, text, whole
from spt_fast.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Lora(Learning):
    """A control: a LoRA adapter (Hu et al., arXiv 2106.09685), trained on the rows of the soft prompt of the same seed, in the
    same order. It shows what many more parameters add: the form, or knowledge.

    Needs PEFT (`pip install spt-fast[lora]`).
    """

    name = "lora"
    in_words = "with low-rank changes of its weights"
    attaches = "adapter"

    lr: float | Literal["auto"] = field(default=0.0002, metadata=number(above=0, most=1000))
    """Peak learning rate."""
    rank: int = field(default=8, metadata=whole(least=1, most=4096))
    """Rank of the adapter."""
    alpha: float = field(default=16, metadata=number(above=0, most=1e6))
    """Scale of the adapter: alpha / rank."""
    targets: tuple[str, ...] = field(default=("attention",), metadata=text(200, empty=True))
    """Layers to adapt: `attention` (its linear layers), `linear` (all linear layers of the body), or names of layers
    (`q_proj`)."""
    dropout: float = field(default=0.0, metadata=number(least=0, below=1))
    """Dropout on the adapter's input, in training."""

    def __post_init__(self) -> None:
        if self.lr == AUTO:
            raise ConfigError(f"{self.name}.lr: must be a number; auto is measured for soft prompts alone")
        super().__post_init__()
        if not self.targets or not all(target.strip() for target in self.targets):
            raise ConfigError(f"{self.name}.targets: is empty; leave it out for attention, or name layers")
