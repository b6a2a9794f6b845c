"""Rows from a file: JSON Lines, CSV with a header (both plain or .gz) or Parquet, as a stream.

A row that cannot be read is set aside, counted and shown at the end; a file that cannot be read
at all is ``InvalidFile``. Memory is bounded by one line of at most 1 MiB, or by a few thousand
rows and a page a column of a Parquet file. A column map (``stream.files.columns``) names the
fields.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from models.errors import InvalidFile
from stream.contracts.fields import Flag, Json, Object, Text
from stream.files.columns import Columns, require
from stream.files.parquet import PARQUET, ParquetRows

if TYPE_CHECKING:
    from _csv import Reader

_LINE: Final = 1 << 20
_SHOWN: Final = 5
_FLAGS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_OTHERS: Final = {
    b"PK\x03\x04": "a ZIP archive: unpack it first",
    b"\xff\xfe": "UTF-16: write it as UTF-8, e.g. iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff": "UTF-16: write it as UTF-8, e.g. iconv -f UTF-16 -t UTF-8",
    b"[": "one JSON array: write an object a line, e.g. jq -c '.[]'",
    b"\x1f\x8b": "compressed twice: unpack it once",
    b"(\xb5/\xfd": "Zstandard: unpack it first, e.g. unzstd",
}


@dataclass(slots=True)
class Aside:
    """The rows that were not usable: how many, and the first few in words."""

    path: Path
    strict: bool = False
    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, line: int, words: str) -> None:
        """Counts one. Raises ``InvalidFile`` when strict."""
        if self.strict:
            raise InvalidFile(
                f"{self.path}, line {line}: {words}. Mend it, or leave out --strict to set such "
                "rows aside"
            )
        self.count += 1
        if len(self.first) < _SHOWN:
            self.first.append(f"line {line}: {words}")


def json_value(line: bytes) -> Any:
    """A line's JSON. Raises ``ValueError`` in words."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None


@dataclass(frozen=True, slots=True)
class Shape:
    """What a file that others publish looks like, where that differs from Weft's own.

    ``header``: the columns of CSV without a first line of names; ``needs``: columns that CSV and
    Parquet must have; ``parse``: a line's object where it is not JSON, ``ValueError`` if it is not.
    """

    header: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    parse: Callable[[bytes], Any] = json_value


_PLAIN: Final = Shape()


