"""What a machine without a network lacks, in parts to carry there: vLLM's CUDA build, what it imports, Ray, spt-fast.

    python benchmarks/gpu/carry.py pack --to carried [--python 3.12] [--there FILE] [--wheels FOLDER] [--part-mib 36]
    python carry.py unpack carried --to site       (there; needs nothing but Python)
    python carry.py try --site site                (there, or here with PYTHONPATH=site)

The machine has PyTorch 2.11, Triton 3.6, Transformers and PEFT, and what these need; --there names a `pip list
--format=freeze` of it, and what is in it stays here. Wheels come from the project's own lock file, by hash, for that Python on
x86-64; of vLLM's, what no start on one GPU loads stays here, too (`LEFT`).

A part is at most 36 MiB, so that it passes where a transfer has a limit, and is good by itself: `carry.json` has the hash of
each. `pack` goes on where it was ended, `unpack` too, and says which parts are missing or damaged. This file imports nothing
but the standard library, and travels beside the parts.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fnmatch
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

MANIFEST = "carry.json"
PART_MIB = 36
CHUNK = 1 << 20

LACKING = (
    "vllm",
    # What it imports at a start on a GPU.
    "annotated-types",
    "apache-tvm-ffi",
    "astor",
    "blake3",
    "cachetools",
    "cbor2",
    "compressed-tensors",
    "depyf",
    "dill",
    "fastapi",
    "httpcore2",
    "httpx2",
    "ijson",
    "jiter",
    "lark",
    "llguidance",
    "loguru",
    "msgspec",
    "openai",
    "oss-harmony",
    "partial-json-parser",
    "pybase64",
    "pydantic",
    "pydantic-core",
    "pydantic-settings",
    "python-dotenv",
    "python-json-logger",
    "pyzmq",
    "setproctitle",
    "sniffio",
    "starlette",
    "truststore",
    "xgrammar",
    # A grid on several GPUs.
    "ray",
)
"""Packages, of those that the lock file has."""

LEFT = (
    # Attention before Hopper's; mixtures of experts; other families' kernels.
    "vllm/vllm_flash_attn/_vllm_fa2_C*",
    "vllm/_moe_C_stable_libtorch*",
    "vllm/_flashmla_C*",
    "vllm/_flashkda_C*",
    "vllm/_deepselect_C*",
    "vllm/_qutlass_C*",
    "vllm/third_party/deep_gemm/*",
    "vllm/third_party/fmha_sm100/*",
    "vllm/kernels/helion/configs/*",
    # Its server.
    "vllm/vllm-rs",
    "vllm/entrypoints/serve/instrumentator/static/*",
    "ray/dashboard/client/*",
    "ray/rllib/*",
    "ray/jars/*",
    "ray/cpp/*",
    "*/tests/*",
)
"""Files of wheels that are not carried."""

ALONE = 16 << 20
"""Bytes from which on a file of a wheel is a piece by itself: what was compressed before a kill is not compressed again."""

IMPORTED = (
    "vllm",
    "vllm.engine.arg_utils",
    "vllm.v1.engine.llm_engine",
    "vllm.v1.engine.core",
    "vllm.v1.executor.uniproc_executor",
    "vllm.v1.executor.multiproc_executor",
    "vllm.platforms.cuda",
    "vllm.v1.worker.gpu_worker",
    "vllm.v1.worker.gpu.model_runner",
    "vllm.v1.attention.backends.flash_attn",
    "vllm.model_executor.models.llama",
    "vllm.vllm_flash_attn",
    "vllm.compilation.backends",
    "vllm._C_stable_libtorch",
    "vllm.vllm_flash_attn._vllm_fa3_C",
    "spt_fast.engine.vllm.engine",
    "spt_fast.qualify.session",
)
"""What a start on a GPU imports, in the end."""

DRIVER = ("cuGetProcAddress_v2", "cuPointerGetAttribute", "cuTensorMapEncodeTiled")
"""What those extensions take of NVIDIA's driver (`nm --dynamic --undefined-only`)."""

