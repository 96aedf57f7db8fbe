"""What the tracking clients share: how a missing package and a client's own failure are told, and what of a cell is logged."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from spt_fast.analysis.cells import RunCell
from spt_fast.errors import ConfigError, SptError, first_line


@contextmanager
def needing(package: str) -> Iterator[None]:
    """Around the import of an optional package.

    Raises:
        ConfigError: it is not installed, or lacks what it needs itself.
    """
    try:
        yield
    except ModuleNotFoundError as e:
        if e.name != package:
            raise ConfigError(f"--format {package}: {package} cannot be imported: {first_line(e)}; install it anew") from None
        raise ConfigError(f"--format {package}: the package {package} is not installed; pip install {package}") from None


@contextmanager
def asking(package: str) -> Iterator[None]:
    """Tell a client's failure in a sentence.

    Raises:
        ConfigError: with what the client says.
    """
    try:
        yield
    except (SptError, KeyboardInterrupt):
        raise
    except Exception as e:
        raise ConfigError(f"--format {package}: {type(e).__name__}: {first_line(e)}") from e


def config_of(cell: RunCell) -> dict[str, Any]:
    """Where in the grid a cell is, and the settings of its protocol."""
    return {
        **cell.place._asdict(),
        **{f"protocol.{name}": value for name, value in cell.key_settings.items() if value is not None},
    }


def curve(cell: RunCell) -> dict[int, dict[str, float]]:
    """Step -> number by name: metrics where they were measured, the loss of every step. Step 0 where there are no steps."""
    points: dict[int, dict[str, float]] = {step: {"train_loss": loss} for step, loss in cell.losses().items()}
    for step, metrics in cell.metrics.items():
        point = points.setdefault(step or 0, {})
        for m in metrics:
            numbers = {"": m.value, "_stderr": m.stderr, "_ci_low": m.ci_low, "_ci_high": m.ci_high}
            point |= {f"{m.name}{end}": value for end, value in numbers.items() if math.isfinite(value)}
    return dict(sorted(points.items()))
