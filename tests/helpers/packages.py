"""Packages that offer something to spt-fast by entry points, as files: what `pip install` would leave behind."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from spt_fast import tasks
from spt_fast.config import OPTIMIZERS, PROTOCOLS, plugins
from spt_fast.config.engines import ENGINES
from spt_fast.executors import OF_PACKAGES
from spt_fast.export import EXPORTS
from spt_fast.scoring import metrics

TABLES = (PROTOCOLS, OPTIMIZERS, ENGINES, EXPORTS, OF_PACKAGES, metrics._REGISTERED)


def install(site: Path, modules: Mapping[str, str], points: Mapping[str, Mapping[str, str]], name: str = "of-a-user") -> None:
    """Write a package.

    Args:
        site: a folder that is to be on the path.
        modules: name -> text.
        points: group of entry points -> name -> what it names: `module:attribute`.
        name: of the package.
    """
    info = site / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    lines = [f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in named.items()) for group, named in points.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))
    for module, text in modules.items():
        (site / f"{module}.py").write_text(text)


@contextmanager
def on_the_path(site: Path, modules: Mapping[str, str]) -> Iterator[None]:
    """Have this process find what is installed there; afterwards it has forgotten it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        for table in TABLES:
            patch.setattr(table, "_loaded", {})
        for module in modules:
            patch.delitem(sys.modules, module, raising=False)
        for cached in (plugins.offered, tasks.get):
            cached.cache_clear()
        yield
        for module in modules:
            sys.modules.pop(module, None)
    for cached in (plugins.offered, tasks.get):
        cached.cache_clear()


def recipes(page: str) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """The modules of a page of Markdown, by name, and the entry points that stand below them.

    Each is a block of Python, and a block of TOML with `[project.entry-points."GROUP"]` and `NAME = "MODULE:ATTRIBUTE"`.
    """
    modules: dict[str, str] = {}
    points: dict[str, dict[str, str]] = {}
    code = ""
    for language, text in re.findall(r"^```(python|toml)\n(.*?)^```$", page, re.M | re.S):
        if language == "python":
            code = text
        elif found := re.fullmatch(r'\[project\.entry-points\."([\w.]+)"\]\n(\w+) = "((\w+):\w+)"\n', text):
            group, name, value, module = found.groups()
            modules[module] = code
            points.setdefault(group, {})[name] = value
    return modules, points
