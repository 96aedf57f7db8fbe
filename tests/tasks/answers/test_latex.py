"""Answers in LaTeX: boxes, the form, where the answer is, and when two are the same."""

from __future__ import annotations

import faulthandler
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spt_fast.errors import ScoringError
from spt_fast.tasks.answers import symbolic
from spt_fast.tasks.answers.latex import (
    BOXED_FORMAT,
    DEPTH,
    LONGEST,
    all_boxed,
    equivalent,
    last_boxed,
    math_answer,
    normalise,
    unboxed,
)
from spt_fast.tasks.answers.symbolic import same

ROWS = Path(__file__).parents[4] / "shared" / "data" / "math500"
needs_rows = pytest.mark.skipif(not ROWS.is_dir(), reason="there are no real rows beside this checkout (../shared/data)")

TOWER = "9^{9^{9^{9}}}"
PIECES = [
    "\\boxed{",
    "{",
    "}",
    "\\{",
    "\\",
    "5",
    "\\frac",
    "\\text{",
    "$",
    "=",
    "x",
    ",",
    "(",
    ")",
    "^",
    "_",
    " ",
    "\n",
    "\\%",
    ".",
]


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    """Ends everything, and says where it was, should anything hang after all."""
    faulthandler.dump_traceback_later(120, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def rows(split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (ROWS / f"{split}.jsonl").read_text().splitlines()]


# ------------------------------------------------------------------------------------------ boxes and the form


@pytest.mark.parametrize(
    ("solution", "value", "opened"),
    [
        ("so $\\boxed{5}$.", "5", "so $5$."),
        ("\\boxed{\\frac{1}{\\sqrt{2}}}", "\\frac{1}{\\sqrt{2}}", "\\frac{1}{\\sqrt{2}}"),
        ("\\boxed{1} or \\boxed{2}", "2", "1 or 2"),
        ("\\boxed {17}.", "17", "17."),
        ("\\boxed 5$", "5", "5$"),
        ("\\boxed 12.5 m", "12.5", "12.5 m"),
        ("\\boxed\\pi", "\\pi", "\\pi"),
        ("\\fbox{5}", "5", "5"),
        ("\\boxed{\\boxed{5}+1}", "5+1", "5+1"),
        ("\\boxed{\\{1,2\\}}", "\\{1,2\\}", "\\{1,2\\}"),
        ("\\boxed{\\left\\{ 1 \\right.}", "\\left\\{ 1 \\right.", "\\left\\{ 1 \\right."),
        ("\\boxed{a\n  b}", "a b", "a\n  b"),
        ("\\boxed{3} and \\boxed{\\frac{1}{2}", "3", "3 and \\boxed{\\frac{1}{2}"),
        ("{ \\boxed{5}", "5", "{ 5"),
        ("} \\boxed{5}", "5", "} 5"),
        ("\\boxed{\\phantom{09}}, \\boxed{7}", "7", "\\phantom{09}, 7"),
        ("\\boxed{}", None, ""),
        ("\\boxedx{5}", None, "\\boxedx{5}"),
        ("\\boxed", None, "\\boxed"),
        ("", None, ""),
    ],
)
def test_a_box_ends_where_its_braces_balance(solution: str, value: str | None, opened: str) -> None:
    assert last_boxed(solution) == value
    assert unboxed(solution) == opened


def test_boxes_that_say_the_same_are_one_answer() -> None:
    assert all_boxed("\\boxed{\\frac12}, so \\boxed{\\dfrac{1}{2}}") == ("\\dfrac{1}{2}",)
    assert all_boxed("$\\boxed{\\frac{3}{2}}$ and $\\boxed{-3}.$") == ("\\frac{3}{2}", "-3")
    assert all_boxed("none") == ()


BALANCED = st.recursive(
    st.text("ab1 ,+-\\$^_", max_size=5).map(lambda text: re.sub(r"\\+$", "", text)),
    lambda inner: st.lists(inner | inner.map(lambda text: f"{{{text}}}"), max_size=4).map("".join),
)


@given(BALANCED)
def test_what_is_balanced_comes_out_of_a_box_as_it_went_in(text: str) -> None:
    assert unboxed(f"so \\boxed{{{text}}}.") == f"so {text}."


@given(BALANCED, st.integers(0, DEPTH + 2))
def test_the_format_wants_balanced_braces_of_limited_depth_on_the_last_line(text: str, levels: int) -> None:
    shallow = re.sub(r"(?<!\\)[{}]", "", text)
    answer = "{" * levels + f"{shallow}5" + "}" * levels
    assert bool(re.fullmatch(BOXED_FORMAT, f"work\nAnswer: \\boxed{{{answer}}}")) is (levels <= DEPTH)
    for broken in (f"{answer}{{", f"{answer}}}", f"{answer}\n"):
        assert not re.fullmatch(BOXED_FORMAT, f"work\nAnswer: \\boxed{{{broken}}}")


@given(st.text() | st.lists(st.sampled_from(PIECES)).map("".join))
def test_no_text_makes_a_box_an_extractor_or_the_normal_form_raise(text: str) -> None:
    unboxed(text)
    assert all(value in normalise(text) or value for value in all_boxed(text))
    assert (last_boxed(text) is None) == (not all_boxed(text))
    assert normalise(normalise(text)) is not None
    found = math_answer(text)
    assert found is None or text[slice(*found.span)] == found.value


@needs_rows
@pytest.mark.parametrize("split", ["test", "train"])
def test_every_published_answer_is_found_in_every_wording_and_is_itself(split: str) -> None:
    parts = 0
    for row in rows(split):
        answer = last_boxed(row["solution"])
        assert answer is not None
        assert equivalent(answer, row.get("answer", answer)), row
        target = f"{unboxed(row['solution'])}\nAnswer: \\boxed{{{answer}}}"
        assert re.fullmatch(BOXED_FORMAT, target), target
        # A solution with several boxes that differ has no one answer in it.
        found = math_answer(row["solution"])
        if len(all_boxed(row["solution"])) > 1:
            parts += 1
            assert found is None
        else:
            assert found is not None
            assert equivalent(found.value, answer)
        for wording in (
            "{}",
            "Answer: {}",
            "The final answer is ${}$. I hope it is correct.",
            "so\n#### {}",
            "\\[\\boxed{{{}}}\\]",
        ):
            found = math_answer(wording.format(answer))
            assert found is not None, (wording, answer)
            assert equivalent(found.value, answer), (wording, answer)
        found = math_answer(target)
        assert found is not None
        assert (found.value, found.rule) == (answer, "answer_line")
    assert parts <= 5


# ------------------------------------------------------------------------------------------ whether two are the same

SAME = r"""
0.5 | \frac12 | 1/2 | .50 | \dfrac{1}{2} | \tfrac 12 | 50\% | \frac{-1}{-2}
\frac95 | 1\frac{4}{5} | 1 4/5 | 1.8
0.\overline{3} | \frac13
20\% | 20 | 20 \text{ percent}
58,500 | 58500 | 58{,}500 | 58,\!500 | 58500.0
11,\! 111,\! 111,\! 100 | 11111111100
\$32,\!348 | 32348 | 32,348 \text{ dollars}
5\text{ cm} | 5 | 5 \mbox{ cm}^2 | 5\,\mathrm{cm} | 5 centimeters | 5.
90^\circ | 90 | 90^{\circ} | 90\text{ degrees} | 90 degrees
\frac{270}7\text{ degrees} | \frac{270}{7}
x=5 | 5 | x = 5.0
n = 255 | 255
y = 2x+3 | 2x+3 | y=3+2x
x \in (2,\infty) | (2,\infty) | x>2
3, 5, 7 | 7,5,3 | \{3,5,7\} | 3, 5, \text{ and } 7
5 \text{ or } 6 | 5,6 | 6 or 5
1 \pm \sqrt{19} | 1-\sqrt{19}, 1+\sqrt{19}
(6,31,-1) | 6,31,-1
\left( 3, \frac{\pi}{2} \right) | (3, \pi/2) | (3,\frac\pi2)
(-4, 27);(2, 15) | (2,15), (-4,27)
(-\infty, 1) \cup (1, 3) | (1, 3) \cup (-\infty, 1)
52_8 | 52_{8}
\text{Evelyn} | Evelyn | evelyn | \mbox{Evelyn}
\text{(C)} | C | (C) | \text{C}
\text{H, E} | E, H
\text{two lines} | two lines
\begin{pmatrix} -1/3 \\ 2/3 \end{pmatrix} | \begin{bmatrix} -\frac13 \\ \frac23 \end{bmatrix}
\begin{pmatrix} a \\ b \end{pmatrix} | \begin{pmatrix}a\\b\end{pmatrix}
11\sqrt2 | 11\sqrt{2} | 11 \sqrt{2} | \sqrt{242} | 11 sqrt(2)
\frac{\sqrt{3}}{3} | \frac{1}{\sqrt3} | sqrt(3)/3
6+9i | 9i+6
(1+i)^2 | 2i
\cot x | \frac{\cos x}{\sin x}
2\pi r | 2r\pi
x^3+3x-6 | x^{3} - 6 + 3x
(a+5)(b+2) | (b+2)(a+5) | ab+2a+5b+10
5x - 7y + 4 = 0 | 10x - 14y + 8 = 0
\frac{1}{2^{98}} | 2^{-98}
.0000672 | 6.72 \times 10^{-5}
1,000,000 | 10^6 | 10^{6}
2^10 | 2^{10} | 1024
3:5 | \frac35
\boxed{5} | 5
"""

DIFFERENT = r"""
0.33 | \frac13
0.333333333 | \frac13
3.14159265358979 | \pi
98.99494936611666 | 70\sqrt{2}
0.000067 | 0.0000672
1\frac45 | \frac45
20\% | 2000
(1,2) | (2,1)
(2,1) | 1,2
\{1,2\} | (1,2)
[1,2] | (1,2)
(3,4] | [3,4]
1,2 | 1,3
3 4 | 12
5 | 5,6
1+\sqrt{19} | 1 \pm \sqrt{19}
x=5 | y=5
x=5 | x=6
52_9 | 52_8
42 | 52_8
\text{even} | \text{odd}
\text{no} | on
\text{CBAD} | ABCD
3m | 3
2K | 2k
-\sqrt{3} | \sqrt{3}
\infty | -\infty
2^{-99} | 2^{-98}
\frac{1}{2006!} | \frac{1}{2004!}
0 | \frac{1}{2^{99}}
\frac{1}{3 \cdot 2^{2006}} | \frac{2^{2005}+1}{3 \cdot 2^{2006}}
1 + \frac{1}{e} | 1 - \frac{1}{e}
1:00 | 12:00
5 \text{ a.m.} | 5 \text{ p.m.}
D = (0, 1.5) | D = (0, 1)
21, 36, 82 | 19, 46, 82
4\sqrt(2) | 4
5x - 7y | 5x - 7y = 0
\begin{pmatrix} 1 \\ 2 \end{pmatrix} | \begin{pmatrix} 2 \\ 1 \end{pmatrix}
\frac{0}{0} | \frac{1}{0}
"""


def pairs(table: str, *, all_of_a_line: bool) -> list[tuple[str, str]]:
    lines = [line.split(" | ") for line in table.strip().splitlines()]
    return (
        [(value, line[0]) for line in lines for value in line[1:]] if all_of_a_line else [(line[0], line[1]) for line in lines]
    )


@pytest.mark.parametrize(("value", "gold"), pairs(SAME, all_of_a_line=True))
def test_answers_that_mean_the_same_are_equivalent_both_ways(value: str, gold: str) -> None:
    assert equivalent(value, gold)
    assert equivalent(gold, value)


@pytest.mark.parametrize(("value", "gold"), pairs(DIFFERENT, all_of_a_line=False))
def test_answers_that_mean_something_else_are_not(value: str, gold: str) -> None:
    assert not equivalent(value, gold)


def test_a_number_in_another_base_may_leave_the_base_to_the_question() -> None:
    assert equivalent("52", "52_8")
    assert equivalent("52_8", "52")


def test_digits_and_signs_of_other_scripts_count() -> None:
    assert equivalent("\u22125", "-5")
    assert equivalent("\uff14\uff12", "42")
    assert equivalent("2\u03c0", "2\\pi")


def test_nothing_is_equivalent_to_nothing() -> None:
    assert not equivalent("", "")
    assert not equivalent("$$", "")


def test_what_is_too_long_for_sympy_is_compared_as_it_is_written() -> None:
    terms = " + ".join(f"x_{{{i}}}" for i in range(LONGEST // 4))
    assert equivalent(terms, terms.replace(" + ", "  +  "))
    assert not equivalent(terms + " + 0", terms)


@needs_rows
def test_answers_to_different_problems_are_different() -> None:
    answers = [row["answer"] for row in rows("test")] + [last_boxed(row["solution"]) or "" for row in rows("train")]
    spelt = {normalise(answer): answer for answer in answers}
    # Numbers among themselves are another test's; of the others, each with some that come later.
    others = [answer for spelling, answer in spelt.items() if not re.fullmatch(r"-?[\d./]+|-?\\frac\{\d+\}\{\d+\}", spelling)]
    found = {
        (one, other)
        for i, one in enumerate(others)
        for other in others[i + 1 : i + 200 : 37]
        if equivalent(one, other) and normalise(one).strip("()") != normalise(other).strip("()")
    }
    assert all("sqrt" in one or "text" in one + other for one, other in found), found


# ------------------------------------------------------------------------------------------ the process that answers


@pytest.mark.parametrize(
    "value",
    [
        TOWER,
        "\\log_{2^5}(\\log_{2^4}(\\log_{2^3}(\\log_{2^2}(\\log_{2^1}x))))",  # Math-Verify#63
        "(" * 12 + "1" + ")" * 12,
        "\\sqrt{" * 40 + "2" + "}" * 40,
        "-" * 200 + "1",
        "\\frac{1}{0}",
        "\x00",
        "\ud800",
        "{",
        "\\",
        "\n".join("12"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_hostile_text_is_the_same_as_nothing_else_and_the_next_question_is_answered(value: str) -> None:
    assert not equivalent(value, "x+17")
    assert equivalent("17+x", "x+17")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30) | st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@example("x=")
@example("%")
@example("\\frac{1}{2")
def test_no_text_makes_a_comparison_raise(text: str) -> None:
    equivalent(text, "\\frac{x}{2}")
    assert equivalent("\\frac12x", "\\frac{x}{2}")


def test_any_thread_may_ask() -> None:
    questions = [(f"x+{i}", f"{i + i % 2}+x") for i in range(40)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda question: same(*question), questions))
    assert answers == [i % 2 == 0 for i in range(40)]


def test_one_that_died_is_replaced() -> None:
    assert same("a+1", "1+a")
    for died_before in (True, False):
        child = symbolic._child
        assert child is not None
        child._process.kill()
        if died_before:
            child._process.wait()
        assert same(f"a+{died_before:d}+2", f"2+{died_before:d}+a")
        assert symbolic._child is not child


def test_a_fork_starts_its_own_and_leaves_that_of_its_parent_alone() -> None:
    script = """
import os
from spt_fast.tasks.answers.symbolic import same
right = same("b+1", "1+b")
pid = os.fork()
right = right and same("b+2", "2+b") and not same("b+3", "b+4")
if pid == 0:
    os._exit(0 if right else 1)
raise SystemExit(0 if right and os.waitpid(pid, 0)[1] == 0 and same("b+5", "5+b") else 1)
"""
    # In a process of its own: this one has threads, and Python does not like it to fork.
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_it_ends_with_whoever_asked() -> None:
    script = (
        "from spt_fast.tasks.answers import symbolic; symbolic.same('x+1', '1+x'); "
        "print(symbolic._child._process.pid, flush=True); {}"
    )
    for ending in ("", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"):
        done = subprocess.run([sys.executable, "-c", script.format(ending)], stdout=subprocess.PIPE, text=True, check=False)
        assert done.returncode in (0, -signal.SIGKILL)
        assert not alive(int(done.stdout))


def alive(pid: int) -> bool:
    """Whether a process that was orphaned still runs, once it has had its turn to see that its pipe is closed."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    with open(handle, "rb"):
        import select

        return not select.select([handle], [], [], 30)[0]


def test_an_interrupted_question_leaves_no_answer_behind() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            same(f"{TOWER} + 1", "x")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert same("c+1", "1+c")
    assert not same("c+1", "2+c")


def test_without_math_verify_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "math_verify.py").write_text("raise ImportError('no antlr here')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ScoringError, match="no antlr here"):
        symbolic._Child()
