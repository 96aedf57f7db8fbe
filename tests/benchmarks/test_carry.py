"""What is carried to a machine without a network arrives whole: cut, gone on with after a kill, and damage is found by hash."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from benchmarks.gpu import carry
from benchmarks.gpu.carry import CarryError, Manifest, fetch, main, pack, unpack

ROOT = Path(__file__).parents[2]
SMALL = 0.01
"""MiB of a part."""


@pytest.fixture(autouse=True)
def files_of_a_few_kilobytes_are_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carry, "ALONE", 10_000)


def noise(count: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(count)


def make_wheels(folder: Path, *, large: int = 30_000) -> Path:
    """Two wheels: one with an extension, an entry point and a file that no GPU start loads; one with a folder of data."""
    folder.mkdir()
    files = {
        "first/__init__.py": b"WORD = 'carried'\n",
        "first/_C.abi3.so": noise(large, 1),
        "first/tests/large.bin": noise(large, 2),
        "first-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: first\nVersion: 1.0\n",
        "first-1.0.dist-info/entry_points.txt": b"[vllm.general_plugins]\nfirst = first:WORD\n",
    }
    with zipfile.ZipFile(folder / "first-1.0-py3-none-any.whl", "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    with zipfile.ZipFile(folder / "second-2.0-py3-none-any.whl", "w") as wheel:
        program = zipfile.ZipInfo("second-2.0.data/purelib/second/run.sh")
        program.external_attr = 0o755 << 16
        wheel.writestr(program, b"#!/bin/sh\n")
        wheel.writestr("second-2.0.data/scripts/second", b"#!python\n")
        wheel.writestr("second/words.txt", b"a word\n" * 20_000)
    return folder


def files_below(folder: Path) -> dict[str, str]:
    found = {}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_file() and not name.startswith(".carried"):
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def test_what_is_unpacked_is_what_wheels_install_without_what_is_left_out(tmp_path: Path) -> None:
    manifest = pack(make_wheels(tmp_path / "wheels"), tmp_path / "carried", part_mib=SMALL)
    assert len(manifest.parts) == 3
    assert max(part.bytes for part in manifest.parts) <= SMALL * 2**20
    assert manifest.pieces[0].name == "first-1.0-py3-none-any.whl: first/_C.abi3.so"
    site = unpack(tmp_path / "carried", tmp_path / "site")
    assert set(files_below(site)) == {
        "first/__init__.py",
        "first/_C.abi3.so",
        "first-1.0.dist-info/METADATA",
        "first-1.0.dist-info/entry_points.txt",
        "second/run.sh",
        "second/words.txt",
    }
    assert (site / "first/_C.abi3.so").read_bytes() == noise(30_000, 1)
    assert os.access(site / "second/run.sh", os.X_OK)
    asked = "import first; from importlib.metadata import entry_points as e; print(first.WORD, *e(name='first'))"
    said = subprocess.run(
        [sys.executable, "-c", asked], env={"PYTHONPATH": str(site)}, capture_output=True, text=True, check=True
    )
    assert "carried EntryPoint(name='first', value='first:WORD', group='vllm.general_plugins')" in said.stdout


def test_the_same_wheels_give_the_same_parts_and_are_not_packed_again(tmp_path: Path) -> None:
    wheels = make_wheels(tmp_path / "wheels")
    first = pack(wheels, tmp_path / "one", part_mib=SMALL)
    written = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "one").iterdir()}
    assert pack(wheels, tmp_path / "one", part_mib=SMALL) == first
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "one").iterdir()} == written
    assert pack(wheels, tmp_path / "two", part_mib=SMALL) == first
    larger = pack(wheels, tmp_path / "one", part_mib=4 * SMALL)
    assert len(larger.parts) < len(first.parts)
    assert {file.name for file in (tmp_path / "one").glob("part-*")} == {part.name for part in larger.parts}
    assert files_below(unpack(tmp_path / "one", tmp_path / "a")) == files_below(unpack(tmp_path / "two", tmp_path / "b"))


def test_packing_that_was_killed_goes_on_with_what_it_had_compressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = make_wheels(tmp_path / "wheels", large=1_500_000)
    code = f"""
import os, pathlib, signal
from benchmarks.gpu import carry

compressed = carry._compressed

def first_and_then_killed(cut, work):
    if list(work.glob("*.xz")):
        os.kill(os.getpid(), signal.SIGKILL)
    return compressed(cut, work)

