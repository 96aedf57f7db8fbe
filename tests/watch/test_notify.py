"""Who is told of a verdict: a command on stdin, a URL by POST. A failure is said, tried again, and ends nothing."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from spt_fast.errors import ConfigError
from spt_fast.watch.notify import Target, target_of
from tests.helpers.tiny import tiny_model
from tests.helpers.watching import Nights


@contextmanager
def server(answers: list[int]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Answers each request with the next of these codes, the last one again and again: its URL, and what it got."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(answers.pop(0) if len(answers) > 1 else answers[0])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Silence."""

    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/hook?secret=1", got
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def command(tmp_path: Path, code: str) -> Target:
    """A command that runs this Python."""
    script = tmp_path / "tell.py"
    script.write_text(code)
    return target_of(f"{sys.executable} -S '{script}'")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "m", hidden_size=32)


def test_a_command_gets_the_json_on_its_standard_input(tmp_path: Path) -> None:
    target = command(tmp_path, f"import sys; open({str(tmp_path / 'got')!r}, 'w').write(sys.stdin.read())")
    assert target.tell({"id": "1", "why": "caf\u00e9 \u202e"}) is None
    assert json.loads((tmp_path / "got").read_text(encoding="utf-8")) == {"id": "1", "why": "caf\u00e9 \u202e"}


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import sys; sys.exit('no such\\nchannel')", "ended with 1: channel"),
        ("import sys; sys.exit(3)", "ended with 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended with -9"),
    ],
)
def test_a_command_that_fails_is_told_of_with_its_last_line(tmp_path: Path, code: str, why: str) -> None:
    assert command(tmp_path, code).tell({"id": "1" * 100_000}) == why


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    holding = "import signal, sys; held = open(sys.argv[1], 'w'); signal.pause()"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-S', '-c', {holding!r}, {str(fifo)!r}])"
    assert command(tmp_path, code).tell({}, seconds=0.5) == "took longer than 0.5 seconds"
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b"", "nobody holds its other end any more"
    os.close(reader)


def test_a_url_is_posted_to_and_what_it_answers_is_told_without_the_secret() -> None:
    with server([200, 500]) as (url, got):
        target = target_of(url)
        assert target.tell({"id": "1"}) is None
        assert target.tell({"id": "2"}) == "answered 500 Internal Server Error"
        assert got == [{"id": "1"}, {"id": "2"}]
        assert target.name == url.partition("?")[0], "with port and path"
    why = target.tell({"id": "3"})
    assert why is not None
    assert why.startswith("cannot be reached: ")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("ftp://host/x", "must be a URL of http or https, or a command"),
        ("file:///etc/passwd", "must be a URL of http or https, or a command"),
        ("https://", "has no host; write it like https://host/path"),
        ("http://[::1", "has no host"),
        ("no-such-command-here --x", "is no command that can be run"),
        ("'unclosed", "is no command: No closing quotation"),
        ("", "is no command that can be run"),
    ],
)
def test_what_cannot_be_told_is_refused_before_anything_begins(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=r"^--notify: ") as e:
        target_of(text)
    assert sentence in str(e.value)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://me:secret@host:8443/a/b?key=secret#secret", "https://host:8443/a/b"),
        ("https://hooks.example/services/T012/B345/abcdSECRETsecret1", "https://hooks.example/services/T012/B345/abcd..."),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("https://host", "https://host"),
    ],
)
def test_a_url_is_told_apart_by_port_and_path_and_its_secrets_are_not_said(url: str, name: str) -> None:
    assert target_of(url).name == name


def test_a_verdict_that_could_not_be_told_is_told_at_the_next_look_with_the_same_id(template: Path, tmp_path: Path) -> None:
    nights = Nights(template, tmp_path)
    nights.add(1)
    nights.add(2)
    with server([503, 503, 200]) as (url, got):
        looks = iter(range(1))
        nights.look(lambda: next(looks, None) is not None, targets=[target_of(url)])
    ids = [each["id"] for each in nights.kept]
    assert [each["id"] for each in got] == [ids[0], ids[0], ids[1], ids[0]]
    where = url.partition("?")[0]
    assert nights.said == [f"--notify {where}: answered 503 Service Unavailable; it is told again at the next look"]
    assert {each["verdict"] for each in got} == {"first", "pass"}


def test_a_target_that_is_gone_ends_nothing_and_is_told_by_the_next_watch(template: Path, tmp_path: Path) -> None:
    nights = Nights(template, tmp_path)
    nights.add(1)
    with server([200]) as (url, _):
        pass
    assert nights.look(targets=[target_of(url)]) == [("run7/step-1", "first")]
    assert nights.said[0].startswith(f"--notify {url.partition('?')[0]}: cannot be reached: ")
    nights.add(2)
    with server([200]) as (url, got):
        nights.look(targets=[target_of(url)])
    assert [each["checkpoint"] for each in got] == ["run7/step-1", "run7/step-2"]


def test_who_is_named_later_is_not_told_what_is_past(template: Path, tmp_path: Path) -> None:
    nights = Nights(template, tmp_path)
    nights.add(1)
    nights.look()
    with server([200]) as (url, got):
        nights.look(targets=[target_of(url)])
    assert got == []


def test_a_checkpoint_whose_verdict_was_removed_is_judged_and_told_again(template: Path, tmp_path: Path) -> None:
    nights = Nights(template, tmp_path)
    nights.add(1)
    nights.add(2)
    nights.look()
    (nights.run / "verdicts/00002.json").unlink()
    with server([200]) as (url, got):
        assert nights.look(targets=[target_of(url)]) == [("run7/step-2", "pass")]
    assert [(each["checkpoint"], each["number"]) for each in got] == [("run7/step-2", 3)]
    assert nights.executor.asked == ["step-1", "step-2"], "its cells are done"
