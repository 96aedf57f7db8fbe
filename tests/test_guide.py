"""What docs/soft-prompts.md tells a reader to type can be typed: its grids are good, its commands and its figure are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from spt_fast import plan
from spt_fast.cli import cli
from spt_fast.cli.checking import check_grid
from spt_fast.config.reader import load_grid

DOCS = Path(__file__).parents[1] / "docs"
GUIDE = (DOCS / "soft-prompts.md").read_text(encoding="utf-8")
GRIDS = {name: text for text, name in re.findall(r"```yaml\n(# (\S+)\n.*?)```", GUIDE, re.S)}
COMMANDS = re.findall(r"^    (spt-fast .*)$", GUIDE, re.M)


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_of_the_guide_is_good(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(GRIDS[name])
    grid = load_grid(tmp_path / name)
    assert check_grid(grid).wrong == ()
    assert len(plan.expand(grid)) > 5
    assert f"spt-fast run {name}" in COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_guide_is_one(command: str) -> None:
    _, verb, *arguments = shlex.split(command)
    found = cli.get_command(click.Context(cli), verb)
    assert found is not None
    found.make_context(verb, arguments)  # parses, and refuses what is no option


def test_what_the_guide_points_at_is_there() -> None:
    shown = re.findall(r"!\[[^\]]+\]\((\S+)\)", GUIDE)
    named = re.findall(r"benchmarks/[\w/-]+\.\w+", GUIDE)
    assert shown
    assert named
    assert all((DOCS / path).is_file() for path in shown)
    assert all((DOCS.parent / path).is_file() for path in named)
    assert all((DOCS / path).stat().st_size < 130_000 for path in shown), "a small figure, or none"
