"""What a terminal gets: other people's text is shown, never obeyed."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from spt_fast.cli import main
from spt_fast.cli.progress import BarWatcher, LineWatcher
from spt_fast.plan import Stage
from spt_fast.store import Store
from spt_fast.terminal import Door, console, doors, harmless, show
from spt_fast.worker.events import CellFailed, PhaseStarted, Progress
from tests.helpers.cells import cell, result

OBEYED = [chr(code) for code in (*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A))]
HOSTILE = "m\x1b]0;owned\x07\x1b[31m\x00\x9b2J\u202edear\u2066[bold][/x]\ud800"


def obeyed(text: str) -> list[str]:
    return [hex(ord(ch)) for ch in text if ch in OBEYED or 0xD800 <= ord(ch) < 0xE000]


@pytest.mark.parametrize("ch", OBEYED, ids=[f"U+{ord(ch):04X}" for ch in OBEYED])
def test_what_a_terminal_would_obey_is_written_as_its_code(ch: str) -> None:
    assert harmless(f"a{ch}b") == f"a\\u{ord(ch):04x}b"


def test_text_of_any_script_tabs_and_lines_stay_as_they_are() -> None:
    text = "a\tb\nÄ · ∅ 漢字 हिन्दी עברית \u200d👩\u200d🚀"
    assert harmless(text) == text


def test_json_is_the_same_json_behind_a_door() -> None:
    stream = io.StringIO()
    print(json.dumps({"name": HOSTILE[:-1] + "\x85"}, ensure_ascii=False), file=Door(stream))
    assert not obeyed(stream.getvalue())
    assert json.loads(stream.getvalue()) == {"name": HOSTILE[:-1] + "\x85"}


def test_a_stream_of_another_encoding_gets_codes_for_what_it_has_not() -> None:
    behind = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print("Ä \ud800", file=Door(behind))
    behind.flush()
    assert behind.buffer.getvalue() == b"\\xc4 \\ud800\n"  # type: ignore[attr-defined]


def test_a_terminal_that_was_closed_ends_no_run() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    print("a line of progress", file=Door(Closed(), for_progress=True))
    with pytest.raises(OSError, match="Input/output"):
        print("a result", file=Door(Closed()))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_our_own_colours_reach_a_terminal_and_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, shown in ((Terminal(), "\x1b[1mbold\x1b[0m"), (io.StringIO(), "bold")):
        monkeypatch.setattr("sys.stdout", stream)
        with doors():
            show("\x1b[1mbold\x1b[0m \x1b]0;owned\x07 \x1b[2J")
        assert stream.getvalue() == f"{shown} \\u001b]0;owned\\u0007 \\u001b[2J\n"


def test_what_rich_draws_has_only_the_controls_of_rich() -> None:
    from rich.text import Text

    stream = Terminal()
    console(stream).print(Text(HOSTILE[:-1], style="red"))
    drawn = stream.getvalue()
    assert drawn.startswith("\x1b[31mm\\u001b]0;owned")
    assert obeyed(drawn.replace("\x1b[31m", "").replace("\x1b[0m", "")) == []


@pytest.mark.parametrize("kind", [LineWatcher, BarWatcher])
def test_progress_of_a_model_with_a_hostile_name_is_harmless(
    kind: Callable[..., LineWatcher | BarWatcher], capsys: pytest.CaptureFixture[str]
) -> None:
    one = cell()
    model = type(one.model)(name=HOSTILE[:-1], source="/m", fingerprint="sha256:0")
    one = cell(model=model)
    with doors(), kind({one.key: one}, 0, *([sys.stderr] if kind is LineWatcher else [])) as watcher:
        for event in (
            PhaseStarted(phase="load", note=HOSTILE),
            Progress(phase="evaluate", done=1, total=2, note=HOSTILE),
            CellFailed(key=one.key, kind="EngineError", reason=f"{HOSTILE}\nFAILED another"),
        ):
            watcher.show(Stage(model=model, cells=(one,)), event)
    told = capsys.readouterr().err
    assert "owned" in told
    assert obeyed(told) == []


@pytest.fixture
def hostile_run(tmp_path: Path) -> Path:
    """A run folder with hostile names, reasons, completions and events."""
    store, good, bad = Store(tmp_path / "run"), cell(), cell(label="other", engine={"kind": "x"})
    store.put_result(good, result(None))
    store.put_failure(bad, "EngineError", HOSTILE)
    place = {"model": HOSTILE[:-1], "task": f"t{HOSTILE[:-1]}", "seed": None, "closed_ended": False, "rests_on": None}
    cells = {one.key: {**place, "protocol": one.label} for one in (good, bad)}
    store.grid_file.put(
        {"name": HOSTILE[:-1], "models": [{"id": HOSTILE[:-1], "post_trained": None}], "spt_fast": "1", "cells": cells}
    )
    store.event("run", cells=2, todo=2)
    store.event("phase", model=HOSTILE, worker=0, phase=HOSTILE)
    store.close()
    return tmp_path / "run"


@pytest.mark.parametrize(
    "verb",
    [
        ["status"],
        ["report"],
        ["report", "--json"],
        ["rank"],
        ["rank", "--json"],
        ["compare", "SAME"],
        ["inspect", "--engine", "echo"],
        ["run"],
        ["check"],
        ["tasks", "show"],
        ["export", "-f", "csv"],
    ],
    ids=" ".join,
)
def test_no_verb_writes_what_a_terminal_would_obey(
    verb: list[str], hostile_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = [str(hostile_run)]
    if verb[0] in ("run", "check"):
        text = {"name": "g", "models": [HOSTILE[:-1]], "tasks": [HOSTILE[:-1]], "protocols": [HOSTILE[:-1]]}
        (hostile_run / "g.yaml").write_text(yaml.safe_dump(text))
        place = [str(hostile_run / "g.yaml")]
    if verb[0] == "tasks":
        place = [HOSTILE]
    options = [str(hostile_run) if word == "SAME" else word for word in verb[1:]]
    words = [verb[0], *options, *place] if verb[0] == "tasks" else [verb[0], *place, *options]
    with pytest.raises(SystemExit):
        main(words)
    told = capsys.readouterr()
    assert told.out + told.err
    assert obeyed(told.out + told.err) == []
    assert "Traceback" not in told.err
    assert "fault of spt-fast itself" not in told.err


def test_a_value_of_megabytes_is_a_sentence_of_a_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["report", str(tmp_path / ("x" * 1_000_000))])
    assert ended.value.code == 2
    assert len(capsys.readouterr().err) < 4000


def test_a_closed_pipe_behind_stdout_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "spt_fast", "tasks", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() in (0, 1)  # click has it as 1
