"""What many shoppers clicked and bought of late: a gain for everyone (``trending``), and the list
of someone of whom nothing is known.

Time is the events' own: the newest ``ts`` seen is now, so that a replay of an old log ranks what
was popular then. Counts are kept by day; a whole day leaves the window at once.
"""

from __future__ import annotations

import heapq
import json
import threading
from collections import Counter
from operator import itemgetter
from typing import Final

#: A month: of the windows that were tried the best on both logs (docs/log.md, 16).
DAYS: Final = 28
_DAY_MS: Final = 86_400_000
#: The ranking is made anew when the counts have grown by this share since the last one.
_STALE: Final = 0.01


class Popularity:
    """Counts of the last ``days`` days. Written from one thread and read from another.

    Bounded: at most ``2 * items_a_day`` items a day are held; past that the day's least counted
    half goes (as in lossy counting, Manku and Motwani 2002), which the most popular never notice.
    """

    def __init__(self, days: int, items_a_day: int = 10_000) -> None:
        self.days = days
        self._items_a_day = items_a_day
        self._lock = threading.Lock()
        self._buckets: dict[int, Counter[str]] = {}  # by day since the epoch
        self._totals: Counter[str] = Counter()  # the sum of the buckets
        self._newest_day = -1
        self._events = 0  # since the start, for knowing when the ranking is stale
        self._ranked: list[tuple[str, int]] = []
        self._ranked_for = 0  # its length as asked for
        self._ranked_at = (-1, 0)  # day and events of its making
        self._earlier: list[tuple[str, int]] = []
        self._earlier_at = (-1, 0, 0)  # day, events and length of its making

    def add(self, item_id: str, ts: int) -> None:
        """Counts one click or purchase at ``ts`` (epoch ms); one older than the window is dropped.

        A late event counts for its own day.
        """
        day = ts // _DAY_MS
        with self._lock:
            if day <= self._newest_day - self.days:
                return
            if day > self._newest_day:
                self._move_to(day)
            bucket = self._buckets.setdefault(day, Counter())
            bucket[item_id] += 1
            self._totals[item_id] += 1
            self._events += 1
            if len(bucket) > 2 * self._items_a_day:
                self._shrink(day)

    def clear(self) -> None:
        """Forgets everything: the counts are about to be made anew."""
        with self._lock:
            self._buckets.clear()
            self._totals.clear()
            self._newest_day = -1
            self._events = 0
            self._ranked, self._ranked_for, self._ranked_at = [], 0, (-1, 0)
            self._earlier, self._earlier_at = [], (-1, 0, 0)

    def top(self, limit: int) -> list[tuple[str, int]]:
        """The ``limit`` most counted (item_id, count), best first; ties: first seen first.

        The ranking may lag behind the counts by one part in a hundred.
        """
        with self._lock:
            day, events = self._ranked_at
            fresh = day == self._newest_day and self._events - events <= _STALE * self._events
            if fresh and limit <= self._ranked_for:
                return self._ranked[:limit]
            totals, now = list(self._totals.items()), (self._newest_day, self._events)
        ranked = heapq.nlargest(limit, totals, key=itemgetter(1))  # the writer does not wait
        with self._lock:
            self._ranked, self._ranked_for, self._ranked_at = ranked, limit, now
        return ranked

    def earlier(self, limit: int) -> list[tuple[str, int]]:
        """The same without the newest day, of equals the greatest id first.

        So it is the same whatever of that day has been counted so far, in whichever order.
        """
        with self._lock:
            day, events, length = self._earlier_at
            fresh = day == self._newest_day and self._events - events <= _STALE * self._events
            if fresh and limit <= length:
                return self._earlier[:limit]
            today = self._buckets.get(self._newest_day, Counter())
            totals = [(i, n - today[i]) for i, n in self._totals.items() if n > today[i]]
            now = (self._newest_day, self._events, limit)
        ranked = heapq.nlargest(limit, totals, key=lambda pair: (pair[1], pair[0]))
        with self._lock:
            self._earlier, self._earlier_at = ranked, now
        return ranked

    def dump(self) -> str:
        """All that is held, as JSON, the ranking of now included: see ``restore``."""
        with self._lock:
            buckets = [(day, list(bucket.items())) for day, bucket in self._buckets.items()]
            told = {"buckets": buckets, "totals": list(self._totals.items()),
                    "numbers": [self._newest_day, self._events, self._ranked_for],
                    "ranked": self._ranked, "ranked_at": self._ranked_at}  # fmt: skip
            return json.dumps(told)

    def restore(self, told: str) -> None:
        """Becomes what ``dump`` told of: it answers as that one would have."""
        read = json.loads(told)
        with self._lock:
            self._buckets = {day: Counter(dict(items)) for day, items in read["buckets"]}
            self._totals = Counter(dict(read["totals"]))
            self._newest_day, self._events, self._ranked_for = read["numbers"]
            self._ranked = [(item_id, count) for item_id, count in read["ranked"]]
            self._ranked_at = (read["ranked_at"][0], read["ranked_at"][1])

    def _move_to(self, day: int) -> None:
        """Makes ``day`` the newest; what the window leaves behind is no longer counted."""
        self._newest_day = day
        for old in [d for d in self._buckets if d <= day - self.days]:
            self._forget(self._buckets.pop(old))

    def _shrink(self, day: int) -> None:
        """Keeps the day's most counted items."""
        ranked = self._buckets[day].most_common()
        self._buckets[day] = Counter(dict(ranked[: self._items_a_day]))
        self._forget(Counter(dict(ranked[self._items_a_day :])))

    def _forget(self, counts: Counter[str]) -> None:
        """Takes ``counts`` out of the totals."""
        for item_id, count in counts.items():
            self._totals[item_id] -= count
            if self._totals[item_id] <= 0:
                del self._totals[item_id]
