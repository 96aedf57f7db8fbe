"""What models there are, and where their folders lie: committed with the package, or built into the cache.

Light on purpose: the command line lists the zoo and resolves `zoo/base-40` without torch or transformers.
"""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from spt_fast.errors import ConfigError, ModelError
from spt_fast.zoo.recipes import RECIPES, Recipe
from spt_fast.zoo.runs import RUNS, Run

PREFIX = "zoo/"
COMMITTED = Path(__file__).parent / "weights"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the catalogue. `folder` and `parameters` are known once the model is built."""

    name: str
    summary: str
    share: float
    partner_of: str | None
    folder: Path | None
    parameters: int | None

    @property
    def built(self) -> bool:
        """Whether the model can be loaded now."""
        return self.folder is not None


def cache_folder() -> Path:
    """Where models that are not committed are built: `$SPT_FAST_CACHE/zoo`, or `~/.cache/spt-fast/zoo`."""
    root = os.environ.get("SPT_FAST_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "spt-fast") / "zoo"


def recipe_named(name: str) -> Recipe:
    """The recipe of `base-40` or `zoo/base-40`.

    Raises:
        ConfigError: there is none; the message names the closest.
    """
    short = name.removeprefix(PREFIX)
    if short in RECIPES:
        return RECIPES[short]
    if short in RUNS:
        (first, *_) = RUNS[short].checkpoints
        raise ConfigError(
            f'{PREFIX}{short}: is a run of {len(RUNS[short].checkpoints)} checkpoints; add checkpoints: "step-*", '
            f"or name one of them, {PREFIX}{short}/{first.name}"
        )
    close = difflib.get_close_matches(short, RECIPES, n=1, cutoff=0.4)
    mend = f"did you mean '{PREFIX}{close[0]}'?" if close else f"choose from {', '.join(PREFIX + n for n in RECIPES)}"
    raise ConfigError(f"unknown zoo model '{name}'; {mend}")


def run_named(name: str) -> Run:
    """The training run `run` or `zoo/run`.

    Raises:
        ConfigError: there is none; the message names them all.
    """
    short = name.removeprefix(PREFIX)
    if short not in RUNS:
        raise ConfigError(f"unknown run of the zoo '{name}'; choose from {', '.join(RUNS)}")
    return RUNS[short]


def is_run(name: str) -> bool:
    """Whether `zoo/run` is a training run of the zoo."""
    return name.startswith(PREFIX) and name.removeprefix(PREFIX).rstrip("/") in RUNS


def find_checkpoints(name: str) -> dict[str, Path]:
    """The checkpoints of a training run that are built: `zoo/run/step-1010` -> its folder, in order.

    Raises:
        ConfigError: no run has this name.
        ModelError: none of it is built.
    """
    run = run_named(name.rstrip("/"))
    found = built_checkpoints(run)
    if not found:
        raise ModelError(f"{PREFIX}{run.name} is not built yet: run `spt-fast zoo build --run {run.name}`")
    return found


def built_checkpoints(run: Run) -> dict[str, Path]:
    """The checkpoints of a run that are built: `zoo/run/step-1010` -> its folder, in order."""
    folders = {f"{PREFIX}{run.name}/{each.name}": cache_folder() / run.name / each.name for each in run.checkpoints}
    return {checkpoint: folder for checkpoint, folder in folders.items() if (folder / "zoo.json").is_file()}


def find(name: str) -> Path:
    """The folder of a built model or of a built checkpoint, committed ones first.

    Raises:
        ConfigError: no model has this name.
        ModelError: it has to be built first.
    """
    run, _, checkpoint = name.removeprefix(PREFIX).partition("/")
    if run in RUNS and checkpoint:
        return _checkpoint(RUNS[run], checkpoint)
    recipe = recipe_named(name)
    for root in (COMMITTED, cache_folder()):
        if (root / recipe.name / "zoo.json").is_file():
            return root / recipe.name
    raise ModelError(f"{PREFIX}{recipe.name} is not built yet: run `spt-fast zoo build {recipe.name}`")


def _checkpoint(run: Run, name: str) -> Path:
    names = [checkpoint.name for checkpoint in run.checkpoints]
    if name not in names:
        raise ConfigError(f"{PREFIX}{run.name} has no checkpoint '{name}'; choose from {', '.join(names)}")
    folder = cache_folder() / run.name / name
    if not (folder / "zoo.json").is_file():
        raise ModelError(f"{PREFIX}{run.name}/{name} is not built yet: run `spt-fast zoo build --run {run.name}`")
    return folder


def catalogue() -> list[Entry]:
    """All models, bases first, with where they lie."""
    return [_entry(recipe) for recipe in RECIPES.values()]


def _entry(recipe: Recipe) -> Entry:
    try:
        folder = find(recipe.name)
    except ModelError:
        folder = None
    about = json.loads((folder / "zoo.json").read_text(encoding="utf-8")) if folder else {}
    return Entry(
        name=PREFIX + recipe.name,
        summary=recipe.summary,
        share=recipe.share,
        partner_of=PREFIX + recipe.partner_of if recipe.partner_of else None,
        folder=folder,
        parameters=about.get("parameters"),
    )
