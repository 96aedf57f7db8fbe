"""ARC's challenge set (arXiv 1803.05457): school science that is not found by looking up words, answered in full."""

from __future__ import annotations

from dataclasses import replace

from spt_fast.tasks.base import HubSource
from spt_fast.tasks.benchmarks.arc_easy import TASK as ARC_EASY

TASK = replace(
    ARC_EASY,
    name="arc_challenge",
    version=2,
    summary="harder school science with three to five options, answered in full (B. Paris)",
    source=HubSource(
        id="allenai/ai2_arc",
        config="ARC-Challenge",
        revision="210d026faf9955653af8916fad021475a3f00453",
        splits={"tuning": "train", "few_shot": "train", "test": "test"},
        sizes={"tuning": 1119, "test": 1172},
    ),
    sample={
        "id": "Made_Up_2",
        "question": "A stone and a feather fall in a tube without air. Which of them lands first?",
        "choices": {"text": ["the stone", "the feather", "neither of them"], "label": ["1", "2", "3"]},
        "answerKey": "3",
    },
)
