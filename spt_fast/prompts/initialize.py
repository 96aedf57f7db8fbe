"""Where the vectors of a soft prompt start."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import cycle, islice

import numpy as np
import numpy.typing as npt

from spt_fast.config import AUTO, Vectors
from spt_fast.errors import DataError
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.types import Vocabulary

FREQUENT = 5000
"""Tokens that a `root_mean_square` is taken over."""


def initialize(
    config: Vectors,
    hidden_size: int,
    seed: int,
    vocabulary: Vocabulary | None = None,
    *,
    answers: Sequence[str] = (),
    given: SoftPrompt | None = None,
) -> npt.NDArray[np.float32]:
    """Vectors before the first step, `[P, H]`, a function of the arguments alone.

    `init: normal` is N(0, init_std^2), by default with the spread of the vocabulary's own embeddings. `uniform`,
    `vocabulary` and `answers` are the starts of Lester et al. (arXiv 2104.08691, section 3.2): U(-init_range, init_range);
    tokens drawn from the most frequent ones, without replacement as long as there are any; the answers, each the mean of its
    tokens, with drawn tokens behind them. `text` begins again where it is shorter than P, as in PEFT.

    Args:
        config: `init` and what goes with it, and the length `P`.
        hidden_size: `H`.
        seed: of whatever is drawn.
        vocabulary: the model's; `uniform`, `soft_prompt`, and `normal` with a number for `init_std`, do without it.
        answers: of `init: answers`: the task's answer words; those behind the P-th are left out.
        given: of `init: soft_prompt`: the vectors to start from.

    Raises:
        DataError: no answer words; a text without tokens; a soft prompt of other length or width.
    """
    if config.init == "normal":
        return (_spread(config, vocabulary) * _random(seed).standard_normal((config.length, hidden_size))).astype(np.float32)
    if config.init == "uniform":
        return _random(seed).uniform(-config.init_range, config.init_range, (config.length, hidden_size)).astype(np.float32)
    if config.init == "soft_prompt":
        assert given is not None
        return _fitting(given, config, hidden_size)
    assert vocabulary is not None
    if config.init == "text":
        return vocabulary.embed(_cycled(vocabulary.text_ids(config.init_text or ""), config))
    rows_PH = vocabulary.embed(_drawn(vocabulary.frequent_ids(config.init_tokens), config.length, seed))
    if config.init == "answers":
        if not answers:
            raise DataError("init: answers needs tuning rows to take the answer words from, and there are none")
        for row_H, answer in zip(rows_PH, answers, strict=False):
            row_H[:] = vocabulary.embed(vocabulary.answer_ids(answer)).mean(axis=0)
    return rows_PH


def _random(seed: int) -> np.random.RandomState:
    # NumPy promises RandomState's numbers for ever, those of its newer generators only within a version.
    words = np.frombuffer(hashlib.sha256(f"soft prompt {seed}".encode()).digest(), dtype="<u4")
    return np.random.RandomState(words.tolist())


def root_mean_square(vocabulary: Vocabulary) -> float:
    """Of what enters the model for a frequent token, over all its numbers: the unit of starts and rates."""
    rows_NH = vocabulary.embed(vocabulary.frequent_ids(FREQUENT))
    if not rows_NH.size:
        raise DataError("the tokenizer has no tokens that are text by themselves; give lr and init_std as numbers")
    return float(np.sqrt(np.square(rows_NH, dtype=np.float64).mean()))


def _spread(config: Vectors, vocabulary: Vocabulary | None) -> float:
    if config.init_std != AUTO:
        return config.init_std
    assert vocabulary is not None
    return root_mean_square(vocabulary)


def _drawn(ids: Sequence[int], length: int, seed: int) -> list[int]:
    """`length` of these ids, none a second time before all were there."""
    if not ids:
        raise DataError("the tokenizer has no tokens that are text by themselves; use init: normal")
    return list(islice(cycle(_random(seed).permutation(ids).tolist()), length))


def _cycled(ids: Sequence[int], config: Vectors) -> list[int]:
    if not ids:
        raise DataError(f"{config.name}.init_text: {config.init_text!r} has no tokens to start from")
    return list(islice(cycle(ids), config.length))


def _fitting(given: SoftPrompt, config: Vectors, hidden_size: int) -> npt.NDArray[np.float32]:
    if given.vectors.shape != (config.length, hidden_size):
        raise DataError(
            f"{config.name}.init_from: {config.init_from} is {given.length} vectors of {given.hidden_size} numbers, where "
            f"{config.length} (length) of {hidden_size} (the model's width) are wanted; name one that was learnt for this model"
        )
    return given.vectors
