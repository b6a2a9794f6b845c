"""The circuit breaker, on a clock that is moved by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from models.domain import Item, Kind, Step
from models.ports import Deadline, FloatArray, Read, RerankRequest
from models.rerank.circuit_breaker import CircuitBreaker
from testbed.stand_ins import ManualClock, OverlapReranker

HAT = Item("hat", "linen hat", 0)
REQUEST = RerankRequest((Read(Step(Kind.CLICK, 0, "hat"), HAT),), (HAT,))


class Late(OverlapReranker):
    """Answers, but ``lateness`` seconds after the deadline: it does not look at the clock."""

    lateness = 0.0

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock

    def score(
        self, requests: Sequence[RerankRequest], deadline: Deadline
    ) -> list[FloatArray | None]:
        answers = super().score(requests, deadline)
        self.clock.advance(deadline.remaining() + self.lateness)
        return answers


class Asked(OverlapReranker):
    """Counts the requests of each call, failed ones included."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def score(
        self, requests: Sequence[RerankRequest], deadline: Deadline
    ) -> list[FloatArray | None]:
        self.calls.append(len(requests))
        return super().score(requests, deadline)


def answered(breaker: CircuitBreaker, clock: ManualClock, count: int = 1) -> list[bool]:
    """Which of ``count`` requests in one call got scores."""
    answers = breaker.score([REQUEST] * count, Deadline.after(1.0, clock))
    return [answer is not None for answer in answers]


def test_after_failures_in_a_row_the_reranker_is_not_asked_until_the_pause_is_over() -> None:
    clock, inside = ManualClock(), Asked()
    breaker = CircuitBreaker(inside, clock, failures=3, pause=30.0)
    inside.failures = 3
    for _ in range(3):
        assert answered(breaker, clock, 4) == [False] * 4
    assert breaker.is_open
    for _ in range(50):
        clock.advance(0.5)
        assert answered(breaker, clock, 4) == [False] * 4
    assert inside.calls == [4, 4, 4]


def test_half_open_one_request_is_tried_and_its_answer_closes_the_circuit() -> None:
    clock, inside = ManualClock(), Asked()
    breaker = CircuitBreaker(inside, clock, failures=1, pause=30.0)
    inside.failures = 1
    answered(breaker, clock)
    clock.advance(30.0)
    assert answered(breaker, clock, 4) == [True, False, False, False]
    assert not breaker.is_open
    assert answered(breaker, clock, 4) == [True] * 4
    assert inside.calls == [1, 1, 4]


def test_a_trial_that_fails_doubles_the_pause_up_to_five_minutes() -> None:
    clock, inside = ManualClock(), Asked()
    breaker = CircuitBreaker(inside, clock, failures=1, pause=30.0)
    inside.failures = 1_000
    answered(breaker, clock)
    for pause in (30, 60, 120, 240, 300, 300):
        clock.advance(pause - 0.5)
        answered(breaker, clock)
        before = len(inside.calls)
        clock.advance(0.5)
        answered(breaker, clock)
        assert len(inside.calls) == before + 1


def test_failures_that_are_not_in_a_row_do_not_open_it() -> None:
    clock, inside = ManualClock(), Asked()
    breaker = CircuitBreaker(inside, clock, failures=2)
    for _ in range(20):
        inside.failures = 1
        assert answered(breaker, clock) == [False]
        assert answered(breaker, clock) == [True]
    assert not breaker.is_open


def test_answers_long_after_the_deadline_open_it_and_a_little_late_ones_do_not() -> None:
    clock = ManualClock()
    inside = Late(clock)
    breaker = CircuitBreaker(inside, clock, failures=3, late=1.0)
    inside.lateness = 0.9
    for _ in range(10):
        assert answered(breaker, clock) == [True]
    inside.lateness = 1.1
    for _ in range(3):
        assert not breaker.is_open
        assert answered(breaker, clock) == [True]  # late, but there
    assert breaker.is_open


def test_no_time_is_no_failure() -> None:
    clock, inside = ManualClock(), OverlapReranker(seconds=5.0)
    breaker = CircuitBreaker(inside, clock, failures=1)
    for _ in range(10):
        assert answered(breaker, clock) == [False]
        assert breaker.score([REQUEST], Deadline.after(-1.0, clock)) == [None]
    assert not breaker.is_open


def test_an_outage_is_three_lines_of_the_log_however_many_lists_there_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, inside = ManualClock(), Asked()
    breaker = CircuitBreaker(inside, clock, failures=3, pause=30.0)
    inside.failures = 8
    for _ in range(100_000):
        clock.advance(0.05)
        answered(breaker, clock)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 3
    assert "the fake reranker was told to fail" in told[0]
    assert "one is tried again in 30 s" in told[1]
    assert "answers again, after 8 failures" in told[2]


def test_one_that_fails_now_and_then_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    clock, inside = ManualClock(), Asked()
    breaker = CircuitBreaker(inside, clock)
    for _ in range(1000):
        clock.advance(0.1)
        inside.failures = 1
        answered(breaker, clock)
        answered(breaker, clock)
    assert len(caplog.records) == 1
