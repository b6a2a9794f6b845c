"""How long an LLM's tokens take here: learnt from each forward, so that a deadline can be kept."""

from __future__ import annotations

from typing import Final

from models.ports import Deadline

#: Share of the newest measurement in the estimate of the time that a token takes.
_NEWEST: Final = 0.3
#: After a call that refused all the estimate shrinks so much, lest one slow moment refuse for ever.
_FORGIVING: Final = 0.9


class Paced:
    """A reranker that looks at the clock before each forward. For one thread at a time.

    ``seconds_per_token`` is the first estimate; each forward corrects it.
    """

    def __init__(self, seconds_per_token: float) -> None:
        self.seconds_per_token = seconds_per_token

    def _in_time(self, tokens: int, deadline: Deadline) -> bool:
        """Whether so many tokens should be done by the deadline; none always are."""
        return not tokens or tokens * self.seconds_per_token <= deadline.remaining()

    def _learn(self, tokens: int, seconds: float) -> None:
        """Corrects the estimate by a forward of so many tokens."""
        if tokens:
            self.seconds_per_token += _NEWEST * (seconds / tokens - self.seconds_per_token)

    def _forgive(self) -> None:
        """After a call that answered nothing."""
        self.seconds_per_token *= _FORGIVING
