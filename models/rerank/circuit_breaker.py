"""A circuit breaker around a reranker: one that fails or is too slow is left alone for a while.

    closed ──(failures in a row)──► open ──(the pause is over)──► half-open
      ▲                              ▲                              │ one request is tried
      └────────── it answers ────────┴──────── it fails again ◄─────┘

A failure is an error, or an answer long after the deadline. Lists go out meanwhile as the retriever
ordered them, and stay owed. What it does is told once an outage, not once a list.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from models.errors import RerankerFailed
from models.ports import Deadline, FloatArray, Reranker, RerankRequest

_log = logging.getLogger("weft.breaker")

#: Failures in a row after which it is left alone.
FAILURES: Final = 3
#: Seconds past the deadline from which an answer counts as a failure.
LATE: Final = 1.0
#: Seconds that it is left alone the first time; twice as long after each trial that fails.
PAUSE: Final = 30.0
PAUSE_MOST: Final = 300.0


class CircuitBreaker:
    """A Reranker that answers None where the one inside fails or is left alone; never raises.

    ``clock`` (seconds) measures the pause, each deadline's own clock the lateness. For one thread
    at a time.
    """

    def __init__(
        self,
        inside: Reranker,
        clock: Callable[[], float],
        *,
        failures: int = FAILURES,
        late: float = LATE,
        pause: float = PAUSE,
    ) -> None:
        self._inside = inside
        self._clock = clock
        self._most = failures
        self._late = late
        self._first_pause = pause
        self._pause = pause
        self._failed = 0  # in a row
        self._told_at = float("-inf")
        self._shut_until: float | None = None  # None: closed

    @property
    def name(self) -> str:
        """What the one inside says."""
        return self._inside.name

    @property
    def is_open(self) -> bool:
        """Whether the one inside is left alone now; half-open counts as open until it answers."""
        return self._shut_until is not None

    def score(
        self, requests: Sequence[RerankRequest], deadline: Deadline
    ) -> list[FloatArray | None]:
        """For each request its candidates' scores (c,), or None where there are none now."""
        nothing: list[FloatArray | None] = [None] * len(requests)
        if not requests or deadline.remaining() <= 0:  # says nothing about the one inside
            return nothing
        if self._shut_until is None:
            return self._tried(requests, deadline) or nothing
        if self._clock() < self._shut_until:
            return nothing
        return (self._tried(requests[:1], deadline) or [None]) + nothing[1:]

    def _tried(
        self, requests: Sequence[RerankRequest], deadline: Deadline
    ) -> list[FloatArray | None] | None:
        """The answers; None where it failed."""
        try:
            answers = self._inside.score(requests, deadline)
        except RerankerFailed as error:
            self._failure(str(error))
            return None
        if -deadline.remaining() > self._late:
            self._failure(f"it answered {-deadline.remaining():.1f} s after the deadline")
        elif any(answer is not None for answer in answers):
            self._success()
        return answers

    def _failure(self, reason: str) -> None:
        self._failed += 1
        now = self._clock()
        if self._shut_until is not None:  # the trial failed: told already
            self._pause = min(2 * self._pause, PAUSE_MOST)
            self._shut_until = now + self._pause
        elif self._failed >= self._most:
            self._shut_until = now + self._pause
            _log.warning(
                "the LLM failed %d times in a row: lists go out without it, and one is tried "
                "again in %.0f s: %s",
                self._failed,
                self._pause,
                reason,
            )
        elif now - self._told_at >= PAUSE_MOST:  # one that fails now and then fills no log
            self._told_at = now
            _log.warning("the LLM failed, lists go out without it: %s", reason)

    def _success(self) -> None:
        if self._shut_until is not None:
            _log.warning("the LLM answers again, after %d failures in a row", self._failed)
        self._failed, self._shut_until, self._pause = 0, None, self._first_pause
