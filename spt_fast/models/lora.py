"""LoRA in a Transformers model, the one door of `peft`: learnt on a frozen model, and held by the reference engine."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spt_fast.config import Lora
from spt_fast.errors import ModelError
from spt_fast.models.frozen_model import FrozenModel
from spt_fast.prompts.lora import LoraAdapter

NAME = "spt_fast"
"""Of the adapter that is being learnt."""


class LearningLora:
    """The changes of a frozen model's layers while they are learnt. Closed, the model is as it was."""

    def __init__(self, model: FrozenModel, config: Lora, seed: int) -> None:
        """Put them into the model: `A` random by seed, `B` zero, so that nothing changes yet.

        Args:
            model: whose weights stay as they are.
            config: rank, alpha, dropout, and which layers.
            seed: of `A` and of the dropout; torch's own random state stays as it is.

        Raises:
            ModelError: PEFT is not installed, or a layer that is named is not there or is not linear.
        """
        peft = _peft()
        names = targets(model, config.targets)
        self._config = peft.LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules=names,
            task_type="CAUSAL_LM",
            fan_in_fan_out=_transposed(model),
        )
        self._random = RandomState(_number(f"lora {seed}"), gpus_of(model.module))
        with self._random.own():
            self._wrapped = peft.get_peft_model(model.module, self._config, adapter_name=NAME)
        self._drops = [module for name, module in self._wrapped.named_modules() if name.endswith(f"lora_dropout.{NAME}")]
        self._save = peft.get_peft_model_state_dict

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """What is learnt, in fp32 whatever the model's dtype, by name."""
        return {name: parameter for name, parameter in self._wrapped.named_parameters() if parameter.requires_grad}

    @contextmanager
    def training(self) -> Iterator[None]:
        """Dropout is on, drawn by seed."""
        for drop in self._drops:
            drop.train(True)
        try:
            with self._random.own():
                yield
        finally:
            for drop in self._drops:
                drop.train(False)

    def adapter(self, provenance: Mapping[str, str]) -> LoraAdapter:
        """What has been learnt so far.

        Raises:
            ValueError: it is no longer finite.
        """
        weights = self._save(self._wrapped, adapter_name=NAME)
        # Not the folder that the model was in here: nobody else has it.
        config = {**self._config.to_dict(), "inference_mode": True, "base_model_name_or_path": None}
        plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
        return LoraAdapter(
            tensors={name: _array(tensor) for name, tensor in weights.items()},
            config=json.loads(json.dumps(plain, default=str)),
            provenance=provenance,
        )

    def close(self) -> None:
        """Take the changes out again."""
        self._wrapped.unload()


class RandomState:
    """What is drawn by a seed wherever a model's weights are, while torch's own random state stays as it is."""

    def __init__(self, seed: int, gpus: Sequence[int] = ()) -> None:
        """`gpus`: those that something is drawn on, besides the CPU."""
        self._seed, self._gpus = seed, list(gpus)
        self._cpu = torch.Generator().manual_seed(seed)
        self._states: dict[int, Tensor] = {}

    @contextmanager
    def own(self) -> Iterator[None]:
        """Draw from it, going on where it was left."""
        with torch.random.fork_rng(devices=self._gpus):
            torch.random.set_rng_state(self._cpu.get_state())
            for gpu in self._gpus:
                if gpu in self._states:
                    torch.cuda.set_rng_state(self._states[gpu], gpu)
                else:
                    torch.cuda.default_generators[gpu].manual_seed(self._seed)
            yield
            self._cpu.set_state(torch.random.get_rng_state())
            self._states = {gpu: torch.cuda.get_rng_state(gpu) for gpu in self._gpus}


def gpus_of(module: nn.Module) -> list[int]:
    """The GPUs that a model's weights are on, by number."""
    return sorted({weight.device.index for weight in module.parameters() if weight.device.type == "cuda"})


