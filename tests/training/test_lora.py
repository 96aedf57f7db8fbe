"""LoRA beside a soft prompt: the same rows and steps, another thing learnt; and the model is as it was afterwards."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import transformers

from spt_fast.config import Lora, SoftPromptConfig
from spt_fast.errors import DataError, ModelError, TrainingError
from spt_fast.models.frozen_model import FrozenModel
from spt_fast.models.lora import targets
from spt_fast.prompts.lora import adapters_as_bytes, load_adapters
from spt_fast.training.batches import OwnedRow, TuningRow, batches, collate
from spt_fast.training.lora import learn_lora
from spt_fast.training.memory_plan import plan_of
from spt_fast.training.trainer import learn
from spt_fast.types import TrainingStep
from tests.helpers.tiny import tiny_model

CONFIG = Lora(rank=4, steps=6, batch_size=3, lr=0.01, evaluate_at=(0, 3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("lora") / "llama")


@pytest.fixture(scope="module")
def model(folder: Path) -> FrozenModel:
    return FrozenModel.load(folder)


def some_rows(count: int = 8) -> list[TuningRow]:
    rng = np.random.default_rng(0)
    return [
        TuningRow(
            prompt_ids=tuple(rng.integers(0, 250, rng.integers(5, 20)).tolist()),
            target_ids=(*rng.integers(0, 250, rng.integers(2, 5)).tolist(), 257),
        )
        for _ in range(count)
    ]


def losses(model: FrozenModel, config: Lora | SoftPromptConfig, seed: int = 0) -> list[float]:
    found: list[TrainingStep] = []
    if isinstance(config, Lora):
        learn_lora(model, some_rows(), config, seed=seed, on_step=found.append)
    else:
        learn(model, some_rows(), config, seed=seed, on_step=found.append)
    return [step.loss for step in found]


def test_what_is_learnt_is_what_peft_and_transformers_learn_from_the_same_start(folder: Path, model: FrozenModel) -> None:
    """Twelve steps, their own forward and loss, one row of a batch after the other; the same numbers in fp32."""
    config = Lora(rank=4, alpha=8, steps=12, batch_size=3, lr=0.01, evaluate_at=(0,))
    reports: list[TrainingStep] = []
    learnt = learn_lora(model, some_rows(), config, seed=1, on_step=reports.append)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    settings = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], task_type="CAUSAL_LM"
    )
    wrapped = peft.get_peft_model(theirs, settings)
    start = {name: torch.tensor(np.asarray(tensor)) for name, tensor in learnt[0].tensors.items()}
    peft.set_peft_model_state_dict(wrapped, start)
    update = torch.optim.AdamW([p for p in wrapped.parameters() if p.requires_grad], lr=0.01, weight_decay=0.0)
    for report, rows in zip(reports, islice(batches(some_rows(), 3, seed=1), 12), strict=True):
        batch = collate([OwnedRow(row=row, owner=0, length=0, position="front") for row in rows], [0])
        width = batch.ids.shape[1]
        learnt_at = (batch.positions // width, batch.positions % width + 1)
        labels = torch.full((3, width + 1), -100)
        labels[learnt_at] = batch.targets
        ids = torch.cat([batch.ids, torch.zeros(3, 1, dtype=torch.int64)], dim=1)
        ids[learnt_at] = batch.targets
        loss = wrapped(input_ids=ids, labels=labels).loss
        assert report.loss == pytest.approx(loss.item(), abs=1e-4)
        update.zero_grad()
        loss.backward()
        update.step()
    after = peft.get_peft_model_state_dict(wrapped)
    for name, tensor in learnt[12].tensors.items():
        np.testing.assert_allclose(tensor, after[name].detach().numpy(), atol=1e-4)


def test_rows_and_their_order_are_those_of_the_soft_prompt_with_that_seed(
    model: FrozenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is changed by either: what a batch's loss is without vectors, and without an adapter."""
    seen: dict[str, list[list[TuningRow]]] = {"lora": [], "run": []}
    for name, found in seen.items():

        def noted(*args: object, found: list[list[TuningRow]] = found, **kwargs: object) -> object:
            for each in batches(*args, **kwargs):  # type: ignore[arg-type]
                found.append(each)
                yield each

        monkeypatch.setattr(f"spt_fast.training.{name}.batches", noted)
    losses(model, CONFIG, seed=5)
    losses(model, SoftPromptConfig.paper(steps=6, batch_size=3, length=2), seed=5)
    assert len(seen["lora"]) == 6
    assert seen["lora"] == seen["run"]


