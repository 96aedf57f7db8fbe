"""One rank of two, run by test_two_ranks.py: trains under DDP and `fully_shard`, with and without evaluation in the middle.

python ranks.py RANK FOLDER      writes FOLDER/RANK.json
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from spt_fast import evaluate_in_loop, zoo

SETTINGS: dict[str, Any] = {"limit": 5, "cold_steps": 2, "steps": 2, "batch_size": 4}
TASKS = ["zoo-mcq", "zoo-number"]


def ddp(model: PreTrainedModel) -> Any:
    return DistributedDataParallel(model)


def sharded(model: PreTrainedModel, **more: Any) -> Any:
    mesh = init_device_mesh("cpu", (2,))
    for i, layer in enumerate(model.model.layers):
        if i % 2:  # activations computed twice, as large models are trained
            layer = model.model.layers[i] = checkpoint_wrapper(layer)
        fully_shard(layer, mesh=mesh, **more)
    return fully_shard(model, mesh=mesh, **more)


class Broken(torch.autograd.Function):
    """Fails in the backward pass."""

    @staticmethod
    def forward(ctx: Any, given: torch.Tensor) -> torch.Tensor:
        return given.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        raise RuntimeError("in the middle of a backward pass")


def mixed(model: PreTrainedModel) -> Any:
    return sharded(
        model.to(torch.bfloat16), mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    )


def trained(model: Any, optimizer: torch.optim.Optimizer, rank: int, evaluate: Any) -> list[Any]:
    """Two updates of two micro-batches each; `evaluate` is called before the first, and between two micro-batches."""
    found = [evaluate()]
    for step in range(2):
        for part in range(2):
            torch.manual_seed(10 * step + part)
            ids = torch.randint(5, 200, (2, 12)) + rank
            if hasattr(model, "set_requires_gradient_sync"):
                model.set_requires_gradient_sync(part == 1)
            model(input_ids=ids, labels=ids).loss.backward()
            found += [evaluate()] if (step, part) == (1, 0) else []
        optimizer.step()
        optimizer.zero_grad()
    return found


def first_mlp(model: torch.nn.Module) -> str:
    """The name of the first layer's MLP, which has no wrapper."""
    return next(name for name, _ in model.named_modules() if name.endswith(".mlp"))


def local(model: torch.nn.Module) -> list[torch.Tensor]:
    return [getattr(weight, "_local_tensor", weight).detach().clone() for weight in model.parameters()]


def main(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    path = zoo.find("zoo/base-40")
    tokenizer = AutoTokenizer.from_pretrained(path)
    plain = AutoModelForCausalLM.from_pretrained(path, attention_dropout=0.1, dtype=torch.float32).train()
    told: dict[str, Any] = {}
    for name, wrap in {"ddp": ddp, "mixed": mixed}.items():
        weights = []
        for looks in (False, True):
            model = wrap(copy.deepcopy(plain))
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
            of_model = model

            def evaluate(model: Any = of_model) -> Any:
                return evaluate_in_loop(model, tokenizer, TASKS, **SETTINGS)

            if looks:  # an evaluation that dies leaves no trace either
                with model.get_submodule(first_mlp(model)).register_forward_hook(lambda *args: Broken.apply(args[2])):
                    died = evaluate().failed
            found = trained(model, optimizer, rank, evaluate if looks else lambda: None)
            weights.append(local(model))
        told[name] = {
            "same": all(torch.equal(one, other) for one, other in zip(*weights, strict=True)),
            "metrics": [dict(each.metrics) for each in found],
            "died": dict(died),
            "failed": [dict(each.failed) for each in found],
            "prompts": [{task: prompt.key for task, prompt in each.soft_prompts.items()} for each in found],
        }
    (folder / f"{rank}.json").write_text(json.dumps(told))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
