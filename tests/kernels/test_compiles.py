"""The Triton kernels compile for an H100 or H200 (sm_90) on a machine without a GPU, and what comes out is what they were
written for: tensor cores, tiles that fit, nothing spilled."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from spt_kernels.dispatch import OPTIONS
from spt_kernels.linear_cross_entropy import triton as linear
from spt_kernels.linear_cross_entropy.cases import REAL, Case
from spt_kernels.splice_embeds import triton as splice

HOPPER = GPUTarget("cuda", 90, 32)
SHARED = 227 * 1024
"""Bytes of shared memory that a program can have there."""

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


def compiled(kernel: Any, constants: dict[str, Any], **options: int) -> Any:
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
    return triton.compile(source, target=HOPPER, options={**OPTIONS, **options})


def stack_bytes(cubin: bytes, folder: Path) -> int:
    """Bytes of registers that a thread has spilled, by the disassembler that comes with Triton."""
    (folder / "kernel.cubin").write_bytes(cubin)
    tool = triton.knobs.nvidia.cuobjdump.path
    done = subprocess.run([tool, "-res-usage", folder / "kernel.cubin"], capture_output=True, text=True, check=True)
    return int(done.stdout.split("STACK:")[1].split()[0])


@pytest.mark.parametrize("case", [REAL[1], REAL[2]], ids=str)
def test_the_heads_kernels_use_tensor_cores_fit_and_spill_next_to_nothing(case: Case, tmp_path: Path) -> None:
    tiles = linear.tiles(case.N, torch.bfloat16.itemsize)
    constants = {"BN": tiles.rows, "BV": tiles.vocab, "CAST": tl.bfloat16}
    forward = {**constants, "BH": tiles.hidden, "KEEP": True}
    backward = {**constants, "BH": tiles.hidden_out, "BK": tiles.vocab_step, "ADD": True}
    for kernel, its in ((linear.tile_softmax_kernel, forward), (linear.weighted_rows_kernel, backward)):
        made = compiled(kernel, its, num_warps=tiles.warps, num_stages=tiles.stages)
        assert "wgmma.mma_async" in made.asm["ptx"]
        assert "cp.async" in made.asm["ptx"]
        assert 0 < made.metadata.shared <= SHARED
        assert stack_bytes(made.asm["cubin"], tmp_path) <= 16


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
