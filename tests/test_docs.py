"""The documentation: its examples give what they say, its links lead somewhere, and its reference has all there is."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

import spt_fast
from spt_fast import errors, tasks
from spt_fast.analysis.gate import Check, Policy
from spt_fast.cli import cli
from spt_fast.config import PROTOCOLS, GridConfig, JudgeConfig, ModelConfig, PriceConfig, TaskConfig
from spt_fast.config.strict import key_of
from spt_fast.scoring import metrics
from spt_fast.tasks.custom.keys import AnswerKeys, ColumnsKeys, OptionsKeys, RowsKeys, TaskFile
from spt_fast.types import Sample

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(ROOT) for path in DOCS.rglob("*.md"))
ELSEWHERE = [
    Path(name) for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "benchmarks/README.md", "cluster/README.md")
]
LINK = re.compile(r"\]\(([^()\s]+)\)")


@cache
def reference() -> ModuleType:
    """docs/reference.py, which is in no package."""
    module = ModuleType("reference")
    source = DOCS / "reference.py"
    exec(compile(source.read_text(encoding="utf-8"), str(source), "exec"), vars(module))
    return module


@cache
def made() -> dict[str, str]:
    pages: dict[str, str] = reference().pages()
    return pages


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$|`[^`\n]+`(?!\])", "", text, flags=re.M | re.S)


def text_of(page: Path) -> str:
    if page.parts[:2] == ("docs", "reference"):
        return made()["/".join(page.parts[1:])]
    return (ROOT / page).read_text(encoding="utf-8")


def headings(page: Path) -> set[str]:
    """Anchors of a page, as the site and Git's browsers make them."""
    found = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text_of(page), flags=re.M | re.S), re.M)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in found} | set(
        re.findall(r'<a id="([^"]+)"', text_of(page))
    )


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_the_examples_of_a_page_give_what_they_say(page: Path) -> None:
    test = doctest.DocTestParser().get_doctest(text_of(page), {}, str(page), str(page), 0)
    said: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert not said, "".join(said)


def test_the_pages_about_numbers_have_examples_that_are_run() -> None:
    for name in ("metrics", "intervals", "paired", "ranking", "gate", "series"):
        assert text_of(Path(f"docs/numbers/{name}.md")).count("\n>>> ") > 2, name


@pytest.mark.parametrize("page", [*PAGES, *ELSEWHERE, *(Path("docs") / path for path in made())], ids=str)
def test_a_link_leads_to_a_file_or_a_page_and_to_a_heading_of_it(page: Path) -> None:
    dead = [target for target in LINK.findall(without_code(text_of(page))) if not leads_somewhere(page, target)]
    assert dead == []


def leads_somewhere(page: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    if ":" in path:
        return target.startswith("https://")
    wanted = Path(os.path.normpath(page.parent / path)) if path else page
    if wanted.parts[:1] == ("docs",) and "/".join(wanted.parts[1:]) in made():
        return not anchor or anchor in headings(wanted)
    return (ROOT / wanted).exists() and (not anchor or anchor in headings(wanted))


def commands(page: Path) -> list[str]:
    """Lines that a reader is told to type, comments apart."""
    lines = re.findall(r"^    (spt-fast .*)$", text_of(page), re.M)
    return [re.split(r"\s+#|\s+[<>]", line)[0] for line in lines if "..." not in line]


@pytest.mark.parametrize("page", [Path("README.md"), *PAGES, Path("cluster/README.md")], ids=str)
def test_a_command_of_a_page_is_one(page: Path) -> None:
    for line in commands(page):
        command: click.Command = cli
        _, *arguments = shlex.split(line)
        while isinstance(command, click.Group) and arguments:
            found = command.get_command(click.Context(command), arguments[0])
            assert found is not None, line
            command, arguments = found, arguments[1:]
        command.make_context(line, list(arguments))  # parses, and refuses what is no option


def test_every_metric_is_explained() -> None:
    pages = text_of(Path("docs/numbers/metrics.md")) + text_of(Path("docs/knowledge.md"))
    assert [name for name in metrics.table() if name not in pages] == []


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r": (\S+\.md)$", navigation, re.M))
    there = {str(page.relative_to("docs")) for page in PAGES} | set(made())
    assert there - named == set()


