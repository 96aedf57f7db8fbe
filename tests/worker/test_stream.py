"""One stream of requests for several plans: when each begins, where its answers go, and what an engine that dies leaves."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import pytest

from spt_fast.engine.base import Engine
from spt_fast.errors import EngineError, ScoringError
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.types import Answer, Completion, Generate, Request, Sampling
from spt_fast.worker.stream import Plan, Stream


class Counting(Engine):
    """Answers each request with its first token, last request first, in windows; dies when it is asked for a token of these."""

    hidden_size, max_model_len = 8, 64

    def __init__(self, window: int = 1, dies_of: Sequence[int] = (), ends_at: int | None = None) -> None:
        self._window, self._dies_of, self._ends_at = window, dies_of, ends_at

    def add(self, soft_prompt: SoftPrompt) -> str:
        raise AssertionError("there is no soft prompt here")

    def close(self) -> None:
        pass

    def stream(self, requests: Iterable[Request]) -> Iterator[tuple[int, Answer]]:
        taken: list[tuple[int, int]] = []
        for number, request in enumerate(requests):
            if number == self._ends_at:
                return
            taken.append((number, request.token_ids[0]))
            if len(taken) == self._window:
                yield from self._answers(taken)
        yield from self._answers(taken)

    def _answers(self, taken: list[tuple[int, int]]) -> Iterator[tuple[int, Answer]]:
        while taken:
            number, token = taken.pop()
            if token in self._dies_of:
                raise EngineError("the engine died")
            yield number, Completion(text=str(token), token_ids=(token,), finish_reason="stop")


class Tokens(Plan[str]):
    """Asks for some tokens; keeps what it is answered, and when it began."""

    def __init__(self, *tokens: int, expected: int | None = None, withheld: bool = False) -> None:
        self._tokens, self._withheld = tokens, withheld
        self._expected = len(tokens) if expected is None else expected
        self.answers: dict[str, str] = {}

    @property
    def expected(self) -> int:
        return self._expected

    def begin(self, engine: Engine) -> Sequence[tuple[str, Request]] | None:
        if self._withheld:
            return None
        sampling = Sampling(max_tokens=1)
        return [(f"place of {token}", Generate(token_ids=(token,), sampling=sampling)) for token in self._tokens]

    def take(self, place: str, answer: Answer) -> None:
        assert isinstance(answer, Completion)
        if answer.text == "13":
            raise ScoringError("13 is no answer")
        self.answers[place] = answer.text


@pytest.mark.parametrize("window", [1, 2, 3, 100])
def test_each_answer_comes_to_its_place_and_a_plan_is_finished_with_its_last(window: int) -> None:
    plans = [Tokens(1, 2, 3), Tokens(4), Tokens(5, 6)]
    finished = []
    for plan in Stream(Counting(window), plans):
        finished.append(plan)
        assert plan.answers == {f"place of {token}": str(token) for token in plan._tokens}
    assert sorted(finished, key=plans.index) == plans
    assert len(finished) == 3


def test_a_plan_begins_when_the_engine_reads_its_first_request() -> None:
    plans = [Tokens(1, 2), Tokens(3, 4)]
    stream = Stream(Counting(window=2), plans)
    first = next(iter(stream))
    assert first is plans[0]
    assert stream.in_flight == []
    assert stream.answered == 2


def test_a_plan_that_is_not_to_be_asked_is_neither_finished_nor_counted() -> None:
    told: list[tuple[int, int]] = []
    plans = [Tokens(1, expected=5), Tokens(2, 3, withheld=True), Tokens(4)]
    stream = Stream(Counting(), plans, lambda done, total, seconds: told.append((done, total)))
    assert list(stream) == [plans[0], plans[2]]
    assert told == [(1, 4), (2, 2)], "what is expected is corrected as plans begin"
    assert (stream.answered, stream.total) == (2, 2)


def test_a_plan_without_requests_is_finished_all_the_same() -> None:
    plans = [Tokens(), Tokens(1), Tokens()]
    assert list(Stream(Counting(), plans)) == plans
    assert list(Stream(Counting(), [plans[0]])) == [plans[0]]


@pytest.mark.parametrize(("window", "in_flight"), [(1, [2]), (4, [1, 2]), (100, [0, 1, 2])])
def test_an_engine_that_dies_leaves_in_flight_what_it_may_have_died_of(window: int, in_flight: list[int]) -> None:
    plans = [Tokens(1, 2), Tokens(3, 4, 5), Tokens(66, 7)]
    stream = Stream(Counting(window, dies_of=[7 if window == 100 else 66]), plans)
    with pytest.raises(EngineError, match="the engine died"):
        list(stream)
    assert stream.in_flight == [plans[i] for i in in_flight]


def test_plans_that_were_finished_before_the_engine_died_are_told_of_first() -> None:
    plans = [Tokens(), Tokens(66)]
    finished = []
    with pytest.raises(EngineError, match="died"):
        finished.extend(Stream(Counting(dies_of=[66]), plans))
    stream = iter(Stream(Counting(dies_of=[66]), plans))
    assert next(stream) is plans[0]
    with pytest.raises(EngineError, match="died"):
        next(stream)


def test_an_engine_that_ends_early_is_no_engine_that_has_answered() -> None:
    plans = [Tokens(1), Tokens(2, 3)]
    stream = Stream(Counting(ends_at=2), plans)
    with pytest.raises(EngineError, match="before every request was answered"):
        list(stream)
    assert stream.in_flight == [plans[1]]


def test_an_answer_that_a_plan_cannot_take_ends_the_stream_with_its_error() -> None:
    plans = [Tokens(1), Tokens(13, 2)]
    stream = Stream(Counting(), plans)
    with pytest.raises(ScoringError, match="13 is no answer"):
        list(stream)
    assert stream.in_flight == [plans[1]]


def test_the_seconds_of_plans_add_up_to_those_of_the_stream() -> None:
    stream = Stream(Counting(), [Tokens(1), Tokens(2), Tokens(3)])
    parts = [stream.since_last for _ in stream]
    assert all(part >= 0 for part in parts)
    assert sum(parts) == pytest.approx(stream.seconds)


class InTurns(Tokens):
    """Asked in blocks of two; settled, with those of its group, once one of them has so many answers."""

    def __init__(self, group: str, *tokens: int, enough: int = 100) -> None:
        super().__init__(*tokens)
        self.together, self._enough = group, enough
        self.ends = range(2, len(tokens) + 1, 2)
        self.group: list[InTurns] = [self]

    def settled(self) -> Sequence[InTurns]:
        return self.group if len(self.answers) >= self._enough else []


class Cancelling(Counting):
    """Takes back what is cancelled and not answered yet."""

    def __init__(self, window: int) -> None:
        super().__init__(window)
        self.sent: list[int] = []
        self.cancelled: list[int] = []

    def cancel(self, numbers: Collection[int]) -> None:
        self.cancelled += numbers

    def stream(self, requests: Iterable[Request]) -> Iterator[tuple[int, Answer]]:
        def noted() -> Iterator[Request]:
            for request in requests:
                self.sent.append(request.token_ids[0])
                yield request

        yield from super().stream(noted())


def test_plans_of_a_group_are_asked_in_turns_and_groups_mixed_before_all_others() -> None:
    plans = [Tokens(1, 2), InTurns("a", 10, 11, 12, 14), InTurns("a", 20, 21), InTurns("b", 30, 31)]
    engine = Cancelling(window=1)
    assert set(Stream(engine, plans)) == set(plans)
    assert engine.sent == [10, 11, 20, 21, 30, 31, 12, 14, 1, 2]
    assert engine.cancelled == []


@pytest.mark.parametrize("window", [1, 2, 3])
def test_what_a_settled_plan_still_waits_for_is_not_sent_or_taken_back_or_dropped(window: int) -> None:
    enough, other, alone = InTurns("a", 10, 11, 12, 14, 15, 16, enough=3), InTurns("b", *range(20, 26)), Tokens(1, 2, 3)
    engine = Cancelling(window)
    stream = Stream(engine, [enough, other, alone])
    finished = list(stream)
    assert set(finished) == {enough, other, alone}
    assert len(finished) == 3
    assert len(enough.answers) == 3
    assert len(other.answers) == 6
    assert set(engine.sent) - {1, 2, 3, *range(20, 26)} < {10, 11, 12, 14, 15, 16}
    assert set(engine.cancelled) <= set(range(len(engine.sent)))
    assert stream.answered == stream.total == 12


def test_a_plan_may_settle_before_anything_is_sent_and_settle_others() -> None:
    known, other = InTurns("a", 10, 11, enough=0), InTurns("a", 20, 21)
    known.group = [known, other]
    engine = Cancelling(window=1)
    assert set(Stream(engine, [known, other, Tokens(1)])) >= {known, other}
    assert engine.sent == [1]
