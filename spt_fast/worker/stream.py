"""One stream of requests to an engine: the loop that evaluation, judge and ablation share.

    Plan.begin     claims a plan and builds its requests, as soon as the engine has room to read them
    Engine.stream  answers the requests of all plans, mixed, as they are done
    Plan.take      puts an answer in its place
    Plan.settled   says which plans need no more answers: what they still wait for is cancelled
    Stream         yields a plan as soon as its last answer is there

Plans that are asked in turns (`Plan.together`) come first, block by block, those of a few groups mixed: while the answers to a
block are awaited that say whether more are needed, the engine has others to do.

An engine that dies ends the stream with its error; `Stream.in_flight` are the plans that it may have died of.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Generic, TypeAlias, TypeVar

from spt_fast.engine.base import Engine
from spt_fast.errors import EngineError, SptError
from spt_fast.types import Answer, Request

PlaceT = TypeVar("PlaceT")
"""Where in a plan an answer belongs."""

Tell: TypeAlias = Callable[[int, int, float], None]
"""Told how many requests are answered, of how many, and in how many seconds."""


MOST_GROUPS = 4
"""Groups of plans that are asked in turns at a time."""


class Plan(ABC, Generic[PlaceT]):
    """Requests that belong together, and what becomes of their answers."""

    together: Any = None
    """Plans that have the same here are asked in turns, a block of each; None: it is asked by itself, and whole."""
    ends: Sequence[int] = ()
    """Where its blocks end, in requests; known once it has begun."""

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

    def settled(self) -> Collection[Any]:
        """Asked when it has begun, and after each of its answers: the plans that need no more of theirs."""
        return ()


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
    _numbers: dict[PlanT, list[int]] = field(default_factory=dict, init=False)
    """Of the plans that are asked in turns, the numbers of their requests."""
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
        groups: dict[Hashable, list[PlanT]] = {}
        for plan in self.plans:
            if plan.together is not None:
                groups.setdefault(plan.together, []).append(plan)
        yield from self._in_turns(deque(groups.values()))
        for plan in self.plans:
            if plan.together is None:
                yield from (self._sent(plan, *each) for each in self._begun(plan))

    def _in_turns(self, left: deque[list[PlanT]]) -> Iterator[Request]:
        """A block of each plan, of some groups at a time, until all is sent or nothing more is needed."""
        asked: deque[tuple[PlanT, deque[Sequence[tuple[Any, Request]]]]] = deque()
        groups: list[Hashable] = []
        while left or asked:
            while left and len(groups) < MOST_GROUPS:
                group = left.popleft()
                groups.append(group[0].together)
                asked.extend((plan, self._blocks(plan)) for plan in group)
                for plan in group:
                    self._settle(plan)
            if asked:
                plan, blocks = asked.popleft()
                if blocks and plan in self._waiting:
                    for place, request in blocks.popleft():
                        if plan not in self._waiting:
                            break
                        yield self._sent(plan, place, request)
                    asked.append((plan, blocks))
            groups = [each for each in groups if any(plan.together == each for plan, _ in asked)]

    def _blocks(self, plan: PlanT) -> deque[Sequence[tuple[Any, Request]]]:
        planned = self._begun(plan)
        self._numbers[plan] = []
        return deque(planned[start:end] for start, end in pairwise((0, *plan.ends)))

    def _begun(self, plan: PlanT) -> Sequence[tuple[Any, Request]]:
        planned = plan.begin(self.engine)
        self.total += len(planned or ()) - plan.expected
        if planned is None:
            return ()
        self._wait_for(plan, len(planned))
        return planned

    def _sent(self, plan: PlanT, place: Any, request: Request) -> Request:
        if plan in self._numbers:
            self._numbers[plan].append(len(self._places))
        self._places.append((plan, place))
        return request

    def _take(self, number: int, answer: Answer) -> None:
        plan, place = self._places[number]
        if plan not in self._waiting:
            return  # nobody waits for it any more
        plan.take(place, answer)
        self.answered += 1
        self._wait_for(plan, self._waiting[plan] - 1)
        self._settle(plan)

    def _settle(self, plan: PlanT) -> None:
        """Cancel what is not needed any more, now that a plan has begun or has an answer."""
        for settled in plan.settled():
            if (waits := self._waiting.pop(settled, None)) is not None:
                self.total -= waits
                self._finished.append(settled)
                self.engine.cancel(self._numbers.pop(settled, ()))

    def _wait_for(self, plan: PlanT, answers: int) -> None:
        if answers:
            self._waiting[plan] = answers
        else:
            self._numbers.pop(plan, None)
            self._waiting.pop(plan, None)
            self._finished.append(plan)

    def _newly_finished(self) -> Iterator[PlanT]:
        while self._finished:
            self.since_last, self._last = self.seconds - self._last, self.seconds
            yield self._finished.popleft()
