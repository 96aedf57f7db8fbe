"""A small Hub on localhost, for tests: `from tests.hub import Hub`.

It speaks as much of the Hub's HTTP API as `huggingface_hub`, `datasets` and `transformers` ask for to read a repository: its
branches, tags and commits, its tree, its files. They read `HF_ENDPOINT` and where their caches are when they are imported, so
what is tested against it runs in a process of its own, in `environment(hub.endpoint, cache)`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from safetensors import deserialize

COMMIT = "c0ffee" * 6 + "c0de"
TOKEN = "hf_of_nobody"
"""What the Hub refuses."""

_API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/([^/]+)(?:/([^/]+)(?:/(.+))?)?)?")
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass(frozen=True, kw_only=True)
class Repo:
    """A repository: one commit, which is `main`, and other branches and tags, if any."""

    kind: Literal["models", "datasets"]
    files: Mapping[str, bytes]
    """Path -> content."""
    commit: str = COMMIT
    gated: bool = False
    """Anybody is told what it is; nobody gets a file."""
    branches: Mapping[str, Repo] = field(default_factory=dict)
    """Name -> what is there: a repository of one commit."""
    tags: Mapping[str, Repo] = field(default_factory=dict)

    def at(self, revision: str) -> Repo | None:
        """What is there at a branch, a tag or a commit."""
        others = {**self.tags, **self.branches}
        at = {"": self, "main": self, self.commit: self, **{repo.commit: repo for repo in others.values()}, **others}
        return at.get(revision)


@dataclass
class Hub(AbstractContextManager["Hub"]):
    """Serves repositories by their ids as long as its block lasts; then its port is closed, and it cannot be reached."""

    repos: Mapping[str, Repo]
    requests: list[str] = field(default_factory=list)
    """What was asked for: "HEAD /datasets/openai/gsm8k/resolve/main/README.md"."""

    def __enter__(self) -> Hub:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """Its address; nobody listens there once it is closed."""
        return f"http://127.0.0.1:{self._server.server_port}"


def environment(endpoint: str, cache: Path, **more: str) -> dict[str, str]:
    """This process's environment with another Hub and another cache, and with neither token nor proxy."""
    mine = {name: value for name, value in os.environ.items() if not re.search(r"^HF_|_OFFLINE$|_proxy$", name, re.I)}
    return {**mine, "HF_ENDPOINT": endpoint, "HF_HOME": str(cache), **more}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        """Answer a request, whatever its method."""
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.hub.requests.append(f"{self.command} {unquote(self.path)}")
        url = urlsplit(self.path)
        if api := _API.fullmatch(url.path):
            kind, name, what, revision, path = (unquote(part or "") for part in api.groups())
        elif file := _FILE.fullmatch(url.path):
            kind, what = "datasets" if file[1] else "models", "resolve"
            name, revision, path = (unquote(part) for part in file.groups()[1:])
        else:
            self._refuse(404, "EntryNotFound")
            return
        repo = self.hub.repos.get(name)
        if TOKEN in self.headers.get("Authorization", ""):
            self._send(401, b"", {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif repo is None or repo.kind != kind:
            self._refuse(404, "RepoNotFound")
        elif (at := repo.at(revision)) is None:
            self._refuse(404, "RevisionNotFound")
        elif repo.gated and what in ("resolve", "auth-check"):
            self._refuse(403, "GatedRepo")
        elif what == "resolve" and path in at.files:
            content = at.files[path]
            self._send(200, content, {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": at.commit})
        elif what in ("", "revision", "auth-check"):
            self._json({"id": name, "sha": at.commit, "gated": "manual" if repo.gated else False, **_sizes(at)})
        elif what == "refs":
            self._json({"branches": _refs({"main": repo, **repo.branches}), "tags": _refs(repo.tags), "converts": []})
        elif what == "tree":
            recursive = parse_qs(url.query).get("recursive", ["false"])[0].lower() == "true"
            self._json([entry for entry in _tree(at) if _is_in(entry["path"], path, recursive)])
        elif what == "paths-info":
            self._json([entry for entry in _tree(at) if entry["path"] in parse_qs(sent)["paths"]])
        else:
            self._refuse(404, "EntryNotFound", {"X-Repo-Commit": at.commit})

    do_HEAD = do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing: `Hub.requests` is the log."""

    def _refuse(self, status: int, code: str, more: Mapping[str, str] | None = None) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code, **(more or {})})

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _refs(repos: Mapping[str, Repo]) -> list[dict[str, str]]:
    return [{"name": name, "ref": f"refs/{name}", "targetCommit": repo.commit} for name, repo in repos.items()]


def _sizes(repo: Repo) -> dict[str, Any]:
    """How large the files are, and how many numbers the weights among them hold."""
    siblings = [{"rfilename": path, "size": len(file)} for path, file in repo.files.items()]
    tensors = [tensor for path, file in repo.files.items() if path.endswith(".safetensors") for _, tensor in deserialize(file)]
    if not tensors:
        return {"siblings": siblings}
    numbers = Counter[str]()
    for tensor in tensors:
        numbers[tensor["dtype"]] += math.prod(tensor["shape"])
    return {"siblings": siblings, "safetensors": {"parameters": dict(numbers), "total": numbers.total()}}


def _tree(repo: Repo) -> list[dict[str, Any]]:
    """All files and folders, as the Hub lists them."""
    folders = {str(parent) for path in repo.files for parent in PurePosixPath(path).parents} - {"."}
    found = [{"type": "directory", "path": path, "oid": _oid(path.encode()), "size": 0} for path in sorted(folders)]
    found += [{"type": "file", "path": path, "oid": _oid(file), "size": len(file)} for path, file in repo.files.items()]
    return found


def _is_in(path: str, folder: str, recursive: bool) -> bool:
    inside = path.startswith(f"{folder}/") if folder else True
    return inside and (recursive or "/" not in path[len(folder) + 1 if folder else 0 :])


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
