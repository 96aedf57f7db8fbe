"""The rows as a person reads them, and as JSON."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from spt_fast.qualify.contract import Check, Given, Row
from spt_fast.qualify.verdicts import passed

SIGNS = {"good": "ok", "slow": "slow", "bad": "BAD", "absent": "-", "late": "late"}


def line(row: Row, checks: Sequence[Check]) -> str:
    """A row: its sign, its name, its seconds, what is said, and behind an arrow what to do."""
    width = max(len(check.name) for check in checks)
    head = f"{SIGNS[row.state]:4}  {row.check:{width}}  {row.seconds:5.1f} s  "
    text = f"{row.said} -> {row.mend}" if row.mend else row.said
    room = max(40, shutil.get_terminal_size((120, 24)).columns - len(head))
    return head + f"\n{' ' * len(head)}".join(textwrap.wrap(text, room) or [""])


def last_line(rows: Sequence[Row]) -> str:
    """What the whole came to."""
    counts = {state: sum(row.state == state for row in rows) for state in SIGNS}
    words = {"good": "good", "slow": "slower than wanted", "bad": "bad", "absent": "not of this machine", "late": "not reached"}
    said = ", ".join(f"{count} {words[state]}" for state, count in counts.items() if count)
    verdict = "this machine does everything that was asked of it" if passed(rows) else "this machine does not do everything"
    return f"{verdict}: {said}; {sum(row.seconds for row in rows):.0f} s"


def as_json(rows: Sequence[Row], given: Given) -> dict[str, Any]:
    """All that was measured."""
    return {"device": given.device, "size": given.size, "passed": passed(rows), "checks": [asdict(row) for row in rows]}
