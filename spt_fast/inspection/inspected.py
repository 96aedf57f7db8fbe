"""Soft prompts that are inspected: what is to be found out, and what is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from spt_fast.prompts.meaning import Meaning, Probe
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.types import Position


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be found out."""

    model: str | None = None
    """Instead of the one that the prompt names."""
    task: str | None = None
    """Instead of the one that the prompt names: whose rows the engine is asked."""
    top: int = 3
    """Nearest tokens that are shown of a vector; at most those that are kept."""
    only: Mapping[str, str] = field(default_factory=dict)
    """Of a run folder: patterns for model, task, protocol, seed."""
    leave_one_out: bool = False
    """Ask the test rows without each of the vectors."""
    as_text: bool = False
    """Ask the test rows behind the nearest tokens."""
    rows: int = 200
    """Test rows that are asked, at most."""
    engine: str | None = None
    """Kind of engine; None: that of the grid, or vLLM."""

    @property
    def asks(self) -> bool:
        """Whether an engine is needed."""
        return self.leave_one_out or self.as_text


@dataclass(kw_only=True)
class Inspected:
    """One soft prompt, and what is known of it."""

    file: str
    prompt: SoftPrompt
    steps: Sequence[int]
    """In the file; none where it does not say."""
    model: str | None
    task: str | None
    protocol: str = "soft_prompt"
    seed: int | None = None
    key: str = ""
    """Of the cell; empty: it is in no run folder."""
    meaning: Meaning | None = None
    probe: Probe | None = None
    note: str = ""
    """Why something is not known."""

    @property
    def position(self) -> Position:
        """Where its vectors stand."""
        return self.prompt.position