def rows(page: str) -> Iterator[str]:
    """First cells of the tables of a page."""
    return (found[1] for found in re.finditer(r"^\| `([^`]+)` \|", made()[page], re.M))


CLASSES = {
    "reference/grid.md": (GridConfig, ModelConfig, TaskConfig, JudgeConfig, PriceConfig, *PROTOCOLS.values()),
    "reference/task-file.md": (TaskFile, RowsKeys, ColumnsKeys, AnswerKeys, OptionsKeys),
    "reference/policy.md": (Policy, Check),
    "reference/run-folder.md": (Sample,),
}


@pytest.mark.parametrize(("page", "cls"), [(page, cls) for page, classes in CLASSES.items() for cls in classes])
def test_the_reference_has_every_field(page: str, cls: type[Any]) -> None:
    text = made()[page]
    if cls in PROTOCOLS.values():  # a section of its own, where each is in the table or named
        (text,) = re.findall(rf"^### {cls.name}\n(.*?)(?=^##)", text, re.M | re.S)
        assert set(re.findall(r"`(\w+)`", text)) >= {key_of(f) for f in fields(cls)}
    else:
        assert set(rows(page)) >= {key_of(f) for f in fields(cls)}
    assert not re.search(r"\|\s+\|$", text, re.M), "a key without a word about it"


def test_the_reference_says_range_and_default_of_a_setting() -> None:
    (steps,) = re.findall(r"^\| `steps` \|.*$", made()["reference/grid.md"], re.M)[:1]
    assert "a whole number from 1 to 10000000 | `80` |" in steps


def test_the_reference_has_every_command_and_option() -> None:
    text = made()["reference/commands.md"]

    def look(command: click.Command, path: tuple[str, ...]) -> None:
        if isinstance(command, click.Group):
            for name, each in command.commands.items():
                look(each, (*path, name))
            return
        (section,) = re.findall(rf"^## {' '.join(path)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
        options = {name for each in command.params for name in each.opts if name.startswith("--")}
        assert options <= set(re.findall(r"--[\w-]+", section)), path

    look(cli, ("spt-fast",))


def test_the_reference_has_every_task_metric_public_name_and_error() -> None:
    assert set(rows("reference/tasks.md")) == set(tasks.names())
    assert set(rows("reference/metrics.md")) == set(metrics.table())
    public = {name for name in spt_fast.__all__ if not name.endswith("Error")}
    assert public == set(re.findall(r"^      heading: (\w+)$", made()["reference/python.md"], re.M))
    raised = {name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, errors.SptError)}
    assert raised == set(rows("reference/errors.md"))


def test_the_readme_is_short_and_shows_a_grid_and_its_command_in_the_first_screen() -> None:
    lines = text_of(Path("README.md")).splitlines()
    assert len(lines) <= 130
    screen = "\n".join(lines[:40])
    assert "```yaml\n# grid.yaml" in screen
    assert "spt-fast run grid.yaml" in screen


def test_lines_of_the_architecture_fit_a_window() -> None:
    assert max(map(len, text_of(Path("ARCHITECTURE.md")).splitlines())) <= 120


def test_the_architecture_names_files_that_are_there_and_every_package() -> None:
    text = text_of(Path("ARCHITECTURE.md"))
    life = text.partition("## The life of a cell")[2].partition("\n## ")[0]
    assert 5 < len(re.findall(r"^\d+\. ", life, re.M)) <= 10
    named = re.findall(r"`([\w/]+(?:\.py|/))`", life)
    assert len(named) > 15
    assert [name for name in named if not (ROOT / "spt_fast" / name).exists()] == []
    packages = {path.parent.name for path in (ROOT / "spt_fast").glob("*/__init__.py")}
    assert packages <= set(re.findall(r"^\| `(\w+)/` \|", text, re.M))


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".venv-docs" / "bin" / "mkdocs").exists(), reason="there is no .venv-docs (make docs)")
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [ROOT / ".venv-docs" / "bin" / "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "reference" / "grid.html").is_file()
