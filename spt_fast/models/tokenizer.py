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
from typing import TYPE_CHECKING, Any

from spt_fast.config import CHAT_DATE
from spt_fast.errors import ConfigError, DataError, ModelError
from spt_fast.models.chat import SWITCHES, Clock, first_missing, has_thought, is_found, open_thought
from spt_fast.models.load_errors import loading

if TYPE_CHECKING:
    from spt_fast.models.identity import Model

_PROBE = "Which word is this?"
"""Asked of a chat template, to see what it makes of a question."""


def continuation(prompt: str, text: str) -> str:
    """What follows `prompt` when the model writes `text`: one space in between, unless the prompt ends in white space.

    A template ends with its cue ("Answer:"), and text goes on behind it with a space. `Tokenizer.continuation` knows better
    about chat templates.
    """
    return text if prompt[-1:].isspace() else f" {text}"


class Tokenizer:
    """How one model reads text."""

    def __init__(
        self,
        inner: Any,
        *,
        name: str = "the tokenizer",
        chat_template_kwargs: Mapping[str, Any] | None = None,
        chat_date: str = CHAT_DATE,
    ) -> None:
        """Wrap a tokenizer of Transformers.

        Args:
            inner: a PreTrainedTokenizerBase.
            name: what error messages call it.
            chat_template_kwargs: given to the chat template: {"enable_thinking": False}.
            chat_date: the day that a chat template is told when it asks for today's, as in 2024-07-26.
        """
        self._inner = inner
        self.name = name
        self.chat_date = chat_date
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
        chat_date: str = CHAT_DATE,
        plainly: bool = False,
    ) -> Tokenizer:
        """Load a tokenizer from a folder or the Hub.

        Args:
            path: the folder or Hub id.
            revision: of a Hub id.
            trust_remote_code: run Python code that comes with it.
            chat_template_kwargs: as of the constructor.
            chat_date: as of the constructor.
            plainly: take tokenizer.json as it is, for a look ahead. `AutoTokenizer` imports torch, 500 MB and seconds.

        Raises:
            ModelError: there is none, or it cannot be read.
        """
        name = os.fspath(path)
        with loading(name):
            if plainly:
                from transformers import PreTrainedTokenizerFast

                inner = PreTrainedTokenizerFast.from_pretrained(name, revision=revision)
            else:
                from transformers import AutoTokenizer

                inner = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
        return cls(inner, name=name, chat_template_kwargs=chat_template_kwargs, chat_date=chat_date)

    @classmethod
    def around(cls, inner: Any, path: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Tokenizer:
        """What others have loaded already, where it is one of Transformers; else as `load`."""
        from transformers import PreTrainedTokenizerBase

        if isinstance(inner, PreTrainedTokenizerBase):
            return cls(inner, name=path)
        return cls.load(path, revision=revision, trust_remote_code=trust_remote_code)

    @classmethod
    def of(cls, inner: Any, *, name: str) -> Tokenizer:
        """What somebody holds already.

        Raises:
            ConfigError: it is no tokenizer of Transformers.
        """
        from transformers import PreTrainedTokenizerBase

        if isinstance(inner, cls):
            return inner
        if not isinstance(inner, PreTrainedTokenizerBase):
            raise ConfigError(
                f"tokenizer: must be one of Transformers (AutoTokenizer.from_pretrained), not {type(inner).__name__}"
            )
        return cls(inner, name=name)

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

    @property
    def chat_template_source(self) -> str:
        """The chat template as it is written; empty where there is none."""
        return self._template if self.has_chat_template else ""

    @cached_property
    def chat_template_hash(self) -> str | None:
        """Content hash of the chat template (16 hexadecimal digits); None where there is none."""
        return hashlib.sha256(self._template.encode()).hexdigest()[:16] if self.has_chat_template else None

    @cached_property
    def _template(self) -> str:
        """The chat template's source; of several, the one for plain chats, or the one that the settings name.

        Raises:
            ModelError: there is no such one.
        """
        try:
            return str(self._inner.get_chat_template(self._chat_template_kwargs.get("chat_template")))
        except ValueError as e:
            raise ModelError(f"{self.name}: its chat templates have no default: {' '.join(str(e).split())}") from None

    def render(self, text: str, *, chat: bool) -> str:
        """The prompt text that the model reads: `text` itself, or one user message in the chat template.

        Raises:
            ModelError: `chat` is asked for and there is no chat template, it refuses the message, or not all of the text is
                in what it writes (`is_found`).
        """
        if not chat:
            return text
        if not self.has_chat_template:
            raise ModelError(f"{self.name}: the tokenizer has no chat template; set chat_template: false for this model")
        rendered = self._written([("user", text)])
        if not is_found(text, rendered):
            raise ModelError(
                f"{self.name}: its chat template does not write all of the prompt: what is missing begins with "
                f"{first_missing(text, rendered)!r}; set chat_template: false for this model, or mend its template"
            )
        # White space in front of BOS would hide it, and a second one would be put there.
        bos = self._inner.bos_token
        return rendered.lstrip() if bos and rendered.lstrip().startswith(bos) else rendered

    def write_turns(self, turns: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True) -> str:
        """What the chat template makes of turns {"role": ..., "content": ...}; without a system's, if it knows none.

        Args:
            turns: who says what.
            add_generation_prompt: whether the assistant is to begin a turn; else the last one, its own, is gone on with.

        Raises:
            ModelError: it fails.
        """
        said = list(turns)
        clock = {"strftime_now": self._clock} if "strftime_now" in self._template else {}
        settings = {"continue_final_message": not add_generation_prompt, **clock, **self._chat_template_kwargs}
        try:
            return self._applied(said, add_generation_prompt, settings)
        except ModelError:
            if said[0]["role"] != "system":
                raise
            return self._applied(said[1:], add_generation_prompt, settings)

    def _applied(self, said: Sequence[Mapping[str, Any]], cue: bool, settings: Mapping[str, Any]) -> str:
        try:
            return str(self._inner.apply_chat_template(said, tokenize=False, add_generation_prompt=cue, **settings))
        except Exception as e:  # templates raise what they like
            raise ModelError(
                f"{self.name}: its chat template fails: {type(e).__name__}: {' '.join(str(e).split())}; "
                "set chat_template: false for this model, or mend its template"
            ) from e

    def _written(self, turns: Sequence[tuple[str, str]], *, parts: bool | None = None, **settings: Any) -> str:
        """What the chat template makes of turns (role, words): with its cue, if the user has the last word.

        Args:
            turns: who says what.
            parts: whether the words are given as a list of parts; None: as the template wants them.
            settings: put over `chat_template_kwargs`.

        Raises:
            ModelError: it fails.
        """
        parts = self._wants_parts if parts is None else parts
        cue = turns[-1][0] == "user"
        said = [{"role": role, "content": [{"type": "text", "text": words}] if parts else words} for role, words in turns]
        clock = {"strftime_now": self._clock} if "strftime_now" in self._template else {}
        settings = {**clock, **self._chat_template_kwargs, **settings}
        return self._applied(said, cue, settings)

    @cached_property
    def _wants_parts(self) -> bool:
        """Whether the chat template loses words that are plain text, and writes those that are a list of parts."""

        def writes(parts: bool) -> bool:
            try:
                return is_found(_PROBE, self._written([("user", _PROBE)], parts=parts))
            except ModelError:
                return False

        return not writes(parts=False) and writes(parts=True)

    @cached_property
    def _clock(self) -> Clock:
        return Clock(self.chat_date)

    @cached_property
    def asks_the_date(self) -> bool:
        """Whether the chat template asks for today's date; it is told `chat_date`, so that prompts are the same tomorrow.

        Raises:
            ModelError: the template fails.
        """
        before = self._clock.asked
        self._written([("user", _PROBE)])
        return self._clock.asked > before

    @cached_property
    def open_thought(self) -> str | None:
        """The marker of a thought that the chat template's cue opens and leaves open, such as `<think>`; None: it does not.

        Raises:
            ModelError: the template fails.
        """
        return self._opens()

    @cached_property
    def switch(self) -> Mapping[str, Any] | None:
        """Settings of the chat template with which its cue opens no thought, where it has such a switch."""
        return next((switch for switch in SWITCHES if self._opens(**switch) is None), None)

    def _opens(self, **settings: Any) -> str | None:
        return open_thought(self._written([("user", _PROBE)], **settings).rpartition(_PROBE)[2])

    @cached_property
    def _chat_seam(self) -> str | None:
        """The white space that the chat template itself writes between its cue and what the assistant says.

        None where it does not show: there is no template, or it renders a turn that is past otherwise than one to come.
        """
        between = self._behind_the_cue
        return between if between is not None and not between.strip() else None

    @property
    def missing_cue(self) -> str | None:
        """What the chat template writes in front of answers that are past and not of one to come: it has no cue; None: it has.

        A thought that it writes there is none of it.
        """
        between = self._behind_the_cue
        return between.strip() or None if between is not None and not has_thought(between) else None

    @cached_property
    def _behind_the_cue(self) -> str | None:
        if not self.has_chat_template:
            return None
        said = "ANSWER"
        try:
            cue = self._written([("user", _PROBE)])
            whole = self._written([("user", _PROBE), ("assistant", said)])
        except ModelError:  # the prompt's own rendering says so where it matters
            return None
        between, found, _ = whole.removeprefix(cue).partition(said)
        return between if found and whole.startswith(cue) else None

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
        """`pairs` of a prompt and its only continuation."""
        return self.pairs(prompt, [text])[0]

    def pairs(self, prompt: str, texts: Sequence[str]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Part a prompt and each of its continuations into token ids: what is given, and what is scored.

        White space at the end of the prompt goes to the continuation, and the two are encoded together, as
        lm-evaluation-harness does (`_encode_pair`). Where a token reaches across the seam (": A" in "Answer: A"), the harness
        loses what it holds of the continuation; here scores begin in front of it: behind the last token that the prompt has in
        common with all of them, so that they stay comparable.

        Args:
            prompt: the rendered prompt.
            texts: the continuations, with the white space they begin with (`continuation`).

        Returns:
            For each the ids given, BOS included, the same for all, and the ids scored, at least one.

        Raises:
            DataError: nothing is left of a continuation.
        """
        stripped = prompt.rstrip()
        prompt_ids = self._encode(stripped)
        behind = [text if prompt else self.text_ids(text) for text in texts]
        wholes = [self._encode(prompt + each) if isinstance(each, str) else (*prompt_ids, *each) for each in behind]
        common = [_common(prompt_ids, whole) for whole in wholes]
        for text, whole, shared in zip(texts, wholes, common, strict=True):
            if shared == len(whole):
                raise DataError(f"the continuation {text!r} has no tokens of its own behind the prompt")
        given = min(common, default=len(prompt_ids))
        return [(whole[:given], whole[given:]) for whole in wholes]

    def across_the_seam(self, prompt: str, texts: Sequence[str]) -> str | None:
        """The first token, as text, that reaches from a prompt into one of its continuations; None: none does."""
        length = len(self._encode(prompt.rstrip()))
        crossed = [pair for pair in self.pairs(prompt, texts) if len(pair[0]) < length]
        return self.tokens(crossed[0][1][:1])[0] if crossed else None

    def ids_behind(self, prompt: str, text: str) -> tuple[int, ...]:
        """Token ids of `text` as it is written behind all tokens of the prompt, which stay as they are.

        They are the rest of the two encoded together; where a token would reach across the seam, those of the text by itself.
        """
        if not prompt:
            return self.text_ids(text)
        prompt_ids, together = self._encode(prompt), self._encode(prompt + text)
        if together[: len(prompt_ids)] == prompt_ids:
            return together[len(prompt_ids) :]
        # By itself a text may get a space in front (SentencePiece); behind a character that it does not merge with, none.
        wanted = self.decode(prompt_ids) + text
        for anchor in ("", "\n", ".", "a"):
            start, ids = self.text_ids(anchor), self.text_ids(anchor + text)
            if ids[: len(start)] == start and self.decode((*prompt_ids, *ids[len(start) :])) == wanted:
                return ids[len(start) :]
        return self.text_ids(text)

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
        if not text:  # a model must read something: what lm-evaluation-harness has it read then
            start = self._inner.bos_token_id if self._inner.bos_token_id is not None else self._inner.eos_token_id
            return self.prefix_ids or (() if start is None else (start,))
        ids = self.text_ids(text)
        prefix = self.prefix_ids
        if prefix and ids[:1] != prefix[:1]:
            ids = (*prefix, *ids)
        if prefix and ids[:2] == (prefix[0], prefix[0]):
            raise ModelError(f"{self.name}: the prompt begins with {self.tokens(ids[:1])[0]} twice")
        return ids


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two texts begin with together."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def load_tokenizer(model: Model, *, plainly: bool = False) -> Tokenizer:
    """The tokenizer of a resolved model, with its chat template's settings; `plainly` as of `Tokenizer.load`."""
    return Tokenizer.load(
        model.source,
        revision=model.revision,
        trust_remote_code=model.trust_remote_code,
        chat_template_kwargs=model.chat_template_kwargs,
        chat_date=model.chat_date,
        plainly=plainly,
    )


def uses_chat(model: Model, tokenizer: Tokenizer) -> bool:
    """Whether prompts of this model go through its chat template.

    Raises:
        ModelError: the grid asks for one, and the tokenizer has none.
    """
    if model.chat_template == "always" and not tokenizer.has_chat_template:
        raise ModelError(f"{model.name}: chat_template is true, and its tokenizer has none; leave it out")
    return model.chat_template != "never" and tokenizer.has_chat_template
