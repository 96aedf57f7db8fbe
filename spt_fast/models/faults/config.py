"""config.json: whether it is that of a causal language model which the installed Transformers knows, or brings code for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from spt_fast.errors import ModelError, shortened
from spt_fast.models.faults.files import ANEW, is_there, read_object

_COUNTS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "max_position_embeddings",
    "head_dim",
)
PLAIN = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "granite", "olmo2")
"""Types whose attention is the usual one, all sizes of which follow from config.json."""
_OTHER_WORK = (
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForImageClassification",
    "ForSpeechSeq2Seq",
    "ForCTC",
    "RewardModel",
)
_TABLES = (
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES",
)
_METHODS = frozenset(
    # What the installed vLLM or Transformers, or both, read; asked of neither, for that would import torch.
    [
        "aqlm",
        "auto-round",
        "auto_awq",
        "auto_gptq",
        "autoawq",
        "awq",
        "awq_marlin",
        "bitnet",
        "bitsandbytes",
        "bitsandbytes_4bit",
        "bitsandbytes_8bit",
        "compressed-tensors",
        "deepseek_v4_fp8",
        "eetq",
        "experts_int8",
        "fbgemm_fp8",
        "fouroversix",
        "fp8",
        "fp_quant",
        "gemma",
        "gguf",
        "gptq",
        "gptq_marlin",
        "higgs",
        "hqq",
        "humming",
        "inc",
        "intel/auto-round",
        "metal",
        "modelopt",
        "modelopt_fp4",
        "modelopt_mixed",
        "modelopt_mxfp8",
        "moe_wna16",
        "mxfp4",
        "mxfp8",
        "nvfp4",
        "quanto",
        "quark",
        "sinq",
        "spqr",
        "torchao",
        "vptq",
    ]
)


def text_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config that is about the language model: that of a model for images too is inside."""
    text = config.get("text_config")
    return text if isinstance(text, dict) else config


def check_config(folder: Path, *, trust_remote_code: bool, whole: bool) -> dict[str, Any]:
    """Read and check a model's config.json, and its generation_config.json.

    Raises:
        ModelError: it is none that can be used.
    """
    path = folder / "config.json"
    config = read_object(path)
    own_code = _check_code(folder, config, trust_remote_code=trust_remote_code, whole=whole)
    if not own_code:
        _check_kind(path, config)
    _check_sizes(path, config, own_code=own_code)
    _check_quantization(path, config)
    if is_there(folder / "generation_config.json"):
        read_object(folder / "generation_config.json")
    return config


def _check_code(folder: Path, config: Mapping[str, Any], *, trust_remote_code: bool, whole: bool) -> bool:
    """Whether the model runs code of its own: where Transformers knows its type, it need not."""
    code = config.get("auto_map")
    if code is None:
        return False
    if not isinstance(code, dict):
        raise ModelError(f"{folder / 'config.json'}: auto_map must be an object, not {shortened(code, 40)}; {ANEW}")
    known = _is_known(config.get("model_type"))
    if not trust_remote_code:
        if known:
            return False
        raise ModelError(
            f"{folder}: brings Python code of its own (auto_map in config.json), which runs only with trust_remote_code: true; "
            "read the code first"
        )
    for entry in (each for each in _texts(code.values()) if whole and "--" not in each and "." in each):
        file = folder / f"{entry.split('.')[0]}.py"
        if not file.is_file():
            raise ModelError(f"{file}: is named by auto_map in config.json, and is not there; {ANEW}")
    return True


def _texts(values: Any) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value


