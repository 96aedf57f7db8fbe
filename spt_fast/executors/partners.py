"""Parts of an engine on other nodes than its worker's: what the worker process asks its executor for."""

from __future__ import annotations

from dataclasses import dataclass

from spt_fast.engine.base import Part


@dataclass(frozen=True)
class BeginParts:
    """The other nodes are to run these parts, one each; answered when they have begun."""

    parts: tuple[Part, ...]


@dataclass(frozen=True)
class EndParts:
    """The parts are to be ended; answered when they have."""
