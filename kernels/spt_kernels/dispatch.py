"""Which implementation of an operation runs. The one module that asks whether Triton can run here."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

Impl: TypeAlias = Literal["auto", "reference", "triton"]
"""`reference`: plain PyTorch, on any device. `triton`: kernels for NVIDIA GPUs; on a CPU only in Triton's interpreter
(`TRITON_INTERPRET=1`, set before Triton is imported). `auto`: `triton` for CUDA tensors for which it is the faster one,
`reference` for all others."""

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""What the Triton kernels take."""

OLDEST = (8, 0)
"""Compute capability from which on the tensor cores multiply bfloat16."""

OPTIONS = {"enable_fp_fusion": True}
"""Of every launch. Triton 3.9 warns where nothing is said, and 3.10 is to take the slower and no more accurate choice."""


def resolve(impl: Impl, tensor: Tensor, *, auto: tuple[torch.dtype, ...] = DTYPES) -> Literal["reference", "triton"]:
    """The implementation that `impl` stands for.

    Args:
        impl: what the caller asks for.
        tensor: one of the operation's floating-point arguments; the others share its device.
        auto: dtypes for which `auto` takes Triton.

    Raises:
        ValueError: there is no such implementation, or it cannot run on this tensor.
    """
    if impl not in get_args(Impl):
        raise ValueError(f"impl must be one of {', '.join(get_args(Impl))}, not {impl!r}")
    if impl == "reference":
        return "reference"
    missing = _what_triton_lacks(tensor)
    if impl == "auto":
        return "triton" if tensor.is_cuda and tensor.dtype in auto and missing is None else "reference"
    if missing is not None:
        raise ValueError(f"impl='triton' {missing}; impl='auto' takes the reference then")
    return "triton"


def _what_triton_lacks(tensor: Tensor) -> str | None:
    """Why Triton cannot run on this tensor; None: it can."""
    if tensor.dtype not in DTYPES:
        return f"has no kernel for {tensor.dtype}"
    if not _installed():
        return "needs the package triton"
    if tensor.is_cuda:
        return _what_the_gpu_lacks(tensor.get_device())
    return None if _interpreted() else "needs tensors on an NVIDIA GPU, or TRITON_INTERPRET=1"


@cache
def _installed() -> bool:
    return find_spec("triton") is not None


@cache
def _what_the_gpu_lacks(device: int) -> str | None:
    # ROCm's devices are called cuda too.
    if torch.version.cuda is None or torch.cuda.get_device_capability(device) < OLDEST:
        return f"needs an NVIDIA GPU of compute capability {OLDEST[0]}.{OLDEST[1]} or newer"
    return None


def _interpreted() -> bool:
    import triton

    # Kernels are what they were when Triton was imported; the variable alone says nothing.
    return bool(triton.knobs.runtime.interpret)
