"""What the models of a grid will really be asked: a look at the first prompts, with tokenizers alone, before anything runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from spt_fast.config import ZeroShot
from spt_fast.errors import ModelError, SptError
from spt_fast.models.identity import Model
from spt_fast.models.tokenizer import Tokenizer, load_tokenizer, uses_chat
from spt_fast.plan.cell import Cell
from spt_fast.tasks.rows import Rows
from spt_fast.worker.questions import questions, require_no_thought, seam_of, thought_of

MOST_ROWS = 32
"""Test rows of a task whose prompts are looked at; a run looks at all of them."""

FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
"""What a tokenizer is made of. Models that share them, such as the checkpoints of a run, are looked at once."""


def look_at_prompts(cells: Sequence[Cell], rows: Mapping[str, Rows]) -> tuple[list[str], list[str]]:
    """What is wrong with the prompts of a grid, and what a reader should know of them, a sentence each.

    A tokenizer that is not here says nothing; one in a folder that cannot be read is wrong.

    Args:
        cells: of the grid.
        rows: of its tasks by name; those that could not be read are left out.
    """
    wrong: list[str] = []
    notes: list[str] = []
    for group in _alike(cells):
        model = group[0].model
        try:
            tokenizer = _tokenizer(model)
            if tokenizer is None:
                continue
            chat = uses_chat(model, tokenizer)
            if chat:
                notes += [*_date(model, tokenizer), *_cue(model, tokenizer)]
            if chat and not any(cell.task.task.closed_ended for cell in group):
                notes += _thoughts(tokenizer, "what it thinks is part of each completion and of its max_tokens")
            for cell in {cell.task.name: cell for cell in group}.values():
                require_no_thought(cell.task.task, tokenizer, chat=chat)
                if cell.task.name in rows:
                    notes += _of_task(cell, rows[cell.task.name], tokenizer, chat=chat)
        except SptError as e:
            wrong.append(str(e))
    for judge in {cell.judge.model.name: cell.judge.model for cell in cells if cell.judge}.values():
        try:
            tokenizer = None if judge.unresolved else _tokenizer(judge)
            if tokenizer is not None and uses_chat(judge, tokenizer):
                wrong += [f"judge: {thought}" for thought in _thoughts(tokenizer, "a judge has to answer at once, in one word")]
                notes += _date(judge, tokenizer)
        except SptError as e:
            wrong.append(f"judge: {e}")
    return wrong, notes


def _alike(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells by model; models whose tokenizers are the same, and that are asked alike, are one."""
    seen: dict[str, str] = {}
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.model.unresolved is None:
            key = seen.get(cell.model.name) or seen.setdefault(cell.model.name, _key(cell.model))
            groups.setdefault(key, []).append(cell)
    return list(groups.values())


def _key(model: Model) -> str:
    folder = Path(model.source)
    files = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name in FILES if (path := folder / name).is_file()}
    asked = {name: model.content[name] for name in ("chat_template", "chat_template_kwargs", "chat_date")}
    return json.dumps([files or [model.source, model.revision], asked], sort_keys=True, default=str)


def _tokenizer(model: Model) -> Tokenizer | None:
    try:
        return load_tokenizer(model, plainly=True)
    except ModelError:
        if Path(model.source).is_dir():
            raise
        return None


def _thoughts(tokenizer: Tokenizer, so: str) -> list[str]:
    thought = thought_of(tokenizer, so)
    return [] if thought is None else [thought]


def _date(model: Model, tokenizer: Tokenizer) -> list[str]:
    if not tokenizer.asks_the_date:
        return []
    return [f"{model.name}: its chat template writes today's date; every prompt says {model.chat_date} (chat_date)"]


def _cue(model: Model, tokenizer: Tokenizer) -> list[str]:
    if (missing := tokenizer.missing_cue) is None:
        return []
    return [f"{model.name}: its chat template has no cue for an answer: {missing!r} stands in front of past ones alone"]


def _of_task(cell: Cell, rows: Rows, tokenizer: Tokenizer, *, chat: bool) -> list[str]:
    """What is to be known of the first prompts of a task, asked plainly.

    Raises:
        DataError, ModelError: something of them is lost.
    """
    plainly = replace(cell, protocol=ZeroShot(), seed=None, learnt_on=None, starts_on=None)
    seam = seam_of(questions(plainly, replace(rows, test=rows.test[:MOST_ROWS]), tokenizer, chat=chat))
    return [f"{cell.model.name}: {cell.task.name}: {seam}"] if seam else []
