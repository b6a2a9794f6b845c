"""How many shoppers clicked and bought what of late: a gain for everyone (``trending``), and the
list of someone of whom nothing is known.

A count is of shoppers, not of events: whoever calls ``add`` calls it once a shopper, item and day,
and of a shopper's day for the first ``STEPS_A_DAY`` steps only. So a program that clicks one item
100,000 times is one shopper of that day, and one that clicks everything one shopper of 49 items.
Live, the steps that a shopper's state keeps say what is new (``stream/derived.py``): nothing is
held for it here. Training counts the same of a log (``models/training/trends.py``).

Time is the events' own: the newest ``ts`` seen is now, so that a replay of an old log ranks what
was popular then. Counts are kept by day; a whole day leaves the window at once.
"""

from __future__ import annotations

import heapq
import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

#: A month: of the windows that were tried the best on both logs (docs/log.md, 16).
DAYS: Final = 28
#: A shopper's first so many steps of a day count, searches among them: one fewer than a state
#: keeps, so that a state which is not full of one day's steps holds all of them.
STEPS_A_DAY: Final = 49
_DAY_MS: Final = 86_400_000
#: The ranking is made anew when this share of the counts has come since the last one.
_STALE: Final = 0.01


@dataclass(frozen=True, slots=True)
class _Ranking:
    """The most counted at one moment, and which moment that was."""

    lines: list[tuple[str, int]] = field(default_factory=list)
    limit: int = 0  # as asked for
    day: int = -1
    added: int = 0


class Popularity:
    """Counts of the last ``days`` days. Written from one thread and read from another.

    Bounded: at most ``2 * items_a_day`` items a day are held; past that the day's least counted
    half goes (as in lossy counting, Manku and Motwani 2002), which the most popular never notice.
    An item takes 80 bytes a day with an id of 9 characters and 107 with one of 36, whatever its
    count (tracemalloc): with 20,000 items on each of 28 days 45 to 60 MB, and nothing a shopper.
    """

    def __init__(self, days: int, items_a_day: int = 10_000) -> None:
        self.days = days
        self._items_a_day = items_a_day
        self._lock = threading.Lock()
        self._buckets: dict[int, Counter[str]] = {}  # by day since the epoch
        self._totals: Counter[str] = Counter()  # the sum of the buckets
        self._newest_day = -1
        self._added = 0  # since the start, and
        self._held = 0  # of them in the buckets: for knowing when a ranking is stale
        self._era = 0  # how often the counts became others: a ranking of before is of no use
        self._rankings = [_Ranking(), _Ranking()]  # of all, and of earlier days

    def add(self, item_id: str, ts: int) -> None:
        """Counts a shopper who chose the item on the day of ``ts`` (epoch ms).

        To be called once a shopper, item and day. One older than the window is dropped; a late one
        counts for its own day.
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
            self._added += 1
            self._held += 1
            if len(bucket) > 2 * self._items_a_day:
                self._shrink(day)

    def clear(self) -> None:
        """Forgets everything: the counts are about to be made anew."""
        with self._lock:
            self._buckets.clear()
            self._totals.clear()
            self._newest_day, self._added, self._held = -1, 0, 0
            self._era += 1
            self._rankings = [_Ranking(), _Ranking()]

    def top(self, limit: int) -> list[tuple[str, int]]:
        """The ``limit`` most counted (item_id, count), best first; of equals the greatest id first.

        The ranking may lag behind the counts by one part in a hundred.
        """
        return self._best(limit, earlier=False)

    def earlier(self, limit: int) -> list[tuple[str, int]]:
        """The same without the newest day.

        So it is the same whatever of that day has been counted so far, in whichever order.
        """
        return self._best(limit, earlier=True)

    def _best(self, limit: int, *, earlier: bool) -> list[tuple[str, int]]:
        while True:
            with self._lock:
                if self._is_fresh(known := self._rankings[earlier], limit):
                    return known.lines[:limit]
                made = limit, self._newest_day, self._added
                era, totals = self._era, dict(self._totals)
                today = dict(self._buckets.get(self._newest_day, {})) if earlier else {}
            ranking = _ranked(totals, today, *made)  # the writer does not wait
            with self._lock:
                if era == self._era:
                    self._rankings[earlier] = ranking
                    return ranking.lines

    def dump(self) -> str:
        """All that is held, as JSON, the rankings of now included: see ``restore``."""
        with self._lock:
            buckets = [(day, list(bucket.items())) for day, bucket in self._buckets.items()]
            rankings = [(r.lines, r.limit, r.day, r.added) for r in self._rankings]
            told = {"buckets": buckets, "totals": list(self._totals.items()),
                    "numbers": [self._newest_day, self._added], "rankings": rankings}  # fmt: skip
            return json.dumps(told)

    def restore(self, told: str) -> None:
        """Becomes what ``dump`` told of: it answers as that one would have."""
        read = json.loads(told)
        with self._lock:
            self._buckets = {day: Counter(dict(items)) for day, items in read["buckets"]}
            self._totals = Counter(dict(read["totals"]))
            self._newest_day, self._added = read["numbers"]
            self._held = self._totals.total()
            self._era += 1
            self._rankings = [_read(each) for each in read["rankings"]]

    def _is_fresh(self, ranking: _Ranking, limit: int) -> bool:
        lag = self._added - ranking.added
        fresh = ranking.day == self._newest_day and lag <= _STALE * self._held
        return fresh and limit <= ranking.limit

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
            self._held -= count
            self._totals[item_id] -= count
            if self._totals[item_id] <= 0:
                del self._totals[item_id]


def _ranked(
    totals: dict[str, int], without: dict[str, int], limit: int, day: int, added: int
) -> _Ranking:
    """The ``limit`` most counted: one order for the same counts, however they came."""
    counts = ((item_id, count - without.get(item_id, 0)) for item_id, count in totals.items())
    some = (pair for pair in counts if pair[1] > 0)
    best = heapq.nlargest(limit, some, key=lambda pair: (pair[1], pair[0]))
    return _Ranking(best, limit, day, added)


def _read(told: Any) -> _Ranking:
    lines, limit, day, added = told
    return _Ranking([(item_id, count) for item_id, count in lines], limit, day, added)