BLOCK = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==[^\n]*\n(?:[ \t]+[^\n]*\n)*", re.M)
"""A package of a lock file: its line, and those with its hashes."""

PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (39, 35, 34, 31, 28, 27, 24, 17)] + ["manylinux2014_x86_64"]


class CarryError(Exception):
    """What was asked for cannot be done; the message is a sentence with the fix."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Files that are compressed together, and where they lie in the parts, laid end to end."""

    name: str
    key: str
    """The hash of what it was made of."""
    offset: int
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """A file that travels."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What `carry.json` says."""

    packed_from: str
    """The hash of all that was packed: the same wheels with the same files left out have it again."""
    packages: tuple[str, ...]
    pieces: tuple[Piece, ...]
    parts: tuple[Part, ...]

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """That of a folder.

        Raises:
            CarryError: there is none, or it is not one of ours.
        """
        file = folder / MANIFEST
        try:
            said = json.loads(file.read_text(encoding="utf-8"))
            return cls(
                packed_from=said["packed_from"],
                packages=tuple(said["packages"]),
                pieces=tuple(Piece(**each) for each in said["pieces"]),
                parts=tuple(Part(**each) for each in said["parts"]),
            )
        except OSError as e:
            raise CarryError(f"{file}: cannot be read ({e.strerror}); it travels beside the parts") from None
        except (ValueError, KeyError, TypeError) as e:
            raise CarryError(f"{file}: is not what `carry.py pack` writes ({type(e).__name__}: {e}); pack anew") from None


def pack(wheels: Path, to: Path, *, part_mib: float = PART_MIB, left: Sequence[str] = LEFT) -> Manifest:
    """Cut wheels into parts; what an earlier call has done of it is not done again.

    Args:
        wheels: a folder of wheels.
        to: where the parts and the manifest go. While it is at work, `pieces` is there, too.
        part_mib: the size of a part.
        left: patterns of files that are not carried.

    Raises:
        CarryError: there is no wheel, or one cannot be read.
    """
    found = sorted(wheels.glob("*.whl"))
    if not found:
        raise CarryError(f"{wheels}: there are no wheels (*.whl) in it")
    planned = [cut for wheel in found for cut in _plan(wheel, left)]
    key = hashlib.sha256(json.dumps([part_mib, *(cut.key for cut in planned)]).encode()).hexdigest()
    if (done := _packed(to, key)) is not None:
        return done
    work = to / "pieces"
    work.mkdir(parents=True, exist_ok=True)
    _take_out(to, {cut.key for cut in planned}, work)
    files = [_compressed(cut, work) for cut in planned]
    pieces, at = [], 0
    for cut, file in zip(planned, files, strict=True):
        pieces.append(Piece(name=cut.name, key=cut.key, offset=at, bytes=file.stat().st_size, sha256=_sha256(file)))
        at += pieces[-1].bytes
    parts = _write_parts(files, to, int(part_mib * (1 << 20)))
    packages = tuple("-".join(wheel.name.split("-")[:2]) for wheel in found)
    manifest = Manifest(packed_from=key, packages=packages, pieces=tuple(pieces), parts=parts)
    _write(to / MANIFEST, json.dumps(asdict(manifest), indent=1).encode())
    shutil.rmtree(work)
    return manifest


def unpack(folder: Path, to: Path) -> Path:
    """Put together what was carried; what an earlier call has unpacked is not unpacked again.

    Args:
        folder: with the manifest and all parts.
        to: the folder to put on the path.

    Raises:
        CarryError: parts are missing or damaged; the message names them.
    """
    manifest = Manifest.read(folder)
    wrong = [f"{part.name} {why}" for part in manifest.parts if (why := _fault(folder / part.name, part))]
    if wrong:
        count = f"{len(wrong)} of {len(manifest.parts)} parts"
        raise CarryError(f"{folder}: {count} cannot be used: {', '.join(wrong)}; carry these again")
    done = to / ".carried"
    done.mkdir(parents=True, exist_ok=True)
    for piece in manifest.pieces:
        mark = done / piece.sha256
        if not mark.exists():
            stream = io.BufferedReader(_Laid(folder, manifest.parts, piece.offset, piece.bytes))
            with tarfile.open(fileobj=stream, mode="r|xz") as archive:
                archive.extractall(to, filter="data")
            mark.touch()
    return to


