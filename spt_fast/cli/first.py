"""Imported before all else of the command line: from here on a signal ends the command with a sentence, not an import."""

from __future__ import annotations

import os
import sys

from spt_fast.signals import end_at_once

COMMANDS = ("spt-fast", os.path.join("spt_fast", "__main__.py"))

if sys.argv and sys.argv[0].endswith(COMMANDS):  # and not a program that has imported us
    end_at_once()
