"""Before anything imports torch: what a worker's environment says, engines inside the tests' own process need too."""

from __future__ import annotations

import os

from spt_fast.executors.local import ENVIRONMENT

from .places import bucket, place, url

__all__ = ["bucket", "place", "url"]  # fixtures

for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
