"""Rows to batches: in an order that a seed gives, rows of like length together, padded on the right."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from spt_fast.errors import DataError
from spt_fast.types import Position, before_soft

POOL = 16
"""Batches' worth of rows that are sorted by length together: enough to lose little to padding, and still shuffled. Of what is
computed for batches of 8 rows of GSM8K, SQuAD, TriviaQA, MATH, MMLU and Belebele, 3 to 12 % is padding (unsorted 21 to 55)."""

PASS_POSITIONS = 512
"""What a forward and backward pass costs before it has any rows, in positions: the launches of its kernels. With this, twelve
soft prompts of one of those tasks have 7 to 10 % padding and 2 to 6 passes a step; in one pass it would be 34 to 68 %."""

PASS_POSITIONS_ON_CPU = 64
"""The same on a CPU, which it takes to read the weights."""


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
class OwnedRow:
    """A row of one of several soft prompts."""

    row: TuningRow
    owner: int
    """Which one."""
    length: int
    """Its soft positions, `P`."""
    position: Position

    def __len__(self) -> int:
        """Positions in a batch, soft ones included."""
        return self.length + len(self.row)


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Rows of one or several soft prompts as tensors, their vectors among the tokens."""

    ids: Tensor
    """`[B, T]` int64, filled up on the right; `~s` stands for vector s, of all soft prompts one behind the other."""
    targets: Tensor
    """`[N]` int64: the target tokens of all rows, row after row."""
    positions: Tensor
    """`[N]` int64: which of the `B * T` positions predicts each; before the row's first where nothing stands in front."""
    owners: Tensor
    """`[N]` int64: the soft prompt of each."""

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(**{name: getattr(self, name).to(device) for name in self.__slots__})


def collate(rows: Sequence[OwnedRow], lengths: Sequence[int], pad_id: int = 0) -> Batch:
    """Put rows side by side, `pad_id` on the right of the shorter ones.

    Args:
        rows: in any order, of any of the soft prompts.
        lengths: the soft positions of each soft prompt, in the order in which their vectors stand one behind the other.
        pad_id: any token; nothing that counts sees it.
    """
    width = max(len(each) for each in rows)
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    begin = [0, *accumulate(lengths)]
    targets: list[int] = []
    positions: list[int] = []
    owners: list[int] = []
    for i, each in enumerate(rows):
        tokens = (*each.row.prompt_ids, *each.row.target_ids[:-1])
        head = before_soft(each.position, len(each.row.prompt_ids))
        ids[i, :head] = tokens[:head]
        ids[i, head + each.length : len(each)] = tokens[head:]
        ids[i, head : head + each.length] = ~np.arange(begin[each.owner], begin[each.owner + 1])
        # Whatever the position, what predicts a target token stands P places to the right of where it was without vectors.
        first = i * width + each.length + len(each.row.prompt_ids) - 1
        targets += each.row.target_ids
        positions += range(first, first + len(each.row.target_ids))
        owners += [each.owner] * len(each.row.target_ids)
    return Batch(
        ids=torch.from_numpy(ids),
        targets=torch.tensor(targets),
        positions=torch.tensor(positions),
        owners=torch.tensor(owners),
    )


def target_tokens(rows: Sequence[TuningRow]) -> int:
    """How many tokens are learnt from."""
    return sum(len(row.target_ids) for row in rows)


def cut_evenly(rows: int, most_rows: int) -> list[int]:
    """Cut rows into micro-batches as they come: how many each of them has."""
    return [min(most_rows, rows - begin) for begin in range(0, rows, most_rows)]


def cut_by_length(widths: Sequence[int], most_rows: int, pass_positions: int = PASS_POSITIONS) -> list[int]:
    """Cut rows, the longest first, into micro-batches such that least is computed: how many rows each of them has.

    A row costs as many positions as the longest of its micro-batch has, and a micro-batch `pass_positions` beside.

    Args:
        widths: of each row, not rising.
        most_rows: of a micro-batch.
        pass_positions: see `PASS_POSITIONS`.
    """
    wide = np.asarray(widths, dtype=np.float64)
    least, begins = np.zeros(len(wide) + 1), np.zeros(len(wide) + 1, dtype=np.int64)
    for end in range(1, len(wide) + 1):
        starts = np.arange(max(0, end - most_rows), end)
        costs = least[starts] + pass_positions + (end - starts) * wide[starts]
        begins[end] = starts[best := int(costs.argmin())]
        least[end] = costs[best]
    sizes, end = [], len(wide)
    while end:
        sizes.append(end - int(begins[end]))
        end = int(begins[end])
    return sizes[::-1]


def batches(rows: Sequence[TuningRow], batch_size: int, *, seed: int, last: Sequence[int] = ()) -> Iterator[list[TuningRow]]:
    """Batches without end, each of `batch_size` rows (all rows, where there are fewer): a function of the arguments.

    Every row comes once an epoch. Where an epoch does not divide, its last rows wait and open the next epoch's first
    batch, together with as many rows of that one as are missing. The rows `last` (by number) stand at the end of the first
    epoch, in this order, so that who learns on fewer rows than there are leaves the last of them alone.

    Raises:
        DataError: there are no rows.
    """
    if not rows:
        raise DataError("there are no rows to tune on")
    return _batches(rows, min(batch_size, len(rows)), seed, last)


def _batches(rows: Sequence[TuningRow], size: int, seed: int, last: Sequence[int]) -> Iterator[list[TuningRow]]:
    waiting: list[TuningRow] = []
    epoch = 0
    while True:
        # A string seeds by its hash, so neighbouring seeds have nothing in common.
        rng = random.Random(f"tuning rows {seed} {epoch}")
        kept = [] if epoch else list(last)
        later = set(kept)
        order = [row for i, row in enumerate(rows) if i not in later]
        rng.shuffle(order)
        if waiting:
            missing = size - len(waiting)
            yield waiting + order[:missing]
            order = order[missing:]
        whole = len(order) - len(order) % size
        yield from _bucketed(order[:whole], size, rng)
        waiting = order[whole:] + [rows[i] for i in kept]
        while len(waiting) >= size and kept:
            yield waiting[:size]
            waiting = waiting[size:]
        epoch += 1


def _bucketed(order: list[TuningRow], size: int, rng: random.Random) -> list[list[TuningRow]]:
    """Cut a whole number of batches such that each holds rows of like length; the batches come in random order."""
    cut = []
    for start in range(0, len(order), POOL * size):
        pool = sorted(order[start : start + POOL * size], key=len)
        cut += [pool[i : i + size] for i in range(0, len(pool), size)]
    rng.shuffle(cut)
    return cut
