"""Results and soft prompts for the tools that people already have. A short module a format; `export` is their one door.

Everything is read through `Store`, a cell at a time, so that a grid of any size and a run folder at a URL can be exported.
What a format cannot say is left out and told: in `Exported.not_carried`, and in `export.json` beside the files.

Decisions: exports escape all but ASCII, because some readers of JSON lines end a line at U+2028. Several seeds are a group
without a standard error: they answer the same rows.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from spt_fast.config import plugins
from spt_fast.config.output import Location, location
from spt_fast.errors import ConfigError, boundary
from spt_fast.storage.files import write_whole

if TYPE_CHECKING:
    from spt_fast.analysis.runs import Run
    from spt_fast.export.source import Written

    Write = Callable[[Run, Path], Written]

_OURS: Mapping[str, str] = {
    "lm-eval": "results_*.json and samples_*.jsonl of lm-evaluation-harness 0.4",
    "eee": "Every Eval Ever 0.3: a record a cell, with raw and extracted text",
    "peft": "soft prompts as PEFT prompt-tuning adapters; also of one soft prompt's file",
    "soft-prompt": "the way back: a PEFT prompt-tuning adapter as a soft prompt's file",
    "csv": "results.csv and samples.csv, tidy",
    "parquet": "results.parquet and samples.parquet, tidy and exact",
    "wandb": "Weights & Biases, by its client: a run a model",
    "mlflow": "MLflow, by its client: a run a cell",
    "hub": ".eval_results/*.yaml for model pages of the Hub, each with its protocol in words",
}
"""Name -> what comes of it."""

_FUNCTIONS: Mapping[str, str] = {
    "lm-eval": "lm_eval:write",
    "csv": "tables:write_csv",
    "parquet": "tables:write_parquet",
}
EXPORTS: plugins.Plugins[Write] = plugins.Plugins(
    plugins.EXPORTS,
    "export",
    {name: f"spt_fast.export.{_FUNCTIONS.get(name, name + ':write')}" for name in _OURS},
    plugins.callable_,
)
"""Name -> a function that writes what a `Run` holds into a folder, and says what was `Written`. One soft prompt, which is
no run folder, goes another way (`_converted`)."""


def formats() -> Mapping[str, str]:
    """Each format, ours first, and what comes of it: of another package's the first line of the function's docstring."""
    return {**_OURS, **{name: _summary(name) for name in EXPORTS.theirs}}


def _summary(name: str) -> str:
    try:
        return (inspect.getdoc(EXPORTS[name]) or "").partition("\n")[0]
    except ConfigError as e:  # the help of a command is no place to fail
        return str(e)


_WHO = re.compile(r"//[^/@]*@")
"""Name and password in a URI."""
RECORD = "export.json"
"""What an export says of itself, beside its files."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What came of an export."""

    where: str
    """A folder or a file, or what a tracking client calls the place."""
    count: int
    what: str
    """Of what so many were written, in the plural: "cells", "adapters", "runs"."""
    missing: int
    """Cells of the grid that are failed or waiting, and not in it."""
    not_carried: tuple[str, ...]
    """What the format cannot say, a sentence each."""


def export(source: Location, format: str, to: Location | None = None) -> Exported:
    """Write what a run folder holds in the format of another tool.

    Args:
        source: a run folder or its URL. For `peft` also the file of a soft prompt; for `soft-prompt` the folder of an adapter.
        format: a name of `EXPORTS`.
        to: a folder of this machine [default: `export-<format>` in the run folder, or beside the file]; for `soft-prompt` a
            file; for `mlflow` also the URI of a tracking server.

    Raises:
        ConfigError: there is no such format, the source is not what the format takes, or a client's package is missing.
        StoreError: a file is damaged, or nothing can be written there.
    """
    if format not in EXPORTS:
        raise ConfigError(f"--format: there is no {format!r}; choose from {', '.join(EXPORTS)}")
    source = location(source)
    to = None if to is None else location(to)
    if format == "soft-prompt" or (format == "peft" and isinstance(source, Path) and _one_prompt(source)):
        return _converted(source, format, to)
    from spt_fast.analysis.runs import read_run

    run = read_run(source)
    write = EXPORTS[format]
    server = os.environ.get("MLFLOW_TRACKING_URI") if to is None else to
    if format == "mlflow" and isinstance(server, str):  # nothing of ours is written there
        return _told(run, _WHO.sub("//", server), write(run, server))  # type: ignore[arg-type]
    folder = _folder(source, format, to)
    with boundary(ConfigError, f"--format {format}"):
        told = _told(run, str(folder), write(run, folder))
    record = {
        "format": format,
        "run": run.name,
        "spt_fast": version("spt-fast"),
        told.what: told.count,
        "missing": [place.title for place in run.missing],
        "not_carried": told.not_carried,
    }
    write_whole(folder / RECORD, (json.dumps(record, indent=1) + "\n").encode())
    return told


def _told(run: Run, where: str, written: Written) -> Exported:
    left = written.not_carried
    return Exported(where=where, count=written.count, what=written.what, missing=len(run.missing), not_carried=left)


def _folder(source: Location, format: str, to: Location | None) -> Path:
    """Where the files go.

    Raises:
        ConfigError: nothing is said and the run folder is elsewhere, or what is said is a URL or a file.
    """
    if to is None and isinstance(source, str):
        raise ConfigError(f"--to: {source} is not on this machine; name a folder here for the export")
    folder = source / f"export-{format}" if to is None and isinstance(source, Path) else to
    if not isinstance(folder, Path):
        raise ConfigError(f"--to: {to} is a URL; an export is written to a folder of this machine")
    if folder.is_file():
        raise ConfigError(f"--to: {folder} is a file; name a folder")
    return folder


def _one_prompt(source: Path) -> bool:
    """Whether this is a soft prompt's file or an adapter, not a run folder."""
    return source.is_file() or (source / "adapter_config.json").is_file()


def _converted(source: Location, format: str, to: Location | None) -> Exported:
    """One soft prompt in the other form.

    Raises:
        ConfigError: the source is a URL, or PEFT has no place for the soft prompt.
        StoreError: it is no soft prompt, or cannot be written.
    """
    from spt_fast.prompts.adapters import save_adapter
    from spt_fast.prompts.soft_prompt import SoftPrompt

    if isinstance(source, str) or isinstance(to, str):
        raise ConfigError(f"--format {format}: one soft prompt is read from and written to this machine; copy it here first")
    if not source.exists():
        raise ConfigError(f"{source}: is not there")
    if format == "soft-prompt" and not (source / "adapter_config.json").is_file():
        raise ConfigError(f"{source}: has no adapter_config.json; --format soft-prompt takes the folder of a PEFT adapter")
    prompt = SoftPrompt.load(source)
    beside = f"{source.name}.safetensors" if format == "soft-prompt" else f"{source.stem}-peft"
    where = source.parent / beside if to is None else to
    if format == "soft-prompt":
        prompt.save(where)
    else:
        save_adapter(prompt, where, base_model=prompt.provenance.get("model", ""), revision=prompt.provenance.get("revision"))
    return Exported(where=str(where), count=1, what="soft prompts", missing=0, not_carried=())
