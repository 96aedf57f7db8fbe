"""`spt-fast lm-eval ...`: lm_eval's own command line, with the model `spt_fast` known to it.

lm-eval 0.4.13 has no entry point for models of other packages: they are registered by being imported.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from spt_fast.errors import ConfigError


def run_lm_eval(arguments: Sequence[str]) -> int:
    """Hand the arguments over to lm_eval.

    Raises:
        ConfigError: lm-eval is not installed.
    """
    try:
        from lm_eval.__main__ import cli_evaluate

        from spt_fast.harness import model
    except ImportError as e:
        raise ConfigError(f"lm-eval cannot be imported ({e}); pip install 'spt-fast[lm-eval]'") from None
    assert model.SptFastLM is not None  # registered by its import
    before = sys.argv
    sys.argv = ["lm_eval", *arguments]
    try:
        cli_evaluate()
    finally:
        sys.argv = before
    return 0
