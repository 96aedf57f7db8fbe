"""What a check is, what it is given, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

State: TypeAlias = Literal["good", "slow", "bad", "absent", "late"]
"""`good`: right, and as fast as wanted. `slow`: right, and not. `bad`: wrong, or dead. `absent`: this machine is not of the
kind that has it. `late`: the time was over before."""

Size: TypeAlias = Literal["tiny", "quick", "full"]
"""Of what is measured: seconds on a CPU, three minutes on a GPU, ten."""

Measured: TypeAlias = dict[str, Any]
"""What a check saw, by name; as JSON has it."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a check is run with. It travels to the check's process as JSON."""

    device: Literal["cuda", "cpu"]
    size: Size
    scratch: str
    """A folder that all checks share: models that one has made, and the caches of compilers."""
    measured: Mapping[str, Measured] = field(default_factory=dict)
    """What the checks before have measured, by name."""

    def rate(self, name: str) -> float | None:
        """A rate that this machine was measured to have; None: that check did not end."""
        value = self.measured.get("rates", {}).get(name)
        return None if value is None else float(value)


@dataclass(frozen=True)
class Verdict:
    """What was measured, judged."""

    state: State
    said: str
    """In words and numbers."""
    mend: str | None = None
    """What to do, where it is not what the check says."""


Need: TypeAlias = Callable[[Given], Verdict | None]
"""What is missing for a check; None: nothing."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that a machine does, or does not."""

    name: str
    run: Callable[[Given], Measured]
    """Measures, in a process of its own: a function of a module, found there by its name."""
    judge: Callable[[Measured, Given], Verdict]
    """What that means; here, where nothing can die of it."""
    mend: str
    """What to do where it is bad."""
    needs: tuple[Need, ...] = ()
    limit_s: float = 60.0
    """Seconds after which its process is ended."""
    least_s: float = 5.0
    """Seconds below which it is not begun."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of a check."""

    check: str
    state: State
    said: str
    mend: str
    """Empty where nothing is to be mended."""
    measured: Measured
    seconds: float
