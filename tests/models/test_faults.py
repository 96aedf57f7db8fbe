"""What is wrong with a model's folder is known without loading it: a sentence that names the file and the fix."""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from spt_fast.models.faults import fault_of
from tests.helpers.weights import in_shards, llama_tensors, sound_folder

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d7a' * 16}\nsize 12345\n"
BF16 = {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}


def text(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def config(**changes: object) -> Callable[[Path], object]:
    return lambda folder: sound_folder(folder, **changes)


def gone(*names: str) -> Callable[[Path], object]:
    return lambda folder: [(folder / name).unlink() for name in names]


def weights(**changes: Any) -> Callable[[Path], object]:
    """Other tensors than those that config.json describes; None: without this one."""

    def change(folder: Path) -> None:
        tensors = llama_tensors() | {name.replace("__", "."): value for name, value in changes.items()}
        save_file({name: value for name, value in tensors.items() if value is not None}, folder / "model.safetensors")

    return change


def of_dtype(dtype: type, **changes: Any) -> Callable[[Path], object]:
    return lambda folder: sound_folder(folder, dtype=dtype, **changes)


def header(text_: str | bytes, length: int | None = None, data: bytes = b"") -> Callable[[Path], object]:
    content = text_.encode() if isinstance(text_, str) else text_
    whole = struct.pack("<Q", len(content) if length is None else length) + content + data
    return lambda folder: (folder / "model.safetensors").write_bytes(whole)


def cut(name: str, least: int) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-least])


def shards(change: Callable[[Path, list[Path]], object]) -> Callable[[Path], object]:
    return lambda folder: change(folder, in_shards(folder))


def renamed(old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / old).rename(folder / new)


