"""The shoppers' states and newest lists of a replay, on disk, and the place that it has come to.

All of it is written in one transaction at a checkpoint, so that a replay which was killed goes on
from one, with the very state that it had there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Final

#: Entries that a table may hold in memory after a checkpoint.
_KEPT: Final = 50_000


class Table(MutableMapping[bytes, bytes]):
    """A mapping on one table of the file; what changed since the last checkpoint is in memory."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._cache: dict[bytes, bytes | None] = {}  # None: not there, or deleted
        self._changed: set[bytes] = set()
        connection.execute(f"CREATE TABLE IF NOT EXISTS {name} (key BLOB PRIMARY KEY, value BLOB)")

    def __getitem__(self, key: bytes) -> bytes:
        if key not in self._cache:
            row = self._connection.execute(
                f"SELECT value FROM {self._name} WHERE key = ?", (key,)
            ).fetchone()
            self._cache[key] = row[0] if row else None
        value = self._cache[key]
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._cache[key] = value
        self._changed.add(key)

    def __delitem__(self, key: bytes) -> None:
        self[key]
        self._cache[key] = None
        self._changed.add(key)

    def __iter__(self) -> Iterator[bytes]:
        self.write()
        for (key,) in self._connection.execute(f"SELECT key FROM {self._name}"):
            yield key

    def __len__(self) -> int:
        self.write()
        count = self._connection.execute(f"SELECT count(*) FROM {self._name}").fetchone()
        return int(count[0])

    def write(self) -> None:
        """Puts what changed into the transaction that is open."""
        rows = [(key, self._cache[key]) for key in self._changed]
        kept = [row for row in rows if row[1] is not None]
        gone = [row[:1] for row in rows if row[1] is None]
        self._connection.executemany(f"REPLACE INTO {self._name} VALUES (?, ?)", kept)
        self._connection.executemany(f"DELETE FROM {self._name} WHERE key = ?", gone)
        self._changed.clear()
        if len(self._cache) > _KEPT:
            self._cache.clear()


class Store:
    """The file. Use it from one thread; ``lists`` may be set from another between checkpoints."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(file, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self.states = Table(self._connection, "states")
        self.lists = Table(self._connection, "lists")
        self._marks = Table(self._connection, "marks")

    def mark(self, name: str) -> bytes | None:
        """What the last checkpoint noted under ``name``."""
        return self._marks.get(name.encode())

    def checkpoint(self, **marks: bytes) -> None:
        """Writes everything, and ``marks`` with it, all or nothing."""
        for name, value in marks.items():
            self._marks[name.encode()] = value
        for table in (self.states, self.lists, self._marks):
            table.write()
        self._connection.commit()

    def close(self) -> None:
        """Without a checkpoint: what changed since the last one is dropped."""
        self._connection.rollback()
        self._connection.close()
