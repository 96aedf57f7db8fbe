"""`check`: everything that can be known to be wrong with a grid without loading a model."""

from __future__ import annotations

from spt_fast import plan, tasks
from spt_fast.cell import Cell
from spt_fast.config import FewShot, GridConfig, SoftPromptConfig
from spt_fast.errors import SptError
from spt_fast.tasks.rows import load_rows


def check_grid(config: GridConfig) -> tuple[list[str], int]:
    """What is wrong, a sentence each, and how many cells the grid has.

    Beyond what loading a grid finds: models that cannot be reached, rows that cannot be read or are too few, settings that
    the engine does not have.

    Raises:
        ConfigError: the first thing that keeps the grid from being expanded at all.
    """
    cells = plan.expand(config)
    found = [cell.model.unresolved for cell in cells if cell.model.unresolved]
    found += _rows(cells)
    found += _engine_settings(config)
    return list(dict.fromkeys(found)), len(cells)


def _rows(cells: list[Cell]) -> list[str]:
    found = []
    protocols = list(dict.fromkeys(cell.protocol for cell in cells))
    for rows in {cell.task.name: cell.task for cell in cells}.values():
        try:
            loaded = load_rows(tasks.get(rows.name), data_files=rows.data_files, limit=rows.limit)
        except SptError as e:
            found.append(str(e))
            continue
        for protocol in protocols:
            if isinstance(protocol, FewShot) and len(loaded.few_shot) < protocol.shots:
                found.append(
                    f"{rows.name}: few_shot wants {protocol.shots} shots, and there are {len(loaded.few_shot)} "
                    "few-shot rows; ask for fewer"
                )
            if isinstance(protocol, SoftPromptConfig) and not loaded.tuning:
                found.append(f"{rows.name}: soft_prompt needs tuning rows, and there are none")
    return found


def _engine_settings(config: GridConfig) -> list[str]:
    """Settings for vLLM that this vLLM does not have. Where it is not installed, there is nothing to ask."""
    settings = [("engine", dict(config.engine))]
    settings += [(f"models[{i}].engine", dict(model.engine)) for i, model in enumerate(config.models)]
    asked = [
        (f"{place}.{key}", key)
        for place, values in settings
        for key in values
        if values.get("kind", config.engine.get("kind", "vllm")) == "vllm" and key not in ("kind", "window")
    ]
    if not asked:
        return []
    from spt_fast.engine.vllm import setting_names

    try:
        known = setting_names()
    except ImportError:
        return []
    return [f"{place}: vLLM has no such setting" for place, key in asked if key not in known]
