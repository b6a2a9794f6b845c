"""Rows of a Parquet file, a few thousand at a time, as JSON's types; pyarrow is imported late.

A column of timestamps or dates becomes epoch milliseconds (without a zone: taken for UTC), and one
of decimals numbers: the file says itself what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

from models.errors import InvalidFile
from stream.contracts.fields import Json

#: What a Parquet file begins with.
PARQUET: Final = b"PAR1"
_ROWS: Final = 4096
_PAGE: Final = 1 << 20

SetAside = Callable[[int, str], None]


class ParquetRows:
    """An open Parquet file. ``names``: its columns; ``timed``: those that hold times.

    Raises ``InvalidFile`` where pyarrow is missing or the file is damaged.
    """

    def __init__(self, path: Path, opened: IO[bytes]) -> None:
        self._path = path
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError as error:
            raise InvalidFile(
                f"{path} is a Parquet file, and what reads them is not here: "
                "pip install 'weft[parquet]'"
            ) from error
        self._arrow: Any = pyarrow
        self._damage = (pyarrow.ArrowException, OSError, ValueError, OverflowError)
        try:
            # Pages as they come: a file may be one row group of more than the memory.
            self._file = parquet.ParquetFile(opened, buffer_size=_PAGE, pre_buffer=False)
            schema = self._file.schema_arrow
        except self._damage as error:
            raise self._damaged(error) from error
        types = pyarrow.types
        self.names: list[str] = list(schema.names)
        self.timed = frozenset(
            field.name
            for field in schema
            if types.is_timestamp(field.type) or types.is_date(field.type)
        )
        self._done = 0

    @property
    def share(self) -> float:
        """How much of the rows was read, 0 to 1."""
        total = self._file.metadata.num_rows
        return self._done / total if total else 1.0

    def rows(self, aside: SetAside) -> Iterator[tuple[int, Json]]:
        """Each row with its number from 1; ``aside`` hears of those that hold no valid text."""
        self._done = 0
        try:
            for batch in self._file.iter_batches(batch_size=_ROWS, use_threads=False):
                plain = self._plain(batch)
                yield from self._numbered(plain, aside)
                self._done += batch.num_rows
        except self._damage as error:
            raise self._damaged(error) from error

    def _numbered(self, batch: Any, aside: SetAside) -> Iterator[tuple[int, Json]]:
        try:
            yield from enumerate(batch.to_pylist(maps_as_pydicts="lossy"), self._done + 1)
            return
        except UnicodeDecodeError:
            pass  # nothing was yielded: the list is made whole
        for at in range(batch.num_rows):
            try:
                (row,) = batch.slice(at, 1).to_pylist(maps_as_pydicts="lossy")
            except UnicodeDecodeError:
                aside(self._done + at + 1, "not UTF-8")
            else:
                yield self._done + at + 1, row

    def _plain(self, batch: Any) -> Any:
        """The same rows with columns of JSON's types where Arrow has others of one meaning."""
        arrow, types = self._arrow, self._arrow.types
        columns = []
        for column in batch.columns:
            kind = column.type
            if types.is_dictionary(kind):
                column = column.dictionary_decode()
                kind = column.type
            if types.is_timestamp(kind) or types.is_date(kind):
                zone = kind.tz if types.is_timestamp(kind) else None
                column = column.cast(arrow.timestamp("ms", zone), safe=False).cast(arrow.int64())
            elif types.is_decimal(kind):
                column = column.cast(arrow.float64(), safe=False)
            elif types.is_binary(kind) or types.is_large_binary(kind):
                # Old writers store text as bytes; what is none is found when it is decoded.
                column = column.view(
                    arrow.string() if types.is_binary(kind) else arrow.large_string()
                )
            columns.append(column)
        return arrow.RecordBatch.from_arrays(columns, names=batch.schema.names)

    def _damaged(self, error: Exception) -> InvalidFile:
        return InvalidFile(f"{self._path} is damaged or no Parquet file: {error}")
