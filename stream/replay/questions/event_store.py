"""A log as records in time order, on disk: what the live processors are fed in a replay.

A log's file may be in any order and of any length. Its rows become the records that `weft events
publish` would produce, once; the order is that of ``ts``, and of the file among equal ones::

    values.bin            keys and values, one after the other
    ends    (n,) int64    where each value ends
    keys    (n,) uint32   length of each key
    topics  (n,) uint8    the topic's rank (``stream.contracts.topics``)
    users   (n,) uint64   hash of the shopper (``models.training.data.log.user_hash``)
    ts      (n,) int64    epoch ms
    order   (n,) int64    the records by time

Memory holds 40 bytes a record while it is written, and a few pages of it while it is read.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.atomic_folder import Say, once
from models.errors import InvalidFile
from models.training.data.log import user_hash
from stream.contracts.topics import RANKS
from stream.files.publish import Entry
from stream.kafka.delivery import Record

_COLUMNS: Final = {"ends": "q", "keys": "I", "topics": "B", "users": "Q", "ts": "q"}
_TOPICS: Final = {rank: topic for topic, rank in RANKS.items()}


class Spool:
    """A written spool, opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.users: NDArray[np.uint64] = _mapped(folder / "users.npy")
        self.ts: NDArray[np.int64] = _mapped(folder / "ts.npy")
        self.order: NDArray[np.int64] = _mapped(folder / "order.npy")
        self._ends: NDArray[np.int64] = _mapped(folder / "ends.npy")
        self._keys: NDArray[np.uint32] = _mapped(folder / "keys.npy")
        self._topics: NDArray[np.uint8] = _mapped(folder / "topics.npy")
        self._values = np.memmap(folder / "values.bin", dtype=np.uint8, mode="r")

    def __len__(self) -> int:
        return len(self.order)

    def record(self, number: int) -> Record:
        """The record of that number (in the file's order), on its topic's plain name."""
        start = int(self._ends[number - 1]) if number else 0
        middle = start + int(self._keys[number])
        key, value = self._values[start:middle], self._values[middle : int(self._ends[number])]
        return Record(_TOPICS[int(self._topics[number])], key.tobytes(), value.tobytes())

    def moments(self, start: int = 0) -> Iterator[tuple[int, int, int]]:
        """(ts, first, last + 1) of each run of ``order`` with one ts, from place ``start`` on."""
        stretch = 1 << 20
        place = start
        while place < len(self):
            end = min(place + stretch, len(self))
            ts = self.ts[self.order[place:end]]
            cuts = np.flatnonzero(np.diff(ts)) + 1
            if end < len(self) and len(cuts):  # the last run may go on behind the stretch
                end = place + int(cuts[-1])
                ts, cuts = ts[: end - place], cuts[:-1]
            elif end < len(self):
                stretch *= 2
                continue
            bounds = [0, *cuts.tolist(), len(ts)]
            for first, last in pairwise(bounds):
                yield int(ts[first]), place + first, place + last
            place = end


def spooled(folder: Path, key: str, entries: Callable[[], Iterable[Entry]], say: Say) -> Spool:
    """The spool of the entries that ``key`` stands for, written once.

    Raises ``InvalidFile`` where there is no entry.
    """
    return Spool(once(folder, {"key": key}, lambda fresh: _write(fresh, entries()), say))


def _write(folder: Path, entries: Iterable[Entry]) -> None:
    columns = {name: array(code) for name, code in _COLUMNS.items()}
    end = 0
    with (folder / "values.bin").open("wb") as values:
        for entry in entries:
            record = entry.record
            own, value = record.key or b"", record.value or b""
            end += values.write(own) + values.write(value)
            row = (end, len(own), RANKS[record.topic], user_hash(own.decode()), entry.ts)
            for column, cell in zip(columns.values(), row, strict=True):
                column.append(cell)
    if not end:
        raise InvalidFile("the log has no event that can be used: nothing to replay")
    for name, column in columns.items():
        np.save(folder / f"{name}.npy", np.frombuffer(column, dtype=np.dtype(column.typecode)))
    ts = np.frombuffer(columns["ts"], dtype=np.int64)
    np.save(folder / "order.npy", np.argsort(ts, kind="stable"))


def _mapped(file: Path) -> Any:
    return np.load(file, mmap_mode="r")
