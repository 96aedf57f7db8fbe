"""Learn the vectors of soft prompts; the model stays as it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from spt_fast.config import SoftPromptConfig
from spt_fast.models import memory
from spt_fast.models.frozen_model import FrozenModel
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.training.at_once import AtOnce
from spt_fast.training.batches import (
    PASS_POSITIONS,
    PASS_POSITIONS_ON_CPU,
    OwnedRow,
    TuningRow,
    collate,
    cut_by_length,
    cut_evenly,
    target_tokens,
)
from spt_fast.training.memory_plan import as_memory_allows, plan_of
from spt_fast.training.run import Run, Share, TuningJob
from spt_fast.types import Position, TrainingStep
from spt_kernels import linear_cross_entropy, splice_embeds

T = TypeVar("T")


def learn(
    model: FrozenModel,
    rows: Sequence[TuningRow],
    config: SoftPromptConfig,
    *,
    seed: int,
    start: npt.NDArray[np.float32] | None = None,
    pad_id: int = 0,
    on_step: Callable[[TrainingStep], None] | None = None,
    provenance: Mapping[str, str] | None = None,
) -> dict[int, SoftPrompt]:
    """Learn one soft prompt; the vectors at each of `config.checkpoints` (0: before the first step).

    A function of its arguments: bit for bit on a CPU, up to the order of a GPU's sums elsewhere.

    A batch that does not fit into memory is worked on in micro-batches of half its rows, and half again, whose gradients add
    up to the batch's own. The provenance then says of how many rows the smallest were (`micro_batch`). Rows that do not fit
    one by one are worked on with activations that are computed twice instead of kept.

    With `config.patience` some rows are held out, and the checkpoints from the stop on, the last one at least, have the
    vectors whose loss on these was the lowest. Their provenance says after which step that was (`best_step`), and how many
    steps were taken (`steps_taken`).

    Args:
        model: loaded once, left bit-identical.
        rows: worked examples.
        config: length, steps, optimiser and where the vectors stand.
        seed: of the vectors' start, of an encoder's weights, of the order of the rows and of which are held out.
        start: `[P, H]`, where the vectors, or the inputs of their encoder, start; None: `initialize`, without a vocabulary.
        pad_id: any token id; what padding holds is never looked at.
        on_step: told of each step, after its update.
        provenance: kept with the vectors, beside seed, step and position.

    Raises:
        DataError: no rows, or none beside the held-out ones, a row longer than the model's positions, or one without BOS for
            `after_bos`.
        TrainingError: the loss, its gradient or the vectors are no longer finite, or one row alone does not fit into memory.
    """
    job = TuningJob(rows=rows, config=config, seed=seed, start=start, on_step=on_step, provenance=provenance or {})
    return learn_job(model, job, pad_id=pad_id)


def learn_job(model: FrozenModel, job: TuningJob, *, pad_id: int = 0) -> dict[int, SoftPrompt]:
    """`learn`, of a job."""
    (tuned,) = learn_many(model, [job], pad_id=pad_id)
    if tuned.error is not None:
        raise tuned.error
    return dict(tuned.prompts)


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuned:
    """What has become of a soft prompt that was to be learnt."""

    job: TuningJob
    prompts: Mapping[int, SoftPrompt]
    """By step: those of `config.checkpoints`, as far as it came."""
    error: Exception | None = None
    """Why it came to nothing."""
    seconds: float = 0.0
    """What its passes took; of those that it shared, its part."""
    at_once: int = 1
    """Most soft prompts that one of its passes had."""


def learn_many(
    model: FrozenModel, jobs: Iterable[TuningJob], *, pad_id: int = 0, at_once: int | None = None
) -> Iterator[Tuned]:
    """Learn soft prompts of one model, several in one forward and backward pass where that is faster.

    Each has its own rows, settings, seed and optimiser, and becomes what it becomes alone: bit for bit where passes are not
    shared, up to the order of sums where they are. One that has ended makes room for the next.

    How many share a pass: on a CPU one, because a batch of 8 rows fills it. Elsewhere steps are taken one by one at first,
    then two at once, four, and so on while that is faster (`AtOnce`). The model remembers what was best.

    Args:
        model: loaded once, left bit-identical.
        jobs: asked for the next one when there is room for it.
        pad_id: any token id; what padding holds is never looked at.
        at_once: most that share a pass; None: as above.

    Yields:
        Each as soon as it is done. One that fails says why, and the others go on.
    """
    with memory.kept() if model.device.type == "cpu" else nullcontext():
        yield from _learn_many(model, jobs, pad_id, at_once)


def _learn_many(model: FrozenModel, jobs: Iterable[TuningJob], pad_id: int, at_once: int | None) -> Iterator[Tuned]:
    measured = at_once is None and not fills_up(model.device)
    size = AtOnce(plan_of(model).prompts_at_once if measured else at_once or 1)
    waiting = iter(jobs)
    running: list[Run] = []
    while True:
        while len(running) < size.most() and (job := next(waiting, None)) is not None:
            try:
                running.append(Run(model, job))
                _look(model, running[-1], pad_id)
            except Exception as e:
                yield Tuned(job=job, prompts={}, error=e)
        if not running:
            return
        group = running[: size.most()]
        failed = _step(model, group, size, pad_id)
        if measured:
            plan_of(model).prompts_at_once = size.chosen
        for run in group:
            if (error := failed.get(run)) is not None or run.has_ended:
                running.remove(run)
                yield Tuned(job=run.job, prompts=run.learnt, error=error, seconds=run.seconds, at_once=run.at_once)


def fills_up(device: torch.device) -> bool:
    """Whether a batch of one soft prompt leaves a device nothing to do: 12 at once were 0.84 to 1.05 times as fast on a CPU."""
    return device.type == "cpu"


def _step(model: FrozenModel, runs: Sequence[Run], size: AtOnce, pad_id: int) -> dict[Run, Exception]:
    """Take the next step of each; those that failed, and why."""
    began = time.perf_counter()
    shares = [run.share() for run in runs]
    failed: dict[Run, Exception] = {}
    for run, found in zip(runs, _passed(model, shares, size, pad_id), strict=True):
        try:
            if isinstance(found, Exception):
                raise found
            run.update(*found, at_once=len(runs))
        except Exception as e:
            failed[run] = e
    seconds, positions = time.perf_counter() - began, sum(share.positions for share in shares)
    if not failed:
        size.saw(len(runs), positions, seconds)
    for run, share in zip(runs, shares, strict=True):
        run.seconds += seconds * share.positions / positions
    for run in runs:
        if run not in failed:
            try:
                _look(model, run, pad_id)
            except Exception as e:
                failed[run] = e
    return failed


def _passed(
    model: FrozenModel, shares: Sequence[Share], size: AtOnce, pad_id: int
) -> list[tuple[Tensor, Tensor, int] | Exception]:
    """Loss, gradient and rows at once of each share, or why there are none.

    Where a pass of several fails it is not known whose fault that is, so each is tried alone, as are all that follow.
    """
    try:
        found, rows_at_once = losses_and_gradients(model, shares, pad_id=pad_id)
        return [(loss, gradient_PH, rows_at_once) for loss, gradient_PH in found]
    except Exception as e:
        if len(shares) == 1:
            return [e]
    size.settle(1)
    return [outcome for share in shares for outcome in _passed(model, [share], size, pad_id)]


def _look(model: FrozenModel, run: Run, pad_id: int) -> None:
    """See how a run does on its held-out rows, where that is due, and whether it has ended."""
    if run.is_due:
        began, config = time.perf_counter(), run.config
        run.see(mean_loss(model, run.vectors(), run.held_out, config.batch_size, run.job.position, pad_id=pad_id))
        run.seconds += time.perf_counter() - began
    if run.has_ended:
        run.finish()


def losses_and_gradients(
    model: FrozenModel, shares: Sequence[Share], *, pad_id: int = 0
) -> tuple[list[tuple[Tensor, Tensor]], int]:
    """`target_loss` of each share and its gradient, in as few forward and backward passes as the memory has room for.

    What has fitted is remembered with the model, for its next batches and soft prompts. On a CPU, and where rows are of
    several soft prompts, they are sorted by length, and cut where the padding that it saves is worth a pass.

    Returns:
        For each share its loss, a scalar, and the gradient of its vectors, `[P, H]`; and how many rows there was memory for.

    Raises:
        TrainingError: one row alone does not fit.
    """
    rows = [
        OwnedRow(row=row, owner=i, length=len(share.vectors_PH), position=share.position)
        for i, share in enumerate(shares)
        for row in share.rows
    ]
    if _cuts_by_length(model, shares):
        rows.sort(key=len, reverse=True)
    longest = max(len(share.vectors_PH) for share in shares)
    return as_memory_allows(
        model, [len(row.row) for row in rows], longest, lambda size: _accumulated(model, shares, rows, size, pad_id)
    )


@torch.no_grad()
def mean_loss(
    model: FrozenModel,
    vectors_PH: Tensor,
    rows: Sequence[TuningRow],
    batch_size: int,
    position: Position = "front",
    *,
    pad_id: int = 0,
) -> float:
    """Mean negative log-likelihood, in nats, of the target tokens of rows that nothing is learnt from.

    Raises:
        TrainingError: one row alone does not fit into memory.
    """
    ordered = sorted(rows, key=len)
    summed = 0.0
    for start in range(0, len(ordered), batch_size):
        batch_rows = ordered[start : start + batch_size]

        def part(size: int, batch_rows: Sequence[TuningRow] = batch_rows) -> float:
            loss = 0.0
            for start in range(0, len(batch_rows), size):
                some = batch_rows[start : start + size]
                loss += target_loss(model, vectors_PH, some, position, pad_id=pad_id).item() * target_tokens(some)
            return loss

        summed += as_memory_allows(model, list(map(len, batch_rows)), len(vectors_PH), part)[0]
    return summed / target_tokens(rows)


def _accumulated(
    model: FrozenModel, shares: Sequence[Share], rows: Sequence[OwnedRow], size: int, pad_id: int
) -> list[tuple[Tensor, Tensor]]:
    """Loss and gradient of each share over micro-batches of at most `size` rows.

    A loss is a mean over target tokens, so each micro-batch counts by how many of them it has.
    """
    totals = [target_tokens(share.rows) for share in shares]
    vectors = [share.vectors_PH for share in shares]
    losses_K = torch.zeros(len(shares), device=model.device)
    gradients = [torch.zeros_like(vectors_PH) for vectors_PH in vectors]
    begin = 0
    for count in _cut(model, shares, rows, size):
        part, begin = rows[begin : begin + count], begin + count
        if len(shares) > 1:
            part_K = _together(model, shares, part, totals, pad_id)
        else:
            part_K = _alone(model, shares[0], part, totals[0], pad_id)
        for gradient_PH, found_PH in zip(gradients, torch.autograd.grad(part_K.sum(), vectors), strict=True):
            gradient_PH += found_PH
        losses_K += part_K.detach()
    return list(zip(losses_K.unbind(), gradients, strict=True))


def _cuts_by_length(model: FrozenModel, shares: Sequence[Share]) -> bool:
    """A batch of one soft prompt holds rows of like length already; a CPU is full with less than such a batch."""
    return len(shares) > 1 or model.device.type == "cpu"


def _cut(model: FrozenModel, shares: Sequence[Share], rows: Sequence[OwnedRow], size: int) -> list[int]:
    """How many rows each micro-batch has."""
    if not _cuts_by_length(model, shares):
        return cut_evenly(len(rows), size)
    on_cpu = model.device.type == "cpu"
    return cut_by_length([*map(len, rows)], size, PASS_POSITIONS_ON_CPU if on_cpu else PASS_POSITIONS)


def _alone(model: FrozenModel, share: Share, rows: Sequence[OwnedRow], total: int, pad_id: int) -> Tensor:
    """What a micro-batch of the only share adds to its loss: a scalar."""
    own = [each.row for each in rows]
    loss = target_loss(model, share.vectors_PH, own, share.position, pad_id=pad_id)
    # A model that is spread over several GPUs says its loss where its head is.
    return loss.to(model.device) * (target_tokens(own) / total)


def _together(
    model: FrozenModel, shares: Sequence[Share], rows: Sequence[OwnedRow], totals: Sequence[int], pad_id: int
) -> Tensor:
    """What a micro-batch of several shares adds to the loss of each, `[K]`."""
    batch = collate(rows, [len(share.vectors_PH) for share in shares], pad_id).to(model.device)
    inputs_BTH = splice(model, batch.ids, torch.cat([share.vectors_PH for share in shares]))
    losses_N = _loss_at(model, inputs_BTH, batch.positions, batch.targets, "none").to(model.device)
    weights_K = torch.tensor([1 / total for total in totals], device=losses_N.device)
    return torch.zeros_like(weights_K).index_add(0, batch.owners, losses_N * weights_K[batch.owners])


def target_loss(
    model: FrozenModel, vectors_PH: Tensor, rows: Sequence[TuningRow], position: Position = "front", *, pad_id: int = 0
) -> Tensor:
    """Mean negative log-likelihood, in nats, of the target tokens of all rows behind the soft prompt: a scalar.

    The head sees the positions that predict a target token, `[N, H]`, never `[B, T, V]`.
    """
    P = len(vectors_PH)
    owned = [OwnedRow(row=row, owner=0, length=P, position=position) for row in rows]
    batch = collate(owned, [P], pad_id).to(model.device)
    return _loss_at(model, splice(model, batch.ids, vectors_PH), batch.positions, batch.targets, "mean")


def _loss_at(
    model: FrozenModel, inputs_BTH: Tensor, positions_N: Tensor, targets_N: Tensor, reduction: Literal["mean", "none"]
) -> Tensor:
    """Negative log-likelihood of the token behind each of some of the `B * T` positions: a scalar, or `[N]`."""
    head = model.head
    if head is not None and head.is_linear:
        hidden_NH = model.hidden_at(inputs_BTH, positions_N)
        return linear_cross_entropy(hidden_NH, head.weight, targets_N.to(hidden_NH.device), reduction=reduction)
    logits_NV = model.logits_at(inputs_BTH, positions_N)
    if logits_NV.dtype != torch.float64:
        logits_NV = logits_NV.float()
    return F.cross_entropy(logits_NV, targets_N.to(logits_NV.device), reduction=reduction)


def splice(model: FrozenModel, ids: Tensor, vectors_PH: Tensor) -> Tensor:
    """Embeddings of tokens and, where an id is `~p`, row p of the vectors in the model's dtype: `[..., H]`."""
    if model.embedding_table is not None:
        return splice_embeds(model.embedding_table, vectors_PH, ids)
    embedded = model.embed(ids.clamp(min=0))
    places = (ids < 0).nonzero(as_tuple=True)
    return embedded.index_put(places, vectors_PH[~ids[places]].to(embedded.dtype))