class HeldLora:
    """Adapters in a model that answers: one of them, or none, at a time."""

    def __init__(self, model: FrozenModel) -> None:
        self._model = model
        self._wrapped: Any = None
        self.held: set[str] = set()
        """Keys."""

    def add(self, adapter: LoraAdapter) -> None:
        """Hold an adapter, rounded to the model's dtype, under its key.

        Raises:
            ModelError: PEFT is not installed, or the adapter is another model's.
        """
        if adapter.key in self.held:
            return
        peft = _peft()
        config = peft.LoraConfig(**{key: value for key, value in adapter.config.items() if value is not None})
        weights = {name: torch.tensor(np.asarray(tensor)) for name, tensor in adapter.tensors.items()}
        try:
            if self._wrapped is None:
                module = self._model.module
                self._wrapped = peft.get_peft_model(module, config, adapter_name=adapter.key, autocast_adapter_dtype=False)
            else:
                self._wrapped.add_adapter(adapter.key, config, autocast_adapter_dtype=False)
            report = peft.set_peft_model_state_dict(self._wrapped, weights, adapter_name=adapter.key)
        except (ValueError, RuntimeError) as e:
            raise ModelError(f"{self._model.name}: the LoRA adapter {adapter.key} does not fit: {e}") from e
        if report.unexpected_keys:
            raise ModelError(
                f"{self._model.name}: the LoRA adapter {adapter.key} changes {report.unexpected_keys[0]}, which it has not"
            )
        self._wrapped.requires_grad_(False)
        self._wrapped.train(False)
        self.held.add(adapter.key)

    @contextmanager
    def using(self, key: str | None) -> Iterator[None]:
        """The model answers with this adapter; None: as it is."""
        if self._wrapped is None:
            yield
        elif key is None:
            with self._wrapped.disable_adapter():
                yield
        else:
            self._wrapped.set_adapter(key)
            self._wrapped.requires_grad_(False)
            yield


def targets(model: FrozenModel, wanted: tuple[str, ...]) -> list[str]:
    """The layers that are changed, as PEFT wants them named: `q_proj`, or `attn.c_proj` where a name alone is another's too.

    Args:
        model: whose layers.
        wanted: `attention`, `linear`, or names; several together.

    Raises:
        ModelError: a name that no linear layer of the body has.
    """
    head = model.module.get_output_embeddings()
    linear = [name for name, module in model.module.named_modules() if _is_linear(module) and module is not head]
    found: set[str] = set()
    for each in wanted:
        if each == "linear":
            mine = linear
        elif each == "attention":
            mine = [name for name in linear if any("attn" in part or "attention" in part for part in name.split(".")[:-1])]
        else:
            mine = [name for name in linear if f".{name}".endswith(f".{each}")]
        if not mine:
            there = sorted({name.rpartition(".")[2] for name in linear})
            raise ModelError(f"{model.name}: lora.targets: no linear layer is {each!r}; choose from {', '.join(there)}")
        found.update(mine)
    return sorted({_shortest(name, found, linear) for name in found})


def _shortest(name: str, mine: set[str], linear: list[str]) -> str:
    """The end of a name that nothing but layers of ours has."""
    parts = name.split(".")
    for count in range(1, len(parts)):
        end = ".".join(parts[-count:])
        if all(other in mine for other in linear if f".{other}".endswith(f".{end}")):
            return end
    return name


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _transposed(model: FrozenModel) -> bool:
    """GPT-2's weights are `[in, out]`."""
    return any(type(module).__name__ == "Conv1D" for module in model.module.modules())


def _array(tensor: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    return tensor.detach().float().cpu().numpy()


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little")


def _peft() -> Any:
    """PEFT, imported late.

    Raises:
        ModelError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what its imports warn of is not for our users to mend
            import peft
    except ImportError as e:
        raise ModelError(f"protocol lora needs PEFT, which cannot be imported ({e}): pip install spt-fast[lora]") from e
    return peft
