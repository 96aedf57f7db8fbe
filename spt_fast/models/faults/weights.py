"""The weight files: all of them there and whole, of the model that config.json describes, in numbers that can be read."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spt_fast.errors import ModelError, shortened
from spt_fast.models.faults.config import PLAIN, text_of
from spt_fast.models.faults.files import ANEW, check_file, is_there, read_object
from spt_fast.models.faults.folder import ADAPTER, adapter
from spt_fast.models.fits import disagreement
from spt_fast.models.weights import INDEX, Header, read_header, weight_files

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_OTHERS = ("*.gguf", "*.h5", "*.msgpack", "*.onnx", "*.npz")
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_PACKED = re.compile(r"^([IU]\d+|F[48]_?\w*|F6_?\w*|BOOL)$")
"""dtypes that no model computes in: a weight in one of them stands for other numbers."""
_WEIGHT = re.compile(r"(^|[._])(weight|qweight|weight_packed|w|blocks)$")
_SCALE = re.compile(r"(scale|scb|absmax|zeros|zero_point|codebook|quant_state|meta|basis)", re.IGNORECASE)
_SCALED = (
    "fp8",
    "fbgemm_fp8",
    "bitsandbytes",
    "bitsandbytes_4bit",
    "bitsandbytes_8bit",
    "compressed-tensors",
    "gptq",
    "awq",
    "modelopt",
)
_QUANTIZED_ELSEWHERE = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")
_SHARD = re.compile(r"^(.*)-(\d{5})-of-(\d{5})\.safetensors$")


def check_weights(folder: Path, config: Mapping[str, Any], *, whole: bool) -> None:
    """Check the weight files, from their headers.

    Raises:
        ModelError: one is missing, cut short, of another model, or in numbers that cannot be read.
    """
    names = weight_files(path.name for path in folder.iterdir())
    if whole and (not names or all(name.startswith("adapter_") for name in names)):
        raise ModelError(_without(folder))
    wanted = _index(folder, names, whole=whole)
    names = [name for name in sorted(wanted) if Path(name).name == name and is_there(folder / name)] or names
    headers = {name: _header(folder / name) for name in names}
    for name, parts in wanted.items():
        lacking = sorted(parts - headers[name].tensors.keys()) if name in headers else []
        if lacking:
            raise ModelError(
                f"{folder / name}: lacks {len(lacking)} tensors that {INDEX} says it has, among them "
                f"{shortened(lacking[0])}; {ANEW}"
            )
    tensors = {name: tensor for header in headers.values() for name, tensor in header.tensors.items()}
    _check_packed(folder, config, tensors)
    if "quantization_config" not in config and "auto_map" not in config:
        plain = text_of(config).get("model_type", config.get("model_type")) in PLAIN
        wrong = disagreement(text_of(config), tensors, known=plain, whole=whole or names == ["model.safetensors"])
        if wrong:
            raise ModelError(f"{folder}: {wrong}; {ANEW}")


def _without(folder: Path) -> str:
    """What there is instead of weights, and what to do with it."""
    if is_there(folder / ADAPTER):
        return adapter(folder)
    pickles = sorted(path.name for kind in _PICKLES for path in folder.glob(kind) if path.name != "training_args.bin")
    if pickles:
        return (
            f"{folder}: has no weights in safetensors, and {pickles[0]} could run code when it is read; convert it where you "
            "trust it: AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER), and name the new folder"
        )
    others = sorted(path.name for kind in _OTHERS for path in folder.glob(kind))
    return f"{folder}: has no weights in safetensors{f' ({others[0]} is not read)' if others else ''}; {ANEW}"


def _index(folder: Path, names: list[str], *, whole: bool) -> dict[str, set[str]]:
    """Weight file -> the tensors that are to be in it; of a model in one file, nothing."""
    if "model.safetensors" in names or not is_there(folder / INDEX):
        _check_numbers(folder, names, whole=whole)
        return {}
    path = folder / INDEX
    parts = read_object(path).get("weight_map")
    if not isinstance(parts, dict) or not parts or not all(isinstance(name, str) and name for name in parts.values()):
        raise ModelError(f"{path}: has no weight_map of tensors to files; {ANEW}")
    wanted: dict[str, set[str]] = {}
    for tensor, name in parts.items():
        wanted.setdefault(name, set()).add(tensor)
    for name in sorted(wanted) if whole else ():
        if Path(name).name != name:
            raise ModelError(f"{path}: {shortened(name)} is not in the model's folder; {ANEW}")
        if not is_there(folder / name):
            raise ModelError(f"{folder / name}: is not there, and {INDEX} names it; {ANEW}")
    return wanted


def _check_numbers(folder: Path, names: list[str], *, whole: bool) -> None:
    """Without an index, the names of shards tell how many there are."""
    if not whole or "model.safetensors" in names:
        return
    for name in names:
        if (found := _SHARD.match(name)) is None:
            continue
        for number in range(1, int(found[3]) + 1):
            shard = f"{found[1]}-{number:05d}-of-{found[3]}.safetensors"
            if not is_there(folder / shard):
                raise ModelError(f"{folder / shard}: is not there, and there is {name}; {ANEW}")


def _header(path: Path) -> Header:
    check_file(path)
    try:
        with path.open("rb") as file:
            header = read_header(file)
        ends = _ends(header)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError, struct.error) as e:
        raise ModelError(f"{path}: is not a whole safetensors file ({e}); {ANEW}") from None
    size, wanted = path.stat().st_size, header.data + ends
    if size != wanted:
        how = "is cut short" if size < wanted else "goes on too long"
        raise ModelError(
            f"{path}: is not a whole safetensors file: it {how} ({size:,} bytes, {wanted:,} by its header); {ANEW}"
        )
    return header


def _ends(header: Header) -> int:
    """Bytes of all tensors, one behind the other.

    Raises:
        ValueError, KeyError, TypeError: they are not so.
    """
    at = 0
    for name, tensor in sorted(header.tensors.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = tensor["data_offsets"]
        size = _BYTES.get(tensor["dtype"])
        if begin != at or end < begin or (size is not None and size * math.prod(tensor["shape"]) != end - begin):
            raise ValueError(f"{shortened(name)} is not where its shape puts it")
        at = end
    return int(at)


def _check_packed(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
    """Refuse weights in a dtype that stands for other numbers, where nothing says for which."""
    packed = [name for name, tensor in sorted(tensors.items()) if _is_packed(name, tensor)]
    if not packed:
        return
    asked = config.get("quantization_config") or text_of(config).get("quantization_config")
    what = f"{shortened(packed[0])} is {tensors[packed[0]]['dtype']}"
    if not asked and not any(is_there(folder / name) for name in _QUANTIZED_ELSEWHERE):
        raise ModelError(
            f"{folder}: {len(packed)} weights are packed ({what}), and config.json has no quantization_config that says how; "
            "name the model that it was made from, or save it again with its quantization_config"
        )
    scaled = any(_SCALE.search(name) for name in tensors)
    method = str(asked.get("quant_method", "bitsandbytes")).lower() if isinstance(asked, dict) else ""
    if method in _SCALED and not scaled:
        raise ModelError(
            f"{folder}: {len(packed)} weights are packed ({what}) by {method}, and there are no scales in the files to unpack "
            f"them by; {ANEW}"
        )


def _is_packed(name: str, tensor: Mapping[str, Any]) -> bool:
    return _PACKED.match(str(tensor["dtype"])) is not None and len(tensor["shape"]) > 1 and _WEIGHT.search(name) is not None
