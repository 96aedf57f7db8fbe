"""The operations of `spt_kernels` on this machine: how far from float64, how fast, and what bounds them.

What is measured of a machine here (`rates`) is what shares are taken of: the bytes a second of a copy, and the operations a
second of the largest product of matrices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

from spt_fast.qualify.contract import Given, Measured
from spt_fast.qualify.timing import in_turn, spread

NOT_WORSE = 1.05
"""Most times eager PyTorch's error that ours may have."""
COPIED, COPIED_ON_CPU = 2 << 30, 1 << 27
"""Bytes of a copy, far more than caches hold."""
SQUARE, SQUARE_ON_CPU = 8192, 1024
"""Rows and columns of the product."""
SPLICE_VOCAB = 32_000

Step: TypeAlias = Callable[[], tuple[Any, Any]]
"""The loss, and the gradient of the hidden states."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A case's tensors, the same for every side."""

    case: Any
    hidden: Any
    """`[N, H]`."""
    weight: Any
    """`[V, H]`."""
    targets: Any
    """`[N]`."""


def work_of(case: Any, dtype: Any, device: str) -> Work:
    """Random tensors of a case: logits of standard deviation 3, as those of a model that has an opinion."""
    import torch

    generator = torch.Generator(device).manual_seed(case.N + case.V)
    draw = partial(torch.randn, generator=generator, device=device)
    weight = draw(case.V, case.H, dtype=torch.float32).mul_(3 / math.sqrt(case.H)).to(dtype)
    hidden = draw(case.N, case.H, dtype=torch.float32).to(dtype)
    targets = torch.randint(case.V, (case.N,), generator=generator, device=device)
    return Work(case=case, hidden=hidden, weight=weight, targets=targets)


def step_of(loss: Callable[[Any], Any], hidden: Any) -> tuple[Any, Any]:
    """A loss and its gradient."""
    import torch

    leaf = hidden.detach().requires_grad_(True)
    value = loss(leaf)
    (gradient,) = torch.autograd.grad(value, [leaf])
    return value.detach(), gradient


def eager(work: Work) -> Step:
    """The definition."""
    from spt_kernels.linear_cross_entropy import reference

    return lambda: step_of(lambda h: reference.linear_cross_entropy(h, work.weight, work.targets, "mean"), work.hidden)


def ours(work: Work) -> Step:
    """spt_kernels, as the trainer calls it."""
    from spt_kernels import linear_cross_entropy

    return lambda: step_of(lambda h: linear_cross_entropy(h, work.weight, work.targets), work.hidden)


def exact(work: Work) -> Work:
    """The same in float64; on a CPU, where that is too large, in float32."""
    import torch

    dtype = torch.float64 if work.hidden.is_cuda or work.weight.numel() < 1e7 else torch.float32
    return replace(work, hidden=work.hidden.to(dtype), weight=work.weight.to(dtype))


def relative(found: Any, true: Any) -> float:
    """Distance from the truth, relative to it, root mean square."""
    return float((found.to(true.dtype) - true).norm() / true.norm())


def errors_of(work: Work, steps: Mapping[str, Step]) -> dict[str, dict[str, float]]:
    """Of each side, the error of its loss and of its gradient."""
    truth = eager(exact(work))()
    return {
        name: {what: relative(found, true) for what, found, true in zip(("loss", "gradient"), step(), truth, strict=True)}
        for name, step in steps.items()
    }


