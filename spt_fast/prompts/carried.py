"""What a soft prompt that is carried along a series of checkpoints really started from, as its own file tells it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from spt_fast.prompts.soft_prompt import SoftPrompt

_PREFIX = "started_from_"
_THREAD = "thread"


@dataclass(frozen=True, kw_only=True)
class StartedFrom:
    """Where a training started."""

    model: str
    """Name of the checkpoint whose soft prompt it was; of a cold start, the model itself."""
    step: int
    """Of that soft prompt's training."""
    soft_prompt: str
    """`SoftPrompt.key` of the vectors."""
    checkpoints: int
    """How many checkpoints the vectors had been trained on; 0: a cold start."""
    updates: int
    """How many updates they had behind them, those of the cold start included."""

    @property
    def cold(self) -> bool:
        """Whether no earlier checkpoint had a soft prompt to start from."""
        return self.checkpoints == 0

    def as_json(self) -> str:
        """For result.json."""
        return json.dumps(asdict(self), ensure_ascii=False)


def provenance_of(start: SoftPrompt, *, thread: str) -> dict[str, str]:
    """What a soft prompt says of its start.

    Args:
        start: what it starts from.
        thread: along which it is carried (`Cell.thread`).
    """
    told, before = start.provenance, started_from(start.provenance)
    # Where training stopped early, the vectors are those of the best step.
    own = int(told.get("best_step", told.get("step", "0")))
    carried = _THREAD in told
    found = StartedFrom(
        model=told.get("model", ""),
        step=int(told.get("step", "0")),
        soft_prompt=start.key,
        checkpoints=1 + (0 if before is None else before.checkpoints) if carried else 0,
        updates=own + (before.updates if carried and before is not None else 0),
    )
    return {_THREAD: thread, **{f"{_PREFIX}{name}": str(value) for name, value in asdict(found).items()}}


def started_from(provenance: Mapping[str, str]) -> StartedFrom | None:
    """What a soft prompt's provenance tells of its start; None: it was not carried."""
    told = {name.removeprefix(_PREFIX): value for name, value in provenance.items() if name.startswith(_PREFIX)}
    try:
        numbers = {name: int(told.pop(name)) for name in ("step", "checkpoints", "updates")}
        return StartedFrom(model=told["model"], soft_prompt=told["soft_prompt"], **numbers)
    except (KeyError, ValueError):  # written by another program, or by hand
        return None


def from_json(text: str) -> StartedFrom | None:
    """What result.json tells; None: nothing that can be read."""
    try:
        told = json.loads(text)
        return started_from({f"{_PREFIX}{name}": str(value) for name, value in told.items()})
    except (ValueError, AttributeError):
        return None
