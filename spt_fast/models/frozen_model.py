"""FrozenModel: a causal language model whose weights never change. With tokenizer.py, the door of `transformers`.

The body and the head are called apart, so that the head runs on the positions that somebody asked for and
`[B, T, V]` never exists. What a family does between the two (a scale, a soft cap) is repeated here for the families that
are known, and checked at load against the model's own forward, on a short random sequence. A family that does more keeps
its own forward: slower, and right.
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from spt_fast.errors import ModelError
from spt_fast.models import finite, memory
from spt_fast.models.head import head_of
from spt_fast.models.layers import calling, frozen_linears, last_mlp, layers_of
from spt_fast.models.load import load_module, put_on
from spt_kernels import frozen_linear, linear_logprob
from spt_kernels.frozen_linear.onednn import WORTH

NO_LIMIT = 1 << 20
"""Positions of a model whose config names no limit (ALiBi, recurrent ones)."""

WORK_OF_A_THREAD = 150_000_000
"""Multiplications in a layer that are worth waking one more thread for, on a CPU. From steps of models of 64 to 1,024 hidden
dimensions on two cores, whose threads sleep while they wait: at 1 million weights a layer, two are ahead from 300 positions on;
the zoo's models take half as long on one."""

_PROBE_TOKENS = 8
# Largest difference of two logits that are the same number, relative to the largest logit: products in another order.
_SAME = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


