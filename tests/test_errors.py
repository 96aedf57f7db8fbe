"""How errors put what they were given into words."""

from __future__ import annotations

import pickle
import time

import pytest

from spt_fast.errors import ConfigError, in_words, shortened


@pytest.mark.parametrize("value", ["", "abc", 12, 1.5, None, [1, 2], {"a": 1}, ("x",)])
def test_a_short_value_is_shown_as_it_is(value):
    assert shortened(value) == repr(value)


_LONG = {
    "text": "x" * 10_000_000,
    "an integer that Python will not write": 10**5_000,
    "an integer of two million digits": 10**2_000_000,
    "lists": [["x" * 1000] * 1000] * 1000,
    "a mapping": {"k" * 9999: "v" * 9999},
}


@pytest.mark.parametrize("what", _LONG)
def test_a_long_value_is_shown_in_a_moment_and_in_few_characters(what):
    began = time.perf_counter()

    shown = shortened(_LONG[what])

    assert len(shown) <= 110
    assert time.perf_counter() - began < 1


def test_what_is_cut_says_how_long_it_was():
    assert shortened("x" * 12_345).endswith("(12,345 characters)")
    assert shortened(10**400) == "an integer of about 401 digits"
    assert shortened(-(10**400)) == "an integer of about 401 digits"


def test_what_a_terminal_would_obey_is_shown_as_its_code():
    assert shortened("a\x1b[31m\x07\u202eb\ud800") == r"'a\x1b[31m\x07\u202eb\ud800'"


def test_a_value_whose_repr_raises_is_still_named():
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert "Odd" in shortened(Odd())


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("/home/me/evals/brief.py", "(in /home/me/evals/brief.py, line 1)"),
        ("/home/me/nightly/evals/mine/brief.py", "(in .../nightly/evals/mine/brief.py, line 1)"),
        ("/venv/lib/site-packages/torch/nn/module.py", "(in torch/nn/module.py, line 1)"),
        ("/venv/lib/site-packages/vllm/v1/engine/core/step.py", "(in v1/engine/core/step.py, line 1)"),
        ("brief.py", "(in brief.py, line 1)"),
    ],
)
def test_an_error_that_says_little_names_its_file_so_that_it_is_found(file: str, told: str) -> None:
    with pytest.raises(AssertionError) as raised:
        exec(compile("raise AssertionError", file, "exec"), {})
    assert in_words(raised.value) == f"AssertionError {told}"


def test_several_mistakes_survive_the_way_from_a_worker_and_are_lines():
    found = pickle.loads(pickle.dumps(ConfigError("a: is missing", "b: is missing").within("grid.yaml")))

    assert found.sentences == ("grid.yaml: a: is missing", "grid.yaml: b: is missing")
    assert str(found) == "grid.yaml: a: is missing\ngrid.yaml: b: is missing"
