"""Whether a training taught anything."""

from __future__ import annotations

import random

from spt_fast.scoring.learning import has_fallen, loss_fall
from spt_fast.types import TrainingStep


def curve(losses: list[float]) -> list[TrainingStep]:
    return [TrainingStep(step=i + 1, loss=loss, grad_norm=1.0) for i, loss in enumerate(losses)]


def test_a_loss_that_falls_is_told_from_one_that_only_wavers() -> None:
    rng = random.Random(0)
    taken_for_learning = 0
    for _ in range(200):
        wavering = [3.2 + rng.gauss(0, 0.4) for _ in range(80)]
        taken_for_learning += bool(has_fallen(loss_fall(curve(wavering))))
        falling = [3.2 + 1.5 * 0.9**i + rng.gauss(0, 0.2) for i in range(80)]
        assert has_fallen(loss_fall(curve(falling)))
    assert taken_for_learning <= 12, "about one in forty of a one-sided test at two standard errors"


def test_a_training_of_a_few_steps_is_not_judged() -> None:
    assert loss_fall(curve([3.0, 2.0, 1.0])) == {}
    assert has_fallen({}) is None


def test_the_fall_is_of_means_and_the_error_of_both() -> None:
    found = loss_fall(curve([4.0, 2.0, 1.0, 1.0, 1.0, 1.0, 0.5, 1.5]))
    assert found["loss_fall"] == 3.0 - 1.0
    assert found["loss_fall_stderr"] == (0.5 / 2 + 0.5 / 2) ** 0.5
