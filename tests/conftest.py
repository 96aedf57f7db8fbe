"""Before anything imports torch: what a worker's environment says, engines inside the tests' own process need too."""

from __future__ import annotations

import os
import signal

import hypothesis

from spt_fast.executors.worker_process import ENVIRONMENT
from spt_fast.models.memory import count_gpus
from tests.helpers.places import bucket, place, url

__all__ = ["bucket", "place", "url"]  # fixtures

for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
if count_gpus():
    # As on a CPU: some tests plant a fault in an engine, which has to be in this process.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # As what a shell starts in the background has it, and hands on: whom a test sends Ctrl-C would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# An example may take as long as it takes: how fast it is depends on what else the machine does.
hypothesis.settings.register_profile("spt-fast", deadline=None)
hypothesis.settings.load_profile("spt-fast")
