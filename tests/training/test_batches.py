"""Batches: every row once an epoch, in an order that the seed gives."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest
import torch

from spt_fast.errors import DataError
from spt_fast.training.batches import OwnedRow, TuningRow, batches, collate


def rows(count: int) -> list[TuningRow]:
    """Rows that can be told apart by their first token, of lengths 1 to 20 in no order."""
    return [TuningRow(prompt_ids=(i,) * (1 + 7 * i % 20), target_ids=(i,)) for i in range(count)]


def names(batch: list[TuningRow]) -> list[int]:
    return [row.target_ids[0] for row in batch]


@pytest.mark.parametrize("count", [8, 16, 21, 50, 300])
def test_every_row_comes_once_an_epoch(count: int) -> None:
    epochs = 5
    stream = (name for batch in islice(batches(rows(count), 8, seed=0), count * epochs // 8 + 1) for name in names(batch))
    seen = list(islice(stream, count * epochs))
    for start in range(0, len(seen), count):
        assert sorted(seen[start : start + count]) == list(range(count))


@pytest.mark.parametrize("count", [8, 21, 50])
def test_every_update_sees_batch_size_rows(count: int) -> None:
    assert {len(batch) for batch in islice(batches(rows(count), 8, seed=0), 40)} == {8}


def test_fewer_rows_than_a_batch_are_all_in_every_update() -> None:
    for batch in islice(batches(rows(5), 8, seed=0), 10):
        assert sorted(names(batch)) == [0, 1, 2, 3, 4]


def test_the_order_is_a_function_of_the_seed() -> None:
    def order(seed: int) -> list[list[int]]:
        return [names(batch) for batch in islice(batches(rows(50), 8, seed=seed), 30)]

    assert order(0) == order(0)
    assert order(0) != order(1)


def test_epochs_differ_in_order() -> None:
    stream = batches(rows(40), 8, seed=0)
    first, second = ([names(next(stream)) for _ in range(5)] for _ in range(2))
    assert first != second


def test_rows_of_like_length_are_together() -> None:
    """Padding is a small part of the batches; in random order it is about a third."""
    padded = real = 0
    for batch in islice(batches(rows(320), 8, seed=0), 40):
        lengths = [len(row) for row in batch]
        padded += len(batch) * max(lengths)
        real += sum(lengths)
    assert padded / real < 1.1


def test_long_and_short_batches_come_in_random_order() -> None:
    lengths = [max(map(len, batch)) for batch in islice(batches(rows(320), 8, seed=0), 40)]
    assert lengths != sorted(lengths)


def test_the_same_row_twice_is_two_rows() -> None:
    twice = [*rows(6), *rows(6)]
    seen = Counter(name for batch in islice(batches(twice, 4, seed=0), 3) for name in names(batch))
    assert set(seen.values()) == {2}


def test_no_rows_are_refused_at_once() -> None:
    with pytest.raises(DataError, match="there are no rows to tune on"):
        batches([], 8, seed=0)


def test_a_row_without_a_target_is_refused() -> None:
    with pytest.raises(DataError, match="without target tokens"):
        TuningRow(prompt_ids=(1,), target_ids=())


def test_collating_pads_on_the_right_and_says_where_each_target_is_predicted() -> None:
    longer, shorter = TuningRow(prompt_ids=(1, 2), target_ids=(3, 9)), TuningRow(prompt_ids=(4,), target_ids=(9,))
    rows = [
        OwnedRow(row=longer, owner=0, length=1, position="front"),
        OwnedRow(row=shorter, owner=1, length=2, position="after_bos"),
        OwnedRow(row=longer, owner=1, length=2, position="end"),
    ]
    batch = collate(rows, [1, 2], pad_id=7)
    assert batch.ids.tolist() == [[~0, 1, 2, 3, 7], [4, ~1, ~2, 7, 7], [1, 2, ~1, ~2, 3]]
    assert batch.targets.tolist() == [3, 9, 9, 3, 9]
    assert batch.positions.tolist() == [2, 3, 5 + 2, 10 + 3, 10 + 4]
    assert batch.owners.tolist() == [0, 0, 1, 1, 1]
    assert batch.ids.dtype == batch.targets.dtype == torch.int64
