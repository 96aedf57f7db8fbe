"""What mkdocs asks before it builds: pages made from the code, pages that live elsewhere in the repository, and their links.

Links are written as the repository has them, so that they work wherever Markdown is read: `../cluster/README.md` is a page of
the site, `../benchmarks/grids/paper.yaml` is a file of the repository and becomes its name. What is neither is left for mkdocs
to refuse.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python"
LIVE_ELSEWHERE = {
    "ARCHITECTURE.md": "project/architecture.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "benchmarks/README.md": "project/benchmarks.md",
    "cluster/README.md": "project/cluster.md",
    "README.md": "index.md",
}
"""File of the repository -> page of the site."""
_HOME = {page: source for source, page in LIVE_ELSEWHERE.items()}
_LINK = re.compile(r"\[(?P<text>[^\[\]]*)\]\((?P<target>[^()\s]+)\)")
_CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`(?!\]))", re.M | re.S)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    for path, text in _made_from_code().items():
        files.append(File.generated(config, path, content=text))
    for source, path in LIVE_ELSEWHERE.items():
        if path not in files.src_uris:
            files.append(File.generated(config, path, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files of the repository into links to pages, or into the names of the files."""
    here = page.file.src_uri
    source = PurePosixPath(_HOME.get(here, f"docs/{here}"))

    def link(found: re.Match[str]) -> str:
        return _linked(found["text"], found["target"], source.parent, PurePosixPath(here).parent, files) or found[0]

    parts = _CODE.split(markdown)
    return "".join(part if i % 2 else _LINK.sub(link, part) for i, part in enumerate(parts))


def _linked(text: str, target: str, folder: PurePosixPath, here: PurePosixPath, files: Files) -> str | None:
    path, _, anchor = target.partition("#")
    if not path or ":" in path:
        return None
    wanted = os.path.normpath(folder / path)
    page = LIVE_ELSEWHERE.get(wanted, wanted.removeprefix("docs/") if wanted.startswith("docs/") else "")
    if page in files.src_uris:
        return f"[{text}]({os.path.relpath(page, here)}{'#' * bool(anchor)}{anchor})"
    if (ROOT / wanted).exists():
        return f"`{wanted}`" if text.strip("`") in (path, PurePosixPath(wanted).name) else f"{text} (`{wanted}`)"
    return None


def _made_from_code() -> dict[str, str]:
    """By the Python of .venv, which has spt-fast and what it needs."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
    made = subprocess.run(
        [PYTHON, ROOT / "docs" / "reference.py"], capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )
    found: dict[str, str] = json.loads(made.stdout)
    return found