def fetch(lock: Path, to: Path, *, python: str, there: Iterable[str] = (), names: Sequence[str] = LACKING) -> None:
    """Have pip download the wheels that the lock file names, by their hashes.

    Args:
        lock: the project's lock file for CUDA.
        to: the folder of wheels.
        python: of the machine: "3.12".
        there: packages that it has already.
        names: those that it lacks, of all.

    Raises:
        CarryError: the lock file has none of that name, or pip fails.
    """
    blocks = _blocks(lock)
    wanted = [name for name in names if name not in {_normal(each) for each in there} and name in blocks]
    if not wanted:
        raise CarryError(f"{lock}: has none of the packages that are to be carried")
    to.mkdir(parents=True, exist_ok=True)
    only = to / "wanted.txt"
    only.write_text("".join(blocks[name] for name in wanted), encoding="utf-8")
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", python, *platforms, "--dest", str(to), "--requirement", str(only)]
    if subprocess.run(command, check=False).returncode:
        raise CarryError("pip could not download all wheels; what it says stands above")


def build_own(root: Path, to: Path) -> None:
    """The project's wheel, with the scripts that `qualify.py` needs beside it.

    Raises:
        CarryError: it cannot be built.
    """
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(to.resolve())]
    if subprocess.run(command, cwd=root, check=False, stdout=subprocess.DEVNULL).returncode:
        raise CarryError("the project's own wheel could not be built; `make install` brings hatchling")
    scripts = to / "benchmarks-0-py3-none-any.whl"
    with zipfile.ZipFile(scripts, "w") as made:
        for file in sorted((root / "benchmarks").rglob("*.py")):
            made.writestr(zipfile.ZipInfo(file.relative_to(root).as_posix()), file.read_bytes())


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """Files of a wheel that become a piece."""

    wheel: Path
    sha256: str
    """Of the wheel."""
    members: tuple[tuple[str, str], ...]
    """Names in the wheel, and where they go."""

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps([self.sha256, self.members]).encode()).hexdigest()

    @property
    def name(self) -> str:
        first = self.members[0][1]
        return f"{self.wheel.name}: {first}" if len(self.members) == 1 else self.wheel.name


