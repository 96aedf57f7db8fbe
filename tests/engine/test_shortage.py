"""What vLLM says where memory is short: its own sentences, from errors and from the log of its processes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from spt_fast.engine.vllm.oom_messages import shortage
from spt_fast.errors import (
    CacheTooSmallError,
    OutOfMemoryError,
    ShareNotFreeError,
    WeightsTooLargeError,
)

NOT_FREE = (
    "Free memory on device cuda:0 (60.11/79.10 GiB) on startup is less than desired GPU memory utilization (0.92, 72.77 GiB). "
    "Decrease GPU memory utilization or reduce GPU memory used by other processes."
)
NO_BLOCKS = "No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the engine."
TOO_LONG = (
    "To serve at least one request with the model's max seq len (131072), (16.0 GiB KV cache is needed, which is larger than "
    "the available KV cache memory (9.5 GiB). Based on the available memory, the estimated maximum model length is 77824. "
    "Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine. See https://..."
)
CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.20 GiB is free. "
    "Including non-PyTorch memory, this process has 77.8 GiB memory in use."
)
LOG = """(EngineCore pid=7) ERROR 11-21 10:00:00 [core.py:1421] EngineCore failed to start.
(EngineCore pid=7) ERROR 11-21 10:00:00 [core.py:1421] Traceback (most recent call last):
(EngineCore pid=7) ERROR 11-21 10:00:00 [core.py:1421]   File "model_runner.py", line 400, in {where}
(EngineCore pid=7) ERROR 11-21 10:00:00 [core.py:1421]     {source}
(EngineCore pid=7) ERROR 11-21 10:00:00 [core.py:1421] {what}
"""


def log(*, where: str, what: str, source: str = 'raise ValueError("') -> str:
    """What an engine's process prints when it dies, traceback and all."""
    return LOG.format(where=where, what=what, source=source)


@pytest.mark.parametrize(
    ("said", "kind", "kept"),
    [
        (NOT_FREE, ShareNotFreeError, NOT_FREE[:-1]),
        (NO_BLOCKS, CacheTooSmallError, NO_BLOCKS[:-1]),
        (TOO_LONG, CacheTooSmallError, TOO_LONG[: TOO_LONG.index(". Try")]),
        (CUDA, OutOfMemoryError, CUDA[: CUDA.index(". Including")]),
        ("Error in memory profiling. Initial free memory 60 GiB, current free memory 70 GiB.", ShareNotFreeError, "Error in"),
    ],
)
def test_each_sentence_of_vllm_says_what_there_is_too_little_of(said: str, kind: type[OutOfMemoryError], kept: str) -> None:
    from_error = shortage(ValueError(said))
    from_log = shortage(RuntimeError("Engine core initialization failed."), log(where="profile_run", what=said))
    for found in (from_error, from_log):
        assert type(found) is kind
        assert str(found).startswith(kept)
        assert "\n" not in str(found)
        assert "Including" not in str(found)


def test_memory_that_ends_while_the_weights_are_loaded_is_the_weights_fault() -> None:
    printed = log(where="load_model", what=f"torch.OutOfMemoryError: {CUDA}")
    assert type(shortage(RuntimeError("Engine core initialization failed."), printed)) is WeightsTooLargeError
    printed = log(where="profile_run", what=f"torch.OutOfMemoryError: {CUDA}")
    assert type(shortage(RuntimeError("Engine core initialization failed."), printed)) is OutOfMemoryError


def test_what_was_said_first_is_what_it_died_of() -> None:
    printed = log(where="run", what=f"ValueError: {TOO_LONG}") + log(where="shutdown", what=CUDA)
    assert type(shortage(RuntimeError("Engine core initialization failed."), printed)) is CacheTooSmallError


def test_vllms_source_in_a_traceback_is_not_what_it_says() -> None:
    source = 'raise ValueError("No available memory for the cache blocks. ", f"CUDA out of memory")'
    printed = log(where="run", what="ValueError: something else", source=source)
    assert shortage(RuntimeError("Engine core initialization failed."), printed) is None


@pytest.mark.parametrize("said", ["EngineCore encountered an issue. See stack trace (above) for the root cause.", "", "no GPU"])
def test_other_failures_are_not_about_memory(said: str) -> None:
    assert shortage(RuntimeError(said), log(where="run", what="RuntimeError: CUDA error: device-side assert")) is None


DIES = """
import subprocess, sys
from spt_fast.engine.vllm.oom_messages import Printed, shortage
print("torch.OutOfMemoryError: CUDA out of memory, of an engine before", file=sys.stderr, flush=True)
printed = Printed()
assert printed.text == ""
assert shortage(RuntimeError("dead"), printed.text) is None
subprocess.run([sys.executable, "-c", "raise MemoryError('CUDA out of memory. Tried to allocate 1 GiB.')"])
print(repr(shortage(RuntimeError("dead"), printed.text)))
"""


@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_what_the_engines_process_printed_is_read_from_the_workers_log(mode: str, tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text("of yesterday: CUDA out of memory\n")
    with log.open(mode) as stderr:
        done = subprocess.run([sys.executable, "-c", DIES], stdout=subprocess.PIPE, stderr=stderr, text=True, check=True)
    assert done.stdout.strip() == "OutOfMemoryError('CUDA out of memory. Tried to allocate 1 GiB')"


def test_a_terminal_or_a_pipe_cannot_be_read_and_that_is_no_error() -> None:
    done = subprocess.run([sys.executable, "-c", DIES], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vLLM's sources")
def test_the_installed_vllm_still_says_it_in_these_words() -> None:
    """Its messages are f-strings over several lines, so each is looked for by the words that stand on one."""
    found = importlib.util.find_spec("vllm")
    assert found is not None
    assert found.origin is not None
    root = Path(found.origin).parent
    words = {
        "v1/worker/utils.py": ["Free memory on device", "is less than desired GPU memory utilization", "the engine's budget"],
        "v1/worker/cpu_worker.py": ["Available memory on node", "is less than desired CPU memory utilization"],
        "v1/worker/gpu_worker.py": ["Error in memory profiling. ", "Initial free memory"],
        "v1/core/kv_cache_utils.py": [
            "No available memory for the cache blocks",
            "To serve at least one request with the model's max seq len",
            "Cannot auto-fit max_model_len: not enough GPU memory",
        ],
        "v1/worker/gpu_model_runner.py": ["Failed to load model - not enough GPU memory"],
        "v1/worker/gpu/model_runner.py": ["def load_model("],
    }
    for file, phrases in words.items():
        text = (root / file).read_text()
        assert [phrase for phrase in phrases if phrase not in text] == [], file
