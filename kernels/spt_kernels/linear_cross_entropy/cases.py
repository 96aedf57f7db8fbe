"""Shapes that tests and benchmarks share, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Case:
    """`N` rows of `H` against a vocabulary of `V`."""

    N: int
    H: int
    V: int
    reason: str

    def __str__(self) -> str:
        return f"N{self.N}-H{self.H}-V{self.V}"


SMALL = (
    Case(N=1, H=1, V=1, reason="the smallest there is: the loss is 0 and so is the gradient"),
    Case(N=1, H=32, V=272, reason="one target token: a batch of single letters"),
    Case(N=7, H=33, V=257, reason="ragged in every dimension: what a tile's mask has to hold"),
    Case(N=16, H=64, V=512, reason="powers of two: whole tiles"),
    Case(N=48, H=256, V=768, reason="a model of the zoo: 8 rows of 6 target tokens"),
)
"""For tests: seconds on a CPU."""

REAL = (
    Case(N=48, H=1024, V=151_936, reason="Qwen3 0.6B, 8 multiple-choice answers"),
    Case(N=48, H=4096, V=128_256, reason="Llama 3.1 8B, 8 multiple-choice answers"),
    Case(N=1024, H=4096, V=128_256, reason="Llama 3.1 8B, 8 worked answers of GSM8K"),
    Case(N=1024, H=1024, V=151_936, reason="Qwen3 0.6B, 8 worked answers of GSM8K"),
)
"""For benchmarks: shapes of models people use."""
