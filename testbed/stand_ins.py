"""Small working stand-ins for the models' three ports and for delivery: no weights, no broker.

They keep every promise of models/ports.py (the contract suites run on them too); they are only
small: the index is exact and in memory, the encoder knows no synonyms, the reranker counts words.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from hashlib import shake_128

import numpy as np

from models.domain import Item
from models.errors import BrokerUnavailable, IndexUnavailable, RerankerFailed
from models.ports import Deadline, FloatArray, Hit, RerankRequest, Stored
from stream.kafka.delivery import Record

_WORD = re.compile(r"\w+")


def _at_once(_seconds: float) -> None:
    """Sleeping that takes no time."""


def words(text: str) -> list[str]:
    """The lower-cased words of a text, in order; a text without any is one word itself."""
    return _WORD.findall(text.lower()) or [text]


class ManualClock:
    """A clock (seconds) that moves only when told to; ``advance`` stands in for sleeping."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time now."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Lets ``seconds`` pass."""
        self.now += seconds


class HashEncoder:
    """A title's unit vector is the normalised sum of its words' hashes: shared words are near.

    ``encoded`` counts the texts, so that a test can say that none was encoded twice.
    """

    def __init__(self, dim: int = 64) -> None:
        self.dim = dim
        self.name = f"hash-{dim}"
        self.encoded = 0

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Unit rows (len(texts), dim)."""
        self.encoded += len(texts)
        rows = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in words(text):
                row += self._hashed(word)
            if not row.any():  # words that cancel out; one chance in 256 ** dim
                row[0] = 1.0
            row /= np.linalg.norm(row)
        return rows

    def _hashed(self, word: str) -> FloatArray:
        digest = shake_128(word.encode("utf-8", "surrogatepass")).digest(self.dim)
        return np.frombuffer(digest, dtype=np.int8).astype(np.float32) + 0.5


class MemoryIndex:
    """ItemIndex in memory, exact. ``outage`` > 0 makes that many next calls ``IndexUnavailable``.

    Safe for reads from one thread while another writes, as the real ones are.
    """

    def __init__(self) -> None:
        self.outage = 0
        self._lock = threading.RLock()
        self._held: dict[str, Stored] = {}
        self._searchable: tuple[list[Item], FloatArray] | None = None

    def upsert(self, items: Sequence[Item], vectors: Sequence[FloatArray | None]) -> None:
        """Writes items; an older ``ts`` never replaces a newer one."""
        with self._available():
            for item, vector in zip(items, vectors, strict=True):
                held = self._held.get(item.item_id)
                if held is None or held.item.ts <= item.ts:
                    kept = None if vector is None else np.array(vector, dtype=np.float32)
                    self._held[item.item_id] = Stored(item, kept)
            self._searchable = None

    def delete(self, item_ids: Sequence[str]) -> None:
        """Removes items."""
        with self._available():
            for item_id in item_ids:
                self._held.pop(item_id, None)
            self._searchable = None

    def get(self, item_ids: Sequence[str]) -> dict[str, Stored]:
        """The items that are there, by id."""
        with self._available():
            return {i: self._held[i] for i in item_ids if i in self._held}

    def search(self, vectors: FloatArray, limit: int) -> list[list[Hit]]:
        """For each row (q, d) the nearest items in stock; all pairs are compared."""
        with self._available():
            items, matrix = self._matrix()
        if not items or limit <= 0:
            return [[] for _ in vectors]
        found = []
        for scores in np.asarray(vectors, dtype=np.float32) @ matrix.T:
            best = np.argsort(-scores, kind="stable")[:limit]
            found.append([Hit(items[row], float(scores[row])) for row in best])
        return found

    def newest(self, limit: int) -> list[Item]:
        """The items in stock of the greatest ``ts``, newest first."""
        with self._available():
            in_stock = [held.item for held in self._held.values() if held.item.in_stock]
        return sorted(in_stock, key=lambda item: -item.ts)[: max(limit, 0)]

    def count(self) -> int:
        """How many items are held."""
        with self._available():
            return len(self._held)

    def close(self) -> None:
        """Nothing to release."""

    def _available(self) -> threading.RLock:
        with self._lock:
            if self.outage > 0:
                self.outage -= 1
                raise IndexUnavailable("the fake index was told to be away")
        return self._lock

    def _matrix(self) -> tuple[list[Item], FloatArray]:
        """The searchable items and their vectors (n, d), rebuilt after a write."""
        if self._searchable is None:
            rows = [
                (held.item, held.vector)
                for held in self._held.values()
                if held.vector is not None and held.item.in_stock
            ]
            matrix = np.stack([v for _, v in rows]) if rows else np.zeros((0, 1), np.float32)
            self._searchable = [item for item, _ in rows], matrix
        return self._searchable


class OverlapReranker:
    """Reranker: the share of a candidate's words that the history has, in [0, 1].

    Each request takes ``seconds`` by calling ``sleep`` (a ManualClock's ``advance``); requests
    that would end past the deadline get None. ``failures`` > 0 makes that many next calls raise.
    """

    name = "overlap"

    def __init__(self, seconds: float = 0.0, sleep: Callable[[float], None] = _at_once) -> None:
        self.seconds = seconds
        self.failures = 0
        self.scored = 0
        self._sleep = sleep

    def score(
        self, requests: Sequence[RerankRequest], deadline: Deadline
    ) -> list[FloatArray | None]:
        """For each request its candidates' scores (c,), or None where the time did not suffice."""
        if self.failures > 0:
            self.failures -= 1
            raise RerankerFailed("the fake reranker was told to fail")
        return [self._score(request, deadline) for request in requests]

    def _score(self, request: RerankRequest, deadline: Deadline) -> FloatArray | None:
        if deadline.remaining() < self.seconds:
            return None
        self._sleep(self.seconds)
        self.scored += 1
        seen: set[str] = set()
        for read in request.history:
            for text in (read.item.text if read.item else None, read.step.query):
                seen.update(words(text) if text else ())
        shares = [np.mean([w in seen for w in words(c.text)]) for c in request.candidates]
        return np.array(shares, dtype=np.float32)


class MemoryDelivery:
    """Delivery into a list. ``failures`` > 0 makes that many next calls raise, half done.

    While ``held`` is cleared, a delivery waits: as a slow broker would make it.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.failures = 0
        self.closed = False
        self.held = threading.Event()
        self.held.set()

    def deliver(self, records: Sequence[Record]) -> None:
        """See ``Delivery``; a failing call leaves the first half of the records."""
        self.held.wait()
        if self.failures > 0:
            self.failures -= 1
            self.records.extend(records[: len(records) // 2])
            raise BrokerUnavailable("the fake broker was told to fail")
        self.records.extend(records)

    def close(self) -> None:
        """Nothing is left to send."""
        self.closed = True

    def newest(self, topic: str) -> dict[bytes | None, bytes | None]:
        """The newest value of each key, as a subscriber of ``topic`` holds it."""
        return {record.key: record.value for record in self.records if record.topic == topic}
