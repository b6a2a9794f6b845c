"""Reads the dead-letters topic, and sends what lies there back to where it came from.

A record without a known source is shown as it is, and never sent: anybody may write to a topic.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import KafkaException, Message, TopicPartition

from stream.contracts.codec import ATTEMPTS
from stream.contracts.topics import DEAD_LETTERS, SOURCES, TopicNames
from stream.kafka.delivery import Delivery, Record
from stream.kafka.topic_reader import PATIENCE, TopicReader
from stream.kafka.watermarks import bounds_of
from stream.settings import Settings

#: Records, and bytes of them, that are sent at once.
_BATCH: Final = 256
_BATCH_BYTES: Final = 1 << 20

Place = tuple[int, int]
"""Partition and offset on the dead-letters topic."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter; what its headers say is "" where they say nothing.

    ``ts``: when it died, by the broker, epoch ms; ``topic``: the source's name on the broker.
    """

    place: Place
    ts: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()

    def header(self, name: str) -> str:
        """The newest header of that name, as text."""
        found = [value for each, value in self.headers if each == name]
        return found[-1].decode(errors="replace") if found else ""

    @property
    def topic(self) -> str:
        """Where the record lay, by the broker's name."""
        return self.header("weft-topic")

    @property
    def error(self) -> str:
        """The error's name."""
        return self.header("weft-error")

    @property
    def attempts(self) -> int:
        """How often it was tried: 1 for those of a release that did not count."""
        told = self.header(ATTEMPTS)
        return int(told) if told.isascii() and told.isdigit() and len(told) <= 4 else 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters: all, or by error's name, source (plain name) and age (epoch ms)."""

    error: str | None = None
    topic: str | None = None
    since: int | None = None

    def has(self, letter: Letter, names: TopicNames) -> bool:
        """Whether the letter is one of them."""
        return (
            self.error in (None, letter.error)
            and (self.topic is None or names.of(self.topic) == letter.topic)
            and (self.since is None or letter.ts >= self.since)
        )


@dataclass(slots=True)
class Tally:
    """Letters by (source, error): how many, and when the first and the last died, epoch ms."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    spans: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def add(self, letter: Letter) -> None:
        """Counts one in."""
        kind = letter.topic, letter.error
        first, last = self.spans.get(kind, (letter.ts, letter.ts))
        self.counts[kind] += 1
        self.spans[kind] = min(first, letter.ts), max(last, letter.ts)


class LetterReader(TopicReader):
    """Reads what lies on the topic when it is opened, and no more: replay may add to it."""

    def __init__(self, settings: Settings) -> None:
        client = {"group.id": "weft-dlq", "fetch.message.max.bytes": 4 << 20}
        super().__init__(settings, DEAD_LETTERS, client)
        self.names = TopicNames(settings.topic_prefix)
        self.bounds = {partition: self._bounds(partition) for partition in range(self.partitions)}

    def letters(self, wanted: Wanted = Wanted()) -> Iterator[Letter]:
        """Those wanted, each partition's in its order. May be asked again."""
        starts = {p: low for p, (low, end) in self.bounds.items() if low < end}
        for letter in self._read(starts):
            if wanted.has(letter, self.names):
                yield letter

    def one(self, place: Place) -> Letter | None:
        """The letter at a place; None where there is none (any more)."""
        partition, offset = place
        low, end = self.bounds.get(partition, (0, 0))
        if not low <= offset < end:
            return None
        found = next(self._read({partition: offset}), None)
        return found if found is not None and found.place == place else None

    def before(self, ts: int) -> dict[int, int]:
        """By partition the offset of the first letter that is not older than ``ts`` (epoch ms)."""
        asked = [TopicPartition(self.topic, partition, ts) for partition in self.bounds]
        try:
            found = self._consumer.offsets_for_times(asked, timeout=PATIENCE)
        except KafkaException as error:
            raise self._unavailable(str(error)) from error
        ends = {partition: end for partition, (_, end) in self.bounds.items()}
        return {
            p.partition: p.offset if p.offset >= 0 else ends[p.partition]  # -1: none is so young
            for p in found
        }

    def _read(self, starts: Mapping[int, int]) -> Iterator[Letter]:
        self.begin(starts)
        for message in self.to_the_end():
            partition, offset = message.partition() or 0, message.offset() or 0
            if partition not in self._unread:
                continue
            end = self.bounds[partition][1]
            if offset + 1 >= end:
                self._unread.discard(partition)
            if offset < end:
                yield _letter(message, (partition, offset))

    def _bounds(self, partition: int) -> tuple[int, int]:
        place = TopicPartition(self.topic, partition)
        try:
            return bounds_of(self._consumer, place, 10.0)
        except KafkaException as error:
            raise self._unavailable(str(error)) from error


def newest(letters: Iterable[Letter], limit: int) -> list[Letter]:
    """The ``limit`` that died last, the newest first."""
    return heapq.nlargest(limit, letters, key=lambda letter: (letter.ts, letter.place))


@dataclass(slots=True)
class Replayed:
    """How a replay went."""

    sent: int = 0
    worn_out: int = 0  # tried too often already
    unknown: int = 0  # their headers name no source of this shop

    def kind_of(self, letter: Letter, names: TopicNames, most: int) -> str:
        """The name of the count that the letter belongs to."""
        if letter.topic not in map(names.of, SOURCES):
            return "unknown"
        return "worn_out" if letter.attempts >= most else "sent"

    def add(self, kind: str, count: int = 1) -> None:
        """Counts."""
        setattr(self, kind, getattr(self, kind) + count)


def sorted_out(letters: Iterable[Letter], names: TopicNames, most: int) -> Replayed:
    """What a replay of these would do; ``most`` attempts are allowed."""
    result = Replayed()
    for letter in letters:
        result.add(result.kind_of(letter, names, most))
    return result


def replay(
    letters: Iterable[Letter],
    delivery: Delivery,
    names: TopicNames,
    most: int,
    result: Replayed | None = None,
) -> Replayed:
    """Sends the letters' bytes with their keys to their sources, in the order given.

    One that was tried ``most`` times stays. A header counts the attempts, so that one that dies
    again says so. Adds to ``result`` as it goes: after ``BrokerUnavailable`` or ``Fatal`` it says
    what was sent for certain.
    """
    result = Replayed() if result is None else result
    batch: list[Record] = []
    size = 0
    for letter in letters:
        kind = result.kind_of(letter, names, most)
        if kind != "sent":
            result.add(kind)
            continue
        headers = [(ATTEMPTS, str(letter.attempts).encode())]
        batch.append(Record(letter.topic, letter.key, letter.value, -1, headers))
        size += len(letter.value or b"")
        if len(batch) >= _BATCH or size >= _BATCH_BYTES:
            delivery.deliver(batch)
            result.add("sent", len(batch))
            batch, size = [], 0
    if batch:
        delivery.deliver(batch)
        result.add("sent", len(batch))
    return result


def escaped(data: bytes | None, most: int) -> str:
    """At most ``most`` bytes as text on one line, in which nothing speaks to a terminal.

    What is not printable (control characters, marks of direction, zero-width ones) and bytes that
    are not UTF-8 stand as escapes; a backslash of the data's own is doubled.
    """
    if data is None:
        return "(null)"
    text = data[:most].replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
    left = len(data) - most
    return f"{shown} … and {left} bytes more" if left > 0 else shown


def _letter(message: Message, place: Place) -> Letter:
    told: Any = message.headers() or ()
    headers = tuple((name, value or b"") for name, value in told)
    return Letter(place, message.timestamp()[1], message.key(), message.value(), headers)
