"""Shapes that tests and benchmarks share, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Case:
    """`B` rows of `T` tokens and `P` soft positions each, of a model of width `H`; the vectors behind `head` tokens."""

    B: int
    T: int
    P: int
    H: int
    reason: str
    head: int = 0
    prompts: int = 1
    """Soft prompts that the rows have in turn."""

    def __str__(self) -> str:
        return f"B{self.B}-T{self.T}-P{self.P}x{self.prompts}-H{self.H}-head{self.head}"

    def ids(self, vocab: int, generator: torch.Generator) -> Tensor:
        """Random tokens of a vocabulary with the soft positions among them: `[B, P + T]`, as `splice_embeds` takes them."""
        tokens_BT = torch.randint(vocab, (self.B, self.T), generator=generator)
        first_B = torch.arange(self.B) % self.prompts * self.P
        soft_BP = ~(first_B[:, None] + torch.arange(self.P))
        return torch.cat([tokens_BT[:, : self.head], soft_BP, tokens_BT[:, self.head :]], dim=1)


SMALL = (
    Case(B=1, T=0, P=1, H=1, reason="the smallest there is: a vector and no token"),
    Case(B=3, T=5, P=2, H=33, reason="ragged: what a tile's mask has to hold"),
    Case(B=2, T=7, P=4, H=64, head=1, reason="behind the first token"),
    Case(B=5, T=12, P=3, H=48, prompts=3, reason="three soft prompts in one batch, and more positions than a tile has"),
)
"""For tests: seconds on a CPU."""

REAL = (
    Case(B=8, T=128, P=10, H=2048, reason="Llama 3.2 1B, a tuning step"),
    Case(B=8, T=512, P=10, H=4096, head=1, reason="Llama 3.1 8B, long rows"),
    Case(B=96, T=128, P=10, H=2048, prompts=12, reason="twelve soft prompts of Llama 3.2 1B at once"),
)
"""For benchmarks: shapes of models people use."""
