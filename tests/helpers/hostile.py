"""Text that a page must not obey."""

from __future__ import annotations

HOSTILE = '</script><img src=x onerror="alert(1)"><b>\u202e\x1b[31m'
