"""What came of asking vLLM and Transformers the same, for people and for an exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spt_fast.engine.noise import Bound, Spread


@dataclass(frozen=True, kw_only=True)
class Held:
    """The differences of a group's log-probabilities, and what they are held against."""

    group: str
    found: Spread
    noise: Mapping[str, Spread]
    """By `Repeat.said`."""
    allowed: Bound

    def text(self) -> str:
        """One line."""
        noise = "; ".join(f"{said} {each}" for said, each in self.noise.items())
        return f"{self.group}: {self.found} in {self.found.n} tokens, {self.allowed} allowed; {noise}"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One request that was answered differently."""

    name: str
    near_tie: bool
    """Whether rounding explains it."""
    said: str
    """What differs, in words."""


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What came of asking both."""

    subject: str
    """Model, dtype and versions, in words."""
    completions: int
    scores: int
    differences: tuple[Difference, ...]
    """Of completions."""
    score_differences: tuple[Difference, ...]
    """Of log-likelihoods, beyond what rounding explains."""
    largest_nats: float
    """Largest difference of a token's log-probability; 0 where no log-likelihood was asked for."""
    tolerance_nats: float | None
    """What it may be; None: it is held against measured noise."""
    held: tuple[Held, ...] = ()
    """In half precision, group by group."""

    @property
    def passed(self) -> bool:
        """Whether everything is equal, but for near ties and rounding."""
        return not self.score_differences and all(difference.near_tie for difference in self.differences)

    def text(self) -> str:
        """For people: what was compared, how it came out, and every difference."""
        ties = sum(difference.near_tie for difference in self.differences)
        wrong = len(self.differences) - ties
        parts = [f"{self.completions - len(self.differences)} equal in tokens and text"]
        if ties:
            parts.append(f"{ties} {'differs' if ties == 1 else 'differ'} first at a near tie")
        if wrong:
            parts.append(f"{wrong} {'differs' if wrong == 1 else 'differ'} where rounding does not explain it")
        lines = [
            self.subject,
            f"{self.completions + self.scores} requests",
            f"  {self.completions} completions: {', '.join(parts)}",
            f"  {self.scores} log-likelihoods: largest difference {self.largest_nats:.2g} nats a token"
            + (f" ({self.tolerance_nats:g} allowed)" if self.tolerance_nats is not None else ""),
        ]
        if self.held:
            lines.append(
                "  in half precision the same model differs from itself, so the difference of the engines (root mean square of "
                "the tokens, in nats) is held against that, measured on the same tokens:"
            )
        lines += [f"    {held.text()}" for held in self.held]
        lines += [f"  {difference.name}: {difference.said}" for difference in (*self.differences, *self.score_differences)]
        lines.append("vLLM and Transformers agree" if self.passed else "vLLM and Transformers DISAGREE")
        return "\n".join(lines)
