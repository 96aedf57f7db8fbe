"""Which spt-fast this is."""

from __future__ import annotations

import os
from importlib import metadata

SHIPPED = "SPT_FAST_VERSION"
"""Set by a driver that ships its own spt-fast to another machine: the modules come without what an installation knows."""


def version() -> str:
    """Of this spt-fast, also where it was shipped and not installed."""
    shipped = os.environ.get(SHIPPED)
    return shipped if shipped else metadata.version("spt-fast")
