"""Whether two LaTeX expressions mean the same: math-verify (sympy), in a process of its own.

A completion is hostile text. `9^{9^{9^{9}}}` keeps sympy busy for ever inside one C call, where no exception arrives, and
math-verify's own limits use SIGALRM, which only a main thread may (Math-Verify#63 and #65 show hangs in spite of them). So a
child process answers, one question after the other, under a limit of CPU time that the kernel holds: what takes longer kills
the child, counts as different, and the next question starts a new one. CPU time and not the clock's, so that a busy machine
gives the same scores. Any thread may ask; questions wait for each other.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
from functools import lru_cache, reduce
from typing import Any

from spt_fast.errors import ScoringError
from spt_fast.tasks.answers.grammar import Answer

CPU_SECONDS = 3.0
"""What one comparison may take; most take some hundredths."""

MEMORY_BYTES = 4 << 30
"""Address space of the child."""


@lru_cache(maxsize=1 << 16)
def same(value: str, gold: str) -> bool:
    """Whether `value` means what `gold` does; False where either cannot be read, or where that takes too long.

    Raises:
        ScoringError: math-verify cannot be started at all.
    """
    global _child
    with _lock:
        for _ in range(2):
            _child = _child or _Child()
            try:
                answer = _child.answer(value, gold)
            except BaseException:  # interrupted: what it still says would be taken for its next answer
                _end()
                raise
            if answer is not None:
                return answer
            code, _child = _child.end(), None
            if code == -signal.SIGPROF:
                break
            # It died of something else, perhaps while nothing was asked of it. Another one may know.
    return False


class _Child:
    """A process that answers questions, until it dies."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            # -P, or else the current folder stands in front of the standard library.
            [sys.executable, "-P", "-W", "ignore", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        greeting = self._read()
        if greeting != "ready":
            self.end()
            raise ScoringError(f"answers in LaTeX cannot be compared: math-verify does not start ({greeting or 'it died'})")

    def answer(self, value: str, gold: str) -> bool | None:
        """The answer, or None: it has died."""
        assert self._process.stdin is not None
        try:
            print(json.dumps([value, gold]), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            return None
        line = self._read()
        return line == "true" if line else None

    def end(self) -> int:
        """End it; what it ended with, which may have been before."""
        self._process.kill()
        code = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):  # what it was not told in time, it need not be told
                pipe.close()
        return code

    def _read(self) -> str:
        """Its next line; empty when it has died."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


_lock = threading.Lock()
_child: _Child | None = None
_inherited: list[_Child | None] = []


def _end() -> None:
    global _child
    if _child is not None:
        _child.end()
        _child = None


def _forget() -> None:
    """After a fork, the child is the parent's to ask and to end, and the lock may be held by a thread that is not here."""
    global _child, _lock
    _inherited.append(_child)
    _child, _lock = None, threading.Lock()


atexit.register(_end)
os.register_at_fork(after_in_child=_forget)


# ------------------------------------------------------------------------------------------ in the child


def _serve() -> None:
    """Answer questions from stdin, a line each, until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to end
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # what ITIMER_PROF sends: kills, whatever is going on
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES if most == resource.RLIM_INFINITY else min(most, MEMORY_BYTES), most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)
    sys.setrecursionlimit(3000)
    try:
        import math_verify  # type: ignore[import-untyped] # noqa: F401
    except ImportError as e:
        print(" ".join(str(e).split()), flush=True)
        return
    print("ready", flush=True)
    for line in sys.stdin:
        value, gold = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        try:
            answer = _same(value, gold)
        except Exception:  # grammar, recursion, memory: it cannot be read
            answer = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        print("true" if answer else "false", flush=True)


def _same(value: str, gold: str) -> bool:
    from spt_fast.tasks.answers.equality import same_answers

    # In one order whichever is asked about, for math-verify's rules are not symmetric.
    return same_answers(min(value, gold), max(value, gold), _Sympy())


class _Sympy:
    """What mathematics means to sympy: an `equality.Meaning`."""

    def same(self, left: str, right: str) -> bool:
        """Whether two expressions, or two equations, mean the same."""
        from math_verify import verify

        if left == right:
            return True
        if left.count("'") != right.count("'"):  # which latex2sympy leaves out
            return False
        try:
            one, other = map(_parsed, sorted((left, right)))
        except Exception:  # it cannot be read; something else in the answers may tell
            return False
        if _is_unsure(one) or _is_unsure(other):
            return False
        same = verify(one, other, timeout_seconds=None)
        return bool(same) and not _differ(one, other)

    def same_set(self, left: Answer, right: Answer) -> bool:
        """Whether two answers are the same set of numbers."""
        try:
            one, other = _as_set(left), _as_set(right)
        except Exception:  # as above
            return False
        if one == other or one.symmetric_difference(other).is_empty:
            return True
        pieces, wanted = _pieces(one), _pieces(other)
        return len(pieces) == len(wanted) and all(map(_same_piece, pieces, wanted))


def _same_piece(piece: Any, other: Any) -> bool:
    """Whether two pieces of unions are of one kind, with ends (or elements) that are the same."""

    def same_end(end: Any, wanted: Any) -> bool:
        return bool(end == wanted or (end.is_number and wanted.is_number and (end - wanted).equals(0)))

    return type(piece) is type(other) and len(piece.args) == len(other.args) and all(map(same_end, piece.args, other.args))


def _pieces(union: Any) -> list[Any]:
    from sympy import Union  # type: ignore[import-untyped]

    parts = union.args if isinstance(union, Union) else (union,)
    return sorted(parts, key=lambda part: float(part.inf) if part.inf.is_number else 0.0)


def _as_set(answer: Answer) -> Any:
    """The set of real numbers that an answer describes.

    Raises:
        ValueError: it describes none that sympy could tell.
    """
    from sympy import Complement, FiniteSet, Intersection, Interval, Set, Union

    from spt_fast.tasks.answers import grammar

    match answer:
        case grammar.Row(opened, items, closed) if answer.kind == "point" and len(items) == 2:
            start, end = map(_value, items)
            return Interval(start, end, opened == "(", closed == ")")
        case grammar.Row(_, items, _) if answer.kind == "set":
            return FiniteSet(*map(_value, items))
        case grammar.Row(_, items, _):
            return Union(*map(_as_set, items))
        case grammar.Sets(sign, items):
            joined = {"\\cup": Union, "\\cap": Intersection}.get(sign)
            sets = list(map(_as_set, items))
            return joined(*sets) if joined else reduce(Complement, sets)
        case grammar.Named(_, value, sign) if sign == "\\in":
            return _as_set(value)
        case grammar.Named(_, value, "="):
            return FiniteSet(*map(_value, value.items if isinstance(value, grammar.Row) else (value,)))
        case grammar.Bound(sign, value):
            return _half_line(sign, _value(value))
        case grammar.Relation(sides, signs):
            pairs = zip(sides, signs, sides[1:], strict=False)
            return Intersection(*(_solutions(left, sign, right) for left, sign, right in pairs))
        case grammar.Conditions(joint, items):
            sets = list(map(_as_set, items))
            both = Intersection(*sets)
            return Union(*sets) if joint == "or" or (joint == "," and both.is_empty) else both
        case grammar.Math(latex) if isinstance(found := _parsed(latex), Set):
            return found
    raise ValueError("no set of numbers")


def _value(answer: Answer) -> Any:
    from sympy import simplify

    from spt_fast.tasks.answers.grammar import Measured, Percent, written

    while isinstance(answer, Measured | Percent):
        answer = answer.value
    value = _parsed(written(answer)).doit()
    if value.free_symbols:
        raise ValueError("no set of numbers")
    return simplify(value)


def _half_line(sign: str, end: Any) -> Any:
    from sympy import Interval, S, oo

    if sign == "!=":
        return S.Reals - Interval(end, end)
    return Interval(end, oo, sign == ">", True) if ">" in sign else Interval(-oo, end, True, sign == "<")


def _solutions(left: Answer, sign: str, right: Answer) -> Any:
    """The real numbers for which an inequality in one variable holds, or for which it is in a set."""
    from sympy import Eq, Ge, Gt, Le, Lt, Ne, S, Symbol, solveset

    from spt_fast.tasks.answers.grammar import written

    if sign == "\\in":
        return _as_set(right)
    kinds = {"<": Lt, ">": Gt, "<=": Le, ">=": Ge, "!=": Ne, "=": Eq}
    if sign not in kinds:
        raise ValueError("no set of numbers")
    sides = [_parsed(written(side)).doit() for side in (left, right)]
    symbols = sides[0].free_symbols | sides[1].free_symbols
    if len(symbols) != 1:
        raise ValueError("no set of numbers")
    unknown = Symbol("x", real=True)
    sides = [side.xreplace(dict.fromkeys(symbols, unknown)) for side in sides]
    for one, other, kept in ((0, 1, sign), (1, 0, sign.translate(str.maketrans("<>", "><")))):
        if sides[one] == unknown and not sides[other].free_symbols and sign != "=":
            return _half_line(kept, sides[other])
    if sign == "!=":
        return S.Reals - solveset(Eq(*sides), unknown, S.Reals)
    return solveset(kinds[sign](*sides), unknown, S.Reals)


def _is_unsure(parsed: Any) -> bool:
    """Whether sympy says of an expression that it is no number: 0/0, 1/0."""
    from sympy import S

    return bool(getattr(parsed, "has", lambda *_: False)(S.NaN, S.ComplexInfinity))


@lru_cache(maxsize=1024)
def _parsed(latex: str) -> Any:
    from latex2sympy2_extended import NormalizationConfig, latex2sympy, normalize_latex  # type: ignore[import-untyped]
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig  # type: ignore[import-untyped]
    from sympy import Float, I, Rational

    # Units are off: they would take the "m" from "3m". Symbols keep their case: k is not K.
    rules = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none", equations=False
    )
    parsed = latex2sympy(
        normalize_latex(latex, rules),
        is_real=True,
        normalization_config=None,
        conversion_config=ConversionConfig(lowercase_symbols=False),
    )
    # A decimal is the fraction that it writes: 0.333 is not 1/3, and 0.0000672 not 0.000067.
    exact = {number: Rational(str(number)) for number in parsed.atoms(Float)}
    exact |= {symbol: I for symbol in parsed.free_symbols if symbol.name == "i"}
    return parsed.xreplace(exact) if exact else parsed


def _differ(left: Any, right: Any) -> bool:
    """Whether numbers show that two expressions differ after all.

    math-verify subtracts and looks at 15 decimal places, so that to it 2^{-99} is 2^{-98} (Math-Verify#14).
    """
    from sympy import Expr, Float, Interval, Rational, Tuple

    if isinstance(left, Tuple | Interval) and type(left) is type(right) and len(left.args) == len(right.args):
        return any(map(_differ, left.args, right.args))
    if not (isinstance(left, Expr) and isinstance(right, Expr)):
        return False
    names = sorted({symbol.name for symbol in left.free_symbols | right.free_symbols})
    values = {name: Rational(7 * i + 8, 7) for i, name in enumerate(names)}
    numbers = []
    for side in (left, right):
        number = side.subs({symbol: values[symbol.name] for symbol in side.free_symbols}).evalf(60)
        if not number.is_number or not number.is_finite:
            return False
        numbers.append(number)
    larger = max(abs(number) for number in numbers)
    return bool(abs(numbers[0] - numbers[1]) > larger * Float("1e-40", 60))


if __name__ == "__main__":
    _serve()
