"""The query memory: which products were chosen after which searches, and after searches like it.

A product that was clicked or bought with a query, or soon after a search, counts for that query.
Queries are compared by their vectors of the title encoder, so "linen midi dress" also finds what
"midi linen summer dress" led to. Counts halve every ``half_life_days`` by the events' own time:
the newest ``ts`` seen is now, so that a replay of an old log remembers what it did then. (Forward
decay, Cormode et al., ICDE 2009, doi 10.1109/ICDE.2009.65: a count's age is settled when it is
added, so a late event weighs what it should, and the order of arrival does not matter.)

Counted are shoppers, not events. Of a query and an item ``REGISTERS`` days are kept: a hash of the
shopper's id chooses the register, which holds the newest day that one of its shoppers chose the
item (a bitmap for linear counting, Whang et al. 1990, doi 10.1145/78922.78925, with days for bits).
So the same choice twice is one, by whichever of a shopper's queries, and the registers that are set
are never more than the shoppers: two are told of as two, 10 as 9.3 on average, 100 as 51. The
weight is the sum of the registers' decayed days. A query and item take 300 bytes (tracemalloc),
whatever its shoppers.

What is kept is a text, an item and days: no shopper, only that one of a 64th of all chose it. So an
erasure has nothing to take out of it; what a single shopper says is not told to anyone
(``LEAST_COUNT``), and a reason quotes the words of the shopper who reads it, never another's.
"""

from __future__ import annotations

import heapq
import json
import threading
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.domain import Kind, Step
from models.ports import FloatArray, Hit, Stored, TitleEncoder

HALF_LIFE_DAYS: Final = 30.0
#: A search leads to what is chosen within so many of its shopper's next steps, and so long.
FOLLOWED_STEPS: Final = 5
FOLLOWED_MS: Final = 30 * 60_000
#: A shopper's search counts as recent for so many steps.
RECENT_STEPS: Final = 3
#: Queries at most that speak for another one, and their least cosine with it. At that cosine a
#: query has no say, and the same query has all of it.
SIMILAR: Final = 5
LEAST_COSINE: Final = 0.8
#: Shoppers of an item, over the similar queries, before it is spoken of.
LEAST_COUNT: Final = 2
#: Shoppers that are told apart, of a query and an item: at so many a weight adds 95 % of ``RAISE``.
REGISTERS: Final = 64
#: What a product that the memory speaks for is raised by, in cosines, at most; half of it at a
#: weight of ``HALF_SURE``. No log with real searches was at hand to choose it by: on the sample
#: shop's .2 found most of .1, .2 and .3 (`python -m bench.query_memory`; docs/log.md, 12).
RAISE: Final = 0.2
HALF_SURE: Final = 3.0

_DAY_MS: Final = 86_400_000
_TEXT: Final = 200  # characters of a query that are kept
_ENCODED: Final = 64  # queries encoded a call at most, beside those asked for
_LAST_DAY: Final = 65_534  # a register is 16 bits wide: in the year 2149
_FAINTEST: Final = -900.0  # half-lives: less is no double's any more


@dataclass(frozen=True, slots=True)
class Remembered:
    """An item that searches led to: the decayed ``weight`` by likeness.

    ``count`` shoppers at least chose it, whenever that was.
    """

    item_id: str
    weight: float
    count: int

    @property
    def raised_by(self) -> float:
        """What it adds to a cosine: more evidence adds more, and ever less of it."""
        return RAISE * self.weight / (self.weight + HALF_SURE)