def _plan(wheel: Path, left: Sequence[str]) -> Iterator[_Cut]:
    """The pieces of a wheel: its large files one by one, and all others."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            infos = sorted(archive.infolist(), key=lambda info: info.filename)
    except (OSError, zipfile.BadZipFile) as e:
        raise CarryError(f"{wheel}: is no wheel ({e}); download it again") from None
    sha256 = _sha256(wheel)
    kept = [(info, at) for info in infos if (at := _place(info.filename)) and not _is_left(at, left)]
    alone = [[(info.filename, at)] for info, at in kept if info.file_size >= ALONE]
    rest = [(info.filename, at) for info, at in kept if info.file_size < ALONE]
    for members in (*alone, rest):
        if members:
            yield _Cut(wheel=wheel, sha256=sha256, members=tuple(members))


def _place(name: str) -> str | None:
    """Where a file of a wheel goes; None: nowhere (folders, scripts, headers)."""
    if name.endswith("/"):
        return None
    first, _, rest = name.partition("/")
    if not first.endswith(".data"):
        return name
    kind, _, inside = rest.partition("/")
    return inside if kind in ("purelib", "platlib") else None


def _is_left(name: str, left: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in left)


def _compressed(cut: _Cut, work: Path) -> Path:
    """The piece as a file, made unless it is there: a tar without times and owners, so that the same files give the same."""
    file = _piece_file(work, cut.key)
    if file.exists():
        return file
    part = file.with_suffix(".part")
    with zipfile.ZipFile(cut.wheel) as archive, tarfile.open(part, mode="w:xz", preset=6, format=tarfile.PAX_FORMAT) as tar:
        for name, at in cut.members:
            info = tarfile.TarInfo(_relative(at, cut.wheel))
            source = archive.getinfo(name)
            info.size, info.mode = source.file_size, 0o755 if source.external_attr >> 16 & 0o111 else 0o644
            with archive.open(source) as content:
                tar.addfile(info, content)
    part.replace(file)
    return file


def _take_out(to: Path, wanted: Collection[str], work: Path) -> None:
    """Pieces that an earlier carry of other wheels has, too, out of its parts."""
    with contextlib.suppress(CarryError):
        manifest = Manifest.read(to)
        if any(_fault(to / part.name, part) for part in manifest.parts):
            return
        for piece in manifest.pieces:
            file = _piece_file(work, piece.key)
            if piece.key in wanted and not file.exists():
                _write(file, io.BufferedReader(_Laid(to, manifest.parts, piece.offset, piece.bytes)).read())


def _piece_file(work: Path, key: str) -> Path:
    return work / f"{key}.tar.xz"


def _relative(name: str, wheel: Path) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise CarryError(f"{wheel}: has a file outside its folder, {name!r}; it is not what it should be")
    return str(path)


def _write_parts(files: Sequence[Path], to: Path, size: int) -> tuple[Part, ...]:
    """The pieces end to end, cut; a part that is there already, and whole, is left."""
    parts = []
    for place, data in enumerate(_cut_evenly(files, size)):
        part = Part(name=f"part-{place:03d}", bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        if _fault(to / part.name, part):
            _write(to / part.name, data)
        parts.append(part)
    for file in to.glob("part-*"):  # of a larger carry before
        if file.name not in {part.name for part in parts}:
            file.unlink()
    return tuple(parts)


def _cut_evenly(files: Sequence[Path], size: int) -> Iterator[bytes]:
    held = bytearray()
    for file in files:
        with file.open("rb") as source:
            while data := source.read(CHUNK):
                held += data
                while len(held) >= size:
                    yield bytes(held[:size])
                    del held[:size]
    if held:
        yield bytes(held)


def _packed(to: Path, key: str) -> Manifest | None:
    """What lies there, if it is whole and of the same wheels."""
    with contextlib.suppress(CarryError):
        manifest = Manifest.read(to)
        if manifest.packed_from == key and not any(_fault(to / part.name, part) for part in manifest.parts):
            return manifest
    return None


def _fault(file: Path, part: Part) -> str | None:
    """What is wrong with a part, in words; None: nothing."""
    if not file.is_file():
        return "is missing"
    if file.stat().st_size != part.bytes:
        return f"has {file.stat().st_size} of {part.bytes} bytes"
    return None if _sha256(file) == part.sha256 else "is damaged: its hash is another"


class _Laid(io.RawIOBase):
    """A stretch of the parts, laid end to end, as a stream."""

    def __init__(self, folder: Path, parts: Sequence[Part], offset: int, length: int) -> None:
        self._folder, self._parts, self._at, self._end = folder, parts, offset, offset + length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        begin = 0
        for part in self._parts:
            if self._at < min(begin + part.bytes, self._end):
                count = min(len(buffer), begin + part.bytes - self._at, self._end - self._at)
                with (self._folder / part.name).open("rb") as file:
                    file.seek(self._at - begin)
                    buffer[:count] = file.read(count)
                self._at += count
                return count
            begin += part.bytes
        return 0


def _sha256(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _write(file: Path, data: bytes) -> None:
    """Whole or not at all."""
    part = file.with_name(f"{file.name}.writing")
    part.write_bytes(data)
    part.replace(file)


def _blocks(lock: Path) -> dict[str, str]:
    """The lines of each package of a lock file, with its hashes."""
    text = lock.read_text(encoding="utf-8")
    return {_normal(match[1]): match[0] for match in BLOCK.finditer(text)}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip().lower())


def _try(site: Path) -> list[str]:
    """Import all that a start on a GPU imports, each in turn; what fails, in a line each.

    Where there is no NVIDIA driver, a library without its functions stands in for it: extensions are loaded, and call nothing.
    """
    with tempfile.TemporaryDirectory() as stand_in:
        try:
            ctypes.CDLL("libcuda.so.1")
        except OSError:
            _stand_in_for_driver(Path(stand_in))
        return _imported(_with(site, stand_in))


def _stand_in_for_driver(folder: Path) -> None:
    source = folder / "driver.c"
    source.write_text("".join(f"int {name}(void) {{ return 999; }}\n" for name in DRIVER), encoding="utf-8")
    command = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", str(source)]
    if subprocess.run([*command, "-o", str(folder / "libcuda.so.1")], check=False).returncode:
        raise CarryError("there is neither an NVIDIA driver nor a C compiler here; install one of them to try what was carried")


def _imported(environment: Mapping[str, str]) -> list[str]:
    code = "import importlib, sys\nfor name in sys.argv[1:]:\n" + (
        " try: importlib.import_module(name)\n except Exception as e: print(f'{name}: {type(e).__name__}: {e}')\n"
    )
    command = [sys.executable, "-c", code, *IMPORTED]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    failed = done.stdout.splitlines()
    return failed if done.returncode == 0 else [*failed, f"Python ended with {done.returncode}: {done.stderr.strip()[-300:]}"]


def _with(site: Path, libraries: str) -> dict[str, str]:
    paths = {"PYTHONPATH": str(site.resolve()), "LD_LIBRARY_PATH": libraries}
    joined = {name: os.pathsep.join(filter(None, [first, os.environ.get(name, "")])) for name, first in paths.items()}
    return {**os.environ, **joined, "HF_HUB_OFFLINE": "1"}


def main(words: Sequence[str] | None = None) -> int:
    """Pack here; unpack and try there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    packing = verbs.add_parser("pack", help="download, compress, cut")
    packing.add_argument("--to", type=Path, required=True, help="the folder of parts")
    packing.add_argument("--wheels", type=Path, help="pack the wheels of this folder, and download none")
    packing.add_argument("--python", default="3.12", help="of the machine [3.12]")
    packing.add_argument("--there", type=Path, help="`pip list --format=freeze` of the machine: what it has stays here")
    packing.add_argument("--part-mib", type=float, default=PART_MIB, help="size of a part [36]")
    unpacking = verbs.add_parser("unpack", help="check, and put together")
    unpacking.add_argument("folder", type=Path, help="with carry.json and the parts")
    unpacking.add_argument("--to", type=Path, required=True, help="the folder to put on PYTHONPATH")
    trying = verbs.add_parser("try", help="import all that a start on a GPU imports")
    trying.add_argument("--site", type=Path, required=True, help="where it was unpacked")
    arguments = parser.parse_args(words)
    try:
        return _do(arguments)
    except CarryError as e:
        print(f"carry.py: {e}", file=sys.stderr)
        return 2