def worse(errors: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether ours is further off than eager PyTorch in the same dtype."""
    import torch

    floor = torch.finfo(torch.float32).eps
    return any(not errors["ours"][what] <= NOT_WORSE * errors["eager"][what] + floor for what in errors["ours"])


def seconds_of(steps: Mapping[str, Callable[[], Any]], rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of each side, in turn; on a GPU with its cache emptied before each, by the GPU's own clock."""
    if device == "cpu":
        return in_turn(steps, rounds, warm_up=1)
    from triton.testing import do_bench

    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            seconds[name] += [ms / 1000 for ms in do_bench(step, warmup=20, rep=100, return_mode="all")]
    return seconds


def rates(device: str, square: int, copied: int) -> dict[str, float]:
    """Bytes a second of a copy, read and written, and FLOPs a second of a bf16 product, as this machine has them now."""
    return {"copy_bytes_a_s": copy_rate(device, copied), "product_flops_a_s": product_rate(device, square, "bfloat16")}


def copy_rate(device: str, copied: int) -> float:
    """Bytes a second, read and written."""
    import torch

    source = torch.zeros(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = seconds_of({"copy": lambda: target.copy_(source)}, 3, device)
    return 2 * copied / spread(seconds["copy"])["median"]


def product_rate(device: str, square: int, dtype: str) -> float:
    """Floating-point operations a second of a product of matrices, by the faster of the libraries that are there."""
    import torch

    from spt_kernels import frozen_linear

    # Random numbers: zeros are faster, for they switch fewer transistors.
    left, right = (torch.randn(square, square, device=device).to(getattr(torch, dtype)) for _ in range(2))
    sides: dict[str, Callable[[], Any]] = {"own": lambda: left @ right, "frozen": lambda: frozen_linear(left, right)}
    return 2 * square**3 / min(spread(each)["median"] for each in seconds_of(sides, 3, device).values())


def bound_of(case: Any, itemsize: int, measured: Mapping[str, float], passes: int) -> dict[str, Any]:
    """The roofline of so many reads of the head with a product each."""
    read = passes * case.V * case.H * itemsize / measured["copy_bytes_a_s"]
    multiplied = passes * 2 * case.N * case.V * case.H / measured["product_flops_a_s"]
    return {"by": "bytes" if read > multiplied else "products", "seconds": max(read, multiplied)}


@dataclass(frozen=True, kw_only=True)
class Splice:
    """Soft rows among token rows and their gradient: by `splice_embeds`, and by embedding, cast and concatenation."""

    case: Any
    table: Any
    """`[V, H]`."""
    vectors: Any
    """`[P, H]`, float32."""
    ids: Any
    """`[B, T]`; negative: vectors."""
    upstream: Any
    """`[B, T, H]`."""

    @classmethod
    def of(cls, case: Any, dtype: Any, device: str) -> Splice:
        """Random tensors of a case."""
        import torch

        generator = torch.Generator().manual_seed(0)
        table = torch.randn(SPLICE_VOCAB, case.H, generator=generator).to(device, dtype)
        vectors = torch.randn(case.P * case.prompts, case.H, generator=generator).to(device).requires_grad_(True)
        ids = case.ids(SPLICE_VOCAB, generator).to(device)
        upstream = torch.randn(*ids.shape, case.H, generator=generator).to(device, dtype)
        return cls(case=case, table=table, vectors=vectors, ids=ids, upstream=upstream)

    def concatenated(self) -> tuple[Any, Any]:
        """As eager PyTorch does it."""
        import torch
        import torch.nn.functional as F

        head, P = self.case.head, self.case.P
        embedded = F.embedding(torch.cat([self.ids[:, :head], self.ids[:, head + P :]], dim=1), self.table)
        soft = self.vectors.to(self.table.dtype)[~self.ids[:, head : head + P]]
        out = torch.cat([embedded[:, :head], soft, embedded[:, head:]], dim=1)
        return out.detach(), torch.autograd.grad(out, [self.vectors], self.upstream)[0]

    def spliced(self) -> tuple[Any, Any]:
        """Ours."""
        import torch

        from spt_kernels import splice_embeds

        out = splice_embeds(self.table, self.vectors, self.ids)
        return out.detach(), torch.autograd.grad(out, [self.vectors], self.upstream)[0]

    def true_gradient(self) -> Any:
        """The sum over all positions of each vector, in float64."""
        import torch

        owners = ~self.ids.flatten()
        soft = owners >= 0
        rows = self.upstream.flatten(0, 1)[soft].double()
        return torch.zeros(self.vectors.shape, dtype=torch.float64, device=rows.device).index_add_(0, owners[soft], rows)

    @property
    def bytes(self) -> int:
        """What must be moved. Out: each row read and written. Back: the rows of the vectors read."""
        return int((2 * self.ids.numel() + self.case.B * self.case.P) * self.case.H * self.table.element_size())


def measure_rates(given: Given) -> Measured:
    """What this machine does at its best: what all shares are taken of."""
    from spt_fast.qualify.sizes import dtype_of

    gpu = given.device == "cuda"
    square, copied = (SQUARE, COPIED) if gpu else (SQUARE_ON_CPU, COPIED_ON_CPU)
    found = {"copy_bytes_a_s": copy_rate(given.device, copied)}
    found["product_flops_a_s"] = product_rate(given.device, square, dtype_of(given))
    if gpu:
        found["product_flops_a_s_float32"] = product_rate(given.device, square // 2, "float32")
    return found


def measure_cross_entropy(given: Given) -> Measured:
    """Loss and gradient, of each case: errors beside eager PyTorch's, and the share of the roofline."""
    return {"cases": [_cross_entropy(given, case) for case in _linear_cases(given)]}


def measure_logprob(given: Given) -> Measured:
    """Log-probabilities alone."""
    return {"cases": [_logprob(given, case) for case in _linear_cases(given)]}


def measure_splice(given: Given) -> Measured:
    """Soft rows among token rows, and their gradient."""
    from spt_fast.qualify.sizes import splice_cases

    return {"cases": [_splice(given, case) for case in splice_cases(given.size)]}


def _linear_cases(given: Given) -> list[Any]:
    from spt_fast.qualify.sizes import linear_cases

    return linear_cases(given.size)


def _cross_entropy(given: Given, case: Any) -> Measured:
    work = _work(given, case)
    steps = {"eager": eager(work), "ours": ours(work)}
    errors = errors_of(work, steps)
    return {**_about(given, case, steps, passes=2), "errors": errors, "worse": worse(errors)}


def _logprob(given: Given, case: Any) -> Measured:
    from spt_kernels import linear_logprob
    from spt_kernels.linear_cross_entropy import reference

    work, true = _work(given, case), exact(_work(given, case))
    truth = -reference.linear_cross_entropy(true.hidden, true.weight, true.targets, "none")
    arguments = work.hidden, work.weight, work.targets
    sides: dict[str, Callable[[], Any]] = {
        "eager": lambda: -reference.linear_cross_entropy(*arguments, "none"),
        "ours": lambda: linear_logprob(*arguments),
    }
    errors = {name: {"logprobs": relative(side(), truth)} for name, side in sides.items()}
    return {**_about(given, case, sides, passes=1), "errors": errors, "worse": worse(errors)}


def _splice(given: Given, case: Any) -> Measured:
    import torch

    from spt_fast.qualify.sizes import dtype_of

    work = Splice.of(case, getattr(torch, dtype_of(given)), given.device)
    truth, sides = work.true_gradient(), {"eager": work.concatenated, "ours": work.spliced}
    (theirs, _), (found, _) = work.concatenated(), work.spliced()
    errors = {name: {"gradient": relative(side()[1], truth)} for name, side in sides.items()}
    seconds = {name: spread(each)["median"] for name, each in seconds_of(sides, 1, given.device).items()}
    copied = given.rate("copy_bytes_a_s")
    share = None if copied is None else work.bytes / copied / seconds["ours"]
    wrong = worse(errors) or not torch.equal(theirs, found)
    return {"case": str(case), "seconds": seconds, "share_of_roofline": share, "errors": errors, "worse": wrong}


def _work(given: Given, case: Any) -> Work:
    import torch

    from spt_fast.qualify.sizes import dtype_of

    return work_of(case, getattr(torch, dtype_of(given)), given.device)


def _about(given: Given, case: Any, sides: Mapping[str, Callable[[], Any]], *, passes: int) -> Measured:
    import torch

    from spt_fast.qualify.sizes import dtype_of

    seconds = {name: spread(each)["median"] for name, each in seconds_of(sides, 1, given.device).items()}
    measured = given.measured.get("rates")
    itemsize = getattr(torch, dtype_of(given)).itemsize
    bound = bound_of(case, itemsize, measured, passes) if measured else None
    share = None if bound is None else bound["seconds"] / seconds["ours"]
    return {"case": str(case), "seconds": seconds, "bound": bound and bound["by"], "share_of_roofline": share}
