"""Where vectors start: a function of the seed and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from spt_fast.config import SoftPromptConfig
from spt_fast.prompts.initialize import initialize

STARTS_AT = [-0.004088998, 0.025761891, 0.012569527, 0.013457223]


def test_the_start_is_a_function_of_the_seed_whatever_the_global_state() -> None:
    config = SoftPromptConfig()
    np.random.seed(1)
    first = initialize(config, 64, 0)
    np.random.seed(2)
    assert (initialize(config, 64, 0) == first).all()
    assert not (initialize(config, 64, 1) == first).any()


def test_the_start_leaves_the_global_state_alone() -> None:
    np.random.seed(1)
    expected = np.random.rand()
    np.random.seed(1)
    initialize(SoftPromptConfig(), 64, 0)
    assert np.random.rand() == expected


def test_the_start_is_the_same_on_every_machine() -> None:
    """Written down once: a change here changes every result of the same seed."""
    start = initialize(SoftPromptConfig(length=1), 4, 0)
    assert start.tolist()[0] == pytest.approx(STARTS_AT, abs=1e-8)


def test_normal_has_the_deviation_asked_for() -> None:
    start = initialize(SoftPromptConfig(length=100, init_std=0.02), 1000, 0)
    assert start.shape == (100, 1000)
    assert start.dtype == np.float32
    assert start.mean() == pytest.approx(0, abs=2e-4)
    assert start.std() == pytest.approx(0.02, rel=0.01)
