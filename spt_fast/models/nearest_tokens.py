"""What a soft prompt lies next to: its vectors beside the vocabulary of the model that it was learnt for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from spt_fast.prompts.meaning import Meaning, Neighbour, Spread, VectorMeaning, alike_by_chance, spread
from spt_fast.prompts.soft_prompt import SoftPrompt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from spt_fast.models.frozen_model import FrozenModel
    from spt_fast.models.tokenizer import Tokenizer

TOP = 5
"""Neighbours of a vector that are kept."""
DIRECTIONS = 64
"""Random directions whose highest cosine is chance."""
POOL = 2000
"""Rows of the vocabulary that random sets are drawn from."""
_NUMBERS = 1 << 24
"""Of a piece of the vocabulary, which is as much as is converted at once."""


class _Nearest(NamedTuple):
    """The best of the tokens seen so far."""

    values_PK: Tensor
    """Ascending."""
    ids_PK: Tensor


class Lexicon:
    """The vocabulary of a loaded model, which soft prompts are held against. What does not depend on them is measured once."""

    def __init__(self, model: FrozenModel, tokenizer: Tokenizer) -> None:
        """Look tokens up in a model that stays loaded as long as this is used.

        Rows behind the tokenizer's last token are left out: they fill the table up, and stand for nothing.
        """
        self._model, self._tokenizer = model, tokenizer
        self._tokens = min(model.vocab_size, tokenizer.size)
        self._norms: npt.NDArray[np.float32] | None = None
        self._chance = Spread(0.0, 0.0, 0.0)
        self._alike: dict[int, tuple[Spread, Spread]] = {}

    def meaning(self, prompt: SoftPrompt, *, start: npt.NDArray[np.float32] | None = None, top: int = TOP) -> Meaning:
        """Compare each vector `[H]` with what enters the model for each token `[V, H]`.

        Args:
            prompt: learnt for this model.
            start: its vectors before the first step, `[P, H]`; None: not known.
            top: neighbours a vector.

        Raises:
            ValueError: the prompt's hidden size is not the model's.
        """
        if prompt.hidden_size != self._model.hidden_size:
            raise ValueError(f"the soft prompt has H = {prompt.hidden_size}, the model H = {self._model.hidden_size}")
        vocabulary_norms = self._measured()
        by_cosine, by_distance = self._nearest(prompt, top)
        norms_P = np.linalg.norm(prompt.vectors, axis=1)
        moved = None if start is None else np.linalg.norm(prompt.vectors - start, axis=1)
        if prompt.length not in self._alike:
            self._alike[prompt.length] = alike_by_chance(self._pool(), prompt.length)
        by_position, matched = self._alike[prompt.length]
        return Meaning(
            prompt=prompt.key,
            vectors=tuple(
                VectorMeaning(
                    norm=float(norms_P[p]),
                    norm_above=float((vocabulary_norms < norms_P[p]).mean()),
                    by_cosine=by_cosine[p],
                    by_distance=by_distance[p],
                    moved=None if moved is None else float(moved[p]),
                )
                for p in range(prompt.length)
            ),
            vocabulary_norms=spread(vocabulary_norms),
            chance=self._chance,
            alike_by_position=by_position,
            alike_matched=matched,
        )

    def rows(self, ids: list[int]) -> npt.NDArray[np.float32]:
        """What enters the model for these tokens, `[N, H]`."""
        import torch

        with torch.no_grad():
            rows_NH: npt.NDArray[np.float32] = (
                self._model.embed(torch.tensor(ids, device=self._model.device)).float().cpu().numpy()
            )
        return rows_NH

    def _pieces(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Ids `[C]` and rows `[C, H]`, fp32, of the vocabulary, piece by piece: fp32 of all would be gigabytes."""
        import torch

        size = max(1, _NUMBERS // self._model.hidden_size)
        with torch.no_grad():
            for begin in range(0, self._tokens, size):
                ids_C = torch.arange(begin, min(begin + size, self._tokens), device=self._model.device)
                yield ids_C, self._model.embed(ids_C).float()

    def _measured(self) -> npt.NDArray[np.float32]:
        """L2 norms of the vocabulary, `[V]`; with them, chance is measured."""
        import torch

        if self._norms is None:
            drawn = np.random.default_rng(0).standard_normal((DIRECTIONS, self._model.hidden_size))
            directions_RH = torch.nn.functional.normalize(torch.tensor(drawn, dtype=torch.float32), dim=1)
            norms, highest = [], []
            for _, rows_CH in self._pieces():
                norms.append(rows_CH.norm(dim=1).cpu())
                cosines_RC = directions_RH.to(rows_CH.device) @ torch.nn.functional.normalize(rows_CH, dim=1).T
                highest.append(cosines_RC.amax(dim=1).cpu())
            self._chance = spread(torch.stack(highest).amax(dim=0).numpy())
            self._norms = torch.cat(norms).numpy()
        return self._norms

    def _pool(self) -> npt.NDArray[np.float32]:
        ids = np.random.default_rng(0).choice(self._tokens, min(POOL, self._tokens), replace=False)
        return self.rows(ids.tolist())

    def _nearest(self, prompt: SoftPrompt, top: int) -> tuple[list[tuple[Neighbour, ...]], list[tuple[Neighbour, ...]]]:
        """Neighbours of each vector by cosine, and by L2 distance."""
        import torch

        vectors_PH = torch.tensor(prompt.vectors, device=self._model.device)
        unit_PH = torch.nn.functional.normalize(vectors_PH, dim=1)
        best: list[_Nearest | None] = [None, None]
        for ids_C, rows_CH in self._pieces():
            cosines_PC = unit_PH @ torch.nn.functional.normalize(rows_CH, dim=1).T
            # By differences: sums of squares lose the distance of a vector that still is a token's.
            distances_PC = torch.cdist(vectors_PH, rows_CH, compute_mode="donot_use_mm_for_euclid_dist")
            best = [_better(held, values, ids_C, top) for held, values in zip(best, (-cosines_PC, distances_PC), strict=True)]
        by_cosine, by_distance = (self._named(held, sign) for held, sign in zip(best, (-1, 1), strict=True))
        return by_cosine, by_distance

    def _named(self, found: _Nearest | None, sign: int) -> list[tuple[Neighbour, ...]]:
        assert found is not None
        values_PK, ids_PK = (sign * found.values_PK).cpu().tolist(), found.ids_PK.cpu().tolist()
        return [
            tuple(
                Neighbour(token=token, token_id=i, value=value)
                for token, i, value in zip(self._tokenizer.tokens(ids_K), ids_K, values_K, strict=True)
            )
            for ids_K, values_K in zip(ids_PK, values_PK, strict=True)
        ]


def _better(held: _Nearest | None, values_PC: Tensor, ids_C: Tensor, top: int) -> _Nearest:
    """The `top` smallest of what is held and what is new; of equal ones the lower id."""
    import torch

    ids_PC = ids_C.expand_as(values_PC)
    if held is not None:
        values_PC, ids_PC = torch.cat([held.values_PK, values_PC], dim=1), torch.cat([held.ids_PK, ids_PC], dim=1)
    ordered = torch.sort(values_PC, dim=1, stable=True)
    order_PK = ordered.indices[:, :top]
    return _Nearest(values_PK=ordered.values[:, :top], ids_PK=ids_PC.gather(1, order_PK))
