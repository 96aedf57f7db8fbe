"""The tokenizer's files: whether there are any, and whether their ids are within the model's vocabulary."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spt_fast.errors import ModelError
from spt_fast.models.faults.config import text_of
from spt_fast.models.faults.files import ANEW, check_file, is_there, read_object

_VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
)
_PATTERNS = ("*.tiktoken", "tokenizer*.model*", "*.vocab", "*.spm", "tokenization*.py")
_BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
MOST_PARSED = 1 << 24
"""Bytes of a tokenizer.json that is parsed, in a third of a second; of a larger one, both ends are looked at."""

_largest: dict[str, int] = {}
"""Of a series, all models have the same tokenizer: hash of tokenizer.json -> largest id that is no added token."""


def check_tokenizer(folder: Path, config: Mapping[str, Any], *, whole: bool) -> None:
    """Check the tokenizer's files.

    Raises:
        ModelError: there are none, or one is damaged, or the tokenizer is of another model.
    """
    for name in (name for name in _BESIDE if is_there(folder / name)):
        read_object(folder / name)
    there = [name for name in _VOCABULARIES if is_there(folder / name)]
    if whole and not there and not any(any(folder.glob(pattern)) for pattern in _PATTERNS):
        raise ModelError(
            f"{folder}: has no tokenizer (tokenizer.json, or tokenizer.model); copy the tokenizer's files of the model that "
            "it was trained from"
        )
    for name in there:
        check_file(folder / name)
    if whole and there == ["vocab.json"] and not is_there(folder / "merges.txt"):
        raise ModelError(f"{folder / 'merges.txt'}: is not there, and belongs to vocab.json; {ANEW}")
    if "tokenizer.json" in there:
        _check_ids(folder / "tokenizer.json", text_of(config).get("vocab_size"))


def _check_ids(path: Path, vocabulary: object) -> None:
    if path.stat().st_size > MOST_PARSED:
        _check_ends(path)
        return
    largest = _largest_id(path)
    if isinstance(vocabulary, int) and largest >= vocabulary:
        raise ModelError(
            f"{path}: has token ids up to {largest}, and vocab_size in config.json is {vocabulary}: they are not of one model; "
            f"{ANEW}"
        )


def _largest_id(path: Path) -> int:
    key = hashlib.sha256(path.read_bytes()).hexdigest()
    if key not in _largest:
        found = read_object(path)
        model = found.get("model")
        if not isinstance(model, dict):
            raise ModelError(f"{path}: holds no tokenizer (it has no model); {ANEW}")
        # Those that were added beside it may never be used: some models have more of them than embeddings.
        added = {each.get("id") for each in found.get("added_tokens") or () if isinstance(each, dict)}
        own = [each for each in _ids(model.get("vocab")) if each not in added]
        _largest[key] = max((*own, *_always(found.get("post_processor"))), default=-1)
    return _largest[key]


def _always(processor: object) -> Iterable[int]:
    """The ids that stand in every prompt, such as BOS."""
    if not isinstance(processor, dict):
        return
    for part in processor.get("processors") or ():
        yield from _always(part)
    special = processor.get("special_tokens")
    for token in special.values() if isinstance(special, dict) else ():
        yield from (each for each in token.get("ids") or () if type(each) is int)


def _ids(vocabulary: object) -> Iterable[int]:
    if isinstance(vocabulary, list):
        return range(len(vocabulary))
    return (each for each in vocabulary.values() if type(each) is int) if isinstance(vocabulary, dict) else ()


def _check_ends(path: Path) -> None:
    with path.open("rb") as file:
        begin = file.read(64).lstrip()
        file.seek(-64, 2)
        end = file.read().rstrip()
    if not (begin.startswith(b"{") and end.endswith(b"}")):
        raise ModelError(f"{path}: is not JSON (it ends in {end[-8:].decode(errors='replace')!r}); it is cut short: {ANEW}")
