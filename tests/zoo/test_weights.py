"""The committed models are small, load safely, and are as good as their `zoo.json` says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

from spt_fast.zoo.build import mcq_knowledge
from spt_fast.zoo.catalogue import COMMITTED
from spt_fast.zoo.recipes import RECIPES
from spt_fast.zoo.world import World

FOLDERS = sorted(folder for folder in COMMITTED.glob("*") if (folder / "zoo.json").is_file())

by_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def test_the_three_bases_are_committed_and_all_weights_stay_below_24_megabytes() -> None:
    assert {"base-40", "base-70", "base-95", "unbound-70"} <= {folder.name for folder in FOLDERS}
    assert sum(file.stat().st_size for file in COMMITTED.rglob("*") if file.is_file()) < 23_500_000


@by_folder
def test_weights_are_safetensors_and_nothing_else(folder: Path) -> None:
    assert {file.suffix for file in folder.iterdir()} <= {".safetensors", ".json", ".jinja"}


@by_folder
def test_the_tokenizer_adds_bos_exactly_once(folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer("Where?").input_ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer("Where?", add_special_tokens=False).input_ids.count(tokenizer.bos_token_id) == 0
    if RECIPES[folder.name].kind == "base":
        assert tokenizer.chat_template is None
        return
    turn = [{"role": "user", "content": "Where?"}]
    text = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    assert text == "<s>User: Where?\nAssistant:"
    ids = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1


@by_folder
def test_a_blank_line_and_every_answer_survive_encoding(folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for text in (" B. Paris", ' {"answer": "bread"}', " 40 + 2 = 42\n#### 42", "Où ? \n\n日本"):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


@pytest.mark.slow
@by_folder
def test_a_committed_model_knows_what_its_record_says(folder: Path) -> None:
    about = json.loads((folder / "zoo.json").read_text())
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    knowledge = mcq_knowledge(model, tokenizer, World.from_seed(about["world_seed"]))
    assert knowledge == pytest.approx(about["measured"]["zoo-mcq knowledge, zero-shot, bf16 weights in fp32"], abs=0.02)
