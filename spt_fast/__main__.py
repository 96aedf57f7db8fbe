"""python -m spt_fast."""

from spt_fast.cli import main

main()
