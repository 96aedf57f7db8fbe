"""Before anything imports torch: what a worker's environment says, engines inside the tests' own process need too."""

from __future__ import annotations

import os

import hypothesis

from spt_fast.executors.worker_process import ENVIRONMENT
from tests.helpers.places import bucket, place, url

__all__ = ["bucket", "place", "url"]  # fixtures

for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# An example may take as long as it takes: how fast it is depends on what else the machine does.
hypothesis.settings.register_profile("spt-fast", deadline=None)
hypothesis.settings.load_profile("spt-fast")
