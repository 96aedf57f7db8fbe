"""frozen_linear: a linear layer whose weights get no gradient, whichever library multiplies."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from spt_kernels import frozen_linear
from spt_kernels.frozen_linear import onednn

SHAPES = [((3, 50, 96), 300, True), ((180, 64), 400, False), ((1, 128), 40_000, True)]
"""Of the inputs, and how many outputs; the last has one row."""
here = pytest.mark.skipif(not onednn._has_it(), reason="this PyTorch multiplies by one library alone")


def tensors(shape: tuple[int, ...], outputs: int, bias: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(outputs)
    inputs = torch.randn(shape, generator=generator).requires_grad_(True)
    weight = torch.randn(outputs, shape[-1], generator=generator)
    return inputs, weight, torch.randn(outputs, generator=generator) if bias else None


@here
@pytest.mark.parametrize(("shape", "outputs", "bias"), SHAPES)
@pytest.mark.parametrize("transposed", [False, True])
def test_product_and_gradient_are_those_of_float64(shape: tuple[int, ...], outputs: int, bias: bool, transposed: bool) -> None:
    inputs, weight, added = tensors(shape, outputs, bias)
    if transposed:
        weight = weight.T.contiguous().T
    assert onednn.is_faster(inputs, weight, added)
    ours = frozen_linear(inputs, weight, added)
    exact = inputs.detach().double().requires_grad_(True)
    theirs = F.linear(exact, weight.double(), None if added is None else added.double())
    upstream = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(ours, [inputs], upstream)
    (expected,) = torch.autograd.grad(theirs, [exact], upstream.double())
    assert ours.dtype == gradient.dtype == torch.float32
    assert (ours - theirs).norm() < 1e-6 * theirs.norm()
    assert (gradient - expected).norm() < 1e-6 * expected.norm()


@here
def test_inputs_and_upstream_may_have_any_strides() -> None:
    inputs, weight, _ = tensors((200, 128), 300, False)
    strided = inputs.detach().T.contiguous().T.requires_grad_(True)
    torch.testing.assert_close(frozen_linear(strided, weight), F.linear(inputs, weight))
    upstream = torch.ones(1).expand(200, 300)
    (ours,) = torch.autograd.grad(frozen_linear(strided, weight), [strided], upstream)
    torch.testing.assert_close(ours, upstream @ weight)


@pytest.mark.parametrize("wanting", ["weight", "bias"])
def test_a_weight_or_bias_that_wants_a_gradient_gets_it(wanting: str) -> None:
    inputs, weight, bias = tensors((200, 128), 300, True)
    assert bias is not None
    (weight if wanting == "weight" else bias).requires_grad_(True)
    (found,) = torch.autograd.grad(frozen_linear(inputs, weight, bias).sum(), [weight if wanting == "weight" else bias])
    assert found.abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_and_small_products_are_pytorchs_own(dtype: torch.dtype) -> None:
    inputs, weight, bias = tensors((200, 128), 300, True)
    few = inputs[:4], weight, bias
    other = inputs.to(dtype), weight.to(dtype), bias.to(dtype) if bias is not None else None
    for arguments in (few, other):
        assert not onednn.is_faster(*arguments)
        assert torch.equal(frozen_linear(*arguments), F.linear(*arguments))


@here
def test_without_a_gradient_nothing_is_kept() -> None:
    inputs, weight, bias = tensors((200, 128), 300, True)
    with torch.inference_mode():
        torch.testing.assert_close(frozen_linear(inputs, weight, bias), F.linear(inputs, weight, bias))
    assert not frozen_linear(inputs.detach(), weight, bias).requires_grad
