"""The context window: whether a model has positions enough for prompts and completions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from spt_fast.types import Completion

MOST_CUT = 0.05
"""Share of a cell's completions that may be cut off by the context window. With more, the scores would be the window's."""


@dataclass
class ContextWindow:
    """Whether the model's positions were enough for a cell's prompts and for what the task allows to write behind them."""

    wanted: int
    """The task's `max_tokens`."""
    positions: int = 0
    """That the model has for one request (`max_model_len`)."""
    longest: int = 0
    """Positions of the longest prompt, soft ones included."""
    prompts: int = 0
    short: int = 0
    """Prompts that leave fewer positions than are wanted."""
    answered: Counter[int | None] = field(default_factory=Counter)
    """Completions by step."""
    cut: Counter[int | None] = field(default_factory=Counter)
    """Those of them that ended because no position was left, while the task allows more tokens."""

    def tokens_left(self, prompt: int, positions: int) -> int:
        """How many tokens may be written behind a prompt of so many positions."""
        self.positions, self.longest = positions, max(prompt, self.longest)
        self.prompts += 1
        self.short += positions - prompt < self.wanted
        return min(self.wanted, positions - prompt)

    def observe(self, step: int | None, completion: Completion) -> None:
        """Count a completion, and whether it was cut off."""
        self.answered[step] += 1
        self.cut[step] += completion.finish_reason == "length" and len(completion.token_ids) < self.wanted

    @property
    def warning(self) -> str:
        """That some prompts leave fewer positions than are wanted, in words; empty: none do. Known before the first answer."""
        if not self.short:
            return ""
        return (
            f"{self.short:,} of {self.prompts:,} prompts leave less room than the task's max_tokens of {self.wanted} "
            f"(max_model_len is {self.positions:,} tokens, the longest prompt has {self.longest:,})"
        )

    def fault(self, *, fix: str) -> str:
        """Why the completions say too little of the model to be scored; empty where they do not.

        Args:
            fix: what to do about it.
        """
        worst = max(self.cut, key=lambda step: self.cut[step] / self.answered[step], default=None)
        cut, answered = self.cut[worst], self.answered[worst]
        if not answered or cut <= MOST_CUT * answered:
            return ""
        at = "" if worst is None else f" at step {worst}"
        return (
            f"{cut:,} of {answered:,} completions{at} were cut off for want of room: max_model_len is {self.positions:,} "
            f"tokens, the longest prompt has {self.longest:,}, and the task's max_tokens is {self.wanted}; {fix}"
        )

    def more_positions(self, options: Mapping[str, object]) -> str:
        """What makes room for whole completions, in words.

        Args:
            options: of the engine.
        """
        needed = self.longest + self.wanted
        less = "use shorter prompts (fewer shots), a lower max_tokens, or a model of more positions"
        if "max_model_len" in options:
            return f"set engine: {{max_model_len: {needed}}} or more, if the model has as many positions, or {less}"
        return f"{needed:,} are needed; {less}"
