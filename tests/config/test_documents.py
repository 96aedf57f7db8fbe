"""What people write, YAML or JSON, is plain values or one sentence with the line: at once, and in little memory."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spt_fast.config.documents import MOST_DEPTH, MOST_VALUES, json_values, plain_values, read_text
from spt_fast.errors import ConfigError

PLAIN: dict[str, Any] = {
    "": None,
    "a: [1, 2.5, yes, ~, 0x1f, 1_000, -0]": {"a": [1, 2.5, True, None, 31, 1000, 0]},
    "a: 1e-3": {"a": "1e-3"},  # what YAML 1.1 says; `strict.scalar` knows better
    "a: !!str 5": {"a": "5"},
    "a: &x {b: 1, c: 1}\nd: {<<: *x, c: 2}": {"a": {"b": 1, "c": 1}, "d": {"b": 1, "c": 2}},
    "a: &x [1]\nb: *x": {"a": [1], "b": [1]},
    "a: [<<, =]": {"a": ["<<", "="]},
    '{"a": "\\ud83d\\ude00", "b": 1e-05}': {"a": "😀", "b": 1e-05},
    "{a: b, c: [d]}": {"a": "b", "c": ["d"]},
    "\ufeffa: 1": {"a": 1},
}


@pytest.mark.parametrize(("text", "value"), PLAIN.items())
def test_yaml_and_json_are_plain_values(text: str, value: Any) -> None:
    assert plain_values(text) == value


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(10 * ['*' + before])}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = (
    "a: &a {" + ",".join(f"k{i}: 1" for i in range(1000)) + "}\nb:\n" + "".join(f"- {{<<: *a, x: {i}}}\n" for i in range(400))
)
REFUSED = {
    BOMB: "line 6, column 11: has more than 300,000 values",
    MERGES: "has more than 300,000 values",
    "a: &x [*x]": r"line 1, column 8: \*x stands for nothing",
    "a: *b": r"\*b stands for nothing",
    "a: 1\nb: !!int ''": "line 2, column 4: not YAML that is read here: it has the tag '!!int'",
    "a: !!binary Zw==": "the tag '!!binary'",
    "a: !!set {b}": "the tag '!!set'",
    "a: !!python/object/apply:os.getcwd []": "the tag '!!python/object/apply:os.getcwd'",
    "a: !mine 5": "the tag '!mine'",
    "a: 2026-01-01": "'2026-01-01' is a date to YAML; write it in quotation marks",
    "a: 1:30": "'1:30' is a number of minutes to YAML",
    "a: 010": "'010' is 8 to YAML",
    "a: 0x_": "'0x_' is a number without digits",
    "a: " + 5000 * "9": "has a number of more than 1000 digits",
    '{"a": ' + 5000 * "9" + "}": "has a number of more than 1000 digits",
    "1: 2": "key '1' must be text; write it in quotation marks",
    "a:\n  on: 2": "line 2, column 3: key 'on' must be text",
    "[a]: b": "a key must be text",
    "{{a: b}: c}": "a key must be text",
    "a: 1\na: 2": "line 2, column 1: key 'a' appears twice",
    '{"a": 1, "a": 2}': "key 'a' appears twice",
    "a: {<<: 5}": "<< takes a mapping",
    "--- a\n--- b": "line 2, column 1: a second document begins here",
    'a: "\\0"': r"line 1, column 4: text with a control character in it \('\\x00'\)",
    'a: "\\e]0;owned\\a"': "text with a control character in it",
    "a: \x00": "line 1: not YAML: the character '.x00' is no text",
    "b: 1\na: \x1b": "line 2: not YAML: the character '.x1b' is no text",
    'a: "\\ud800"': "line 1, column 7: not YAML",
    '{"a": "\\ud800"}': "text with half a character in it",
    "a: \ud800": "half a character",
    "[" * 100_000: "has more than 64 lists and mappings inside each other",
    "- " * 100_000: "has more than 64 lists and mappings inside each other",
    '{"a":' * 100_000: "has more than 64 lists and mappings inside each other",
    "[" * 70 + "]" * 70: "has more than 64 lists and mappings inside each other",
    "a: [1, 2": "line 2, column 1: not YAML",
}


@pytest.mark.parametrize(("text", "said"), REFUSED.items(), ids=range(len(REFUSED)))
def test_what_is_not_read_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        plain_values(text)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


MENDED = {
    "a: [1, 2\nb: 3\n": "line 2, column 2: not YAML: .*; close the bracket of the list$",
    "a: {b: 2\nc: 3\n": "; close the brace of the mapping$",
    "a:\n\t- b\n": "line 2, column 1: .*; indent with spaces, not with a tab$",
    "a:\n- b\n\t- c\n": "; indent with spaces, not with a tab$",
    "a: [@b]": "; put text that begins with '@' in quotes$",
    "a: b\u2028c: %d": "; put text that begins with '%' in quotes$",
    "a:\n  - b\n c: d\n": "; indent the line as its neighbours are$",
    "a:\n  - b\n  c: d\n": "; begin the line with - as its neighbours do, or indent it as they are$",
    "a: b: c": "; put text that has a colon in it in quotes, or indent the line as its neighbours are$",
    'a: "b\nc: d\n': "; close the quotes$",
    "a: {b: c}}": "; nothing is open that '}' closes$",
}


@pytest.mark.parametrize(("text", "said"), MENDED.items(), ids=range(len(MENDED)))
def test_what_is_no_yaml_is_told_with_what_mends_it(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plain_values(text)


def test_a_bomb_takes_next_to_no_memory() -> None:
    import tracemalloc

    tracemalloc.start()
    try:
        for text in (BOMB, MERGES, "[" * 100_000, "- x\n" * (MOST_VALUES + 10)):
            with pytest.raises(ConfigError):
                plain_values(text)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_a_nest_as_deep_as_is_read_is_read() -> None:
    assert json.dumps(plain_values("[" * MOST_DEPTH + "]" * MOST_DEPTH)).count("[") == MOST_DEPTH
    assert json.dumps(plain_values("- " * MOST_DEPTH + "a")).count("[") == MOST_DEPTH


@pytest.mark.parametrize("text", ["{'a': 1}", "[1, 2", "nothing"])
def test_what_is_no_json_says_where(text: str) -> None:
    with pytest.raises(ConfigError, match=r"line 1, column [0-9]+: not JSON"):
        json_values(text)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_json_is_read_as_json_or_refused(value: object) -> None:
    text = json.dumps(value)
    with suppress(ConfigError):
        assert json_values(text) == value
        assert plain_values(text) == value


@given(st.text(alphabet="ab01.-:[]{},&*!<>|#'\"\\ \n\t?%@~=_x"))
def test_any_text_is_values_or_a_sentence(text: str) -> None:
    with suppress(ConfigError):  # any other error is a bug
        plain_values(text)


def test_files_that_cannot_be_read_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"a" * 2048)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    os.mkfifo(tmp_path / "pipe")
    for name, said in {
        "none": "no such file",
        ".": "is a folder",
        "large": "holds more than",
        "binary": r"is not text \(UTF-8\)",
        "pipe": "it is a pipe",
        "a" * 300: "cannot be read: File name too long",
        "large/x": "cannot be read: Not a directory",
    }.items():
        with pytest.raises(ConfigError, match=said):
            read_text(tmp_path / name, most=1024)
    with pytest.raises(ConfigError, match="holds more than"):
        read_text("/dev/zero", most=1024)
