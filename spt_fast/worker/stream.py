"""One stream of requests to an engine: the loop that evaluation, judge and ablation share.

    Plan.begin     claims a plan and builds its requests, as soon as the engine has room to read them
    Engine.stream  answers the requests of all plans, mixed, as they are done
    Plan.take      puts an answer in its place
    Stream         yields a plan as soon as its last answer is there

An engine that dies ends the stream with its error; `Stream.in_flight` are the plans that it may have died of.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from spt_fast.engine.base import Engine
from spt_fast.errors import EngineError, SptError
from spt_fast.types import Answer, Request

PlaceT = TypeVar("PlaceT")
"""Where in a plan an answer belongs."""

Tell: TypeAlias = Callable[[int, int, float], None]
"""Told how many requests are answered, of how many, and in how many seconds."""


class Plan(ABC, Generic[PlaceT]):
    """Requests that belong together, and what becomes of their answers."""

    @property
    @abstractmethod
    def expected(self) -> int:
        """About how many requests it has, known before they are built."""

    @abstractmethod
    def begin(self, engine: Engine) -> Sequence[tuple[PlaceT, Request]] | None:
        """Its requests, each with the place of its answer; None: it is not to be asked.

        Called once, when its turn has come.
        """

    @abstractmethod
    def take(self, place: PlaceT, answer: Answer) -> None:
        """Put an answer in its place."""


PlanT = TypeVar("PlanT", bound=Plan[Any])


@dataclass(eq=False)
class Stream(Generic[PlanT]):
    """The requests of several plans to one engine. Iterate over it once, for the plans as they are finished."""

    engine: Engine
    plans: Sequence[PlanT]
    tell: Tell | None = None
    """Told after each answer."""
    total: int = field(init=False)
    """Requests of all plans: a guess for those that have not begun."""
    answered: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)
    """From the beginning to the last answer."""
    since_last: float = field(default=0.0, init=False)
    """From the plan that was finished before, or the beginning, to the one that has just been."""
    _last: float = field(default=0.0, init=False)
    _waiting: dict[PlanT, int] = field(default_factory=dict, init=False)
    """How many answers a plan waits for."""
    _places: list[tuple[PlanT, Any]] = field(default_factory=list, init=False)
    """By the number of a request in the stream."""
    _finished: deque[PlanT] = field(default_factory=deque, init=False)

    def __post_init__(self) -> None:
        self.total = sum(plan.expected for plan in self.plans)

    @property
    def in_flight(self) -> list[PlanT]:
        """The plans that have begun and wait for answers."""
        return list(self._waiting)

    def __iter__(self) -> Iterator[PlanT]:
        """The plans that are asked, each as soon as all its requests are answered.

        Raises:
            EngineError: a request is impossible, or the engine died.
            SptError: what `Plan.begin` or `Plan.take` raises.
        """
        began = time.perf_counter()
        try:
            for number, answer in self.engine.stream(self._requests()):
                self._take(number, answer)
                self.seconds = time.perf_counter() - began
                if self.tell is not None:
                    self.tell(self.answered, self.total, self.seconds)
                yield from self._newly_finished()
        except SptError:
            yield from self._newly_finished()
            raise
        yield from self._newly_finished()
        if self._waiting:
            raise EngineError("the engine ended its stream before every request was answered")

    def _requests(self) -> Iterator[Request]:
        """Read by the engine in bounded windows, so that a plan begins no sooner than it has to."""
        for plan in self.plans:
            planned = plan.begin(self.engine)
            self.total += len(planned or ()) - plan.expected
            if planned is None:
                continue
            self._wait_for(plan, len(planned))
            for place, request in planned:
                self._places.append((plan, place))
                yield request

    def _take(self, number: int, answer: Answer) -> None:
        plan, place = self._places[number]
        plan.take(place, answer)
        self.answered += 1
        self._wait_for(plan, self._waiting[plan] - 1)

    def _wait_for(self, plan: PlanT, answers: int) -> None:
        if answers:
            self._waiting[plan] = answers
        else:
            self._waiting.pop(plan, None)
            self._finished.append(plan)

    def _newly_finished(self) -> Iterator[PlanT]:
        while self._finished:
            self.since_last, self._last = self.seconds - self._last, self.seconds
            yield self._finished.popleft()
