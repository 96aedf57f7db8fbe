"""Rows to batches: in an order that a seed gives, rows of like length together, padded on the right."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spt_fast.errors import DataError

POOL = 16
"""Batches' worth of rows that are sorted by length together: enough to lose little to padding, and still shuffled."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TuningRow:
    """One worked example as token ids."""

    prompt_ids: tuple[int, ...]
    """What the model is given: exactly the ids that it is asked with later, BOS included, soft positions not."""
    target_ids: tuple[int, ...]
    """What it learns to write, the end-of-sequence token included."""

    def __post_init__(self) -> None:
        if not self.target_ids:
            raise DataError("a tuning row without target tokens")

    def __len__(self) -> int:
        """Positions that the row takes in a batch: its last token is predicted, never read."""
        return len(self.prompt_ids) + len(self.target_ids) - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Some rows as tensors."""

    ids: Tensor
    """`[B, T]` int64: prompt and target without its last token, filled up on the right."""
    targets: Tensor
    """`[N]` int64: the target tokens of all rows, row after row."""
    rows: Tensor
    """`[N]` int64: the row of each target token."""
    columns: Tensor
    """`[N]` int64: the column of `ids` whose successor the target token is; -1 where nothing stands before it."""

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(
            ids=self.ids.to(device),
            targets=self.targets.to(device),
            rows=self.rows.to(device),
            columns=self.columns.to(device),
        )


def collate(rows: Sequence[TuningRow], pad_id: int = 0) -> Batch:
    """Put rows side by side, `pad_id` on the right of the shorter ones."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.int64)
    targets: list[int] = []
    places: list[int] = []
    columns: list[int] = []
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor((*row.prompt_ids, *row.target_ids[:-1]), dtype=torch.int64)
        targets += row.target_ids
        places += [i] * len(row.target_ids)
        first = len(row.prompt_ids) - 1
        columns += range(first, first + len(row.target_ids))
    return Batch(
        ids=ids,
        targets=torch.tensor(targets),
        rows=torch.tensor(places),
        columns=torch.tensor(columns),
    )


def batches(rows: Sequence[TuningRow], batch_size: int, *, seed: int) -> Iterator[list[TuningRow]]:
    """Batches without end, each of `batch_size` rows (all rows, where there are fewer): a function of the arguments.

    Every row comes once an epoch. Where an epoch does not divide, its last rows wait and open the next epoch's first
    batch, together with as many rows of that one as are missing.

    Raises:
        DataError: there are no rows.
    """
    if not rows:
        raise DataError("there are no rows to tune on")
    return _batches(rows, min(batch_size, len(rows)), seed)


def _batches(rows: Sequence[TuningRow], size: int, seed: int) -> Iterator[list[TuningRow]]:
    waiting: list[TuningRow] = []
    epoch = 0
    while True:
        # A string seeds by its hash, so neighbouring seeds have nothing in common.
        rng = random.Random(f"tuning rows {seed} {epoch}")
        order = list(rows)
        rng.shuffle(order)
        if waiting:
            missing = size - len(waiting)
            yield waiting + order[:missing]
            order = order[missing:]
        whole = len(order) - len(order) % size
        yield from _bucketed(order[:whole], size, rng)
        waiting = order[whole:]
        epoch += 1


def _bucketed(order: list[TuningRow], size: int, rng: random.Random) -> list[list[TuningRow]]:
    """Cut a whole number of batches such that each holds rows of like length; the batches come in random order."""
    cut = []
    for start in range(0, len(order), POOL * size):
        pool = sorted(order[start : start + POOL * size], key=len)
        cut += [pool[i : i + size] for i in range(0, len(pool), size)]
    rng.shuffle(cut)
    return cut
