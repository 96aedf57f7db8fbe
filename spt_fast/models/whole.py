"""Whether a checkpoint's folder is whole, or is still being written: told by what is in it, never by how long ago."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from pathlib import Path

from spt_fast.errors import ModelError
from spt_fast.models.faults.files import is_there
from spt_fast.models.faults.folder import ADAPTER
from spt_fast.models.weights import INDEX, read_header, weight_files

_BEING_WRITTEN = (".tmp", ".part", ".partial", ".incomplete", ".crdownload", ".filepart")
_RSYNC = re.compile(r"^\..+\.[A-Za-z0-9]{6}$")
"""What rsync calls a file while it writes it."""
_SHARD = re.compile(r"^(.*)-(\d{5})-of-(\d{5})\.safetensors$")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
_TOKENIZER_PATTERNS = ("*.tiktoken", "tokenizer*.model*", "*.vocab", "*.spm", "tokenization*.py", "sentencepiece*.model")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_OF_A_MODEL = ("config.json", "generation_config.json", INDEX, ADAPTER, "*.safetensors", *_TOKENIZERS, "*tokenizer_config.json")


def lacking(folder: Path) -> str | None:
    """What a checkpoint that is being written lacks, in a clause; None: it is whole, be it a model or of no use.

    All weights that the index names are there and as long as their headers say, config.json and the tokenizer are there and
    whole, and no file beside them bears the name of one that is being written.
    """
    try:
        return _lacking(folder, sorted(path.name for path in folder.iterdir()))
    except ModelError as e:
        return str(e)
    except OSError as e:
        return f"cannot be read: {e.strerror or e}"


def is_begun(folder: Path) -> bool:
    """Whether a folder has anything of a model in it, and is none of logs."""
    return any(next(folder.glob(pattern), None) is not None for pattern in _OF_A_MODEL)


def signature(folder: Path) -> str:
    """Names, sizes and times of what a model is read from: another one where somebody has written to them.

    Raises:
        OSError: the folder cannot be read.
    """
    names = sorted(
        path.name for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".model", ".jinja", ".txt")
    )
    about = [(name, (folder / name).stat()) for name in names if name != "trainer_state.json"]
    told = json.dumps([(name, stat.st_size, stat.st_mtime_ns) for name, stat in about])
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _lacking(folder: Path, names: list[str]) -> str | None:
    for name in names:
        if name.endswith(_BEING_WRITTEN) or _RSYNC.match(name):
            return f"{name} is being written"
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        if name in names:
            _require_json(folder / name)
    if is_there(folder / ADAPTER):
        return None  # an adapter, which is said to be no model
    if "config.json" not in names:
        return "has no config.json yet"
    return _lacking_weights(folder, names) or _lacking_tokenizer(folder, names)


def _require_json(path: Path) -> None:
    """
    Raises:
        ModelError: it is not whole.
    """
    text = path.read_bytes()
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        raise ModelError(f"{path.name} is not whole" if text else f"{path.name} is empty") from None


def _lacking_weights(folder: Path, names: list[str]) -> str | None:
    weights = weight_files(names)
    if INDEX in names and "model.safetensors" not in names:
        _require_json(folder / INDEX)
        weights = _indexed(folder / INDEX)
    elif not weights:
        pickles = any(next(folder.glob(pattern), None) for pattern in _PICKLES)
        return None if pickles and _lacking_tokenizer(folder, names) is None else "has no weights in safetensors yet"
    elif shards := _shards(weights):
        weights = shards
    return next((why for name in weights if (why := _not_whole(folder / name)) is not None), None)


def _indexed(path: Path) -> list[str]:
    """The files that an index names; none where it is of no use, which is said when the model is resolved."""
    found = json.loads(path.read_bytes())
    parts = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(parts, dict):
        return []
    return sorted({name for name in parts.values() if isinstance(name, str) and name and Path(name).name == name})


def _shards(weights: list[str]) -> list[str]:
    """All shards of which some are there; none where the weights are no shards."""
    first = next((found for name in weights if (found := _SHARD.match(name))), None)
    if first is None:
        return []
    return [f"{first[1]}-{number:05d}-of-{first[3]}.safetensors" for number in range(1, int(first[3]) + 1)]


def _not_whole(path: Path) -> str | None:
    """Why a file of weights is not whole yet. A header that is none is no matter of time."""
    if not path.exists():
        return f"{path.name} is not there yet"
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            header = read_header(file)
        ends = max((int(tensor["data_offsets"][1]) for tensor in header.tensors.values()), default=0)
    except struct.error:
        return f"{path.name} has {size} bytes"
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return _header_to_come(path, size)
    wanted = header.data + ends
    return f"{path.name} has {size:,} of {wanted:,} bytes" if size < wanted else None


def _header_to_come(path: Path, size: int) -> str | None:
    """Whether a header that cannot be read is one whose end is not written yet, or all of whose bytes are still zero."""
    with path.open("rb") as file:
        head = file.read(8)
    (length,) = struct.unpack("<Q", head)
    if length == 0 or (length <= 100_000_000 and size < 8 + length):
        return f"{path.name} has no whole header yet"
    return None


def _lacking_tokenizer(folder: Path, names: list[str]) -> str | None:
    if "vocab.json" in names and "merges.txt" not in names and "tokenizer.json" not in names:
        return "has no merges.txt yet"
    there = any(name in names for name in _TOKENIZERS) or any(any(folder.glob(pattern)) for pattern in _TOKENIZER_PATTERNS)
    return None if there else "has no tokenizer yet"
