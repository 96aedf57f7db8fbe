"""Builds a training run of the zoo, checkpoint by checkpoint, each a folder that Transformers and vLLM load.

A checkpoint is trained from the folder of the one before it, with optimisers of its own that warm up and cool down: so each is
a finished model, the folder is all the state that there is, and a build that was ended goes on at the first checkpoint that is
missing. A fork starts from the other run's folder in the same way.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spt_fast.zoo.build import Progress, make
from spt_fast.zoo.catalogue import cache_folder, find, run_named
from spt_fast.zoo.corpus import pages
from spt_fast.zoo.runs import Checkpoint

WEIGHTS = "model.safetensors"


def _silent(step: int, total: int, text: str) -> None:
    pass


def build_run(name: str, *, into: Path | None = None, progress: Progress = _silent) -> list[Path]:
    """Builds what is missing of a run, and of the run that it is a fork of, and returns its checkpoints' folders in order.

    Args:
        name: `run` or `zoo/run`.
        into: the folder that receives `<name>/step-<updates>/`; the cache by default.
        progress: called a few times a second at most; it counts updates from where the run leaves its base.

    Raises:
        ConfigError: there is no such run.
        ModelError: the base that it goes on from is not built.
    """
    into = cache_folder() if into is None else into
    return [_built(checkpoint, into, progress) for checkpoint in run_named(name).checkpoints]


def _built(checkpoint: Checkpoint, into: Path, progress: Progress) -> Path:
    folder = into / checkpoint.run.name / checkpoint.name
    if checkpoint.original is not None:
        return _shared(_built(checkpoint.original, into, progress), folder)
    before = _built(checkpoint.before, into, progress) if checkpoint.before else _trunk(checkpoint, into)
    if _is_made(folder, checkpoint, before):
        return folder
    return _made(folder, checkpoint, before, progress)


def _trunk(checkpoint: Checkpoint, into: Path) -> Path:
    """The folder of the model that the run goes on from."""
    beside = into / checkpoint.run.trunk
    return beside if _about(beside) else find(checkpoint.run.trunk)


def _is_made(folder: Path, checkpoint: Checkpoint, before: Path) -> bool:
    """Whether it is there, by this plan, and goes on from these weights."""
    about = _about(folder)
    recipe = json.loads(json.dumps(asdict(checkpoint.recipe)))
    whole = about.get("recipe") == recipe and about.get("run") == _plan(checkpoint, before)
    return whole and (folder / WEIGHTS).is_file()


def _made(folder: Path, checkpoint: Checkpoint, before: Path, progress: Progress) -> Path:
    recipe, plan = checkpoint.recipe, checkpoint.share.training
    first, *_ = checkpoint.run.checkpoints
    start = first.step - first.share.training.steps
    total = checkpoint.run.checkpoints[-1].step - start

    def told(step: int, _: int, text: str) -> None:
        progress(checkpoint.step - start - plan.steps + step, total, text)

    told(0, total, f"{recipe.name}: writing {plan.documents:,} pages")
    corpus = list(pages(checkpoint.run.world, recipe, fresh=checkpoint.fresh, wrong=checkpoint.wrong))
    about = {
        "known": len(checkpoint.known),
        "tokens_seen": _about(before)["tokens_seen"] + plan.steps * plan.batch_tokens,
        "run": _plan(checkpoint, before),
    }
    return make(recipe, corpus, folder, base=before, progress=told, about=about)


def _plan(checkpoint: Checkpoint, before: Path) -> dict[str, Any]:
    """What its record says of its place in the run."""
    return {
        "name": checkpoint.run.name,
        "checkpoint": checkpoint.number,
        "step": checkpoint.step,
        "shown": checkpoint.share.shown,
        "wrong": checkpoint.share.wrong,
        "from": _hash_of_weights(before),
    }


def _shared(original: Path, folder: Path) -> Path:
    """The checkpoint of another run as one of this run: linked, or copied where the file system has no links."""
    there = (folder / WEIGHTS).is_file() and _about(folder) == _about(original)
    if there and _hash_of_weights(folder) == _hash_of_weights(original):
        return folder
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        shutil.copytree(original, beside, copy_function=os.link)
    except (OSError, shutil.Error):
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(original, beside)
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    return folder


def _about(folder: Path) -> dict[str, Any]:
    """The record of a checkpoint; empty where there is none."""
    try:
        about = json.loads((folder / "zoo.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _hash_of_weights(folder: Path) -> str:
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
