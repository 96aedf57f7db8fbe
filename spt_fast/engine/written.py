"""The text of a completion, from its token ids: the same for every engine.

* An end-of-sequence token is no part of it, special or not: of some models it is an ordinary token with a text of its own.
* It ends in front of the first stop string, wherever in the tokens that begins and however many of the strings are in it.
* It is read behind the end of the prompt: some tokenizers drop the space that a text begins with.
* The bytes of a last character that is not whole are held back.
"""

from __future__ import annotations

from collections.abc import Sequence

from spt_fast.models.tokenizer import Tokenizer
from spt_fast.types import Generate

CONTEXT = 8
"""Tokens of the prompt that generated ones are decoded behind."""


class Text:
    """How the tokens of one completion are read."""

    def __init__(self, tokenizer: Tokenizer, request: Generate) -> None:
        """
        Args:
            tokenizer: the model's.
            request: what the tokens answer.
        """
        self._tokenizer = tokenizer
        self._context = request.token_ids[-CONTEXT:]
        self._before = tokenizer.decode(self._context)
        self._stops = request.sampling.stop

    def of(self, ids: Sequence[int], *, ended: bool) -> str:
        """The text of a whole completion.

        Args:
            ids: all that was generated.
            ended: whether the last of them is an end-of-sequence token.
        """
        text = self._decoded(ids[:-1] if ended else ids)
        return text[: self._cut(text)]

    def stops(self, ids: Sequence[int]) -> bool:
        """Whether a stop string is among what was written so far, none of which is an end-of-sequence token."""
        return bool(self._stops) and self._cut(self._decoded(ids)) is not None

    def _cut(self, text: str) -> int | None:
        """Where the first stop string begins."""
        return min((at for stop in self._stops if (at := text.find(stop)) >= 0), default=None)

    def _decoded(self, ids: Sequence[int]) -> str:
        whole = self._tokenizer.decode([*self._context, *ids])
        text = whole[len(self._before) :] if whole.startswith(self._before) else self._tokenizer.decode(ids)
        return text.rstrip("\ufffd")
