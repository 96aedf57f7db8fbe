"""The Triton kernels: in the interpreter they are no further from float64 than PyTorch is in the same dtype."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spt_kernels import linear_cross_entropy, splice_embeds
from spt_kernels.dispatch import resolve
from tests.kernels.interpreted import LINEAR, SPLICE, LinearCall, SpliceCall

INTERPRETED = Path(__file__).with_name("interpreted.py")
# The interpreter cuts bfloat16 off where PyTorch and a GPU round: an error twice as large, in the root mean square.
WORSE = {torch.float32: 1.2, torch.float16: 1.0, torch.bfloat16: 2.2}


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `interpreted.py` has saved."""
    pytest.importorskip("triton")
    file = tmp_path_factory.mktemp("interpreted") / "results.pt"
    subprocess.run([sys.executable, str(INTERPRETED), str(file)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    found: dict[str, Any] = torch.load(file, weights_only=True)
    return found


def losses_and_gradient(call: LinearCall, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The reference's, in some dtype."""
    hidden_NH, weight_VH, targets_N, upstream_N = call.arguments()
    hidden_NH = hidden_NH.to(dtype).requires_grad_(True)
    losses_N = linear_cross_entropy(hidden_NH, weight_VH.to(dtype), targets_N, reduction="none", impl="reference")
    (gradient_NH,) = torch.autograd.grad(losses_N, [hidden_NH], upstream_N.to(losses_N.dtype))
    return losses_N.detach(), gradient_NH


def error(found: Tensor, truth: Tensor) -> float:
    """Root mean square of the difference."""
    return float((found.double() - truth).square().mean().sqrt())


@pytest.mark.parametrize("call", LINEAR, ids=str)
def test_losses_and_gradients_are_as_good_as_pytorchs(call: LinearCall, interpreted: dict[str, Any]) -> None:
    ours = interpreted["linear"][str(call)]
    true_losses_N, true_gradient_NH = losses_and_gradient(call, torch.float64)
    losses_N, gradient_NH = losses_and_gradient(call, call.dtype)
    assert (ours["losses"].dtype, ours["gradient"].dtype) == (losses_N.dtype, gradient_NH.dtype)
    assert error(ours["losses"], true_losses_N) <= WORSE[call.dtype] * error(losses_N, true_losses_N)
    assert error(ours["gradient"], true_gradient_NH) <= WORSE[call.dtype] * error(gradient_NH, true_gradient_NH)
    assert torch.equal(ours["logprobs"], -ours["losses"])


@pytest.mark.parametrize("call", SPLICE, ids=str)
def test_spliced_rows_and_the_gradient_of_the_vectors_are_the_references(call: SpliceCall, interpreted: dict[str, Any]) -> None:
    ours = interpreted["splice"][str(call)]
    table_VH, vectors_PH, ids, upstream = call.arguments()
    vectors_PH.requires_grad_(True)
    spliced = splice_embeds(table_VH, vectors_PH, ids, impl="reference")
    (gradient_PH,) = torch.autograd.grad(spliced, [vectors_PH], upstream)
    assert torch.equal(ours["spliced"], spliced)
    torch.testing.assert_close(ours["gradient"], gradient_PH, rtol=1e-6, atol=1e-6)


def test_the_edges_are_the_references(interpreted: dict[str, Any]) -> None:
    odd = interpreted["odd"]
    assert odd["no rows"].shape == (0,)
    assert odd["no ids"].shape == (0, 33)
    torch.testing.assert_close(odd["mean"], odd["none"].mean())
    torch.testing.assert_close(odd["sum"], odd["none"].sum())
    assert odd["large"].item() == -12e4


def test_a_model_that_is_sure_still_has_a_gradient(interpreted: dict[str, Any]) -> None:
    # p_t rounds to 1 in float16, so that a kernel that rounds before it subtracts has nothing left.
    true = -2 / (1 + torch.tensor(12.0).exp()) * 1024
    torch.testing.assert_close(interpreted["odd"]["sure"].float().squeeze(), true, rtol=2e-2, atol=0)


def test_auto_is_the_reference_on_a_cpu_and_triton_says_what_it_needs() -> None:
    tensor = torch.zeros(1)
    assert resolve("auto", tensor) == resolve("reference", tensor) == "reference"
    with pytest.raises(ValueError, match="needs tensors on an NVIDIA GPU, or TRITON_INTERPRET=1"):
        resolve("triton", tensor)
    with pytest.raises(ValueError, match=r"has no kernel for torch\.float64"):
        resolve("triton", tensor.double())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("recompute", [False, True])
def test_a_gpu_is_as_good_as_pytorch_and_gives_the_same_bits_twice(
    dtype: torch.dtype, recompute: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spt_kernels.linear_cross_entropy import triton as kernels
    from spt_kernels.linear_cross_entropy.cases import Case

    monkeypatch.setattr(kernels, "SCRATCH_BYTES", 1 if recompute else 64 * 2**20)
    call = LinearCall(case=Case(N=200, H=520, V=5003, reason="ragged, several tiles each way"), dtype=dtype)
    hidden_NH, weight_VH, targets_N, upstream_N = (tensor.cuda() for tensor in call.arguments())
    hidden_NH.requires_grad_(True)

    def run(dtype: torch.dtype, impl: Any) -> tuple[Tensor, Tensor]:
        leaf_NH = hidden_NH.detach().to(dtype).requires_grad_(True)
        losses_N = linear_cross_entropy(leaf_NH, weight_VH.to(dtype), targets_N, reduction="none", impl=impl)
        return losses_N.detach(), torch.autograd.grad(losses_N, [leaf_NH], upstream_N.to(losses_N.dtype))[0]

    truth, theirs = run(torch.float64, "reference"), run(dtype, "reference")
    ours, again = run(dtype, "auto"), run(dtype, "auto")
    for our, their, true in zip(ours, theirs, truth, strict=True):
        assert error(our, true) <= 1.05 * error(their, true)
    assert all(map(torch.equal, ours, again))
