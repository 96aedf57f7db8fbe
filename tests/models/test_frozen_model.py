"""FrozenModel: the parts of a model, called apart, are the model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import transformers

from spt_fast.errors import ModelError
from spt_fast.models import frozen_model
from spt_fast.models.frozen_model import NO_LIMIT, FrozenModel
from tests.helpers.tiny import FAMILIES, tiny_config, tiny_model

IDS = torch.tensor([[256, 72, 101, 108, 108, 111, 33], [256, 87, 104, 121, 63, 32, 33]])


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("llama"))


@pytest.mark.parametrize("family", FAMILIES)
def test_body_and_head_give_the_logits_of_the_models_own_forward(family: str, tmp_path: Path) -> None:
    model = FrozenModel.load(tiny_model(tmp_path, family))
    with torch.no_grad():
        expected = model.module(input_ids=IDS).logits
        hidden = model.hidden_states(model.embed(IDS))
        assert hidden.shape == (2, 7, model.module.config.hidden_size) or family == "opt"
        logits = model.logits(hidden.flatten(0, 1))
    torch.testing.assert_close(logits, expected.flatten(0, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_chosen_positions_are_those_rows_of_all_logits(family: str, tmp_path: Path) -> None:
    model = FrozenModel.load(tiny_model(tmp_path, family))
    chosen = torch.tensor([12, 3, 3])
    with torch.no_grad():
        expected = model.module(input_ids=IDS).logits.flatten(0, 1)[chosen]
        assert model.hidden_at(model.embed(IDS), chosen).is_contiguous()
        torch.testing.assert_close(model.logits_at(model.embed(IDS), chosen), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_changes_no_logit(family: str, side: str, tmp_path: Path) -> None:
    model = FrozenModel.load(tiny_model(tmp_path, family))
    padding = torch.full((1, 3), 258)
    row, ones = IDS[:1], torch.ones(1, 7, dtype=torch.int64)
    ids = torch.cat([padding, row] if side == "left" else [row, padding], dim=1)
    mask = torch.cat([0 * padding, ones] if side == "left" else [ones, 0 * padding], dim=1)
    kept = torch.arange(7) + (3 if side == "left" else 0)
    with torch.no_grad():
        expected = model.logits_at(model.embed(row), torch.arange(7))
        padded = model.logits_at(model.embed(ids), kept, mask)
        torch.testing.assert_close(padded, expected, rtol=1e-4, atol=1e-4)
        if side == "right":
            unmasked = model.logits_at(model.embed(ids), kept)
            torch.testing.assert_close(unmasked, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", [*FAMILIES, "mixtral", "qwen3_moe"])
def test_the_last_mlp_sees_the_chosen_positions_alone_and_nothing_else_changes(family: str) -> None:
    """The gradient, too, is that of the model's own forward. OPT has no part that goes by this name."""
    experts = {"experts_implementation": "eager"} if family in ("mixtral", "qwen3_moe") else {}  # others: no float64
    model = FrozenModel(transformers.AutoModelForCausalLM.from_config(tiny_config(family, **experts), dtype=torch.float64))
    chosen = torch.tensor([12, 3, 5])
    seen: list[int] = []
    last = model.module.base_model.get_submodule("decoder" if family == "opt" else "")
    layer = (last.h if family == "gpt2" else last.layers)[-1]
    (layer.fc1 if family == "opt" else next(layer.mlp.children())).register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0].shape[:-1].numel())
    )
    embedded = model.embed(IDS).detach().requires_grad_()
    weights = torch.linspace(-1, 1, 272, dtype=torch.float64)
    logits = model.logits_at(embedded, chosen)
    expected = model.module(inputs_embeds=embedded).logits.flatten(0, 1)[chosen]
    torch.testing.assert_close(logits, expected)
    gradients = [torch.autograd.grad((each @ weights).sin().sum(), embedded)[0] for each in (logits, expected)]
    assert gradients[1].abs().max() > 0
    torch.testing.assert_close(gradients[0], gradients[1])
    assert seen == [14 if family == "opt" else 3, 14]
    assert not any("forward" in vars(part) for part in model.module.modules())