def both(*changes: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda folder: [change(folder) for change in changes]


def inside(*names: str) -> Callable[[Path], object]:
    """The folder one level up."""

    def change(folder: Path) -> None:
        for path in folder.iterdir():
            path.unlink()
        for name in names:
            sound_folder(folder / name)

    return change


def adapter(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base", "peft_type": "LORA"}')
    save_file({"lora_A": np.ones((2, 2), dtype=np.float32)}, folder / "adapter_model.safetensors")


def link_to_nothing(name: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(folder / "blobs" / "0123")

    return change


def index(content: object) -> Callable[[Path], object]:
    return shards(lambda folder, files: (folder / "model.safetensors.index.json").write_text(json.dumps(content)))


def lacking(folder: Path, files: list[Path]) -> None:
    tensors = load_file(files[1])
    tensors.pop(next(iter(sorted(tensors))))
    save_file(tensors, files[1])


QUANTIZED = {"quant_method": "fp8"}
SCALES = {"model__layers__0__mlp__gate_proj__weight_scale": np.ones(1, dtype=np.float32)}

BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (gone("config.json"), "is no model folder: it has no config.json"),
    "an empty config": (text("config.json", ""), "config.json: is empty"),
    "a blank config": (text("config.json", " \n"), "config.json: is empty"),
    "a config that is a list": (text("config.json", "[1, 2]"), "config.json: must be a JSON object {...}, not [1, 2]"),
    "a config that is null": (text("config.json", "null"), "config.json: must be a JSON object {...}, not None"),
    "a config that is YAML": (text("config.json", "model_type: llama\n"), "config.json: is not JSON"),
    "a config that is cut": (cut("config.json", 5), "config.json: is not JSON"),
    "a config nested deep": (text("config.json", '{"a": ' + "[" * 200_000), "config.json: is not JSON"),
    "a config with half a character": (lambda f: (f / "config.json").write_bytes(b'{"a": "\xff"}'), "config.json: is not JSON"),
    "a config that is a pointer": (
        text("config.json", POINTER),
        "config.json: is a pointer of git, not the file itself; run `git lfs pull`",
    ),
    "a config that is a page": (text("config.json", "<!DOCTYPE html><html>"), "config.json: is a web page"),
    "a config that is a folder": (
        lambda f: [(f / "config.json").unlink(), (f / "config.json").mkdir()],
        "config.json: is no file",
    ),
    "a config that links to nothing": (link_to_nothing("config.json"), "config.json: is a link to a file that is not there"),
    "no model_type": (config(model_type=None), "config.json: has no model_type"),
    "an unknown model_type": (config(model_type="lama"), "config.json: model_type 'lama' is unknown to the installed version"),
    "a model_type that is no text": (config(model_type=7), "model_type 7 is unknown"),
    "a hostile model_type": (config(model_type="\x1b[31mred"), r"model_type '\x1b[31mred' is unknown"),
    "architectures that are text": (config(architectures="LlamaForCausalLM"), "architectures must be a list of names"),
    "an encoder": (
        config(model_type="bert", architectures=["BertForMaskedLM"]),
        "'BertForMaskedLM' is not a causal language model",
    ),
    "a model of images": (config(model_type="vit", architectures=None), "'vit' is not a causal language model"),
    "an encoder and a decoder": (config(model_type="t5", is_encoder_decoder=True, architectures=None), "'t5' is not a causal"),
    "a classifier": (config(architectures=["LlamaForSequenceClassification"]), "is not a causal language model"),
    "code of its own": (config(model_type="own", auto_map={"AutoConfig": "own.C"}), "runs only with trust_remote_code: true"),
    "a size in words": (config(hidden_size="8"), "hidden_size must be a whole number from 1, not '8'"),
    "a size of nothing": (config(num_hidden_layers=0), "num_hidden_layers must be a whole number from 1, not 0"),
    "a size below nothing": (config(vocab_size=-1), "vocab_size must be a whole number from 1, not -1"),
    "a size that is a fraction": (config(intermediate_size=16.5), "intermediate_size must be a whole number"),
    "heads that do not share": (config(num_attention_heads=3), "hidden_size 8 is no multiple of num_attention_heads 3"),
    "keys that heads do not share": (
        config(num_key_value_heads=3),
        "num_attention_heads 4 is no multiple of num_key_value_heads 3",
    ),
    "an unknown dtype": (
        text("config.json", '{"model_type": "llama", "dtype": "float99x"}'),
        "dtype 'float99x' is none of torch's",
    ),
    "generation settings that are cut": (text("generation_config.json", '{"eos'), "generation_config.json: is not JSON"),
    "no tokenizer": (gone("tokenizer.json"), "has no tokenizer (tokenizer.json, or tokenizer.model)"),
    "a tokenizer that is cut": (cut("tokenizer.json", 5), "tokenizer.json: is not JSON"),
    "a tokenizer that is empty": (text("tokenizer.json", ""), "tokenizer.json: is empty"),
    "a tokenizer that is none": (text("tokenizer.json", "{}"), "tokenizer.json: holds no tokenizer"),
    "a tokenizer that is a pointer": (text("tokenizer.json", POINTER), "tokenizer.json: is a pointer of git"),
    "a tokenizer.model that is a pointer": (text("tokenizer.model", POINTER), "tokenizer.model: is a pointer of git"),
    "settings of a tokenizer that are cut": (text("tokenizer_config.json", '{"a":'), "tokenizer_config.json: is not JSON"),
    "special tokens that are a list": (text("special_tokens_map.json", "[]"), "special_tokens_map.json: must be a JSON object"),
    "a vocabulary without merges": (lambda f: (f / "tokenizer.json").rename(f / "vocab.json"), "merges.txt: is not there"),
    "a tokenizer of another model": (
        both(config(vocab_size=200), weights(model__embed_tokens__weight=np.ones((200, 8)), lm_head__weight=None)),
        "has token ids up to 299, and vocab_size in config.json is 200",
    ),
    "no weights": (gone("model.safetensors"), "has no weights in safetensors; get the model's files anew"),
    "pickled weights": (
        renamed("model.safetensors", "pytorch_model.bin"),
        "pytorch_model.bin could run code when it is read; convert it where you trust it: AutoModelForCausalLM.from_pretrained",
    ),
    "weights of llama.cpp": (renamed("model.safetensors", "model.gguf"), "no weights in safetensors (model.gguf is not read)"),
    "weights that are empty": (text("model.safetensors", ""), "model.safetensors: is empty"),
    "weights that are a pointer": (text("model.safetensors", POINTER), "model.safetensors: is a pointer of git"),
    "weights of an annex": (text("model.safetensors", "/annex/objects/SHA256E-s1--00\n"), "run `git annex get`"),
    "weights that are a page": (text("model.safetensors", "\n<html>404</html>"), "model.safetensors: is a web page"),
    "weights that are cut": (
        cut("model.safetensors", 1),
        "model.safetensors: is not a whole safetensors file: it is cut short",
    ),
    "weights that are cut in the header": (
        lambda f: (f / "model.safetensors").write_bytes(b"\x00\x10\x00\x00\x00\x00\x00\x00{"),
        "whole",
    ),
    "weights of four bytes": (lambda f: (f / "model.safetensors").write_bytes(b"abcd"), "not a whole safetensors file"),
    "weights that go on": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes() + b"\0"),
        "it goes on too long",
    ),
    "a header that is too long": (header("{}", length=1 << 62), "model.safetensors: is not a whole safetensors file"),
    "a header that is a list": (header("[1]"), "model.safetensors: is not a whole safetensors file"),
    "a header without offsets": (header('{"a": {"dtype": "F32", "shape": [1]}}'), "model.safetensors: is not a whole"),
    "a header that is no text": (header(b"\xff\xfe\xff"), "model.safetensors: is not a whole safetensors file"),
    "a shape that is not its bytes": (
        header(json.dumps({"a": {**BF16, "shape": [3, 3]}}), data=b"\0" * 8),
        "'a' is not where its shape puts it",
    ),
    "tensors that overlap": (header(json.dumps({"a": BF16, "b": BF16}), data=b"\0" * 8), "is not where its shape puts it"),
    "a missing shard": (
        shards(lambda folder, files: files[1].unlink()),
        "model-00002-of-00003.safetensors: is not there, and model.safetensors.index.json names it",
    ),
    "a missing shard and no index": (
        shards(lambda folder, files: [files[2].unlink(), (folder / "model.safetensors.index.json").unlink()]),
        "model-00003-of-00003.safetensors: is not there, and there is model-00001-of-00003.safetensors",
    ),
    "a shard that is cut": (
        shards(lambda folder, files: files[1].write_bytes(files[1].read_bytes()[:-4])),
        "model-00002-of-00003.safetensors: is not a whole safetensors file",
    ),
    "a shard that is a pointer": (
        shards(lambda folder, files: files[0].write_text(POINTER)),
        "model-00001-of-00003.safetensors: is a pointer of git",
    ),
    "a shard that lacks a tensor": (
        shards(lacking),
        "model-00002-of-00003.safetensors: lacks 1 tensors that model.safetensors.index.json says it has, among them 'model.",
    ),
    "an index that is a list": (index([1]), "model.safetensors.index.json: must be a JSON object"),
    "an index without a map": (index({"metadata": {}}), "model.safetensors.index.json: has no weight_map"),
    "an index of numbers": (index({"weight_map": {"a": 1}}), "model.safetensors.index.json: has no weight_map"),
    "an index that leads elsewhere": (index({"weight_map": {"a": "../other.safetensors"}}), "is not in the model's folder"),
    "an embedding of other rows": (config(vocab_size=301), "lm_head.weight is [300, 8] in its files, and [301, 8] (vocab_size"),
    "an embedding of another size": (config(hidden_size=16), "lm_head.weight is [300, 8] in its files, and [300, 16]"),
    "another size of layers": (config(intermediate_size=32), "mlp.down_proj.weight is [8, 16] in its files, and [8, 32]"),
    "other heads": (config(num_key_value_heads=4), "k_proj.weight is [4, 8] in its files, and [8, 8]"),
    "too few layers": (config(num_hidden_layers=3), "its files have 2 layers, and its config.json says 3"),
    "too many layers": (config(num_hidden_layers=1), "its files have 2 layers, and its config.json says 1"),
    "an embedding of GPT-2": (
        both(
            config(model_type="gpt2", n_embd=8, n_layer=2, hidden_size=None, num_hidden_layers=None),
            lambda f: save_file({"wte.weight": np.ones((299, 8), dtype=np.float32)}, f / "model.safetensors"),
        ),
        "wte.weight is [299, 8] in its files, and [300, 8]",
    ),
    "int8 without a word": (
        of_dtype(np.int8),
        "weights are packed ('lm_head.weight' is I8), and config.json has no quantization_config",
    ),
    "uint8 without a word": (of_dtype(np.uint8), "is U8), and config.json has no quantization_config"),
    "int32 without a word": (of_dtype(np.int32), "is I32), and config.json has no quantization_config"),
    "int8 with scales and no word": (
        both(of_dtype(np.int8), weights(**SCALES, lm_head__weight=np.ones((300, 8), dtype=np.int8))),
        "no quanti",
    ),
    "int8 without scales": (
        of_dtype(np.int8, quantization_config={"quant_method": "compressed-tensors"}),
        "there are no scales in the files",
    ),
    "4 bits without scales": (
        of_dtype(np.uint8, quantization_config={"load_in_4bit": True}),
        "by bitsandbytes, and there are no scales",
    ),
    "packed in a way nobody knows": (
        config(quantization_config={"quant_method": "magic"}),
        "quant_method 'magic' is known to neither",
    ),
    "packed in no way": (config(quantization_config={"bits": 4}), "quantization_config has no quant_method"),
    "packed in words": (config(quantization_config="int8"), "quantization_config must be an object"),
    "an adapter": (adapter, "is a PEFT adapter of 'org/base', not a model (adapter_config.json); merge it"),
    "an adapter with a config": (
        lambda f: [
            adapter(f),
            (f / "config.json").write_text('{"model_type": "llama"}'),
            (f / "tokenizer.json").write_text('{"model": {}}'),
        ],
        "is a PEFT adapter of 'org/base'",
    ),
    "the folder above": (inside("final"), "final: name that folder"),
    "the folder above several": (
        inside("step-9", "step-10"),
        "there are 2 models inside, step-9 to step-10: name one, or a series",
    ),
    "the folder two above": (inside("snapshots/abc"), "snapshots/abc: name that folder"),
    "an empty folder": (inside(), "is no model folder: it has no config.json"),
    "a pipeline": (both(inside(), text("model_index.json", "{}")), "is a pipeline of diffusers"),
    "Mistral's own format": (both(inside(), text("params.json", "{}")), "own format"),
}


