"""Tiny models whose knowledge is known: worlds, corpora, recipes, training runs, and where the built models lie."""

from spt_fast.zoo.catalogue import Entry, built_checkpoints, catalogue, find, find_checkpoints, is_run, run_named
from spt_fast.zoo.runs import RUNS, Checkpoint, Run

__all__ = [
    "RUNS",
    "Checkpoint",
    "Entry",
    "Run",
    "built_checkpoints",
    "catalogue",
    "find",
    "find_checkpoints",
    "is_run",
    "run_named",
]