def _check_kind(path: Path, config: Mapping[str, Any]) -> None:
    kind, architectures = config.get("model_type"), config.get("architectures")
    if kind is None:
        raise ModelError(f"{path}: has no model_type, so nobody knows what model it is; {ANEW}")
    if not _is_known(kind):
        raise ModelError(
            f"{path}: model_type {shortened(kind)} is unknown to the installed version of Transformers; install a newer one, "
            "or correct it"
        )
    if architectures is not None and (not isinstance(architectures, list) or [*_texts(architectures)] != architectures):
        raise ModelError(f"{path}: architectures must be a list of names, not {shortened(architectures, 40)}; {ANEW}")
    other = next((name for name in architectures or () if name.endswith(_OTHER_WORK)), None)
    if other or config.get("is_encoder_decoder") is True or not _is_causal(kind):
        what = shortened(other or kind)
        raise ModelError(f"{path}: {what} is not a causal language model, and only those are evaluated; name another model")


def _check_sizes(path: Path, config: Mapping[str, Any], *, own_code: bool) -> None:
    text = text_of(config)
    if own_code:  # which may call its sizes as it likes
        return
    for name in _COUNTS:
        size = text.get(name)
        if size is not None and not isinstance(size, list | dict) and (type(size) is not int or size < 1):
            raise ModelError(f"{path}: {name} must be a whole number from 1, not {shortened(size, 40)}; {ANEW}")
    dtype = config.get("dtype", config.get("torch_dtype"))
    if isinstance(dtype, str) and not re.fullmatch(r"(torch\.)?(auto|b?float\d+|float8_\w+|half|double|u?int\d+)", dtype):
        raise ModelError(f"{path}: dtype {shortened(dtype, 40)} is none of torch's; write bfloat16, float16 or float32")
    if text.get("model_type", config.get("model_type")) in PLAIN:
        _check_heads(path, text)


def _check_heads(path: Path, text: Mapping[str, Any]) -> None:
    size, heads = text.get("hidden_size"), text.get("num_attention_heads")
    shared = text.get("num_key_value_heads")
    if text.get("head_dim") is None and size and heads and size % heads and not str(text.get("model_type")).startswith("gemma"):
        raise ModelError(f"{path}: hidden_size {size} is no multiple of num_attention_heads {heads}; {ANEW}")
    if heads and shared and heads % shared:
        raise ModelError(f"{path}: num_attention_heads {heads} is no multiple of num_key_value_heads {shared}; {ANEW}")


def _check_quantization(path: Path, config: Mapping[str, Any]) -> None:
    asked = config.get("quantization_config")
    if asked is None:
        return
    if not isinstance(asked, dict):
        raise ModelError(f"{path}: quantization_config must be an object, not {shortened(asked, 40)}; {ANEW}")
    method = asked.get("quant_method")
    packed = asked.get("load_in_4bit") or asked.get("load_in_8bit")  # bitsandbytes of old, which names no method
    if method is None and not packed and not asked.get("quantization"):
        raise ModelError(f"{path}: quantization_config has no quant_method, so nobody can unpack the weights; {ANEW}")
    if method is not None and (not isinstance(method, str) or method.lower() not in _METHODS):
        raise ModelError(
            f"{path}: quantization_config.quant_method {shortened(method, 40)} is known to neither Transformers nor vLLM; "
            "name the model that it was made from, or one packed by gptq, awq, fp8 or compressed-tensors"
        )


def _is_known(kind: object) -> bool:
    tables = _source("configuration_auto") + _source("auto_mappings")
    return isinstance(kind, str) and (not tables or f'"{kind}"' in tables)


def _is_causal(kind: str) -> bool:
    tables = _source("modeling_auto")
    found = [re.search(rf"^{name}\b.*?^\)", tables, re.MULTILINE | re.DOTALL) for name in _TABLES]
    return not all(found[:1]) or any(f'"{kind}"' in table[0] for table in found if table)


@cache
def _source(module: str) -> str:
    """The text of one of Transformers' tables of types: to import it takes seconds, and torch."""
    spec = find_spec("transformers")
    folder = next(iter(spec.submodule_search_locations or ()), None) if spec else None
    path = Path(folder or "") / "models" / "auto" / f"{module}.py"
    return path.read_text(encoding="utf-8") if folder and path.is_file() else ""
