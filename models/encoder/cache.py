"""Title vectors kept on disk by the text's hash: what was encoded once is not encoded again."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np

from models.ports import FloatArray, TitleEncoder

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS vectors (id INTEGER PRIMARY KEY, key BLOB UNIQUE, vector BLOB)
"""
_PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "journal_size_limit=16777216")
_BUSY_SECONDS = 2.0  # for another worker's write; past it, this call goes without the cache
_QUESTION_KEYS = 500
#: About 800 bytes each: 0.8 GB at most.
MOST_ROWS = 1_000_000


class CachedEncoder:
    """A TitleEncoder whose vectors outlive the process.

    They are kept as float16 and every answer, fresh or kept, is what float16 gives back, so that
    a text has one vector always (its cosine to float32's is over .999999). At most ``most`` rows
    are kept, the oldest go first. The cache is a convenience: a damaged file is set aside, and
    where nothing can be read or written (a full disk) texts are encoded anew, said once through
    ``say``. Safe to call from several threads; several processes may share the file.
    """

    def __init__(
        self,
        encoder: TitleEncoder,
        file: Path,
        say: Callable[[str], None],
        most: int = MOST_ROWS,
    ) -> None:
        self.name = encoder.name
        self.dim = encoder.dim
        self.encoded = 0
        self.reused = 0
        self._encoder = encoder
        self._file = file
        self._say = say
        self._most = most
        self._lock = threading.Lock()
        self._warned = False
        self._connection: sqlite3.Connection | None = None
        with self._lock, self._forgiving():
            self._connection = self._opened()

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Unit rows (len(texts), d). Each text that is not kept yet is encoded once."""
        keys = [self._key(text) for text in texts]
        wanted = dict(zip(keys, texts, strict=True))
        known = self._read(wanted)
        missing = [key for key in wanted if key not in known]
        if missing:
            halves = _halved(self._encoder.encode([wanted[key] for key in missing]))
            known.update(zip(missing, halves, strict=True))
            self._write(zip(missing, (half.tobytes() for half in halves), strict=True))
        with self._lock:
            self.encoded += len(missing)
            self.reused += len(texts) - len(missing)
        if not keys:
            return np.zeros((0, self.dim), dtype=np.float32)
        return _unit(np.stack([known[key] for key in keys]))

    def close(self) -> None:
        """Closes the file; encoding goes on without it."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _key(self, text: str) -> bytes:
        """The name is part of it: vectors of two encoders never mix."""
        told = f"{self.name}\0{text}".encode("utf-8", "surrogatepass")
        return blake2b(told, digest_size=16).digest()

    def _read(self, keys: Iterable[bytes]) -> dict[bytes, np.ndarray]:
        """The kept vectors (d,) in float16, by key."""
        asked = list(keys)
        rows: list[tuple[bytes, bytes]] = []
        with self._lock, self._forgiving():
            for start in range(0, len(asked) if self._connection else 0, _QUESTION_KEYS):
                some = asked[start : start + _QUESTION_KEYS]
                marks = ",".join("?" * len(some))
                question = f"SELECT key, vector FROM vectors WHERE key IN ({marks})"
                rows += self._open.execute(question, some).fetchall()
        found = ((key, self._sound(blob)) for key, blob in rows)
        return {key: vector for key, vector in found if vector is not None}

    def _sound(self, blob: bytes) -> np.ndarray | None:
        """The vector, or None where its bytes were damaged: a whole one has length 1."""
        if len(blob) != 2 * self.dim:
            return None
        vector = np.frombuffer(blob, dtype=np.float16)
        norm = float(np.linalg.norm(vector.astype(np.float32)))
        return vector if abs(norm - 1) < 0.01 else None  # False for NaN

    def _write(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        with self._lock, self._forgiving():
            if self._connection is None:
                return
            with self._open:  # one transaction
                self._open.executemany(
                    "INSERT OR REPLACE INTO vectors (key, vector) VALUES (?, ?)", rows
                )
                self._open.execute(
                    "DELETE FROM vectors WHERE id <= (SELECT max(id) FROM vectors) - ?",
                    (self._most,),
                )

    @property
    def _open(self) -> sqlite3.Connection:
        assert self._connection is not None
        return self._connection

    def _opened(self) -> sqlite3.Connection:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._file, timeout=_BUSY_SECONDS, check_same_thread=False)
        try:
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            with connection:
                connection.execute(_SCHEMA)
            connection.execute("SELECT key, vector FROM vectors LIMIT 1").fetchall()
        except BaseException:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def _forgiving(self) -> Iterator[None]:
        """What the file does not allow is done without it; a damaged file is set aside."""
        try:
            yield
        except sqlite3.OperationalError as error:  # full, locked, read-only
            self._warn(f"{error}; titles are encoded anew")
        except sqlite3.ProgrammingError:
            raise  # ours
        except sqlite3.DatabaseError as error:
            self._warn(f"{error}; it is set aside and begun anew")
            with contextlib.suppress(OSError, sqlite3.Error):
                self._begin_anew()
        except OSError as error:
            self._warn(f"{error.strerror or error}; titles are encoded anew")

    def _begin_anew(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._file.replace(self._file.with_name(f"{self._file.name}.damaged"))
        for suffix in ("-wal", "-shm"):
            self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)
        self._connection = self._opened()

    def _warn(self, words: str) -> None:
        if not self._warned:
            self._say(f"the cache of title vectors {self._file}: {words}")
        self._warned = True


def _halved(vectors: FloatArray) -> np.ndarray:
    return vectors.astype(np.float16)


def _unit(halves: np.ndarray) -> FloatArray:
    """Rows (n, d) of float16 as float32, of length 1 again."""
    rows = halves.astype(np.float32)
    unit: FloatArray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
