"""Files that an import writes: compressed lines, in a folder that is there whole or not at all."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import orjson

from models.atomic_folder import exclusive, replacing
from models.errors import InvalidFile, MissingWeights
from stream.contracts.fields import Json

EVENTS: Final = "events.jsonl.gz"
CATALOG: Final = "catalog.jsonl.gz"
REPORT: Final = "import.json"
_LEVEL: Final = 3  # of gzip: a third of the time of its default, a tenth more bytes
_STRIDE: Final = 1024


class Lines:
    """A new .jsonl.gz file; the same rows give the same bytes. Use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._raw = path.open("xb")
        self._file = gzip.GzipFile("", "wb", _LEVEL, self._raw, mtime=0)
        self._held: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._flush()
            self._file.close()
        finally:
            self._raw.close()

    def write(self, row: Json) -> None:
        """Adds one row."""
        self.count += 1
        self._held.append(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        if len(self._held) >= _STRIDE:
            self._flush()

    def _flush(self) -> None:
        self._file.write(b"".join(self._held))
        self._held.clear()


@contextmanager
def fresh(out: Path, say: Callable[[str], None]) -> Iterator[Path]:
    """An empty folder that becomes ``out``, at once, if the body ends well.

    An earlier import that is there gives way. Raises ``InvalidFile`` where ``out`` holds anything
    else, or the disk refuses.
    """
    out = out.resolve()
    try:
        others = {path.name for path in out.iterdir()} if out.exists() else set()
    except OSError as error:
        raise InvalidFile(f"{out} is no folder that can be used: {error.strerror}") from error
    if others - {EVENTS, CATALOG, REPORT}:
        raise InvalidFile(f"{out} holds other files: name a new folder, or an earlier import's")
    try:
        with exclusive(out, say), replacing(out) as folder:
            yield folder
    except MissingWeights as error:  # as folders of models say that the disk refused
        cause = error.__cause__
        words = cause.strerror if isinstance(cause, OSError) else None
        raise InvalidFile(f"cannot write {out}: {words or error}") from error
