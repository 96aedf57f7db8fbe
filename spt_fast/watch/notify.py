"""Telling somebody: a command gets a verdict as JSON on its standard input, a URL gets it by POST."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from spt_fast.errors import ConfigError, first_line
from spt_fast.version import version

COMMAND_S, URL_S = 60.0, 15.0
"""Seconds that they have."""
_MOST_SAID = 200
_KEY = 16
"""Characters of a part of a path that may be a key."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Who is told."""

    given: str
    command: tuple[str, ...] = ()
    """Empty: it is a URL."""

    @property
    def name(self) -> str:
        """As a person is told of it: of a URL the host, port and path. What may be secret is left out: credentials, the query,
        and all but the beginning of a long part of the path, which is the key of a chat's webhook."""
        if self.command:
            return self.command[0]
        url = urlsplit(self.given)
        path = "/".join(part if len(part) < _KEY else f"{part[:4]}..." for part in url.path.split("/"))
        return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{path}"

    def tell(self, verdict: Mapping[str, Any], *, seconds: float | None = None) -> str | None:
        """Tell a verdict; why that failed, in a sentence, or None.

        Args:
            verdict: JSON can hold it.
            seconds: that it has; None: as many as such a target has.
        """
        data = json.dumps(verdict, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        if self.command:
            return _run(self.command, data, COMMAND_S if seconds is None else seconds)
        return _post(self.given, data, URL_S if seconds is None else seconds)


def target_of(text: str) -> Target:
    """A command or a URL, as `--notify` has it.

    Raises:
        ConfigError: it is neither.
    """
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if scheme in ("http", "https"):
        return _url(text)
    if scheme:
        raise ConfigError(f"--notify: {text!r} must be a URL of http or https, or a command")
    try:
        command = tuple(shlex.split(text))
    except ValueError as e:
        raise ConfigError(f"--notify: {text!r} is no command: {e}") from None
    if not command or shutil.which(command[0]) is None:
        raise ConfigError(f"--notify: {text!r} is no command that can be run; correct its path, or give a URL")
    return Target(given=text, command=command)


def _url(text: str) -> Target:
    try:
        there = urlsplit(text).hostname
    except ValueError:
        there = None
    if not there:
        raise ConfigError(f"--notify: {text!r} has no host; write it like https://host/path")
    return Target(given=text)


def _run(command: tuple[str, ...], data: bytes, seconds: float) -> str | None:
    # In a session of its own, so that Ctrl-C does not end it half-way, and all that it starts can be ended.
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
            )
        except OSError as e:
            return f"cannot be started: {e.strerror or e}"
        try:
            process.communicate(data, timeout=seconds)
        except subprocess.TimeoutExpired:
            return f"took longer than {seconds:g} seconds"
        finally:
            _end(process)
        if process.returncode == 0:
            return None
        said.seek(0)
        lines = said.read(1 << 16).decode("utf-8", "replace").strip().splitlines()
        return f"ended with {process.returncode}" + (f": {lines[-1][:_MOST_SAID]}" if lines else "")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _post(url: str, data: bytes, seconds: float) -> str | None:
    headers = {"Content-Type": "application/json", "User-Agent": f"spt-fast/{version()}"}
    try:
        with urlopen(Request(url, data=data, headers=headers, method="POST"), timeout=seconds):
            return None
    except HTTPError as e:
        with e:
            return f"answered {e.code} {e.reason}"
    except URLError as e:
        return f"cannot be reached: {e.reason}"
    except (OSError, ValueError, HTTPException) as e:  # an answer that ends in the middle, or is none of HTTP
        return f"cannot be reached: {first_line(e) or type(e).__name__}"
