"""Dead letters made, and told in the log at a bounded rate: a storm of them fills no disk."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from models.errors import BadMessage
from stream.contracts.codec import dead_letter_headers
from stream.contracts.topics import DEAD_LETTERS, TopicNames
from stream.kafka.delivery import Record

#: Seconds between two lines of the log, however many dead letters there are.
EVERY: Final = 60.0


class Refusals:
    """Makes the dead letters of one processor, and says so in its log. For one thread.

    The log has the place, the error's name and its words: never a key, never a value.
    """

    def __init__(
        self,
        names: TopicNames,
        log: logging.Logger,
        clock: Callable[[], float] = time.monotonic,
        every: float = EVERY,
    ) -> None:
        self._names = names
        self._log = log
        self._clock = clock
        self._every = every
        self._told_at = float("-inf")
        self._untold: Counter[str] = Counter()
        self._newest: Record | None = None

    def letter(
        self,
        topic: str,
        place: tuple[int, int],
        key: bytes | None,
        value: bytes | None,
        error: BadMessage,
        before: int = 0,
    ) -> Record:
        """The dead letter of a record of ``topic`` (its plain name) at ``place``.

        ``place``: partition, offset; ``before``: how often it was tried before.
        """
        headers = dead_letter_headers(self._names.of(topic), *place, error, before)
        return Record(self._names.of(DEAD_LETTERS), key, value, -1, headers)

    def delivered(self, letters: Sequence[Record]) -> None:
        """These are on the broker: says so, or keeps it for the next line."""
        if not letters:
            return
        self._untold.update(dict(letter.headers)["weft-error"].decode() for letter in letters)
        self._newest = letters[-1]
        self.tell_if_due()

    def tell_if_due(self) -> None:
        """Says what was not said yet, if the line before is old enough."""
        if self._clock() - self._told_at >= self._every:
            self.tell()

    def tell(self) -> None:
        """Says now what was not said yet."""
        if self._newest is None:
            return
        told = {name: value.decode(errors="replace") for name, value in self._newest.headers}
        counts = ", ".join(f"{count} {name}" for name, count in self._untold.most_common())
        self._log.warning(
            "dead letters: %s; the newest from %s, partition %s, offset %s: %s (`weft dlq list`)",
            counts,
            told["weft-topic"],
            told["weft-partition"],
            told["weft-offset"],
            told["weft-words"],
        )
        self._untold.clear()
        self._newest = None
        self._told_at = self._clock()
