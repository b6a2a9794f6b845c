"""The shoppers to whom the LLM owes an order, served when there is nothing else to do."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from itertools import islice
from typing import Final

#: Shoppers remembered here; over it their state's flag alone remembers them.
KEPT: Final = 10_000
#: Seconds until a backlog that could not be served is tried again.
_REST: Final = 5.0


class RerankQueue:
    """A bounded queue of (key, partition), each key once, the oldest first."""

    def __init__(self, kept: int = KEPT, clock: Callable[[], float] = time.monotonic) -> None:
        self.overflowed = False  # some are remembered by their state alone
        self._kept = kept
        self._clock = clock
        self._queue: OrderedDict[bytes, int] = OrderedDict()
        self._rests_until = 0.0

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, key: bytes, partition: int) -> None:
        """Queues a shopper at the end, or leaves one where it is."""
        self._queue.setdefault(key, partition)
        if len(self._queue) > self._kept:
            self._queue.popitem(last=False)
            self.overflowed = True

    def refill(self, owed: Mapping[bytes, int]) -> None:
        """Queues the first of those whose state says so, by key their partition."""
        for key, partition in islice(owed.items(), self._kept):
            self.add(key, partition)
        self.overflowed = len(owed) > self._kept

    def next(self) -> tuple[bytes, int] | None:
        """Takes the first out; None while it rests or is empty."""
        if not self._queue or self.rest() > 0:
            return None
        return self._queue.popitem(last=False)

    def longest_first(self, keys: Collection[bytes]) -> list[bytes]:
        """The keys: those that wait here first, the longest of all before the others."""
        waiting = [key for key in self._queue if key in keys] if self._queue else []
        return list(dict.fromkeys([*waiting, *keys]))

    def drop(self, key: bytes) -> None:
        """Serves one no more."""
        self._queue.pop(key, None)

    def clear(self) -> None:
        """The partitions are gone, and the shoppers with them."""
        self._queue.clear()
        self.overflowed = False

    def put_off(self) -> None:
        """There is no time for it now: rests a few seconds."""
        self._rests_until = self._clock() + _REST

    def rest(self) -> float:
        """Seconds until it may be served; not positive: now."""
        return self._rests_until - self._clock()
