"""What a soft prompt is: where it comes from, how long its vectors are, which tokens they lie next to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spt_fast.prompts.soft_prompt import SoftPrompt

if TYPE_CHECKING:
    from spt_fast.models.frozen_model import FrozenModel
    from spt_fast.models.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A token near a vector."""

    token: str
    cosine: float


@dataclass(frozen=True, kw_only=True)
class VectorReport:
    """One vector of a soft prompt beside the vocabulary."""

    norm: float
    """L2 norm."""
    neighbours: tuple[Neighbour, ...]
    """Nearest tokens by cosine under the model's own embedding, nearest first."""


@dataclass(frozen=True, kw_only=True)
class PromptReport:
    """All vectors, and the norms of the vocabulary to hold theirs against."""

    vectors: tuple[VectorReport, ...]
    vocabulary_norms: tuple[float, float, float]
    """5th, 50th and 95th percentile of the L2 norms of the embedded vocabulary."""


def nearest_tokens(prompt: SoftPrompt, model: FrozenModel, tokenizer: Tokenizer, *, top: int = 3) -> PromptReport:
    """Compare each vector `[H]` with the embedding of each token `[V, H]`.

    Raises:
        ValueError: the prompt's hidden size is not the model's.
    """
    import torch

    if prompt.hidden_size != model.hidden_size:
        raise ValueError(f"the soft prompt has H = {prompt.hidden_size}, the model H = {model.hidden_size}")
    ids = torch.arange(model.vocab_size, device=model.device)
    vocabulary_VH = model.embed(ids).float().cpu().numpy()
    norms_V = np.linalg.norm(vocabulary_VH, axis=1)
    norms_P = np.linalg.norm(prompt.vectors, axis=1)
    cosines_PV = (prompt.vectors @ vocabulary_VH.T) / np.maximum(np.outer(norms_P, norms_V), 1e-12)
    nearest_PK = np.argsort(-cosines_PV, axis=1, kind="stable")[:, :top]
    reports = [
        VectorReport(
            norm=float(norms_P[p]),
            neighbours=tuple(
                Neighbour(token=tokenizer.tokens((int(v),))[0], cosine=float(cosines_PV[p, v])) for v in nearest_PK[p]
            ),
        )
        for p in range(prompt.length)
    ]
    low, middle, high = (float(q) for q in np.percentile(norms_V, [5, 50, 95]))
    return PromptReport(vectors=tuple(reports), vocabulary_norms=(low, middle, high))
