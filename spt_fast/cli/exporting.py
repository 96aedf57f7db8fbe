"""`export DIR`: where it went, and what the format could not carry, as text."""

from __future__ import annotations

from spt_fast.config.output import Location
from spt_fast.export import export


def export_told(source: Location, format: str, to: Location | None) -> tuple[str, str]:
    """Export; what to say on stdout, and what on stderr.

    Raises:
        ConfigError: the source is not what the format takes, or a client's package is missing.
        StoreError: a file is damaged, or nothing can be written there.
    """
    done = export(source, format, to)
    missing = f"; {done.missing} more of the grid are not done" if done.missing else ""
    what = done.what[:-1] if done.count == 1 else done.what
    said = f"{done.where}: {done.count} {what}{missing}"
    return said, "\n".join(f"not carried over: {sentence}" for sentence in done.not_carried)
