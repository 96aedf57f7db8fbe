"""The Triton kernels compile for NVIDIA's GPUs on a machine without one, and what comes out is what they were written for:
tensor cores, tiles that fit into each part's shared memory, next to nothing spilled."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

pytest.importorskip("triton")

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.errors import OutOfResources
from triton.runtime.jit import create_function_from_signature

from spt_kernels import linear_cross_entropy
from spt_kernels.dispatch import OPTIONS
from spt_kernels.linear_cross_entropy import triton as linear
from spt_kernels.splice_embeds import triton as splice

KIB = 1024
SHARED = {80: 163 * KIB, 86: 99 * KIB, 89: 99 * KIB, 90: 227 * KIB, 100: 227 * KIB, 120: 99 * KIB}
"""Compute capability -> bytes of shared memory that a program can have: A100; A10, 3090; L4, 4090; H100; B200; 5090 (CUDA C++
Programming Guide, technical specifications)."""
CORES = {80: "mma.sync", 86: "mma.sync", 89: "mma.sync", 90: "wgmma.mma_async", 100: "tcgen05.mma", 120: "mma.sync"}
"""The instructions of their tensor cores."""

INTS = ("N", "H", "V", "S", "P", "M", "first_tile", "stride", "kept", "steps")
FLOATS = (
    "maxima_NS",
    "sums_NS",
    "target_logits_N",
    "logsumexps_N",
    "parts_PNH",
    "losses_N",
    "upstream_N",
    "vectors_PH",
    "gradient_PH",
)
# Triton sees that pointers and these are multiples of 16 when a kernel is launched, and copies 16 bytes at a time.
ALIGNED = ("H", "V", "stride", "kept")


def compiled(kernel: Any, constants: dict[str, Any], capability: int = 90, **options: int) -> Any:
    """A kernel for bfloat16 models."""
    types = dict.fromkeys(INTS, "i32") | dict.fromkeys(FLOATS, "*fp32") | {"targets_N": "*i64", "ids_M": "*i64"}
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else types.get(name, "*bf16") for name in names}
    aligned = [i for i, name in enumerate(names) if signature[name].startswith("*") or name in ALIGNED]
    source = ASTSource(
        kernel,
        signature,
        constexprs=constants,
        attrs={(i,): [["tt.divisibility", 16]] for i in aligned},
    )
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options={**OPTIONS, **options})


def stack_bytes(cubin: bytes, folder: Path) -> int:
    """Bytes of registers that a thread has spilled, by the disassembler that comes with Triton."""
    (folder / "kernel.cubin").write_bytes(cubin)
    tool = triton.knobs.nvidia.cuobjdump.path
    done = subprocess.run([tool, "-res-usage", folder / "kernel.cubin"], capture_output=True, text=True, check=True)
    return int(done.stdout.split("STACK:")[1].split()[0])


def most_spilled(capability: int, rows: int) -> int:
    """Bytes that a thread of the forward pass may spill: 128 rows x 256 words in float32 are half of a program's registers."""
    return 48 if rows > 64 and CORES[capability] == "mma.sync" else 16


@pytest.mark.parametrize(
    ("capability", "rows"), [(86, 48), (90, 48), *((part, 1024) for part in SHARED)], ids=lambda value: str(value)
)
def test_the_heads_kernels_use_tensor_cores_fit_and_spill_next_to_nothing(capability: int, rows: int, tmp_path: Path) -> None:
    tiles = linear.tiles(rows, torch.bfloat16.itemsize, SHARED[capability])
    constants = {"BN": tiles.rows, "BV": tiles.vocab, "CAST": tl.bfloat16}
    forward = {**constants, "BH": tiles.hidden, "KEEP": True}
    backward = {**constants, "BH": tiles.hidden_out, "BK": tiles.vocab_step, "ADD": True}
    for kernel, its in ((linear.tile_softmax_kernel, forward), (linear.weighted_rows_kernel, backward)):
        made = compiled(kernel, its, capability, num_warps=tiles.warps, num_stages=tiles.stages)
        assert CORES[capability] in made.asm["ptx"]
        assert "cp.async" in made.asm["ptx"]
        assert 0 < made.metadata.shared <= SHARED[capability]
        assert stack_bytes(made.asm["cubin"], tmp_path) <= most_spilled(capability, rows)


@pytest.mark.parametrize(("room", "stages"), [(99 * KIB, 3), (227 * KIB, 4)])
def test_a_launch_goes_by_the_shared_memory_of_its_own_gpu(room: int, stages: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "shared_bytes", {1: room}.__getitem__)
    with FakeTensorMode():
        hidden_NH, weight_VH = (torch.empty(rows, 64, device="cuda:1", dtype=torch.bfloat16) for rows in (48, 512))
        work = linear._Work(hidden_NH, weight_VH, torch.zeros(48, dtype=torch.long, device="cuda:1"))
    assert (work.tiles.stages, work.options["num_stages"]) == (stages, stages)