class QueryMemory:
    """Shoppers by query and item. Written from one thread and read from another.

    Bounded: at most ``2 * queries`` queries with ``2 * items`` items each; past that the half of
    least weight goes (as in models/recommend/popularity.py). Full to the last place that is 320,000
    pairs or 96 MB, and 12 MB of vectors (d = 384). ``encoder`` is asked while reading only.
    """

    def __init__(
        self,
        encoder: TitleEncoder,
        half_life_days: float = HALF_LIFE_DAYS,
        queries: int = 4_000,
        items: int = 20,
    ) -> None:
        self._half_life = half_life_days * _DAY_MS
        self._most, self._items = queries, items
        self._lock = threading.Lock()
        # of each register 0 for no shopper, else 1 + the newest day since the epoch
        self._queries: dict[str, dict[str, array[int]]] = {}
        self._now = 0  # the newest day since the epoch
        self._unread: dict[str, None] = {}  # queries without a vector yet
        self._dropped = False  # whether some with a vector may have gone
        self._vectors = _Vectors(encoder)  # the reader's own

    def add(self, query: str, item_id: str, ts: int, shopper: str) -> None:
        """Counts that ``query`` led the shopper (an id) to the item at ``ts`` (epoch ms)."""
        if not (text := _normal(query)):
            return
        day = min(ts // _DAY_MS, _LAST_DAY)
        own = shopper.encode("utf-8", "surrogatepass")
        register = blake2b(own, digest_size=1).digest()[0] % REGISTERS
        with self._lock:
            self._now = max(self._now, day)
            if text not in self._queries:
                self._queries[text] = {}
                self._unread[text] = None
            led = self._queries[text]
            if (days := led.get(item_id)) is None:
                days = led[item_id] = array("H", bytes(2 * REGISTERS))
            days[register] = max(days[register], 1 + day)
            if len(led) > 2 * self._items:
                weights = dict(zip(led, self._sums(led), strict=True))
                kept = heapq.nlargest(self._items, led, key=weights.__getitem__)
                self._queries[text] = {each: led[each] for each in kept}
            if len(self._queries) > 2 * self._most:
                self._shrink()

    def clear(self) -> None:
        """Forgets everything: the counts are about to be made anew."""
        with self._lock:
            self._queries.clear()
            self._unread.clear()
            self._now, self._dropped = 0, True

    def dump(self) -> str:
        """All that is held, as JSON; see ``restore``."""
        with self._lock:
            queries = {
                text: {item: days.tobytes().hex() for item, days in led.items()}
                for text, led in self._queries.items()
            }
            told = {"queries": queries, "now": self._now, "unread": list(self._unread),
                    "dropped": self._dropped, "read": self._vectors.texts}  # fmt: skip
            return json.dumps(told)

    def restore(self, told: str) -> None:
        """Becomes what ``dump`` told of: it answers as that one would have."""
        read = json.loads(told)
        with self._lock:
            self._queries = {
                text: {item: array("H", bytes.fromhex(days)) for item, days in led.items()}
                for text, led in read["queries"].items()
            }
            self._now, self._dropped = read["now"], read["dropped"]
            self._unread = dict.fromkeys(read["unread"])
        self._vectors.update(read["read"], set())

    @property
    def caught_up(self) -> bool:
        """Whether all queries can be found by their likes; each ``recall`` encodes some more."""
        with self._lock:
            return not self._unread

    def recall(self, queries: Sequence[str], limit: int = 50) -> dict[str, list[Remembered]]:
        """For each query the ``limit`` items that it and those like it led to, most weight first.

        Queries of which nothing is known are left out. For one thread at a time.
        """
        asked = {query: text for query in queries if (text := _normal(query))}
        with self._lock:
            if not asked or not self._queries:
                return {}
            new = list(self._unread)[-_ENCODED:]  # the newest first: they are asked for the most
            for text in new:
                del self._unread[text]
            held = set(self._queries) if self._dropped else None
            self._dropped = False
        self._vectors.update(new, held)
        likes = self._vectors.like(list(dict.fromkeys(asked.values())))
        found = {query: self._led(text, likes[text], limit) for query, text in asked.items()}
        return {query: items for query, items in found.items() if items}

    def _led(self, text: str, likes: Mapping[str, float], limit: int) -> list[Remembered]:
        """What the queries ``likes``, by their say, led to; the same query has all its say.

        A shopper whom two of them led to an item counts once, for the one that says more.
        """
        said = {**likes, text: 1.0}
        with self._lock:  # no longer than the copies take: the writer waits
            now = self._now
            copies = [
                (say, list(led), b"".join(led.values()))
                for query, say in said.items()
                if (led := self._queries.get(query))
            ]
        found: dict[str, NDArray[np.float64]] = {}  # by item: (registers,)
        for say, items, days in copies:
            for item_id, row in zip(items, say * self._weights(days, now), strict=True):
                before = found.get(item_id)
                found[item_id] = row if before is None else np.maximum(before, row)
        if not found:
            return []
        table = np.stack(list(found.values()))
        weights, counts = table.sum(axis=1).tolist(), np.count_nonzero(table, axis=1).tolist()
        told = [
            Remembered(*each)
            for each in zip(found, weights, counts, strict=True)
            if each[2] >= LEAST_COUNT
        ]
        return heapq.nsmallest(limit, told, key=lambda each: (-each.weight, each.item_id))

    def _weights(self, led: bytes, now: int) -> NDArray[np.float64]:
        """What each register (n, registers) says on the day ``now``: 1 of that day, 0 of nobody."""
        days = np.frombuffer(led, dtype=np.uint16).reshape(-1, REGISTERS)
        ages = (days - (1.0 + now)) * (_DAY_MS / self._half_life)
        return np.where(days > 0, np.exp2(np.maximum(ages, _FAINTEST)), 0.0)

    def _sums(self, led: Mapping[str, array[int]]) -> list[float]:
        """The weight of each item of a query."""
        sums: list[float] = self._weights(b"".join(led.values()), self._now).sum(axis=1).tolist()
        return sums

    def _shrink(self) -> None:
        """Keeps the queries of most weight."""
        weights = {text: max(self._sums(led)) for text, led in self._queries.items()}
        kept = set(heapq.nlargest(self._most, weights, key=lambda text: weights[text]))
        self._queries = {text: led for text, led in self._queries.items() if text in kept}
        self._unread = {text: None for text in self._unread if text in kept}
        self._dropped = True


class _Vectors:
    """The vectors (n, d) of queries, for finding those like another."""

    def __init__(self, encoder: TitleEncoder) -> None:
        self._encoder = encoder
        self._texts: list[str] = []
        self._rows = np.zeros((0, encoder.dim), dtype=np.float32)  # at least n

    @property
    def texts(self) -> list[str]:
        """Those that have a vector, in the order in which they came."""
        return list(self._texts)

    def update(self, new: Sequence[str], held: set[str] | None) -> None:
        """Adds the ``new`` texts, after dropping what is not ``held`` any more."""
        if held is not None:
            kept = [row for row, text in enumerate(self._texts) if text in held]
            self._texts = [self._texts[row] for row in kept]
            self._rows = self._rows[kept]
        there = set(self._texts) if new else set()  # (dropped and come again)
        new = [text for text in new if text not in there]
        if not new:
            return
        size = len(self._texts) + len(new)
        if size > len(self._rows):
            grown = np.zeros((2 * size, self._encoder.dim), dtype=np.float32)
            grown[: len(self._texts)] = self._rows[: len(self._texts)]
            self._rows = grown
        self._rows[len(self._texts) : size] = self._encoder.encode(new)
        self._texts += new

    def like(self, texts: Sequence[str]) -> dict[str, dict[str, float]]:
        """For each text the queries most like it, and their say: 0 to 1, linear in the cosine."""
        cosines = self._encoder.encode(list(texts)) @ self._rows[: len(self._texts)].T
        found: dict[str, dict[str, float]] = {}
        for text, row in zip(texts, cosines, strict=True):
            best = np.argsort(-row, kind="stable")[:SIMILAR]
            says = {self._texts[n]: (float(row[n]) - LEAST_COSINE) / (1 - LEAST_COSINE)
                    for n in best.tolist()}  # fmt: skip
            found[text] = {query: min(say, 1.0) for query, say in says.items() if say > 0}
        return found


def leading_query(step: Step, before: Sequence[Step]) -> str | None:
    """The query that led to a click or purchase, None without one.

    Its own, or the newest search among the steps ``before`` it (oldest first; at most
    ``FOLLOWED_STEPS`` of them count), if that is not longer ago than ``FOLLOWED_MS``.
    """
    if step.item_id is None or step.query:
        return step.query if step.item_id is not None else None
    for earlier in reversed(before[-FOLLOWED_STEPS:]):
        if earlier.kind is Kind.SEARCH and earlier.query:
            return earlier.query if 0 <= step.ts - earlier.ts <= FOLLOWED_MS else None
    return None


def recent_query(steps: Sequence[Step]) -> str | None:
    """The newest query of the newest ``RECENT_STEPS`` of a history, oldest first."""
    return next((step.query for step in reversed(steps[-RECENT_STEPS:]) if step.query), None)


def raised(
    hits: Sequence[Hit],
    adds: Mapping[str, float],
    stored: Mapping[str, Stored],
    vector: FloatArray,
) -> list[Hit]:
    """The ``hits`` of a search for ``vector`` (d,) and the items that gain, best first.

    A score is the cosine, plus what ``adds`` has for the item. An item without a vector has
    the least hit's cosine; one that ``stored`` does not have is gone from the catalogue. Whether an
    item may be shown is not asked here.
    """
    least = min((hit.score for hit in hits), default=0.0)
    found = {hit.item.item_id: hit for hit in hits}
    for item_id in adds:
        if item_id not in found and item_id in stored:
            own = stored[item_id].vector
            cosine = least if own is None else float(own @ vector)
            found[item_id] = Hit(stored[item_id].item, cosine)
    scored = [Hit(hit.item, hit.score + adds.get(i, 0.0)) for i, hit in found.items()]
    return sorted(scored, key=lambda hit: -hit.score)  # stable


def _normal(query: str) -> str:
    """The same for queries that differ in case and spaces only."""
    return " ".join(query.casefold().split())[:_TEXT]
