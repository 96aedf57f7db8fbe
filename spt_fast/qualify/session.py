"""A whole examination: the checks of a device, in a scratch folder that is gone afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from spt_fast.qualify.checks import checks
from spt_fast.qualify.contract import Check, Given, Row, Size
from spt_fast.qualify.processes import run_all
from spt_fast.qualify.table import line


def qualify(
    device: Literal["cuda", "cpu"],
    size: Size,
    *,
    minutes: float,
    say: Callable[[str], None],
    more: Sequence[Check] = (),
) -> tuple[list[Row], Given]:
    """Run all checks, and say each row as soon as it is known.

    Args:
        device: where things are computed.
        size: of what is measured.
        minutes: for all together.
        say: is given a row's text.
        more: checks behind ours.

    Returns:
        The rows, and what the checks were given at the last.
    """
    asked = [*checks(size), *more]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="spt-fast-doctor-", ignore_cleanup_errors=True) as scratch:
        given = Given(device=device, size=size, scratch=scratch)
        for row in run_all(asked, given, seconds=60 * minutes):
            rows.append(row)
            say(line(row, asked))
    return rows, replace(given, measured={row.check: row.measured for row in rows if row.measured})
