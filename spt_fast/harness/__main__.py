"""lm_eval's own command line, with the model `spt_fast` known to it: `python -m spt_fast.harness run --model spt_fast ...`."""

from __future__ import annotations

import sys

from lm_eval.__main__ import cli_evaluate

from spt_fast.errors import SptError, first_line
from spt_fast.harness.model import SptFastLM


def main() -> int:
    """Hand over to lm_eval; what is wrong with the model's arguments is one sentence."""
    assert SptFastLM is not None  # registered by its import
    try:
        cli_evaluate()
    except SptError as e:
        print(f"spt-fast: {e}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as e:
        print(f"spt-fast: lm_eval needs {e.name}, which is not installed; pip install {e.name}", file=sys.stderr)
        return 2
    except ConnectionError as e:  # as `datasets` has it where a task's rows cannot be had
        print(f"spt-fast: lm_eval: {first_line(e)}; connect, or fetch the rows into the Hub's cache before", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