def test_the_model_is_as_it_was_and_learning_is_a_function_of_the_seed(model: FrozenModel) -> None:
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    first, again = (learn_lora(model, some_rows(), CONFIG, seed=0) for _ in range(2))
    assert torch.equal(state, torch.random.get_rng_state())
    after = model.module.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not any(parameter.requires_grad for parameter in model.module.parameters())
    assert set(first) == {0, 3, 6}
    assert [adapter.key for adapter in first.values()] == [adapter.key for adapter in again.values()]
    assert len({adapter.key for adapter in first.values()}) == 3
    assert learn_lora(model, some_rows(), CONFIG, seed=1)[6].key != first[6].key
    assert not any(tensor.any() for name, tensor in first[0].tensors.items() if "lora_B" in name)


def test_dropout_acts_in_training_and_is_drawn_by_seed(model: FrozenModel) -> None:
    with_dropout = Lora(rank=4, steps=4, batch_size=3, lr=0.01, dropout=0.5)
    plain = Lora(rank=4, steps=4, batch_size=3, lr=0.01)
    assert losses(model, with_dropout) == losses(model, with_dropout)
    assert losses(model, with_dropout)[2:] != losses(model, plain)[2:]


def test_a_batch_in_parts_has_the_same_gradient(model: FrozenModel) -> None:
    whole = learn_lora(model, some_rows(), CONFIG, seed=0)[6]
    plan_of(model).most_positions = 20
    try:
        parts = learn_lora(model, some_rows(), CONFIG, seed=0)[6]
    finally:
        plan_of(model).most_positions = None
    assert parts.provenance["micro_batch"] == "1"
    for name, tensor in whole.tensors.items():
        np.testing.assert_allclose(tensor, parts.tensors[name], atol=2e-5)


def test_adapters_come_back_from_a_file_as_they_were_and_as_a_folder_that_peft_loads(
    folder: Path, model: FrozenModel, tmp_path: Path
) -> None:
    learnt = learn_lora(model, some_rows(), CONFIG, seed=0, provenance={"task": "t v1"})
    (tmp_path / "adapter.safetensors").write_bytes(adapters_as_bytes(learnt))
    back = load_adapters(tmp_path / "adapter.safetensors")
    assert {step: each.key for step, each in back.items()} == {step: each.key for step, each in learnt.items()}
    assert back[6].provenance == {"task": "t v1", "seed": "0", "step": "6"}
    assert (back[6].rank, back[6].targets) == (4, ("k_proj", "o_proj", "q_proj", "v_proj"))
    # 2 layers of q, o [64, 64] and k, v [64, 32]
    assert back[6].parameters == 2 * 4 * (2 * (64 + 64) + 2 * (64 + 32))
    back[6].save(tmp_path / "peft")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    loaded = peft.get_peft_model_state_dict(peft.PeftModel.from_pretrained(theirs, tmp_path / "peft"))
    assert loaded.keys() == back[6].tensors.keys()
    assert all(np.array_equal(loaded[name].numpy(), tensor) for name, tensor in back[6].tensors.items())


@pytest.mark.parametrize(
    ("family", "wanted", "names"),
    [
        ("llama", ("attention",), ["k_proj", "o_proj", "q_proj", "v_proj"]),
        ("llama", ("linear",), ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]),
        ("llama", ("q_proj", "up_proj"), ["q_proj", "up_proj"]),
        ("gpt_neox", ("attention",), ["dense", "query_key_value"]),
        ("gpt2", ("attention",), ["attn.c_proj", "c_attn"]),
    ],
)
def test_layers_are_found_by_what_they_are(family: str, wanted: tuple[str, ...], names: list[str], tmp_path: Path) -> None:
    assert targets(FrozenModel.load(tiny_model(tmp_path, family)), wanted) == names


def test_what_cannot_be_learnt_is_one_sentence(model: FrozenModel) -> None:
    with pytest.raises(ModelError, match=r"lora.targets: no linear layer is 'query'; choose from down_proj, gate_proj, k_proj"):
        learn_lora(model, some_rows(), Lora(targets=("query",)), seed=0)
    with pytest.raises(DataError, match="no rows to tune on"):
        learn_lora(model, [], CONFIG, seed=0)
    with pytest.raises(TrainingError, match=r"step \d: .* smaller lr than 1000 may help"):
        learn_lora(model, some_rows(), Lora(rank=4, steps=9, lr=1000.0, weight_decay=1000.0), seed=0)
    assert not any("lora" in name for name, _ in model.module.named_modules())


def test_without_peft_the_sentence_names_the_extra(model: FrozenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match=r"lora needs PEFT, which cannot be imported .*: pip install spt-fast\[lora\]"):
        learn_lora(model, some_rows(), CONFIG, seed=0)
