"""What holds of the project as a whole: what is light stays light, what is locked is complete, what is public is there."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

import spt_fast

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "vllm", "transformers", "datasets", "ray", "triton"}
LIGHT = (
    "spt_fast",
    "spt_fast.cli",
    "spt_fast.config",
    "spt_fast.engine.base",
    "spt_fast.engine.echo",
    "spt_fast.executors.local",
    "spt_fast.config.reader",
    "spt_fast.models.identity",
    "spt_fast.store.reuse",
    "spt_fast.plan",
    "spt_fast.cli.progress",
    "spt_fast.report",
    "spt_fast.driver.run",
    "spt_fast.worker.judge",
    "spt_fast.scoring.score",
    "spt_fast.storage.local",
    "spt_fast.storage.remote",
    "spt_fast.store",
    "spt_fast.config.strict",
    "spt_fast.tasks.custom",
    "spt_fast.tasks.benchmarks.drop",
    "spt_fast.tasks.benchmarks.gsm8k",
    "spt_fast.tasks.benchmarks.math500",
    "spt_fast.tasks.benchmarks.mmlu",
    "spt_fast.tasks.overlap",
    "spt_fast.tasks.rows",
    "spt_fast.tasks.benchmarks.zoo",
    "spt_fast.zoo",
)
LOCKS = ("cpu", "cuda")


def heavy_after(code: str, cwd: Path = ROOT) -> set[str]:
    """The heavy libraries that a new Python has imported after running `code`."""
    code += "\nimport sys; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=cwd)
    return HEAVY & set(done.stdout.split())


def test_light_modules_import_nothing_heavy() -> None:
    assert heavy_after("import " + ", ".join(LIGHT)) == set()


def test_the_tables_of_a_report_need_no_scipy() -> None:
    code = "import sys, spt_fast.report; print('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_an_unchanged_grid_is_answered_without_anything_heavy(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(
        "name: g\nmodels: [zoo/base-40]\ntasks: [{task: zoo-mcq, limit: 4}]\nprotocols: [zero_shot]\nengine: {kind: echo}\n"
    )
    command = (
        "from spt_fast.cli import main\ntry: main(['run', 'grid.yaml'])\nexcept SystemExit as e: assert not e.code, e.code"
    )
    heavy_after(command, tmp_path)  # does it
    assert heavy_after(command, tmp_path) == set()


def test_public_names_are_there_and_documented() -> None:
    assert list(spt_fast.__all__) == sorted(spt_fast.__all__)
    for name in spt_fast.__all__:
        assert getattr(spt_fast, name).__doc__, f"spt_fast.{name} has no docstring"
    assert {"load_grid", "run_grid", "tune", "SoftPrompt", "ConfigError", "SptError"} <= set(spt_fast.__all__)
    assert {"read_run", "rank_run", "compare_runs", "compare_protocols"} <= set(spt_fast.__all__), "what a notebook needs"


def test_version_and_command_are_those_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert version("spt-fast") == project["version"]
    (script,) = entry_points(group="console_scripts", name="spt-fast")
    assert script.value == project["scripts"]["spt-fast"]


@pytest.mark.parametrize("folder", ["kernels", "tests/kernels", "benchmarks", "benchmarks/kernels"])
def test_nothing_shadows_the_hubs_package_kernels(folder: str) -> None:
    # transformers imports a package called `kernels`; one of ours, regular, would be found first.
    assert not (ROOT / folder / "__init__.py").exists()


def locked(device: str) -> dict[str, str]:
    """Package -> its entry in the lock file, hashes included."""
    text = (ROOT / "requirements" / f"{device}.txt").read_text()
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    return {re.split(r"[\[=]", entry)[0]: entry for entry in entries}


@pytest.mark.parametrize("device", LOCKS)
def test_lock_files_name_no_host(device: str) -> None:
    text = (ROOT / "requirements" / f"{device}.txt").read_text()
    assert "://" not in text
    assert not re.search(r"^-", text, flags=re.MULTILINE), "an option of pip, such as --find-links"


@pytest.mark.parametrize("device", LOCKS)
def test_everything_is_pinned_with_a_hash(device: str) -> None:
    for name, entry in locked(device).items():
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^ ]+ ", entry), name
        assert "--hash=sha256:" in entry, name


def test_the_cpu_lock_leaves_out_what_breaks_a_cpu() -> None:
    names = set(locked("cpu"))
    assert not names & {"torch", "torchvision", "torchaudio", "torchcodec", "vllm"}
    assert not [name for name in names if name.startswith(("nvidia-", "cuda-"))]


@pytest.mark.parametrize("device", LOCKS)
def test_the_locks_hold_what_is_asked_for(device: str) -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = pyproject["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras[device], *extras["test"], *pyproject["dependency-groups"]["dev"]]
    names = {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in wanted} - ({"torch"} if device == "cpu" else set())
    assert names <= set(locked(device)), "make lock"


def files_of_tests() -> list[Path]:
    return sorted((ROOT / "tests").rglob("test_*.py"))


def imported(tree: ast.Module) -> list[str]:
    """Modules that a file imports from, relative ones as they stand."""
    return [f"{'.' * node.level}{node.module or ''}" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


def test_no_test_file_imports_another_one() -> None:
    for path in files_of_tests():
        names = imported(ast.parse(path.read_text(encoding="utf-8")))
        shared = [name for name in names if re.match(r"(tests|\.)", name) and "test_" in name]
        assert not shared, f"{path}: what test files share is in tests/helpers/"


def test_names_of_tests_have_90_characters_at_most() -> None:
    names = [
        name for path in files_of_tests() for name in re.findall(r"^ *def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert len(names) > 1000
    assert not [name for name in names if len(name) > 90]


def test_ci_runs_check_and_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make --no-print-directory check test" in script.read_text()