@pytest.mark.parametrize(("change", "part"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_folder_is_named_with_what_is_wrong(change: Callable[[Path], object], part: str, tmp_path: Path) -> None:
    folder = sound_folder(tmp_path / "model")
    change(folder)
    found = fault_of(folder)
    assert found is not None
    assert part in found
    assert found.startswith(str(folder))
    assert "\n" not in found
    assert found.isprintable()
    assert len(found.replace(str(tmp_path), "")) < 400


SOUND: dict[str, Callable[[Path], object]] = {
    "as it is": lambda folder: None,
    "in shards": shards(lambda folder, files: None),
    "in shards without an index": shards(lambda folder, files: (folder / "model.safetensors.index.json").unlink()),
    "tied": weights(lm_head__weight=None),
    "with an index that nobody needs": text("model.safetensors.index.json", "{}"),
    "without architectures": config(architectures=None),
    "code that nobody needs": config(auto_map={"AutoConfig": "own.C"}),
    "with more tokens added than used": text(
        "tokenizer.json", json.dumps({"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 999, "content": "<image>"}]})
    ),
    "unigrams": text("tokenizer.json", json.dumps({"model": {"vocab": [["a", -1.0]]}})),
    "a tokenizer of sentencepiece": renamed("tokenizer.json", "tokenizer.model"),
    "pickles beside": text("pytorch_model.bin", "x"),
    "the same weights in Mistral's format": lambda f: save_file(
        {"w": np.ones((2, 2), dtype=np.int8)}, f / "consolidated.safetensors"
    ),
    "masks of old": weights(model__layers__0__attn__bias=np.ones((1, 1, 4, 4), dtype=np.uint8)),
    "packed and said so": both(of_dtype(np.int8, quantization_config=QUANTIZED), weights(**SCALES)),
    "layers that guess ahead": both(
        config(model_type="deepseek_v3", num_nextn_predict_layers=1, num_key_value_heads=4),
        weights(model__layers__2__norm__weight=np.ones(8)),
    ),
    "a part that sees": weights(vision_tower__encoder__layers__7__weight=np.ones(8)),
}


@pytest.mark.parametrize("change", SOUND.values(), ids=SOUND.keys())
def test_a_sound_folder_has_no_fault(change: Callable[[Path], object], tmp_path: Path) -> None:
    folder = sound_folder(tmp_path / "model")
    change(folder)
    assert fault_of(folder) is None


def test_code_of_its_own_is_trusted_when_asked_and_has_to_be_there(tmp_path: Path) -> None:
    folder = sound_folder(tmp_path / "model", model_type="own", auto_map={"AutoConfig": "own_config.Own"})
    found = fault_of(folder, trust_remote_code=True)
    assert found is not None
    assert "own_config.py: is named by auto_map in config.json, and is not there" in found
    (folder / "own_config.py").write_text("")
    assert fault_of(folder, trust_remote_code=True) is None


def test_what_a_cache_does_not_hold_yet_is_no_fault_and_what_it_holds_is_looked_at(tmp_path: Path) -> None:
    folder = sound_folder(tmp_path / "snapshot")
    in_shards(folder)[1].unlink()
    (folder / "tokenizer.json").unlink()
    assert fault_of(folder, whole=False) is None
    (folder / "config.json").write_text("{}")
    assert "has no model_type" in str(fault_of(folder, whole=False))
    assert fault_of(tmp_path / "nothing", whole=False) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    folder = sound_folder(tmp_path / "model")
    (folder / "config.json").chmod(0)
    assert "config.json: cannot be read: Permission denied" in str(fault_of(folder))


def test_a_hundred_checkpoints_are_looked_at_in_seconds(tmp_path: Path) -> None:
    folders = [sound_folder(tmp_path / f"step-{step}") for step in range(100)]
    began = time.process_time()
    assert [fault_of(folder) for folder in folders] == [None] * 100
    assert time.process_time() - began < 2
