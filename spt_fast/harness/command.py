"""`spt-fast lm-eval ...`: lm_eval's own command line, with the model `spt_fast` known to it.

lm-eval 0.4.13 has no entry point for models of other packages: they are registered by being imported. It runs in a process of
its own, whose output is its own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from spt_fast.errors import ConfigError


def run_lm_eval(arguments: Sequence[str]) -> int:
    """Hand the arguments over to lm_eval; its exit code.

    Raises:
        ConfigError: lm-eval is not installed.
    """
    if find_spec("lm_eval") is None:
        raise ConfigError("lm-eval is not installed; pip install 'spt-fast[lm-eval]'")
    return subprocess.call([sys.executable, "-m", "spt_fast.harness", *arguments])