carry.ALONE, carry._compressed = 10_000, first_and_then_killed
carry.pack(pathlib.Path({str(wheels)!r}), pathlib.Path({str(tmp_path / "carried")!r}), part_mib=1, left=())
"""
    packing = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert packing.returncode == -signal.SIGKILL
    had = {file.name: file.stat().st_mtime_ns for file in tmp_path.glob("carried/pieces/*.xz")}
    assert len(had) == 1
    with pytest.raises(CarryError, match=r"carry\.json: cannot be read"):
        unpack(tmp_path / "carried", tmp_path / "site")
    kept = {}
    write_parts = carry._write_parts

    def seen(files: list[Path], to: Path, size: int) -> tuple[carry.Part, ...]:
        kept.update({file.name: file.stat().st_mtime_ns for file in files})
        return write_parts(files, to, size)

    monkeypatch.setattr(carry, "_write_parts", seen)
    manifest = pack(wheels, tmp_path / "carried", part_mib=1, left=())
    assert had.items() <= kept.items()
    assert manifest == pack(wheels, tmp_path / "anew", part_mib=1, left=())
    assert not (tmp_path / "carried" / "pieces").exists()


def test_what_another_carry_has_compressed_already_is_taken_out_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels, carried = make_wheels(tmp_path / "wheels"), tmp_path / "carried"
    pack(wheels, carried, part_mib=SMALL)
    with zipfile.ZipFile(wheels / "third-3.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("third.py", b"")
    made: list[str] = []
    opened = tarfile.open
    monkeypatch.setattr(carry.tarfile, "open", lambda file, **more: (made.append(file.name), opened(file, **more))[1])
    assert pack(wheels, carried, part_mib=SMALL).packages == ("first-1.0", "second-2.0", "third-3.0")
    monkeypatch.undo()
    assert len(made) == 1
    site = unpack(carried, tmp_path / "site")
    assert (site / "first/_C.abi3.so").read_bytes() == noise(30_000, 1)
    assert (site / "third.py").is_file()


def test_parts_that_are_missing_short_or_damaged_are_named(tmp_path: Path) -> None:
    carried = tmp_path / "carried"
    pack(make_wheels(tmp_path / "wheels"), carried, part_mib=SMALL)
    (carried / "part-000").unlink()
    data = bytearray((carried / "part-001").read_bytes())
    data[100] ^= 1
    (carried / "part-001").write_bytes(data)
    (carried / "part-002").write_bytes(b"short")
    with pytest.raises(CarryError) as wrong:
        unpack(carried, tmp_path / "site")
    said = str(wrong.value)
    assert "3 of" in said
    assert "part-000 is missing, part-001 is damaged: its hash is another, part-002 has 5 of 10302 bytes" in said
    assert said.endswith("carry these again")
    assert not (tmp_path / "site").exists()
    pack(tmp_path / "wheels", carried, part_mib=SMALL)
    assert (unpack(carried, tmp_path / "site") / "first/_C.abi3.so").read_bytes() == noise(30_000, 1)


def test_unpacking_goes_on_where_it_was_ended(tmp_path: Path) -> None:
    carried, site = tmp_path / "carried", tmp_path / "site"
    manifest = pack(make_wheels(tmp_path / "wheels"), carried, part_mib=SMALL)
    unpack(carried, site)
    whole = files_below(site)
    (site / ".carried" / manifest.pieces[1].sha256).unlink()  # as where it was killed within the second piece
    (site / "first" / "__init__.py").write_bytes(b"")
    before = (site / "first/_C.abi3.so").stat().st_mtime_ns
    assert files_below(unpack(carried, site)) == whole
    assert (site / "first/_C.abi3.so").stat().st_mtime_ns == before


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"packed_from": "", "packages": [], "pieces": [{}], "parts": []}'])
def test_a_manifest_that_is_none_is_told_in_a_sentence(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "carry.json").write_text(text)
    assert main(["unpack", str(tmp_path), "--to", str(tmp_path / "site")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "carry.json: is not what `carry.py pack` writes" in said


@pytest.mark.parametrize("name", ["../outside.py", "/etc/outside.py", "inside/../../outside.py"])
def test_a_wheel_with_files_outside_its_folder_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "odd-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(zipfile.ZipInfo(name), b"")
    with pytest.raises(CarryError, match="has a file outside its folder"):
        pack(tmp_path / "wheels", tmp_path / "carried")


def test_a_folder_without_wheels_and_a_wheel_that_is_none_are_told(tmp_path: Path) -> None:
    with pytest.raises(CarryError, match="there are no wheels"):
        pack(tmp_path, tmp_path / "carried")
    (tmp_path / "half-1-py3-none-any.whl").write_bytes(b"PK\x03\x04 half")
    with pytest.raises(CarryError, match="is no wheel"):
        pack(tmp_path, tmp_path / "carried")


def test_everything_that_is_carried_stands_in_the_lock_file() -> None:
    blocks = carry._blocks(ROOT / "requirements" / "cuda.txt")
    assert set(carry.LACKING) <= set(blocks)
    assert all("--hash=sha256:" in blocks[name] for name in carry.LACKING)


def test_what_the_machine_has_already_is_not_asked_for(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("first==1.0 \\\n    --hash=sha256:00\nsecond[all]==2.0 \\\n    --hash=sha256:11 \\\n    --hash=sha256:22\n")
    assert carry._blocks(lock)["second"].count("--hash") == 2
    with pytest.raises(CarryError, match="none of the packages"):
        fetch(lock, tmp_path, python="3.12", there=["First", "SECOND"], names=["first", "second"])


def test_it_needs_nothing_but_pythons_own_library(tmp_path: Path) -> None:
    pack(make_wheels(tmp_path / "wheels"), tmp_path / "carried", part_mib=SMALL)
    script = str(ROOT / "benchmarks" / "gpu" / "carry.py")
    command = [sys.executable, "-I", "-S", script, "unpack", str(tmp_path / "carried"), "--to", str(tmp_path / "site")]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stdout == f"PYTHONPATH={tmp_path / 'site'}\n"
    assert Manifest.read(tmp_path / "carried").packages == ("first-1.0", "second-2.0")


def test_qualify_says_which_parts_are_missing_before_it_begins(tmp_path: Path) -> None:
    pack(make_wheels(tmp_path / "wheels"), tmp_path / "carried", part_mib=SMALL)
    (tmp_path / "carried" / "part-001").unlink()
    script = str(ROOT / "benchmarks" / "gpu" / "qualify.py")
    command = [sys.executable, script, f"--carry={tmp_path / 'carried'}", "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    said = "1 of 3 parts cannot be used: part-001 is missing; carry these again"
    assert done.stderr == f"qualify.py: {tmp_path / 'carried'}: {said}\n"
