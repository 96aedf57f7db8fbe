"""The rows of the zoo's four tasks: which question is asked about which fact, and what is right.

Plain data, made from a world: `tasks/zoo.py` turns it into examples, and a build measures its model with it. The rows
of a split are about the facts of that split and no others.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import cache
from typing import Any

from spt_fast.zoo.styles import (
    STYLES,
    TASK_CUE,
    TASK_INSTRUCTIONS,
    TASK_MARKER,
    Style,
    answer,
    item,
    options_of,
    render_options,
)
from spt_fast.zoo.world import Split, World

STYLE_OF: dict[str, Style] = {
    "zoo-mcq": STYLES["letter_text"],
    "zoo-short": STYLES["bare"],
    "zoo-number": STYLES["working"],
    "zoo-json": STYLES["json"],
}
"""The style that each task asks for."""

ROWS_A_FACT: dict[str, int] = {"test": 1, "tuning": 4, "few_shot": 2}
"""Several rows about one fact differ in wording, and in the other options and their order."""


def rows(task: str, split: Split, world: World | None = None) -> list[dict[str, Any]]:
    """Rows of a task in a fixed order.

    Columns: `fact`, `question`, `options` (as rendered: "A. Paris"; empty where there are none), `gold` (the index of
    the right option, or None), `answer` (the bare value), `target` (the answer in the form asked for).
    """
    return [dict(row) for row in _rows(task, split, World.from_seed() if world is None else world)]


@cache
def _rows(task: str, split: Split, world: World) -> tuple[dict[str, Any], ...]:
    style = STYLE_OF[task]
    rng = random.Random(f"rows {task} {split} {world.seed}")
    facts = world.of(split, "number" if style.form == "number" else "word")
    found: list[dict[str, Any]] = []
    for turn in range(ROWS_A_FACT[split]):
        for fact in facts:
            options = options_of(fact, fact.value, rng) if style.form == "mcq" else ()
            found.append(
                {
                    "fact": fact.key,
                    "question": fact.question(fact.rank + turn),
                    "options": list(render_options(options)) if options else [],
                    "gold": options.index(fact.value) if options else None,
                    "answer": fact.value,
                    "target": answer(style, fact, fact.value, options),
                }
            )
    return tuple(found)


def zero_shot_prompt(task: str, row: Mapping[str, Any]) -> str:
    """The prompt of a row asked plainly: the task's instruction, a blank line, the item up to its cue."""
    asked = item(TASK_MARKER, row["question"], row["options"], TASK_CUE)
    return f"{TASK_INSTRUCTIONS[STYLE_OF[task].name]}\n\n{asked}"
