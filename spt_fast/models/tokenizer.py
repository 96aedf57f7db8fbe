"""Tokenizer: text to token ids and back, the same way for training, generation and scoring.

A light wrapper of `AutoTokenizer`, so that three rules are in one place: never two BOS, how a prompt and its
continuation part, and which white space an answer begins with. With frozen_model.py, the door of `transformers`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any

from spt_fast.errors import DataError, ModelError
from spt_fast.models.loading import loading


def continuation(prompt: str, text: str) -> str:
    """What follows `prompt` when the model writes `text`: one space in between, unless the prompt ends in white space.

    A template ends with its cue ("Answer:"), and text goes on behind it with a space. `Tokenizer.continuation` knows better
    about chat templates.
    """
    return text if prompt[-1:].isspace() else f" {text}"


class Tokenizer:
    """How one model reads text."""

    def __init__(
        self, inner: Any, *, name: str = "the tokenizer", chat_template_kwargs: Mapping[str, Any] | None = None
    ) -> None:
        """Wrap a tokenizer of Transformers.

        Args:
            inner: a PreTrainedTokenizerBase.
            name: what error messages call it.
            chat_template_kwargs: given to the chat template: {"enable_thinking": False}.
        """
        self._inner = inner
        self.name = name
        self._chat_template_kwargs = dict(chat_template_kwargs or {})
        # A prompt is encoded once for each of its options and once by itself, in a row.
        self._encode = lru_cache(maxsize=64)(self._encode_text)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        revision: str | None = None,
        trust_remote_code: bool = False,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> Tokenizer:
        """Load a tokenizer from a folder or the Hub.

        Raises:
            ModelError: there is none, or it cannot be read.
        """
        from transformers import AutoTokenizer

        name = os.fspath(path)
        with loading(name):
            inner = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
        return cls(inner, name=name, chat_template_kwargs=chat_template_kwargs)

    @cached_property
    def prefix_ids(self) -> tuple[int, ...]:
        """What this tokenizer puts in front of every text: BOS, nothing, or a few special tokens."""
        plain: list[int] = self._inner.encode("a", add_special_tokens=False)
        full: list[int] = self._inner.encode("a")
        starts = (i for i in range(len(full)) if full[i : i + len(plain)] == plain)
        return tuple(full[: next(starts, 0)])

    @property
    def bos_token_id(self) -> int | None:
        """The beginning-of-sequence token that this tokenizer puts in front of every text; None: it puts none."""
        return self.prefix_ids[0] if self.prefix_ids else None

    @property
    def eos_token_id(self) -> int | None:
        """The end-of-sequence token, where there is one."""
        eos: int | None = self._inner.eos_token_id
        return eos

    @property
    def pad_token_id(self) -> int:
        """An id to fill batches with; 0 where the tokenizer names none (padding is never looked at)."""
        pad: int | None = self._inner.pad_token_id
        return 0 if pad is None else pad

    @property
    def size(self) -> int:
        """How many tokens there are, added ones included; a model's table may have more rows."""
        return len(self._inner)

    @property
    def has_chat_template(self) -> bool:
        """Whether prompts can be asked through a chat template."""
        return self._inner.chat_template is not None

    @cached_property
    def chat_template_hash(self) -> str | None:
        """Content hash of the chat template (16 hexadecimal digits); None where there is none."""
        if not self.has_chat_template:
            return None
        return hashlib.sha256(self._inner.get_chat_template().encode()).hexdigest()[:16]

    def render(self, text: str, *, chat: bool) -> str:
        """The prompt text that the model reads: `text` itself, or one user message in the chat template.

        Raises:
            ModelError: `chat` is asked for and there is no chat template, or it refuses the message.
        """
        if not chat:
            return text
        if not self.has_chat_template:
            raise ModelError(f"{self.name}: the tokenizer has no chat template; set chat_template: false for this model")
        try:
            rendered = self._inner.apply_chat_template(
                [{"role": "user", "content": text}],
                tokenize=False,
                add_generation_prompt=True,
                **self._chat_template_kwargs,
            )
        except Exception as e:
            raise ModelError(f"{self.name}: its chat template fails: {type(e).__name__}: {e}") from e
        return str(rendered)

    @cached_property
    def _chat_seam(self) -> str | None:
        """The white space that the chat template itself writes between its cue and what the assistant says.

        None where it does not show: there is no template, or it renders a turn that is past otherwise than one to come.
        """
        if not self.has_chat_template:
            return None
        said = "ANSWER"
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": said}]
        try:
            cue = self.render("a", chat=True)
            whole = str(self._inner.apply_chat_template(turns, tokenize=False, **self._chat_template_kwargs))
        except Exception:  # templates raise what they like; the prompt's own rendering says so where it matters
            return None
        seam, found, _ = whole.removeprefix(cue).partition(said)
        return seam if found and whole.startswith(cue) and not seam.strip() else None

    def continuation(self, prompt: str, text: str, *, chat: bool) -> str:
        """What follows a rendered prompt when the model writes `text`, with the white space that belongs in between.

        Behind a chat template it is what the template writes there itself (a space after "Assistant:" with some, nothing
        after a special token), as far as that shows; otherwise one space, unless the prompt ends in white space.
        """
        if chat and self._chat_seam is not None:
            return self._chat_seam + text
        return continuation(prompt, text)

    def prompt_ids(self, text: str, *, chat: bool = False) -> tuple[int, ...]:
        """Token ids of a prompt, with one BOS in front if this tokenizer puts one there; never two, never an EOS.

        Args:
            text: what is asked.
            chat: ask it through the chat template.

        Raises:
            ModelError: `chat` and no chat template; or the text begins with BOS twice.
        """
        return self._encode(self.render(text, chat=chat))

    def pair(self, prompt: str, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Part a prompt and its continuation into token ids, as lm-evaluation-harness does (`_encode_pair`).

        White space at the end of the prompt goes to the continuation; the two are encoded together, and the continuation
        is what lies behind as many tokens as the prompt has by itself. Where a token would cross the seam, the two do
        not add up to the text; scores then still compare with the harness's.

        Args:
            prompt: the rendered prompt.
            text: the continuation, with the white space it begins with (`continuation`).

        Returns:
            Prompt ids, BOS included, and continuation ids, at least one.

        Raises:
            DataError: nothing is left of the continuation.
        """
        stripped = prompt.rstrip()
        text = prompt[len(stripped) :] + text
        prompt_ids = self._encode(stripped)
        continuation_ids = self._encode(stripped + text)[len(prompt_ids) :]
        if not continuation_ids:
            raise DataError(f"the continuation {text!r} has no tokens of its own behind the prompt")
        return prompt_ids, continuation_ids

    def text_ids(self, text: str) -> tuple[int, ...]:
        """Token ids of a piece of text by itself, nothing put in front."""
        return tuple(self._inner.encode(text, add_special_tokens=False))

    def frequent_ids(self, most: int) -> tuple[int, ...]:
        """Ids of the most frequent tokens, as far as a vocabulary tells: the lowest, at most so many.

        The lower the id, the earlier the merge (BPE) or the likelier the piece (Unigram). Left out is what no text is made
        of: special and added tokens, control characters, parts of characters.
        """
        added = set(self._inner.get_added_vocab().values()) | set(self._inner.all_special_ids)
        plain = (i for i in range(self._inner.vocab_size) if i not in added and self._is_text(i))
        return tuple(islice(plain, most))

    def _is_text(self, token_id: int) -> bool:
        piece = str(self._inner.decode([token_id], clean_up_tokenization_spaces=False))
        of_a_byte = re.fullmatch(r"<0x[0-9A-F]{2}>", str(self._inner.convert_ids_to_tokens(token_id)))
        return of_a_byte is None and "\ufffd" not in piece and piece.isprintable() and piece != ""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, special tokens left out, spaces as they are."""
        return str(self._inner.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The text of each id, for showing; where it is a part of a character, the tokenizer's name of it."""
        pieces = []
        for i in ids:
            piece = str(self._inner.decode([i], clean_up_tokenization_spaces=False))
            named = piece and "\ufffd" not in piece
            pieces.append(piece if named else str(self._inner.convert_ids_to_tokens(i)))
        return pieces

    def _encode_text(self, text: str) -> tuple[int, ...]:
        # Special tokens are put in front by hand, because asking for them appends EOS with some tokenizers, and puts a
        # second BOS in front of a rendered chat template, which writes its own.
        ids = self.text_ids(text)
        prefix = self.prefix_ids
        if prefix and ids[:1] != prefix[:1]:
            ids = (*prefix, *ids)
        if prefix and ids[:2] == (prefix[0], prefix[0]):
            raise ModelError(f"{self.name}: the prompt begins with {self.tokens(ids[:1])[0]} twice")
        return ids
