"""What arguments mean: patterns, lists, numbers, and the grid that a mistake is in."""

from __future__ import annotations

from pathlib import Path

from spt_fast.errors import ConfigError


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
        if isinstance(error, ConfigError) and not str(error).startswith(("--", f"{self.file}:")):
            raise ConfigError(f"{self.file}: {error}") from None