class RowFile:
    """An open file of rows; iterating yields (line number, row). Use it as a context manager.

    ``texts`` is true for CSV, where every value is text: ``typed`` gives them their types.
    ``columns`` maps the file's columns to fields. Raises ``InvalidFile``.
    """

    def __init__(
        self,
        path: Path,
        strict: bool = False,
        columns: Columns | None = None,
        shape: Shape = _PLAIN,
    ) -> None:
        self.aside = Aside(path, strict)
        self._path = path
        self._columns = columns
        self._shape = shape
        try:
            if path.is_dir():
                raise InvalidFile(f"{path} is a folder: name one of its files")
            self._raw = path.open("rb")
        except OSError as error:
            raise InvalidFile(f"cannot read {path}: {error.strerror}") from error
        self.size = path.stat().st_size
        self._lines: io.BufferedReader | gzip.GzipFile = self._raw
        self._parquet: ParquetRows | None = None
        try:
            start = self._peek()
            if start.startswith(b"\x1f\x8b"):
                self._lines = gzip.GzipFile(fileobj=self._raw)
                start = self._peek()
                if start.startswith(PARQUET):
                    raise InvalidFile(f"{path} is a Parquet file in gzip: unpack it first")
            elif start.startswith(PARQUET):
                self._parquet = ParquetRows(path, self._raw)
            self.texts = self._parquet is None and self._is_csv(start)
        except InvalidFile:
            self._raw.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._raw.close()

    @property
    def position(self) -> int:
        """Bytes of the file that were read, of ``size``; compressed ones where it is compressed."""
        if self._parquet is not None:
            return int(self.size * self._parquet.share)
        return 0 if self._raw.closed else self._raw.tell()

    def __iter__(self) -> Iterator[tuple[int, Json]]:
        if self._parquet is not None:
            rows = self._parquet.rows(self.aside.add)
            return self._mapped(rows, self._parquet.names, self._parquet.timed)
        if self.texts:
            return self._csv()
        return self._json() if self._columns is None else self._mapped(self._json(), None, ())

    def _mapped(
        self, rows: Iterator[tuple[int, Json]], names: list[str] | None, timed: Collection[str]
    ) -> Iterator[tuple[int, Json]]:
        """The rows with the column map's fields; says which columns are missing."""
        if names is not None:
            require(self._shape.needs, names, self._path)
        if self._columns is None:
            yield from rows
            return
        mapper = self._columns.mapper(names, timed, self._path)
        first = names is None
        for number, row in rows:
            if first:
                self._columns.look(row, self._path)
                first = False
            try:
                yield number, mapper(row)
            except ValueError as error:
                self.aside.add(number, str(error))

    def _json(self) -> Iterator[tuple[int, Json]]:
        parse = self._shape.parse
        for number, line in self._numbered():
            if not line.strip():
                continue
            try:
                row = parse(line)
            except ValueError as error:
                self.aside.add(number, str(error))
                continue
            if isinstance(row, dict):
                yield number, row
            else:
                self.aside.add(number, "not a JSON object")

    def _csv(self) -> Iterator[tuple[int, Json]]:
        # Bytes that are not UTF-8 become surrogates, so that one bad row does not end the file.
        texts = (line.decode("utf-8", "surrogateescape") for _, line in self._numbered())
        reader = csv.reader(texts)
        header = list(self._shape.header) or self._header(reader)
        return self._mapped(self._cells(reader, header), header, ())

    def _cells(self, reader: Reader, header: list[str]) -> Iterator[tuple[int, Json]]:
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self.aside.add(reader.line_num, f"not CSV: {error}")
                continue
            if not cells:
                continue
            if len(cells) != len(header):
                words = f"{len(cells)} cells, but the header has {len(header)}"
                self.aside.add(reader.line_num, words)
            elif not (joined := "".join(cells)).isascii() and _has_surrogates(joined):
                self.aside.add(reader.line_num, "not UTF-8")
            else:
                yield reader.line_num, dict(zip(header, cells, strict=True))

    def _header(self, reader: Reader) -> list[str]:
        try:
            header = [name.strip() for name in next(reader, [])]
        except csv.Error as error:
            raise InvalidFile(f"{self._path}, its first line: not CSV: {error}") from error
        if any(map(_has_surrogates, header)):
            raise InvalidFile(f"{self._path}: its first line is not UTF-8")
        if not all(header) or len(set(header)) < len(header) or not header:
            raise InvalidFile(
                f"{self._path}: the first line must name each column once, e.g. item_id,title,ts"
            )
        return header

    def _numbered(self) -> Iterator[tuple[int, bytes]]:
        """Lines with their numbers; one of over 1 MiB is skipped and counted."""
        number = 0
        while line := self._read():
            number += 1
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if len(line) <= _LINE:
                yield number, line
                continue
            while line and not line.endswith(b"\n"):
                line = self._read()
            self.aside.add(number, "longer than 1 MiB")

    def _read(self) -> bytes:
        return self._guarded(lambda: self._lines.readline(_LINE + 1))

    def _is_csv(self, start: bytes) -> bool:
        """By what the file begins with, then by its name."""
        start = start.removeprefix(b"\xef\xbb\xbf").lstrip()
        for mark, words in _OTHERS.items():
            if start.startswith(mark):
                raise InvalidFile(f"{self._path} is {words}")
        named_csv = ".csv" in [suffix.lower() for suffix in self._path.suffixes]
        return named_csv and not start.startswith(b"{")

    def _peek(self) -> bytes:
        return self._guarded(lambda: self._lines.peek(64))

    def _guarded(self, read: Callable[[], bytes]) -> bytes:
        try:
            return read()
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InvalidFile(f"{self._path} is damaged or cut short: {error}") from error
        except OSError as error:
            raise InvalidFile(f"cannot read {self._path}: {error.strerror}") from error


def typed(row: Json, shape: Object) -> Json:
    """A CSV row with the types that ``shape`` declares; an empty optional cell is absent.

    What does not read as its type stays text, for the contract to refuse it in words.
    """
    result: Json = {}
    for entry in shape.fields:
        cell = row.get(entry.name)
        if cell is None or (cell == "" and not entry.required):
            continue
        done = isinstance(entry.kind, Text) or type(cell) is not str  # a column map read it
        result[entry.name] = cell if done else _read(cell, entry.kind)
    return result


def _read(cell: str, kind: object) -> Any:
    if isinstance(kind, Flag) and cell.strip().lower() in _FLAGS:
        return _FLAGS[cell.strip().lower()]
    try:
        return orjson.loads(cell)
    except orjson.JSONDecodeError:
        return cell


def _has_surrogates(text: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in text)
