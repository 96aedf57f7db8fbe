"""Before anything imports torch: what a worker's environment says, engines inside the tests' own process need too."""

from __future__ import annotations

import os

import hypothesis

from spt_fast.executors.local import ENVIRONMENT

from .places import bucket, place, url

__all__ = ["bucket", "place", "url"]  # fixtures

for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A time limit for each example says how busy the machine is, and nothing of the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")
