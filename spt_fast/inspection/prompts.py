"""Inspecting soft prompts: which are at a place, and what is known of them.

What a run folder's prompts lie next to is kept there by the run itself; what is missing (trained by an older version, or asked
of an engine only here) is kept beside them, so that the report shows it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from spt_fast.config.output import Location
from spt_fast.errors import ConfigError
from spt_fast.inspection.findings import find_out
from spt_fast.inspection.inspected import Inspected, Wanted
from spt_fast.inspection.origin import origin_of_file, origin_of_run
from spt_fast.prompts.soft_prompt import SoftPrompt, load_steps
from spt_fast.store import PROMPT, Store


def inspect_prompts(where: Location, wanted: Wanted, say: Callable[[str], None] = lambda _: None) -> list[Inspected]:
    """What there is to know of a soft prompt's file, a PEFT adapter, a cell's folder, or all prompts of a run folder.

    Args:
        where: it is.
        wanted: what is to be found out.
        say: is told how far it is.

    Raises:
        StoreError: there is no soft prompt, or a file is damaged; the run folder is at work.
        ConfigError: the model, task or pattern is not there, or does not fit.
        ModelError, DataError, EngineError: what an engine is to be asked cannot be.
    """
    run = _run_of(where)
    if run is not None:
        return _of_run(*run, wanted, say)
    if wanted.only:
        raise ConfigError(f"--only: selects prompts of a run folder, and {where} is one prompt")
    found = [_of_file(where)]
    find_out(found, origin_of_file(found[0]), wanted, say)
    return found


def _run_of(where: Location) -> tuple[Location, str | None] | None:
    """The run folder that this is or is in, and the cell's key where it is one; None: it is a file of its own."""
    text = str(where).rstrip("/").removesuffix(f"/{PROMPT}")
    above, _, key = text.rpartition("/")
    folder, _, cells = above.rpartition("/")
    if cells == "cells":
        root: Location = folder if isinstance(where, str) else Path(folder)
        if _is_run(root):
            return root, key
    if isinstance(where, Path) and not where.is_dir():
        return None
    if isinstance(where, str) and where.endswith(".safetensors"):
        return None
    if isinstance(where, Path) and (where / "adapter_config.json").is_file():
        return None
    if isinstance(where, Path) and (where / PROMPT).is_file():
        return None
    return where, None


def _is_run(root: Location) -> bool:
    try:
        Store(root).resolved()
    except ConfigError:
        return False
    return True


def _of_file(where: Location) -> Inspected:
    if isinstance(where, Path) and (where / PROMPT).is_file():
        where = where / PROMPT
    steps = load_steps(where)
    prompt = SoftPrompt.load(where)
    origin = prompt.provenance
    seed = origin.get("seed", "")
    return Inspected(
        file=str(where),
        prompt=prompt,
        steps=[step for step in steps if step is not None],
        model=origin.get("model"),
        task=origin["task"].rpartition(" v")[0] if " v" in origin.get("task", "") else None,
        seed=int(seed) if seed.lstrip("-").isdecimal() else None,
    )


def _of_run(root: Location, key: str | None, wanted: Wanted, say: Callable[[str], None]) -> list[Inspected]:
    """The prompts of a run folder, or that of one cell. What is found out is kept there."""
    store = Store(root)
    grid = store.resolved()
    cells = {name: cell for name, cell in grid["cells"].items() if key in (None, name)}
    learnt = store.learnt.among(list(cells))
    chosen = {name: cell for name, cell in cells.items() if name in learnt and _matches(cell, wanted.only)}
    # What LoRA has learnt is no soft prompt.
    found = [one for name, cell in chosen.items() if (one := _of_cell(store, name, cell)) is not None]
    if not found:
        which = " that match --only" if wanted.only else "" if key is None else f" in cells/{key}"
        raise ConfigError(f"{store.root}: there are no soft prompts{which}; `spt-fast run` trains those of a grid")
    for model in dict.fromkeys(each.model for each in found):
        mine = [each for each in found if each.model == model]
        before = [(each.meaning, each.probe) for each in mine]
        find_out(mine, origin_of_run(grid, str(model)), wanted, say)
        _keep(store, [each for each, known in zip(mine, before, strict=True) if (each.meaning, each.probe) != known])
    return found


def _of_cell(store: Store, key: str, cell: Mapping[str, Any]) -> Inspected | None:
    steps = store.learnt.soft_prompts(key)
    if not steps:
        return None
    prompt = steps[max(steps)]
    meaning, probe = store.learnt.meaning(key), store.learnt.probe(key)
    return Inspected(
        file=store.name(f"cells/{key}/{PROMPT}"),
        prompt=prompt,
        steps=list(steps),
        model=cell["model"],
        task=cell["task"],
        protocol=cell["protocol"],
        seed=cell["seed"],
        key=key,
        meaning=meaning if meaning is not None and meaning.prompt == prompt.key else None,
        probe=probe if probe is not None and probe.prompt == prompt.key else None,
    )


def _matches(cell: Mapping[str, Any], only: Mapping[str, str]) -> bool:
    for name in only:
        if name not in ("model", "task", "protocol", "seed"):
            raise ConfigError(f"--only: unknown key {name!r}; choose from model, task, protocol, seed")
    return all(fnmatch.fnmatchcase("" if cell[name] is None else str(cell[name]), pattern) for name, pattern in only.items())


def _keep(store: Store, found: Sequence[Inspected]) -> None:
    """Keep what was found out, and write the report that shows it."""
    if not found:
        return
    from spt_fast.report.folder import write_tables

    store.lock()
    with closing(store):
        for each in found:
            if each.meaning is not None:
                store.learnt.put_meaning(each.key, each.meaning)
            if each.probe is not None:
                store.learnt.put_probe(each.key, each.probe)
    write_tables(store.root)
