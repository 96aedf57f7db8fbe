"""What arguments mean: patterns, lists, numbers, and the grid that a mistake is in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spt_fast.errors import ConfigError

if TYPE_CHECKING:
    from spt_fast.config import GridConfig


def parse_only(text: str | None) -> dict[str, str]:
    """model=zoo/*,task=zoo-mcq -> {"model": "zoo/*", "task": "zoo-mcq"}"""
    patterns: dict[str, str] = {}
    for part in (text or "").split(","):
        if part.strip():
            key, equals, pattern = part.partition("=")
            if not equals or not pattern.strip():
                raise ConfigError(f"--only: {part.strip()!r} must be KEY=PATTERN, like task=zoo-mcq")
            patterns[key.strip()] = pattern.strip()
    return patterns


def parse_samples(text: str | None) -> int | None:
    """all -> None, 500 -> 500"""
    if text in (None, "all"):
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--samples: {text!r} must be a number of rows, or all")
    return int(text)


def parse_list(text: str | None) -> list[str]:
    """a,b -> ["a", "b"]"""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


class Named:
    """Put the grid's file in front of what is wrong with the grid."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ConfigError):
            raise error.reworded(self._named) from None

    def _named(self, sentence: str) -> str:
        return sentence if sentence.startswith(("--", f"{self.file}:")) else f"{self.file}: {sentence}"


def grid_of(file: Path, *, models: Sequence[Any] = ()) -> GridConfig:
    """A grid from its file; or all that is wrong with it, also with what its entries name.

    Args:
        file: YAML.
        models: checkpoints that somebody else names: what the grid says of its models is then not looked for.

    Raises:
        ConfigError: a sentence each.
    """
    from spt_fast.config.reader import read_grid
    from spt_fast.plan import wrong_entries

    found = read_grid(file, models=models)
    if found.grid is None:
        raise ConfigError(
            *found.wrong, *(f"{file}: {wrong}" for wrong in wrong_entries({} if models else found.models, found.tasks))
        )
    return found.grid