def _do(arguments: argparse.Namespace) -> int:
    if arguments.verb == "pack":
        manifest = pack(_wheels_for(arguments), arguments.to, part_mib=arguments.part_mib)
        size = sum(part.bytes for part in manifest.parts) / (1 << 20)
        print(f"{arguments.to}: {len(manifest.packages)} packages, {size:.0f} MiB in {len(manifest.parts)} parts")
    elif arguments.verb == "unpack":
        print(f"PYTHONPATH={unpack(arguments.folder, arguments.to).resolve()}")
    else:
        failed = _try(arguments.site)
        print("\n".join(failed) or f"all {len(IMPORTED)} modules import")
        return 1 if failed else 0
    return 0


def _wheels_for(arguments: argparse.Namespace) -> Path:
    """Those of the folder that was named; else downloaded and built, into a folder beside the parts."""
    if arguments.wheels is not None:
        given: Path = arguments.wheels
        return given
    root = Path(__file__).resolve().parents[2]
    wheels: Path = arguments.to.with_name(f"{arguments.to.name}-wheels")
    lines = arguments.there.read_text(encoding="utf-8").splitlines() if arguments.there else []
    fetch(root / "requirements" / "cuda.txt", wheels, python=arguments.python, there=[line.split("==")[0] for line in lines])
    build_own(root, wheels)
    return wheels


if __name__ == "__main__":
    sys.exit(main())