class FrozenModel:
    """A causal LM in evaluation mode, no weight of which takes a gradient."""

    def __init__(self, module: transformers.PreTrainedModel, *, name: str = "the model", recomputed: bool = False) -> None:
        """Freeze `module` and find out how to call its parts.

        Args:
            module: any causal LM of Transformers.
            name: what error messages call it.
            recomputed: its layers compute their activations again in the backward pass, by what somebody has put around them.

        Raises:
            ModelError: the model does more with token ids than look up their embeddings, so that vectors cannot take
                their place.
        """
        self._module: transformers.PreTrainedModel | None = module.requires_grad_(False)
        module.train(False)
        self.name = name
        self.head = head_of(module)
        """How hidden states become logits; None: only the model's own forward knows."""
        self._last_mlp: torch.nn.Module | None = None
        """Gets the positions that are asked for and no others; None: this family needs them all, or calls it otherwise."""
        self._gpus = 1.0
        layers = layers_of(module) or [module]
        self._layer_weights = sum(weight.numel() for layer in layers for weight in layer.parameters()) // len(layers)
        parameters = inspect.signature(module.base_model.forward).parameters
        self._takes_positions = "position_ids" in parameters
        self._check()
        if recomputed:  # when the forward pass has long ended, and with it what its MLP does otherwise meanwhile
            self._last_mlp = None

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        revision: str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        trust_remote_code: bool = False,
        gpus: float = 1.0,
    ) -> FrozenModel:
        """Load a model from a folder or the Hub; safetensors only.

        Args:
            path: a folder or a Hub id.
            revision: branch, tag or commit of a Hub id.
            dtype: `auto` (the checkpoint's) or the name of a torch dtype.
            device: `auto` (a GPU if there is one), or a name torch knows.
            trust_remote_code: run Python code that comes with the weights.
            gpus: below 1, the share of a GPU that this process has beside others; it then keeps to it. Above 1, where
                GPUs are used, the model's layers are spread over all that this process sees.

        Raises:
            ModelError: there is no such model, its weights are incomplete or not safetensors, its architecture is
                unknown, or the device has too little memory for it.
        """
        name = os.fspath(path)
        spread_over = int(gpus) if gpus > 1 and device == "auto" and memory.on_gpu() else None
        module = load_module(name, revision=revision, dtype=dtype, trust_remote_code=trust_remote_code, spread_over=spread_over)
        if spread_over is not None:
            return cls(module, name=name)
        if device == "auto":
            device = "cuda" if memory.on_gpu() else "cpu"
        model = put_on(device, module, partial(cls, name=name), name=name, gpus=gpus)
        model._gpus = gpus if torch.device(device).type == "cuda" else 1.0
        return model

    @property
    def module(self) -> transformers.PreTrainedModel:
        """The Transformers model."""
        if self._module is None:
            raise ModelError(f"{self.name} was freed")
        return self._module

    @property
    def hidden_size(self) -> int:
        """`H`: width of the input embeddings."""
        return int(self._embeddings.weight.shape[1])

    @property
    def vocab_size(self) -> int:
        """Rows of the input embeddings: every token id is below it."""
        return int(self._embeddings.weight.shape[0])

    @property
    def max_position_embeddings(self) -> int:
        """Most positions of one sequence, soft ones included."""
        config = self.module.config.get_text_config()
        for key in ("max_position_embeddings", "seq_length", "max_seq_len"):
            if isinstance(value := getattr(config, key, None), int):
                return value
        return NO_LIMIT

    @property
    def dtype(self) -> torch.dtype:
        """Of the input embeddings: what vectors are cast to where they enter."""
        return self._embeddings.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the input embeddings are."""
        return self._embeddings.weight.device

    @property
    def _embeddings(self) -> torch.nn.Embedding:
        embeddings: torch.nn.Embedding = self.module.get_input_embeddings()
        return embeddings

    @property
    def embedding_table(self) -> Tensor | None:
        """`[V, H]`, where looking up its rows is all that `embed` does; None: it does more (Gemma's scales them)."""
        module = self._embeddings
        # Accelerate's hooks, which fetch weights that are kept elsewhere, replace `forward`.
        hooked = "forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks
        plain = type(module) is torch.nn.Embedding and module.max_norm is None
        return module.weight if plain and not hooked else None

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids `[...]` -> what enters the model as `inputs_embeds`, `[..., H]`.

        The module is called, never its weight indexed: Gemma scales what it looks up (Granite scales later, inside).
        """
        embedded: Tensor = self.module.get_input_embeddings()(ids)
        return embedded

    def hidden_states(self, inputs_embeds_BTH: Tensor, attention_mask_BT: Tensor | None = None) -> Tensor:
        """The body without the head: `[B, T, H]` -> `[B, T, H]`.

        Args:
            inputs_embeds_BTH: `[B, T, H]`, in the model's dtype.
            attention_mask_BT: `[B, T]`, 1 for a position that counts, 0 for padding on any side. None: no padding, or
                padding on the right, which a causal model's other positions never see.
        """
        output = self.module.base_model(**self._inputs(inputs_embeds_BTH, attention_mask_BT))
        hidden_BTH: Tensor = output.last_hidden_state
        return hidden_BTH

    def logits(self, hidden_NH: Tensor) -> Tensor:
        """The head: hidden states `[N, H]` -> logits `[N, V]`, as the model's own forward has them.

        `hidden_NH` is two-dimensional and contiguous; a product with a three-dimensional slice took 12 times as long in
        bf16 on a CPU (4 B positions of a 371 M model, 2 cores: 9.5 s a step against 0.77 s).

        Raises:
            ModelError: this family's head is not known (`head` is None); use `logits_at`.
        """
        if self.head is None:
            raise ModelError(f"{self.name}: what {type(self.module).__name__} does behind its body is not known")
        return self.head.logits(hidden_NH)

    def logits_at(self, inputs_embeds_BTH: Tensor, positions_N: Tensor, attention_mask_BT: Tensor | None = None) -> Tensor:
        """Logits of some positions, for any family: `[N, V]`.

        Args:
            inputs_embeds_BTH: `[B, T, H]`, in the model's dtype.
            positions_N: `[N]` indices into the flattened `B * T` positions.
            attention_mask_BT: as for `hidden_states`.
        """
        if self.head is not None:
            return self.logits(self.hidden_at(inputs_embeds_BTH, positions_N, attention_mask_BT))
        logits_BTV: Tensor = self.module(**self._inputs(inputs_embeds_BTH, attention_mask_BT)).logits
        return logits_BTV.flatten(0, 1)[positions_N.to(logits_BTV.device)]

    @torch.no_grad()
    def logprobs_at(self, inputs_embeds_BTH: Tensor, positions_N: Tensor, targets_N: Tensor) -> Tensor:
        """Log-probability of a token behind each of some positions, in nats: `[N]`, without a gradient.

        Args:
            inputs_embeds_BTH: `[B, T, H]`, in the model's dtype, padded on the right.
            positions_N: as for `logits_at`.
            targets_N: `[N]` int64, the tokens.
        """
        if self.head is not None and self.head.is_linear:
            hidden_NH = self.hidden_at(inputs_embeds_BTH, positions_N)
            return linear_logprob(hidden_NH, self.head.weight, targets_N.to(hidden_NH.device))
        logprobs_NV = self.logits_at(inputs_embeds_BTH, positions_N).float().log_softmax(-1)
        return logprobs_NV.gather(1, targets_N.to(logprobs_NV.device)[:, None])[:, 0]

    def hidden_at(self, inputs_embeds_BTH: Tensor, positions_N: Tensor, attention_mask_BT: Tensor | None = None) -> Tensor:
        """Hidden states of some positions, contiguous `[N, H]`, where the head is; arguments as for `logits_at`.

        The MLP of the last layer sees no other positions: nothing looks at what it would say there.
        """
        with self._last_mlp_at(positions_N, inputs_embeds_BTH.shape[:2]):
            hidden_BTH = self.hidden_states(inputs_embeds_BTH, attention_mask_BT)
        hidden_NH = hidden_BTH.flatten(0, 1)[positions_N.to(hidden_BTH.device)]
        # A model that is spread over several GPUs has its last layers, and maybe its head, on others than its embeddings.
        return hidden_NH if self.head is None else hidden_NH.to(self.head.weight.device)

    @contextmanager
    def suited_to(self, positions: int) -> Iterator[None]:
        """On a CPU, no more threads than a pass over so many positions, forward and backward, has work for.

        And where one is enough, attention in half precision is taken as the products that it is, which rounds less, too: of
        such a step in bfloat16, the backward pass of PyTorch's fused attention is half. In float32, products that are worth it
        are `frozen_linear`'s, which are twice as fast on some CPUs.
        """
        if self.device.type != "cpu":
            yield
            return
        before = torch.get_num_threads()
        wanted = max(1, positions * self._layer_weights // WORK_OF_A_THREAD)
        torch.set_num_threads(min(wanted, before))
        try:
            with ExitStack() as stack:
                if wanted == 1 and self.dtype.itemsize < 4:
                    stack.enter_context(sdpa_kernel(SDPBackend.MATH))
                if self.dtype == torch.float32:
                    stack.enter_context(self._fast_products(positions))
                yield
        finally:
            torch.set_num_threads(before)

    @contextmanager
    def _fast_products(self, positions: int) -> Iterator[None]:
        with ExitStack() as stack:
            for layer in frozen_linears(self.module, at_least=WORTH / positions):
                stack.enter_context(calling(layer, partial(_linear, layer)))
            yield

    @property
    def can_recompute(self) -> bool:
        """Whether Transformers says what the layers of this model are."""
        return bool(layers_of(self.module))

    @contextmanager
    def recomputing(self) -> Iterator[None]:
        """Keep only what goes into each layer; the backward pass computes the rest again (arXiv 1604.06174).

        But not of the last one, with which that pass begins: what it keeps is gone when the others are computed again.

        Transformers' own switch works in training mode alone, where there is dropout.
        """
        with ExitStack() as stack:
            for layer in layers_of(self.module)[:-1]:
                stack.enter_context(calling(layer, partial(checkpoint, layer.forward, use_reentrant=False)))
            yield

    @contextmanager
    def _last_mlp_at(self, positions_N: Tensor, shape: Sequence[int]) -> Iterator[None]:
        """The last layer's MLP gets these of the `B * T` positions, and is taken to say zero at the others.

        Args:
            positions_N: each once, or what is learnt from one would count twice.
            shape: `(B, T)`.
        """
        if self._last_mlp is None:
            yield
            return
        forward = self._last_mlp.forward

        def at_positions(hidden_BTH: Tensor, *others: Any, **named: Any) -> Any:
            if others or named or hidden_BTH.dim() != 3 or hidden_BTH.shape[:2] != shape:
                return forward(hidden_BTH, *others, **named)
            places_N = positions_N.to(hidden_BTH.device)
            said_1NH = forward(hidden_BTH.flatten(0, 1)[places_N][None])
            return torch.zeros_like(hidden_BTH).flatten(0, 1).index_copy(0, places_N, said_1NH[0]).view_as(hidden_BTH)

        with calling(self._last_mlp, at_positions):
            yield

    def fault(self) -> str | None:
        """What is wrong with the first of the weights that is not finite, and the fix; None: all are. Reads all of them."""
        return finite.fault(self.module.named_parameters(), str(self.dtype).removeprefix("torch."))

    def free(self) -> None:
        """Give the weights' memory back. The model is of no use afterwards; freeing it twice is no error."""
        self._module = self._last_mlp = self.head = None
        with memory.turn(self._gpus):
            memory.release()

    def _inputs(self, inputs_embeds: Tensor, attention_mask: Tensor | None) -> dict[str, Any]:
        inputs: dict[str, Any] = {
            "inputs_embeds": inputs_embeds,
            "attention_mask": attention_mask,
            "use_cache": False,
        }
        if attention_mask is not None and self._takes_positions:
            # Transformers counts positions from the left edge, padding included, unless it is told.
            inputs["position_ids"] = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
        return inputs

    @torch.no_grad()
    def _check(self) -> None:
        """Compare with the model's own forward on token ids."""
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(self.vocab_size, (1, _PROBE_TOKENS), generator=generator).to(self.device)
        everywhere = torch.arange(_PROBE_TOKENS, device=self.device)
        expected = self.module(input_ids=ids, use_cache=False).logits[0].to(self.device)
        if not expected.isfinite().all() and (found := self.fault()):
            raise ModelError(f"{self.name}: logits are not finite: {found}")
        if self.head is not None and not _same(self.logits_at(self.embed(ids), everywhere), expected, self.dtype):
            self.head = None
            if _same(self.logits_at(self.embed(ids), everywhere), expected, self.dtype):
                warnings.warn(
                    f"{self.name}: the head of {type(self.module).__name__} is not known to spt-fast, so logits of all "
                    "positions are computed: right, but slower",
                    stacklevel=3,
                )
        if self.head is None and not _same(self.logits_at(self.embed(ids), everywhere), expected, self.dtype):
            raise ModelError(
                f"{self.name}: {type(self.module).__name__} answers differently to token ids and to their embeddings, "
                "so soft prompts cannot stand among its tokens"
            )
        self._last_mlp = last_mlp(self.module)
        if not self._same_at_some(self.embed(ids), everywhere[1::3], expected[1::3]):
            self._last_mlp = None

    def _same_at_some(self, inputs_embeds_BTH: Tensor, positions_N: Tensor, expected_NV: Tensor) -> bool:
        """Whether these positions have the logits that they have among all others."""
        try:
            return _same(self.logits_at(inputs_embeds_BTH, positions_N), expected_NV, self.dtype)
        except Exception:  # what is called `mlp` is another family's own affair
            return False


def _linear(layer: torch.nn.Linear, inputs: Tensor) -> Tensor:
    return frozen_linear(inputs, layer.weight, layer.bias)


def _same(ours: Tensor, theirs: Tensor, dtype: torch.dtype) -> bool:
    ours, theirs = ours.to(theirs.device).double(), theirs.double()
    # Not finite on both sides: the weights are at fault, not the way we call them.
    if not theirs.isfinite().all():
        return not ours.isfinite().all()
    return bool((ours - theirs).abs().max() <= _SAME.get(dtype, 1e-1) * theirs.abs().max())
