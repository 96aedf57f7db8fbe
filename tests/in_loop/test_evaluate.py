"""Evaluation in a training loop: the numbers of a run, a training that never notices, and a sentence for bad input."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, BertConfig, BertForMaskedLM, PreTrainedModel

from spt_fast import SoftPrompts, TaskConfig, evaluate_in_loop, plan, zoo
from spt_fast.config import GridConfig, ModelConfig, Protocol, SoftPromptConfig, ZeroShot
from spt_fast.errors import ConfigError, EngineError, StoreError
from spt_fast.prompts.carried import started_from
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.worker.events import CellDone, CellTrained, Event
from spt_fast.worker.stage import run_stage
from tests.helpers.tiny import byte_tokenizer, tiny_model

FOLDER = zoo.find("zoo/base-40")
QUICK: dict[str, Any] = {"limit": 4, "cold_steps": 1, "steps": 1}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(FOLDER)


def model(**more: Any) -> PreTrainedModel:
    found: PreTrainedModel = AutoModelForCausalLM.from_pretrained(FOLDER, **more)
    return found


def test_numbers_are_those_of_a_run(tmp_path: Path, tokenizer: Any) -> None:
    def run(task: str, *protocols: Protocol) -> tuple[dict[str, float], Path]:
        """What a worker says of the cells of a grid, and the file of what was learnt."""
        entry = ModelConfig(id="zoo/base-40", dtype="float32")
        tasks, engine = (TaskConfig(task=task),), {"kind": "transformers"}
        grid = GridConfig(name="g", models=(entry,), tasks=tasks, protocols=protocols, limit=5, engine=engine)
        events: list[Event] = []
        (stage,) = plan.stages(plan.expand(grid), ())
        run_stage(stage, {}, events.append)
        found: dict[str, float] = {}
        for done in (event for event in events if isinstance(event, CellDone)):
            (metrics,) = done.result.metrics.values()
            way = "" if stage.by_key[done.key].protocol.learns else "zero_shot/"
            found |= {f"spt/{task}/{way}{m.name}": m.value for m in metrics if m.value == m.value}
        (trained,) = (event for event in events if isinstance(event, CellTrained))
        (prompt,) = trained.prompts.values()
        assert isinstance(prompt, SoftPrompt)
        prompt.save(tmp_path / f"{task}.safetensors")
        return found, tmp_path / f"{task}.safetensors"

    tasks = ("zoo-mcq", "zoo-json")
    expected: dict[str, float] = {}
    for task in tasks:
        _, cold = run(task, SoftPromptConfig(steps=3))
        expected |= run(task, SoftPromptConfig(steps=2, init="soft_prompt", init_from=str(cold)), ZeroShot())[0]
    asked = model(dtype=torch.float32)
    result = evaluate_in_loop(asked, tokenizer, tasks, limit=5, cold_steps=3, steps=2, zero_shot=True)
    assert dict(result.metrics) == pytest.approx(expected, rel=1e-5)  # asked in other batches
    assert len(expected) > 40
    assert [len(each.samples) for each in result.asked] == [5, 5, 5, 5]


def test_what_the_last_call_has_learnt_is_gone_on_from(tmp_path: Path, tokenizer: Any) -> None:
    first = evaluate_in_loop(model(), tokenizer, "zoo-mcq", **QUICK)
    first.soft_prompts.save(tmp_path / "x" / "prompts.safetensors")
    kept = SoftPrompts.load(tmp_path / "x" / "prompts.safetensors")
    assert {task: prompt.key for task, prompt in kept.items()} == {"zoo-mcq": first.soft_prompts["zoo-mcq"].key}
    again = evaluate_in_loop(model(), tokenizer, "zoo-mcq", soft_prompts=tmp_path / "x" / "prompts.safetensors", **QUICK)
    cold = evaluate_in_loop(model(), tokenizer, "zoo-mcq", limit=4, cold_steps=2, steps=1)
    starts = [started_from(each.soft_prompts["zoo-mcq"].provenance) for each in (first, again, cold)]
    assert [(start.checkpoints, start.updates) for start in starts if start is not None] == [(0, 1), (1, 2), (0, 2)]
    assert again.soft_prompts["zoo-mcq"].key != first.soft_prompts["zoo-mcq"].key
    # A task that is not asked this time keeps what it has.
    other = evaluate_in_loop(model(), tokenizer, "zoo-json", soft_prompts=kept, **QUICK)
    assert sorted(other.soft_prompts) == ["zoo-json", "zoo-mcq"]


# What a training loop holds


class Loop:
    """A training with dropout, momentum, a hook, gradients that are accumulated over two passes, and a buffer that counts."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        self.model = model(attention_dropout=0.2, dtype=torch.float32).train()
        self.model.model.layers[0].eval()  # modes differ within a model
        self.model.model.layers[1].mlp.requires_grad_(False)
        self.model.gradient_checkpointing_enable()
        self.model.register_buffer("counted", torch.zeros(1))
        self.model.model.register_forward_pre_hook(self.count)
        taught = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.SGD(taught, lr=0.01, momentum=0.9)

    def count(self, *_: Any) -> None:
        self.model.counted += 1

    def backward(self) -> None:
        ids = torch.randint(5, 200, (2, 12))
        self.model(input_ids=ids, labels=ids).loss.backward()

    def update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state(self) -> dict[str, Any]:
        parts = list(self.model.modules())
        return {
            "weights": [weight.detach().clone() for weight in self.model.parameters()],
            "gradients": [None if weight.grad is None else weight.grad.clone() for weight in self.model.parameters()],
            "momentum": copy.deepcopy(self.optimizer.state_dict()),
            "buffers": [buffer.clone() for buffer in self.model.buffers()],
            "flags": [weight.requires_grad for weight in self.model.parameters()],
            "modes": [part.training for part in parts],
            "hooks": [list(part._forward_hooks) + list(part._forward_pre_hooks) for part in parts],
            "attributes": [{name: id(value) for name, value in vars(part).items()} for part in parts],
            "config": self.model.config.to_dict(),
            "random": [random.getstate(), str(np.random.get_state()), torch.get_rng_state()],
            "modes of torch": [torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")],
            "threads": torch.get_num_threads(),
        }


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def trained(look: Callable[[Loop], None]) -> dict[str, Any]:
    loop = Loop()
    for step in range(2):
        loop.backward()
        if step:
            look(loop)
        loop.backward()
        loop.update()
    found = loop.state()
    return {name: value for name, value in found.items() if name not in ("attributes", "hooks")}  # these have ids


def looked_at(loop: Loop, ask: Callable[[], Any]) -> None:
    before = loop.state()
    ask()
    after = loop.state()
    assert [name for name in before if not same(before[name], after[name])] == []


def test_a_training_goes_on_bit_for_bit_behind_an_evaluation(tokenizer: Any) -> None:
    def evaluate(loop: Loop) -> None:
        looked_at(loop, lambda: evaluate_in_loop(loop.model, tokenizer, "zoo-mcq", **QUICK))

    with_one, without = trained(evaluate), trained(lambda _: None)
    assert [name for name in without if not same(with_one[name], without[name])] == []


@pytest.mark.parametrize("where", ["target_loss", "_score"])
def test_a_training_goes_on_bit_for_bit_behind_an_evaluation_that_fails(tokenizer: Any, where: str) -> None:
    def broken(*_: Any) -> None:
        torch.rand(1)
        if where in [frame.name for frame in traceback.extract_stack()]:
            raise RuntimeError("a hook of the loop's own")

    def ask(loop: Loop) -> None:
        if where == "_score":
            with pytest.raises(EngineError, match="a hook of the loop's own"):
                evaluate_in_loop(loop.model, tokenizer, "zoo-mcq", **QUICK)
        else:
            failed = evaluate_in_loop(loop.model, tokenizer, "zoo-mcq", **QUICK).failed
            assert failed == {"zoo-mcq": "training: RuntimeError: a hook of the loop's own"}

    def evaluate(loop: Loop) -> None:
        with loop.model.model.layers[2].register_forward_pre_hook(broken):
            looked_at(loop, lambda: ask(loop))

    with_one, without = trained(evaluate), trained(lambda _: None)
    assert [name for name in without if not same(with_one[name], without[name])] == []


@pytest.mark.parametrize("inside", [torch.no_grad, torch.inference_mode, partial(torch.autocast, "cpu", torch.bfloat16)])
def test_it_can_be_called_wherever_a_loop_is(tokenizer: Any, inside: Callable[[], Any]) -> None:
    expected = evaluate_in_loop(model(), tokenizer, "zoo-mcq", **QUICK).metrics
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        with inside():
            assert evaluate_in_loop(model(), tokenizer, "zoo-mcq", **QUICK).metrics == expected
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(default)


def test_what_is_around_a_model_is_looked_through(tokenizer: Any) -> None:
    expected = evaluate_in_loop(model(), tokenizer, "zoo-mcq", **QUICK).metrics
    compiled = torch.compile(model(), backend="eager")
    layers = model()
    for layer in layers.model.layers:
        layer.compile(backend="eager")
    adapted = get_peft_model(model(), LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    patched = model()
    patched._original_forward = patched.forward  # type: ignore[assignment]
    patched.forward = torch.autocast("cpu", torch.bfloat16)(patched.forward)  # type: ignore[method-assign]
    for each in (compiled, layers, adapted, patched):
        assert evaluate_in_loop(each, tokenizer, "zoo-mcq", **QUICK).metrics == expected
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 0, "nothing is compiled for it"


def test_weights_in_float32_can_be_asked_in_bfloat16(tokenizer: Any) -> None:
    exact = evaluate_in_loop(model(dtype=torch.float32), tokenizer, "zoo-mcq", **QUICK).metrics
    rounded = evaluate_in_loop(model(dtype=torch.float32), tokenizer, "zoo-mcq", autocast=torch.bfloat16, **QUICK).metrics
    assert rounded["spt/zoo-mcq/answer_bits_per_byte"] == pytest.approx(exact["spt/zoo-mcq/answer_bits_per_byte"], rel=0.1)
    assert rounded["spt/zoo-mcq/answer_bits_per_byte"] != exact["spt/zoo-mcq/answer_bits_per_byte"]


def test_completions_are_as_short_as_is_asked_for(tokenizer: Any) -> None:
    short = evaluate_in_loop(model(), tokenizer, "zoo-json", max_tokens=2, **QUICK)
    ((*rows,),) = (each.samples for each in short.asked)
    assert {row.finish_reason for row in rows} == {"length"}
    assert max(len(tokenizer.encode(row.completion)) for row in rows) <= 3
    assert short.failed == {}


# Bad input


def test_a_task_that_cannot_be_learnt_says_why_and_leaves_the_others_alone(tmp_path: Path, tokenizer: Any) -> None:
    (tmp_path / "few").mkdir()
    for split, count in (("train", 3), ("test", 4)):
        rows = [{"question": f"{split} {n}?", "right": str(n)} for n in range(count)]
        (tmp_path / "few" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "few.yaml").write_text(
        "{name: few, rows: {files: few}, answer_form: line, columns: {question: question, answer: right}, licence: CC0-1.0}"
    )
    found = evaluate_in_loop(model(), tokenizer, [str(tmp_path / "few.yaml"), "zoo-json"], **QUICK)
    assert list(found.failed) == ["few"]
    assert "1 steps of 8 take 8 tuning rows, and there are 2" in found.failed["few"]
    assert {name.split("/")[1] for name in found.metrics} == {"zoo-json"}
    assert list(found.soft_prompts) == ["zoo-json"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tasks": "zoo-mqc"}, "no task is called 'zoo-mqc'; did you mean 'zoo-mcq'?"),
        ({"tasks": []}, "tasks: there is none"),
        ({"tasks": [{"task": "zoo-mcq"}]}, "tasks: must be names or TaskConfig"),
        ({"tasks": ["zoo-mcq", "zoo-mcq"]}, "zoo-mcq is the name of two tasks"),
        ({"steps": 0}, "soft_prompt.steps: must be"),
        ({"limit": 0}, "limit: must be"),
        ({"soft_prompt": {"lenght": 3}}, "unknown setting 'lenght'; did you mean 'length'"),
        ({"soft_prompt": {"steps": 3}}, "steps is none of its settings here"),
        ({"soft_prompt": {"init": "normal"}}, "init is none of its settings here"),
        ({"cold_steps": 0}, "soft_prompt.cold_steps: must be"),
        ({"soft_prompt": {"length": 0}}, "soft_prompt.length: must be"),
        ({"soft_prompts": "nothere.safetensors"}, "nothere.safetensors: no such file; leave it out where there are none yet"),
        ({"soft_prompts": [1]}, "soft_prompts: must be `soft_prompts` of the last result"),
        (
            {"soft_prompts": {"zoo-mcq": SoftPrompt(vectors=np.ones((10, 7)))}},
            "soft_prompts: that of zoo-mcq is 10 vectors of 7",
        ),
        ({"model": "zoo/base-40"}, "model: must be a module of PyTorch, not str"),
        ({"model": torch.nn.Linear(2, 2)}, "model: must be a causal LM of Transformers, not Linear"),
        ({"model": AutoModel.from_pretrained(FOLDER)}, "has no head that predicts tokens"),
        ({"tokenizer": "zoo/base-40"}, "tokenizer: must be one of Transformers"),
        ({"batch_size": 0}, "batch_size: must be"),
        ({"max_tokens": 0}, "max_tokens: must be"),
        ({"ranks": "one"}, "ranks: must be all or this"),
    ],
)
def test_bad_input_is_one_sentence(tokenizer: Any, settings: dict[str, Any], said: str) -> None:
    given = {"model": model(), "tokenizer": tokenizer, "tasks": "zoo-mcq", **QUICK, **settings}
    with pytest.raises(ConfigError) as refused:
        evaluate_in_loop(**given)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    small = AutoModelForCausalLM.from_pretrained(tiny_model(tmp_path / "small", positions=1024))
    large = AutoModelForCausalLM.from_pretrained(tiny_model(tmp_path / "large", vocab=5000, positions=1024))
    for own, other in ((small, tokenizer), (large, byte_tokenizer())):
        with pytest.raises(ConfigError, match=r"tokenizer: has .* tokens, and the model's table of embeddings .* rows"):
            evaluate_in_loop(own, other, "zoo-mcq", **QUICK)


def test_a_model_that_reads_ahead_is_refused(tokenizer: Any) -> None:
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    masked = BertForMaskedLM(BertConfig(vocab_size=768, initializer_range=0.5, **size))
    refused = pytest.raises(ConfigError, match=r"model: BertForMaskedLM is no causal LM")
    with pytest.warns(UserWarning, match="the head of BertForMaskedLM"), refused:
        evaluate_in_loop(masked, tokenizer, "zoo-mcq", **QUICK)


def test_weights_that_are_not_here_are_refused(tokenizer: Any) -> None:
    config = model().config
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ConfigError, match="is on the meta device"):
        evaluate_in_loop(empty, tokenizer, "zoo-mcq", **QUICK)


def test_a_file_of_something_else_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    (tmp_path / "prompts.safetensors").write_text("{}")
    with pytest.raises(StoreError, match=r"prompts\.safetensors"):
        evaluate_in_loop(model(), tokenizer, "zoo-mcq", soft_prompts=tmp_path / "prompts.safetensors", **QUICK)


def test_importing_the_package_stays_light() -> None:
    program = "import sys, spt_fast; print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
