"""How large a model's weights are, from the headers of its safetensors files. Loads nothing."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a model's weights are; None where nobody says."""

    weight_bytes: int | None = None
    """Bytes of the weight files."""
    parameters: int | None = None
    """Numbers in them; of 4-bit weights, those that they are packed into."""


UNKNOWN = Size()


@dataclass(frozen=True, kw_only=True)
class Header:
    """The beginning of a safetensors file."""

    text: bytes
    """The header as it stands in the file: JSON."""
    tensors: Mapping[str, Any]
    """Name -> dtype, shape, data_offsets."""
    data: int
    """Bytes in front of the first tensor."""


def read_header(file: BinaryIO) -> Header:
    """Read the header of a safetensors file.

    Raises:
        ValueError: it is none.
        struct.error: the file is shorter than any.
    """
    (length,) = struct.unpack("<Q", file.read(8))
    if not 2 <= length <= 100_000_000:  # the format's own bound
        raise ValueError("header too long")
    text = file.read(length)
    tensors = {name: tensor for name, tensor in json.loads(text).items() if name != "__metadata__"}
    return Header(text=text, tensors=tensors, data=8 + length)


def weight_files(names: Iterable[str]) -> list[str]:
    """Of the files of a folder or repository, those that the model is loaded from.

    Mistral's repositories have the weights a second time, as consolidated.safetensors.
    """
    found = sorted(name for name in names if name.endswith(".safetensors") and "/" not in name)
    return [name for name in found if name.startswith("model")] or found


def size_of(folder: Path) -> Size:
    """How large the weights in a folder are; nothing is known of a folder that does not have all of its files."""
    try:
        names = weight_files(path.name for path in folder.iterdir())
        index = folder / INDEX
        wanted = set(json.loads(index.read_bytes())["weight_map"].values()) if index.is_file() else set()
        if not names or not wanted <= set(names):
            return UNKNOWN
        parameters = 0
        for name in names:
            with (folder / name).open("rb") as file:
                parameters += sum(math.prod(tensor["shape"]) for tensor in read_header(file).tensors.values())
        return Size(weight_bytes=sum((folder / name).stat().st_size for name in names), parameters=parameters)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return UNKNOWN
