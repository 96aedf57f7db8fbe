"""What the command line takes for a place: a path of this machine, or a URL."""

from __future__ import annotations

from typing import Any

import click

from spt_fast.config.output import Location, location


class RunFolder(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """`runs/x` is a `Path`, `s3://bucket/runs/x` stays text: a `Path` would take one of its slashes."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Location:
        """
        Raises:
            ConfigError: a URL that cannot be used.
        """
        return location(value)


class RunFile(RunFolder):
    """A file of a run folder, such as cells/<key>/prompt.safetensors, or any other."""

    name = "file"
