"""The tokens of a loaded model, as starts want them, and the words that the answers of a task consist of."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
import numpy.typing as npt
import torch

from spt_fast.errors import ModelError
from spt_fast.models.frozen_model import FrozenModel
from spt_fast.models.tokenizer import Tokenizer, continuation
from spt_fast.types import Example

CUE = "Answer:"
"""What an answer stands behind, where its tokens are looked up: most tokenizers have others for a word behind a space."""


class ModelVocabulary:
    """`Vocabulary` of a model and its tokenizer."""

    def __init__(self, model: FrozenModel, tokenizer: Tokenizer) -> None:
        """Look tokens up in a model that stays loaded as long as this is used."""
        self._model, self._tokenizer = model, tokenizer

    @torch.no_grad()
    def embed(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """Token ids `[N]` -> `[N, H]`: the rows of the table as they enter the model, with the scale that Gemma gives them.

        Raises:
            ModelError: they are not finite.
        """
        table = self._model.embed(torch.tensor(ids, device=self._model.device))
        if not bool(table.isfinite().all()):
            raise ModelError(f"{self._model.name}: embeddings of tokens are not finite: {self._model.fault()}")
        rows_NH: npt.NDArray[np.float32] = table.float().cpu().numpy()
        return rows_NH

    def frequent_ids(self, most: int) -> Sequence[int]:
        """Ids of the most frequent tokens, at most so many, and none that the model has no row for."""
        return [i for i in self._tokenizer.frequent_ids(most) if i < self._model.vocab_size]

    def text_ids(self, text: str) -> Sequence[int]:
        """Ids of a text by itself, without BOS."""
        return self._tokenizer.text_ids(text)

    def answer_ids(self, answer: str) -> Sequence[int]:
        """Ids of an answer behind a cue and a space."""
        return self._tokenizer.ids_behind(CUE, continuation(CUE, answer))


def answer_words(examples: Sequence[Example]) -> tuple[str, ...]:
    """What answers of a task are made of: the class labels, where it has some.

    Where all rows have the same options, these ("yes", "no"). Where options begin alike in all rows, these beginnings
    ("A.", "B."). Otherwise right answers, the most frequent first.
    """
    if examples and all(example.options for example in examples):
        columns = zip_longest(*(each.options for each in examples))
        begin = [os.path.commonprefix([text for text in texts if text]).strip() for texts in columns]  # noqa: RUF071  (of text)
        if all(begin):
            return tuple(dict.fromkeys(begin))
    rightly = Counter(example.target if example.options else example.answers[0] for example in examples)
    return tuple(answer for answer, _ in rightly.most_common())
