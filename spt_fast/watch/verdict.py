"""What is said of a checkpoint, as it is kept in the run folder and sent to who is told."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["first", "pass", "fail", "undecided", "same", "broken"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is said of a checkpoint. Its fields are the JSON."""

    id: str
    """The same each time that this is told: of the series, the checkpoint and its weights."""
    checkpoint: str
    """As tables call it: "run7/step-7"."""
    verdict: Kind
    """`first`: there is nothing to hold it against, so it is accepted; `pass`, `fail`, `undecided`: the gate's; `same`: it has
    the weights of another one; `broken`: it cannot be evaluated."""
    accepted: bool
    """Whether later checkpoints are held against it."""
    baseline: str | None = None
    """What it was held against; None: nothing."""
    why: str = ""
    """A sentence."""
    text: str = ""
    """All of it in a line or two, for people."""
    findings: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    """Of the gate: a mapping a check, as `gate --json` has them."""
    fault: str | None = None
    """What the series says: `none`, `knowledge`, `form`, `both`, `undecided`; None: it is too short."""
    onset: str | None = None
    """The checkpoint from which the fault stays."""
    sentence: str = ""
    """What the series says, in a sentence."""
    series: str = ""
    folder: str = ""
    """Of the checkpoint."""
    run: str = ""
    """The run folder."""
    report: str = ""
    steps: int | None = None
    tokens: int | None = None
    fingerprint: str = ""
    """Of its weights, config and tokenizer."""
    signature: str = ""
    """Of its files: where it changes, the checkpoint is looked at again."""
    time: str = ""
    """When it was said, in UTC."""

    @property
    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "findings": [dict(each) for each in self.findings]}

    @property
    def is_evaluated(self) -> bool:
        """Whether there are results of it."""
        return self.verdict in ("first", "pass", "fail", "undecided")


def id_of(series: str, checkpoint: str, fingerprint: str) -> str:
    """Of a verdict."""
    return hashlib.sha256("\0".join((series, checkpoint, fingerprint)).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def verdict_of(plain: Mapping[str, Any]) -> Verdict:
    """A verdict from what was kept; what another version wrote beside is left out."""
    known = Verdict.__dataclass_fields__
    return Verdict(**{name: value for name, value in plain.items() if name in known})
