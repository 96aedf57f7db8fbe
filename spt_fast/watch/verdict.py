"""What is said of a checkpoint, as it is kept in the run folder and sent to who is told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from spt_fast.analysis.gate import Policy

Kind: TypeAlias = Literal["first", "pass", "fail", "undecided", "same", "broken"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is said of a checkpoint. Its fields are the JSON."""

    id: str
    """The same each time that this is told: of the series, the checkpoint, its weights and the policy."""
    checkpoint: str
    """As tables call it: "run7/step-7"."""
    verdict: Kind
    """`first`: there is nothing to hold it against, so it is accepted; `pass`, `fail`, `undecided`: the gate's; `same`: it has
    the weights of another one; `broken`: it cannot be evaluated."""
    accepted: bool
    """Whether later checkpoints are held against it."""
    baseline: str | None = None
    """What it was held against; None: nothing."""
    twin: Kind | None = None
    """Of `same`: what was said of the checkpoint whose weights it has."""
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
    policy: str = ""
    """By which it was reached: a digest of it."""
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

    @property
    def is_of_policy(self) -> bool:
        """Whether the gate has reached it."""
        return bool(self.findings)

    def is_outdated(self, policy: str) -> bool:
        """Whether no policy could be applied to it, and there is another one now."""
        return self.verdict == "undecided" and not self.is_of_policy and self.policy != policy


def id_of(*about: str) -> str:
    """Of a verdict: the series, the checkpoint, its fingerprint, the policy."""
    return hashlib.sha256("\0".join(about).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def digest(policy: Policy) -> str:
    """The same for the same policy, wherever its file is."""
    return id_of(json.dumps(asdict(policy), sort_keys=True))


def verdict_of(plain: Mapping[str, Any]) -> Verdict:
    """A verdict from what was kept; what another version wrote beside is left out."""
    known = Verdict.__dataclass_fields__
    return Verdict(**{name: value for name, value in plain.items() if name in known})