class _OneMlpForAll(transformers.LlamaForCausalLM):
    """A family whose layers share an MLP: what one of them needs nowhere, another needs everywhere."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        for layer in self.model.layers:
            layer.mlp = self.model.layers[0].mlp


class _LooksAround(torch.nn.Module):
    """An MLP that looks at other positions, or one that takes no fewer than there are."""

    def __init__(self, mlp: torch.nn.Module, fewest: int) -> None:
        super().__init__()
        self.mlp, self.fewest = mlp, fewest

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if hidden.shape[1] < self.fewest:
            raise RuntimeError("too few positions")
        return cast(torch.Tensor, self.mlp(hidden if self.fewest else hidden.cumsum(1)))


@pytest.mark.parametrize("odd", ["shared", "looks at others", "takes no fewer"])
def test_an_mlp_that_needs_all_positions_gets_them(odd: str) -> None:
    module = (_OneMlpForAll if odd == "shared" else transformers.LlamaForCausalLM)(tiny_config("llama"))
    if odd != "shared":
        last = module.model.layers[-1]
        last.mlp = _LooksAround(last.mlp, fewest=7 if odd == "takes no fewer" else 0)
    model = FrozenModel(module)
    chosen = torch.tensor([12, 3])
    with torch.no_grad():
        expected = module(input_ids=IDS).logits.flatten(0, 1)[chosen]
        torch.testing.assert_close(model.logits_at(model.embed(IDS), chosen), expected, rtol=1e-5, atol=1e-5)


def test_soft_caps_and_scales_are_large_enough_in_these_models_to_be_seen(tmp_path: Path) -> None:
    """Guards the tests above: a head without them gives other logits."""
    for family in ("gemma2", "gemma3", "granite", "cohere"):
        model = FrozenModel.load(tiny_model(tmp_path / family, family))
        assert model.head is not None
        assert not model.head.is_linear
        with torch.no_grad():
            hidden = model.hidden_states(model.embed(IDS)).flatten(0, 1)
            bare = hidden @ model.head.weight.T
            assert (bare - model.logits(hidden)).abs().max() > 0.1


def test_gemma_2_caps_its_attention_logits(tmp_path: Path) -> None:
    model = FrozenModel.load(tiny_model(tmp_path, "gemma2"))
    assert model.module.config._attn_implementation == "eager"


def test_sizes_come_from_the_embeddings_and_the_config(llama: Path) -> None:
    model = FrozenModel.load(llama)
    assert (model.hidden_size, model.vocab_size, model.max_position_embeddings) == (64, 272, 512)
    assert (model.dtype, model.device) == (torch.float32, torch.device("cpu"))


def test_hidden_size_is_the_width_of_the_embeddings_not_of_the_body(tmp_path: Path) -> None:
    assert FrozenModel.load(tiny_model(tmp_path, "opt", hidden_size=64)).hidden_size == 32


def test_a_model_without_a_position_limit_has_a_large_one(tmp_path: Path) -> None:
    config = transformers.AutoConfig.for_model("bloom", vocab_size=272, hidden_size=32, n_layer=1, n_head=2)
    module: Any = transformers.AutoModelForCausalLM.from_config(config)
    assert FrozenModel(module).max_position_embeddings == NO_LIMIT


def test_gemma_embeddings_are_scaled_where_they_are_looked_up(tmp_path: Path) -> None:
    model = FrozenModel.load(tiny_model(tmp_path, "gemma2"))
    rows = model.module.state_dict()["model.embed_tokens.weight"][IDS]
    torch.testing.assert_close(model.embed(IDS), rows * 8.0)  # sqrt(64)
    assert model.embedding_table is None


def test_where_embeddings_are_only_looked_up_the_table_is_there_to_look_them_up_in(llama: Path) -> None:
    model = FrozenModel.load(llama)
    assert model.embedding_table is not None
    assert torch.equal(model.embedding_table[IDS], model.embed(IDS))
    model.module.get_input_embeddings().register_forward_hook(lambda module, inputs, output: 2 * output)
    assert model.embedding_table is None


def test_no_weight_takes_a_gradient_and_dropout_is_off(llama: Path) -> None:
    module = FrozenModel.load(llama).module
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert not module.training


@pytest.mark.parametrize(("asked", "expected"), [("auto", torch.bfloat16), ("float32", torch.float32)])
def test_dtype_is_the_checkpoints_unless_another_is_asked_for(asked: str, expected: torch.dtype, tmp_path: Path) -> None:
    folder = tiny_model(tmp_path, dtype=torch.bfloat16)
    assert FrozenModel.load(folder, dtype=asked).dtype == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_the_check_at_load_passes_in_bfloat16(family: str, tmp_path: Path) -> None:
    model = FrozenModel.load(tiny_model(tmp_path, family, dtype=torch.bfloat16))
    assert model.head is not None


class _Tempered(transformers.LlamaForCausalLM):
    """A family that does something between body and head that nobody has heard of."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits = output.logits**3
        return output


