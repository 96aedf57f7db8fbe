"""Made-up rows in the files of lm-eval's tasks."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.lm_eval.parts.made_rows import made


def files(folder: Path, layout: str, **splits: int) -> str:
    """A folder with so many rows of each split."""
    folder.mkdir(exist_ok=True)
    for split, count in splits.items():
        text = "".join(json.dumps(row) + "\n" for row in made(layout, split, count))
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return str(folder)
