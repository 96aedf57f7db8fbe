"""How much is measured: shapes, requests and dtypes, by size and device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spt_fast.qualify.contract import Given, Size

if TYPE_CHECKING:
    from spt_fast.models.random_model import Shape
    from spt_kernels.linear_cross_entropy.cases import Case as LinearCase
    from spt_kernels.splice_embeds.cases import Case as SpliceCase


@dataclass(frozen=True, kw_only=True)
class Load:
    """What an engine is asked."""

    prompts: int
    most: int
    """Tokens of a prompt, at the most."""
    new: int
    """Tokens that each writes."""
    questions: int
    """Of four options each."""
    rounds: int


def dtype_of(given: Given) -> str:
    """That of real checkpoints; on a CPU, which emulates it, float32."""
    return "bfloat16" if given.device == "cuda" else "float32"


def linear_cases(size: Size) -> list[LinearCase]:
    """Of the head: ragged ones, whose masks have to hold, and those that are worth timing."""
    from spt_kernels.linear_cross_entropy.cases import REAL, SMALL

    return {"tiny": [SMALL[2], SMALL[4]], "quick": [*SMALL[1:3], REAL[1], REAL[2]], "full": [*SMALL, *REAL]}[size]


def splice_cases(size: Size) -> list[SpliceCase]:
    """Of soft rows among token rows."""
    from spt_kernels.splice_embeds.cases import REAL, SMALL

    return {"tiny": [*SMALL[:2]], "quick": [SMALL[0], *REAL[1:]], "full": [*SMALL, *REAL]}[size]


def trained(size: Size) -> list[tuple[str, Shape]]:
    """What is trained, by name: with 8 billion weights only where there is time."""
    from spt_fast.models.random_model import LLAMA_1B, LLAMA_8B, TINY

    named = {"tiny": TINY, "1B": LLAMA_1B, "8B": LLAMA_8B}
    return [(name, named[name]) for name in {"tiny": ("tiny",), "quick": ("1B",), "full": ("1B", "8B")}[size]]


def asked(size: Size) -> Shape:
    """The model behind an engine: wide enough for its kernels to be the usual ones, with few layers to load and compile."""
    from spt_fast.models.random_model import Shape

    if size == "tiny":
        return Shape(vocab=512, hidden=128, layers=2, inner=256, heads=2, kv_heads=2, positions=1024, spread=0.1)
    layers, vocab = (4, 32_000) if size == "quick" else (16, 128_256)
    return Shape(
        vocab=vocab, hidden=2048, layers=layers, inner=8192, heads=16, kv_heads=8, head_dim=128, positions=1024, spread=0.05
    )


def load(size: Size) -> Load:
    """What an engine is asked."""
    return {
        "tiny": Load(prompts=12, most=40, new=4, questions=6, rounds=1),
        "quick": Load(prompts=512, most=200, new=16, questions=128, rounds=5),
        "full": Load(prompts=2048, most=200, new=32, questions=512, rounds=7),
    }[size]
