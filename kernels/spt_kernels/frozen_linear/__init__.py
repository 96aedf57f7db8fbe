"""A linear layer whose weights are frozen: in float32 on a CPU, by the faster of the two libraries that PyTorch brings."""

from __future__ import annotations

from torch import Tensor

from spt_kernels.frozen_linear import onednn, reference


def frozen_linear(inputs: Tensor, weight_VH: Tensor, bias_V: Tensor | None = None) -> Tensor:
    """`inputs @ weight.T + bias`, as `torch.nn.functional.linear` has it, up to the order of sums.

    On a CPU that is x86, products of float32 that are not small are oneDNN's (`onednn`). All others are PyTorch's own.

    Args:
        inputs: `[..., H]`.
        weight_VH: `[V, H]`, same dtype and device, with any strides: the transpose of a weight is one.
        bias_V: `[V]`.

    Returns:
        `[..., V]`, with a gradient of the inputs; where the weight or the bias wants one, PyTorch's own takes the product.
    """
    if onednn.is_faster(inputs, weight_VH, bias_V):
        return onednn.frozen_linear(inputs, weight_VH, bias_V)
    return reference.frozen_linear(inputs, weight_VH, bias_V)
