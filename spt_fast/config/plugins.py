"""What installed packages add by entry points: tasks, protocols, engines, metrics, exports, optimisers, executors, sections.

    [project.entry-points."spt_fast.protocols"]
    thinking = "my_package.thinking:Thinking"

Nothing of a package is imported before it is named.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from spt_fast.errors import ConfigError, in_words

T = TypeVar("T")

TASKS: Final = "spt_fast.tasks"
PROTOCOLS: Final = "spt_fast.protocols"
ENGINES: Final = "spt_fast.engines"
EXPORTS: Final = "spt_fast.exports"
METRICS: Final = "spt_fast.metrics"
OPTIMIZERS: Final = "spt_fast.optimizers"
EXECUTORS: Final = "spt_fast.executors"
SECTIONS: Final = "spt_fast.sections"


@cache
def offered(group: str) -> Mapping[str, EntryPoint]:
    """The entry points of a group, by name; looked up once."""
    return {point.name: point for point in sorted(entry_points(group=group), key=lambda point: point.value)}


def place_of(point: EntryPoint, what: str) -> str:
    """How an error names what a package offers: "task rivers (rivers:TASK of my-package)"."""
    return f"{what} {point.name} ({point.value} of {point.dist.name if point.dist else 'a package'})"


def load(point: EntryPoint, what: str) -> Any:
    """What an entry point names.

    Raises:
        ConfigError: it cannot be imported.
    """
    try:
        return point.load()
    except (Exception, SystemExit) as e:
        module = sys.modules.get(point.module)
        if isinstance(e, AttributeError) and module is not None and not hasattr(module, point.attr.partition(".")[0]):
            raise ConfigError(f"{place_of(point, what)}: {point.module} has no {point.attr}; mend the entry point") from None
        said = str(e) if isinstance(e, ConfigError) else in_words(e)
        raise ConfigError(f"{place_of(point, what)}: cannot be imported ({said}); fix or remove the package") from None


def source_of(point: EntryPoint) -> tuple[Path, bytes]:
    """The file of what was loaded, and its content; where there is none to read, the release stands for it."""
    file = Path(getattr(sys.modules.get(point.module), "__file__", None) or "")
    try:
        return file, file.read_bytes()
    except OSError:  # inside an archive, or made by code
        return file, f"{point.value} {point.dist.version if point.dist else ''}".encode()


class Plugins(Mapping[str, T], Generic[T]):
    """Ours by name, in their order; then those that installed packages offer, which cannot take a name of ours."""

    def __init__(
        self, group: str, what: str, ours: Mapping[str, T | str], check: Callable[[str, Any], T] | None = None
    ) -> None:
        """Name them.

        Args:
            group: of the entry points.
            what: one of them, in words: "protocol".
            ours: name -> the thing, or where it is ("module:attribute"), to be imported when it is asked for.
            check: name and what a package offers by it -> the thing; raises ConfigError with what is wrong with it.
        """
        self.group, self.what = group, what
        self._ours, self._check = ours, check
        self._loaded: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        """The thing.

        Raises:
            KeyError: there is none of that name.
            ConfigError: a package offers it, and it cannot be used.
        """
        if name not in self._loaded:
            self._loaded[name] = self._of_ours(name) if name in self._ours else self._of_package(offered(self.group)[name])
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        """Whether there is one of that name; nothing is imported."""
        return isinstance(name, str) and (name in self._ours or name in offered(self.group))

    def __iter__(self) -> Iterator[str]:
        """Their names."""
        yield from self._ours
        yield from (name for name in sorted(offered(self.group)) if name not in self._ours)

    def __len__(self) -> int:
        """How many there are."""
        return len(list(iter(self)))

    @property
    def ours(self) -> tuple[str, ...]:
        """The names that need no package."""
        return tuple(self._ours)

    @property
    def theirs(self) -> tuple[str, ...]:
        """The names that packages offer."""
        return tuple(name for name in self if name not in self._ours)

    def code(self, name: str) -> str:
        """Content hash of the module that a package offers it by; empty for ours, whose changes `RESULTS_VERSION` tells."""
        if name in self._ours:
            return ""
        self[name]
        return hashlib.sha256(source_of(offered(self.group)[name])[1]).hexdigest()[:16]

    def _of_ours(self, name: str) -> T:
        found = self._ours[name]
        if not isinstance(found, str):
            return found
        module, _, attribute = found.partition(":")
        thing: T = getattr(import_module(module), attribute)
        return thing

    def _of_package(self, point: EntryPoint) -> T:
        found: T = load(point, self.what)
        try:
            return found if self._check is None else self._check(point.name, found)
        except ConfigError as e:
            raise e.within(place_of(point, self.what)) from None


def callable_(name: str, found: Any) -> Any:
    """What a package offers, where it must be a function.

    Raises:
        ConfigError: it is none.
    """
    if not callable(found):
        raise ConfigError(f"is {type(found).__name__}, and must be a function")
    return found
