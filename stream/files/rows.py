"""A file's row as a checked record: one way for all that read files.

So ``weft events publish``, ``weft catalog publish``, ``weft train``, ``weft replay`` and ``weft
import`` take the same rows, and refuse the others in the same words.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from models.errors import BadMessage, InvalidField
from stream.contracts.codec import encode_row
from stream.contracts.declaration import CONTRACTS
from stream.contracts.fields import Json
from stream.contracts.topics import PRODUCTS, TOPIC_OF_TYPE
from stream.files.row_file import RowFile, typed

Clock = Callable[[], int]
"""Now, in epoch milliseconds."""


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """What a topic takes of a row: ``fields`` are the declared ones, each of its type.

    ``topic`` is the plain name; ``key`` and ``value`` are the record's.
    """

    topic: str
    fields: Json
    key: bytes
    value: bytes

    @property
    def ts(self) -> int:
        """When it happened, epoch milliseconds."""
        ts: int = self.fields["ts"]
        return ts


def event_row(row: Json, now: int, *, texts: bool = False) -> Row:
    """A row of a log by its ``type``; ``texts``: every value is text, as in CSV.

    Raises ``BadMessage`` where the topic's contract refuses it at ``now`` (epoch ms).
    """
    told = row.get("type")
    topic = TOPIC_OF_TYPE.get(told) if isinstance(told, str) else None
    if topic is None:
        raise InvalidField(f"type must be one of {', '.join(TOPIC_OF_TYPE)}")
    return _checked(topic, row, now, texts=texts)


def product_row(row: Json, now: int, undated: int, *, texts: bool = False) -> Row:
    """A row of a catalogue; without a ``ts`` it is ``undated``. As ``event_row``."""
    if row.get("ts") in (None, ""):
        row = {**row, "ts": undated}
    return _checked(PRODUCTS, row, now, texts=texts)


def event_rows(rows: RowFile, clock: Clock = now_ms) -> Iterator[Row]:
    """A log's rows; those that cannot be used are set aside."""
    for line, row in rows:
        try:
            checked = event_row(row, clock(), texts=rows.texts)
        except BadMessage as error:
            rows.aside.add(line, str(error))
        else:
            yield checked


def product_rows(rows: RowFile, clock: Clock = now_ms, undated: int | None = None) -> Iterator[Row]:
    """A catalogue's rows, as ``event_rows``; without ``undated`` it is the time of reading."""
    for line, row in rows:
        now = clock()
        try:
            checked = product_row(row, now, now if undated is None else undated, texts=rows.texts)
        except BadMessage as error:
            rows.aside.add(line, str(error))
        else:
            yield checked


def _checked(topic: str, row: Json, now: int, *, texts: bool) -> Row:
    shape = CONTRACTS[topic].value
    if texts and shape is not None:
        row = typed(row, shape)
    return Row(topic, *encode_row(topic, row, now))