def test_four_steps_are_in_flight_where_shared_memory_has_room_for_them_and_three_elsewhere() -> None:
    stages = {(part, rows): linear.tiles(rows, 2, SHARED[part]).stages for part in SHARED for rows in (1, 48, 1024)}
    assert {part for (part, _), number in stages.items() if number == 4} == {80, 90, 100}
    assert {part for (part, _), number in stages.items() if number == 3} == {86, 89, 120}


@pytest.mark.parametrize(
    ("kernel", "constants", "varying"),
    [
        (
            linear.tile_softmax_kernel,
            ("KEEP", "BN", "BV", "BH", "CAST"),
            {"N": (1, 7, 16, 48, 1024), "first_tile": (0, 1, 16, 33)},
        ),
        (
            linear.weighted_rows_kernel,
            ("ADD", "BN", "BV", "BK", "BH", "CAST"),
            {"N": (1, 7, 16, 48, 1024), "first_tile": (0, 1, 16, 33), "steps": (1, 3, 16, 48)},
        ),
        (linear.join_parts_kernel, ("BH",), {"N": (1, 7, 16, 48, 1024), "P": (1, 5, 16, 32)}),
        (splice.sum_kernel, ("BM", "BH"), {"M": (1, 33, 160, 1104)}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_no_size_of_a_batch_has_a_kernel_compiled_anew(
    kernel: Any, constants: tuple[str, ...], varying: dict[str, tuple[int, ...]]
) -> None:
    """What Triton tells compiled kernels apart by is the same whatever rows, tiles and parts a step has."""
    backend = make_backend(GPUTarget("cuda", 90, 32))
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)

    def told(**sizes: int) -> Any:
        pointers = dict.fromkeys(kernel.arg_names, triton.runtime.jit.MockTensor(torch.bfloat16))
        plain = {name: 4096 for name in INTS if name in kernel.arg_names}
        return bind(**{**pointers, **plain, **dict.fromkeys(constants, 64), **sizes})[1]

    for name, sizes in varying.items():
        assert all(told(**{name: size}) == told(**{name: sizes[0]}) for size in sizes), name
    assert told(H=4096) != told(H=4095), "what stays the same is still made use of"


def test_where_a_gpu_has_too_little_for_a_kernel_pytorch_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OutOfResources(147456, 101376, "shared memory")

    generator = torch.Generator().manual_seed(0)
    hidden_NH = torch.randn(7, 33, generator=generator, requires_grad=True)
    weight_VH = torch.randn(257, 33, generator=generator)
    targets_N = torch.randint(257, (7,), generator=generator)
    upstream_N = torch.randn(7, generator=generator)
    expected_N = linear_cross_entropy(hidden_NH, weight_VH, targets_N, reduction="none", impl="reference")
    (gradient_NH,) = torch.autograd.grad(expected_N, [hidden_NH], upstream_N, retain_graph=True)

    def losses() -> Tensor:
        return linear.linear_cross_entropy(hidden_NH, weight_VH, targets_N, "none")

    monkeypatch.setattr(linear._Work, "tile_softmax", refuse)
    assert torch.equal(losses(), expected_N)
    torch.testing.assert_close(torch.autograd.grad(losses(), [hidden_NH], upstream_N)[0], gradient_NH)
    # Or only the backward pass has too little.
    monkeypatch.setattr(linear._Work, "tile_softmax", lambda *_: None)
    monkeypatch.setattr(linear._Work, "join_tiles", lambda work: (torch.zeros(7), expected_N.detach()))
    monkeypatch.setattr(linear._Work, "weighted_rows", refuse)
    assert torch.equal(losses(), expected_N)
    torch.testing.assert_close(torch.autograd.grad(losses(), [hidden_NH], upstream_N)[0], gradient_NH)


def test_the_small_kernels_compile() -> None:
    for kernel, constants in (
        (linear.join_tiles_kernel, {"BS": 1024}),
        (linear.join_parts_kernel, {"BH": 512}),
        (splice.gather_kernel, {"BH": 512}),
        (splice.sum_kernel, {"BM": 64, "BH": 64}),
    ):
        made = compiled(kernel, constants)
        assert made.asm["cubin"]
        assert f".entry {kernel.__name__}" in made.asm["ptx"]


def test_work_is_cut_so_that_most_multiprocessors_have_some_and_scratch_is_bounded() -> None:
    for programs in range(1, 1000):
        parts = linear.split(programs, 132, most=132)
        rounds = -(-programs * parts // 132)
        assert programs * parts / (132 * rounds) >= 0.75, programs
    assert linear.split(16, 132, most=132) == 8
    assert linear.split(256, 132, most=132) == 1
    assert linear.split(1, 132, most=3) == 3


def test_tiles_divide_each_other_and_hold_whole_lines_of_the_cache() -> None:
    for rows in (1, 16, 17, 48, 65, 128, 5000):
        for itemsize in (2, 4):
            tiles = linear.tiles(rows, itemsize)
            assert tiles.vocab % tiles.vocab_step == 0
            assert tiles.hidden * itemsize == 128
            assert 16 <= tiles.rows <= 128
            assert tiles.rows >= min(rows, 128)
