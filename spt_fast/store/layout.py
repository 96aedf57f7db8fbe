"""Names of the files of a run folder, and how what goes into them becomes bytes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

GRID, EVENTS, ASKED = "grid.yaml", "events.jsonl", ".asked"
RESULT, FAILURE, RERUN = "result.json", "failure.json", "rerun.json"
SAMPLES, CURVE = "samples.parquet", "curve.csv"
STOPPED, STOPPED_SAMPLES, STOPPED_ANSWERS = "stopped.json", "stopped.parquet", "stopped-answers.parquet"
PROMPT, ADAPTER = "prompt.safetensors", "adapter.safetensors"
LEARNT = (PROMPT, ADAPTER)
"""What a cell has learnt is in one of these."""
MEANING, PROBE = "meaning.json", "probe.json"
VERDICTS = "verdicts"

MOST_BYTES = 150
"""Of a file's name; file systems take 255."""


def of_cell(key: str, name: str) -> str:
    """A file of a cell."""
    return f"cells/{key}/{name}"


def rows_path(task: str) -> str:
    """Where it is told what the rows of a task are."""
    return f"rows/{_as_file(task)}.json"


def thread_path(thread: str) -> str:
    """Where the cells are named along which soft prompts are carried."""
    return f"threads/{thread}.json"


def log_path(model: str) -> str:
    """Where a model's workers print."""
    return f"logs/{_as_file(model.strip('/'))}.log"


def _as_file(name: str) -> str:
    """A name as that of a file: as it is but for slashes, where it is short and printable; else its end, and a hash of all."""
    told = name.replace("/", "--")
    if len(told.encode("utf-8", "replace")) <= MOST_BYTES and told.isprintable():
        return told
    safe = "".join(ch if ch.isprintable() else "-" for ch in told).encode("utf-8", "replace")[-MOST_BYTES:]
    return f"{safe.decode('utf-8', 'ignore')}-{sha256(name.encode('utf-8', 'surrogatepass'))[:8]}"


def sha256(data: bytes) -> str:
    """In hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def encoded(text: str) -> bytes:
    """As UTF-8; half of a surrogate pair, which that has no bytes for, becomes a question mark."""
    return text.encode("utf-8", "replace")


def as_json(data: Any) -> bytes:
    """A file of JSON.

    Raises:
        TypeError, ValueError: JSON cannot hold it.
    """
    return encoded(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def without_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: null stands for it."""
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}
