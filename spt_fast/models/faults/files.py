"""Reading a file of a model: it is there, it is a file, and it is what its name says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from spt_fast.errors import ModelError, shortened

ANEW = "get the model's files anew"
_POINTER = (b"version https://git-lfs", b"oid sha256:")
_ANNEX = b"/annex/objects/"
_HEAD = 512
MOST_BYTES = 1 << 28
"""No JSON file of a model is larger."""


def is_there(path: Path) -> bool:
    """Whether a folder has this entry, be it a link to nothing."""
    return path.is_symlink() or path.exists()


def check_file(path: Path) -> None:
    """Refuse what is no file with content of its own.

    Raises:
        ModelError: it is not there, no file, empty, or stands for a file that is elsewhere.
    """
    if path.is_symlink() and not path.exists():
        raise ModelError(f"{path}: is a link to a file that is not there; {ANEW}")
    if not path.exists():
        raise ModelError(f"{path}: is not there; {ANEW}")
    if not path.is_file():
        raise ModelError(f"{path}: is no file; {ANEW}")
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head.strip():
        raise ModelError(f"{path}: is empty; {ANEW}")
    if head.startswith(_POINTER) or (head.startswith((b"/", b".")) and _ANNEX in head):
        fetch = "git annex get" if _ANNEX in head else "git lfs pull"
        raise ModelError(f"{path}: is a pointer of git, not the file itself; run `{fetch}` in its folder")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ModelError(f"{path}: is a web page, not the file; {ANEW}")


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        ModelError: it is not there, is not JSON, or holds something else.
    """
    check_file(path)
    if path.stat().st_size > MOST_BYTES:
        raise ModelError(f"{path}: is larger than any such file ({path.stat().st_size:,} bytes); {ANEW}")
    try:
        found = json.loads(path.read_bytes().decode())
    except (ValueError, RecursionError) as e:
        why = "it is nested too deep" if isinstance(e, RecursionError) else str(e)
        raise ModelError(f"{path}: is not JSON ({why}); it is cut short or damaged: {ANEW}") from None
    if not isinstance(found, dict):
        raise ModelError(f"{path}: must be a JSON object {{...}}, not {shortened(found, 40)}; {ANEW}")
    return found
