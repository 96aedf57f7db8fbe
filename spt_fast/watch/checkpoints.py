"""The checkpoints that a pattern names: "/checkpoints/run7/step-*" is every folder in run7 that matches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spt_fast.config.output import at_home
from spt_fast.errors import ConfigError
from spt_fast.models.faults.files import is_there
from spt_fast.models.hub import natural
from spt_fast.models.whole import is_begun

_WILD = frozenset("*?[")


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """Where checkpoints appear."""

    base: Path
    """The folder that they are in; it need not be there yet."""
    pattern: str
    """Inside of it: "step-*"."""

    @property
    def series(self) -> str:
        """As a grid with `checkpoints: step-*` calls it (`Model.series`)."""
        return f"{self.base}/{self.pattern}"

    def name(self, folder: Path) -> str:
        """A checkpoint within the base: "step-7"."""
        return folder.relative_to(self.base).as_posix()

    def found(self) -> list[Path]:
        """The folders that match and have anything of a model in them, in natural order."""
        try:
            there = [path for path in self.base.glob(self.pattern) if self._is_meant(path)]
        except OSError as e:
            raise ConfigError(f"{self.base}: cannot be read: {e.strerror or e}") from None
        return sorted(there, key=lambda path: natural(self.name(path)))

    def _is_meant(self, path: Path) -> bool:
        return not path.name.startswith((".", "tmp-")) and not path.name.endswith(".tmp") and path.is_dir() and is_begun(path)


def pattern_of(text: str) -> Pattern:
    """What a user names: a pattern, or the folder that the checkpoints are in.

    Raises:
        ConfigError: it is one checkpoint, or no place of this machine.
    """
    if "://" in text:
        raise ConfigError(f"{text}: checkpoints are watched in a folder of this machine; mount it, and name the folder")
    place = at_home(text)
    parts = place.parts
    wild = next((i for i, part in enumerate(parts) if _WILD & set(part)), len(parts))
    base = Path(*parts[:wild]).absolute() if wild else Path.cwd()
    if ".." in parts[wild:]:
        raise ConfigError(f"{text}: '..' must not stand behind the pattern")
    if base.is_file():
        raise ConfigError(f"{text}: {base} is a file; name the folder that the checkpoints are in")
    if wild == len(parts) and is_there(base / "config.json"):
        raise ConfigError(
            f"{text}: is one checkpoint; name those to come by a pattern in quotation marks, like '{base.parent}/step-*'"
        )
    return Pattern(base=base, pattern="/".join(parts[wild:]) or "*")
