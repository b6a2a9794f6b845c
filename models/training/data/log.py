"""A log of events on disk, grouped by shopper: what training and evaluation read.

``log_writing.prepare`` streams a catalogue and a log of any length into a folder of plain arrays,
memory-mapped, so that memory holds the catalogue's ids and one part of the shoppers at a time::

    offsets  (shoppers + 1,) int64   a shopper's events are offsets[s]:offsets[s + 1], oldest first
    users    (shoppers,) uint64      hash of each shopper's id
    rows     (events,) int32         0 never; 1 to n an item; n + 1 to n + q a query
    kinds    (events,) uint8         the kinds' numbers (models/domain.py)
    ts       (events,) int64         epoch ms
    titles   (1 + n + q, t) float16  vectors of the texts; row 0, and what has no text, all zero
    words    (1 + n + q, w) int32    the texts' words by their numbers in ``vocabulary``, then 0
    counts   (n + 1,) int32          events of each item in the whole log

A click or purchase with a query becomes a search followed by itself, unless the shopper's event
before had the same query: a search and the clicks that it led to are one search, as serving reads
them. Shoppers' ids are not kept: only a hash groups their events.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.domain import Item, Kind
from models.space.words import Vocabulary

#: Places of a log's events, shoppers, or rows.
Places = NDArray[np.int64]
#: Grows when the arrays change: a folder of another format is made anew.
FORMAT: Final = 3


@dataclass(frozen=True, slots=True)
class Logged:
    """One event of a log as training reads it."""

    user_id: str
    ts: int
    kind: Kind
    item_id: str | None = None
    query: str | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """What a prepared folder holds, and what was left out of it. ``fingerprint`` is a sha256."""

    items: int
    queries: int
    shoppers: int
    events: int
    first_ts: int
    last_ts: int
    unknown_items: int
    title_dim: int
    fingerprint: str


class TrainingLog:
    """A prepared folder, opened: see the module for the arrays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.summary = Summary(**json.loads((folder / "summary.json").read_text("utf-8")))
        self.offsets: NDArray[np.int64] = np.load(folder / "offsets.npy")
        self.rows: NDArray[np.int32] = _mapped(folder / "rows.npy")
        self.kinds: NDArray[np.uint8] = _mapped(folder / "kinds.npy")
        self.ts: NDArray[np.int64] = _mapped(folder / "ts.npy")
        self.titles: NDArray[np.float16] = _mapped(folder / "titles.npy")
        self.words: NDArray[np.int32] = _mapped(folder / "words.npy")
        self.users: NDArray[np.uint64] = np.load(folder / "users.npy")
        self.counts: NDArray[np.int32] = np.load(folder / "counts.npy")
        self._ends: NDArray[np.int64] = np.load(folder / "text_ends.npy")
        self._texts = np.memmap(folder / "texts.bin", dtype=np.uint8, mode="r")

    @property
    def items(self) -> int:
        """n, items of the catalogue."""
        return self.summary.items

    @property
    def shoppers(self) -> int:
        """How many shoppers have an event."""
        return self.summary.shoppers

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words that titles are made of, the most common first."""
        told = json.loads((self.folder / "vocabulary.json").read_text("utf-8"))
        return Vocabulary(told["words"], told["weights"])

    @cached_property
    def item_ids(self) -> list[str]:
        """The ids of rows 1 to n."""
        return [self.item(row).item_id for row in range(1, self.items + 1)]

    def ends_before(self, ts: int) -> Places:
        """Where each shopper's events before ``ts`` (epoch ms) end, (shoppers,)."""
        bounds = zip(self.offsets[:-1], self.offsets[1:], strict=True)
        own = np.asarray(self.ts)
        return np.array([s + np.searchsorted(own[s:e], ts) for s, e in bounds], dtype=np.int64)

    def item(self, row: int) -> Item:
        """The item of a row 1 to n."""
        return Item(**json.loads(self._text(row)))

    def query(self, row: int) -> str:
        """The query of a row n + 1 to n + q."""
        return str(json.loads(self._text(row)))

    def _text(self, row: int) -> bytes:
        return bytes(self._texts[self._ends[row - 1] : self._ends[row]])


def user_hash(user_id: str) -> int:
    """What stands for a shopper: 64 bits of blake2b."""
    digest = hashlib.blake2b(user_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _mapped(file: Path) -> Any:
    return np.load(file, mmap_mode="r") if file.stat().st_size > 200 else np.load(file)