def test_an_unknown_head_is_noticed_and_the_models_own_forward_used() -> None:
    module = _Tempered(tiny_config("llama"))
    with pytest.warns(UserWarning, match="the head of _Tempered is not known to spt-fast"):
        model = FrozenModel(module)
    assert model.head is None
    chosen = torch.tensor([12, 3])
    with torch.no_grad():
        expected = module(input_ids=IDS).logits.flatten(0, 1)[chosen]
        torch.testing.assert_close(model.logits_at(model.embed(IDS), chosen), expected)
    with pytest.raises(ModelError, match="not known"):
        model.logits(torch.zeros(1, 64))


class _ReadsIds(transformers.LlamaForCausalLM):
    """A family whose layers read token ids beside the embeddings, as Gemma 3n's do."""

    def forward(self, input_ids: Any = None, **kwargs: Any) -> Any:
        output = super().forward(input_ids=input_ids, **kwargs)
        if input_ids is not None:
            output.logits = output.logits + input_ids[..., None] / 100
        return output


def test_a_model_that_reads_token_ids_beside_the_embeddings_is_refused() -> None:
    with pytest.raises(ModelError, match="soft prompts cannot stand among its tokens"):
        FrozenModel(_ReadsIds(tiny_config("llama")), name="odd")


def test_a_pass_takes_as_many_threads_as_it_has_work_for_and_gives_them_back(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work is positions times the weights of a layer."""
    model = FrozenModel.load(llama)
    weights = sum(weight.numel() for name, weight in model.module.named_parameters() if ".layers.1." in name)
    monkeypatch.setattr(frozen_model, "WORK_OF_A_THREAD", 100 * weights)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        taken = []
        for positions in (1, 199, 200, 299, 300, 5000):
            with model.suited_to(positions):
                taken.append(torch.get_num_threads())
            assert torch.get_num_threads() == 3
        assert taken == [1, 1, 2, 2, 3, 3]
    finally:
        torch.set_num_threads(before)


def test_small_passes_in_bfloat16_have_plain_attention_which_is_nearer_to_the_truth(tmp_path: Path) -> None:
    """Than PyTorch's fused one, output and gradients, against float64; other passes keep that one."""
    model = FrozenModel.load(tiny_model(tmp_path, dtype=torch.bfloat16))
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(8, 6, 58, 32, generator=generator).bfloat16() for _ in range(4)]

    def attention(dtype: torch.dtype) -> list[torch.Tensor]:
        *inputs, upstream = (each.to(dtype, copy=True).requires_grad_() for each in drawn)
        output = torch.nn.functional.scaled_dot_product_attention(*inputs, is_causal=True)
        return [output, *torch.autograd.grad(output, inputs, upstream)]

    truth, fused = attention(torch.float64), attention(torch.bfloat16)
    with model.suited_to(1):
        plain = attention(torch.bfloat16)
    for exact, one, other in zip(truth, plain, fused, strict=True):
        assert (one - exact).norm() < 0.95 * (other - exact).norm()
    with model.suited_to(10**9):
        assert all(map(torch.equal, attention(torch.bfloat16), fused))


def test_large_products_in_float32_are_the_faster_librarys_in_a_pass_and_say_the_same(llama: Path) -> None:
    """Of all frozen layers; one that learns, and one that something is put around, keep their own."""
    model = FrozenModel.load(llama)
    layers = [layer for layer in model.module.modules() if isinstance(layer, torch.nn.Linear)]
    layers[0].weight.requires_grad_(True)
    hooked = layers[1].forward = layers[1].forward
    inputs, everywhere = model.embed(torch.arange(200)[None]), torch.arange(200)
    with torch.no_grad():
        before = model.logits_at(inputs, everywhere)
    try:
        with model.suited_to(10**6), torch.no_grad():
            changed = [layer for layer in layers if "forward" in vars(layer)]
            within = model.logits_at(inputs, everywhere)
        assert changed == layers[1:]
        assert layers[1].forward is hooked
        torch.testing.assert_close(within, before, rtol=1e-5, atol=1e-5)
        with model.suited_to(1):
            assert not any("forward" in vars(layer) for layer in layers[2:])
    finally:
        layers[0].weight.requires_grad_(False)
    assert [layer for layer in layers if "forward" in vars(layer)] == [layers[1]]


def test_a_freed_model_says_so(llama: Path) -> None:
    model = FrozenModel.load(llama)
    model.free()
    model.free()
    with pytest.raises(ModelError, match="was freed"):
        model.embed(IDS)


def _copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


def _without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _truncated(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def _unknown(folder: Path) -> None:
    _edit(folder, model_type="zorblax", architectures=["ZorblaxForCausalLM"])


def _deeper(folder: Path) -> None:
    _edit(folder, num_hidden_layers=3)


def _wider(folder: Path) -> None:
    _edit(folder, vocab_size=300)


def _not_causal(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))


def _own_code(folder: Path) -> None:
    config = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"}}
    (folder / "config.json").write_text(json.dumps(config))


def _edit(folder: Path, **keys: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_without_config, "there is no config.json in this folder, so it is not a model"),
        (_without_weights, "there are no weights"),
        (_pickled, "are pickles .pytorch_model.bin., which are never loaded"),
        (_truncated, "cannot be loaded"),
        (_unknown, "its architecture is unknown to the installed version of transformers"),
        (_deeper, "9 weights are not in its files, among them model.layers.2"),
        (_wider, "cannot be loaded"),
        (_not_causal, "it is not a causal language model"),
        (_own_code, "runs only with trust_remote_code: true"),
    ],
)
def test_a_folder_that_is_no_model_is_one_sentence(spoil: Any, sentence: str, llama: Path, tmp_path: Path) -> None:
    folder = _copy(llama, tmp_path / "spoilt")
    spoil(folder)
    with pytest.raises(ModelError, match=sentence) as caught:
        FrozenModel.load(folder)
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no such folder"):
        FrozenModel.load(tmp_path / "nowhere")


def test_an_unknown_hub_id_without_a_network_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="nobody/nothing: is no folder here and not in the Hub's cache"):
        FrozenModel.load("nobody/nothing")


def test_an_unknown_dtype_is_one_sentence(llama: Path) -> None:
    with pytest.raises(ModelError, match="'bfloat61' is not a dtype"):
        FrozenModel.load(llama, dtype="bfloat61")


def test_a_model_whose_layers_are_kept_elsewhere_gives_the_same_logits_and_gradients(llama: Path, tmp_path: Path) -> None:
    """As a model that is spread over several GPUs: accelerate's hooks fetch what each layer needs. Here from a disk."""
    accelerate = pytest.importorskip("accelerate")
    plain, spread = FrozenModel.load(llama), FrozenModel.load(llama)
    parts = dict.fromkeys(["model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"], "cpu")
    layers = {f"model.layers.{i}": "disk" for i in range(len(spread.module.base_model.layers))}
    accelerate.dispatch_model(spread.module, {**parts, **layers}, main_device="cpu", offload_dir=str(tmp_path))
    assert spread.embedding_table is None
    ids = torch.tensor([[3, 4, 5, 6]])
    at = torch.arange(4)

    def logits_and_gradient(model: FrozenModel) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = model.embed(ids).detach().requires_grad_(True)
        logits = model.logits_at(inputs, at)
        (gradient,) = torch.autograd.grad(logits.square().sum(), [inputs])
        return logits, gradient

    for ours, theirs in zip(logits_and_gradient(spread), logits_and_gradient(plain), strict=True):
        torch.testing.assert_close(ours, theirs)
