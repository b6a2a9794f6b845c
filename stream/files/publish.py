"""Rows to records on the topics, produced at a chosen pace, counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from models.errors import BrokerUnavailable
from stream.contracts.topics import PRODUCTS, TopicNames
from stream.files.row_file import RowFile
from stream.files.rows import Clock, Row, event_rows, now_ms, product_rows
from stream.kafka.broker import ensure_topics, look
from stream.kafka.delivery import Record
from stream.kafka.topic_reader import silenced
from stream.settings import Settings

#: Between two calls of ``pace`` at most so many records or bytes are produced.
_STRIDE: Final = 256
_STRIDE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """A record and when it happened, for the replay's pace."""

    ts: int
    record: Record


def product_entries(
    rows: RowFile, names: TopicNames, clock: Clock = now_ms, undated: int | None = None
) -> Iterator[Entry]:
    """A catalogue's rows as records of ``products``; see ``stream.files.rows.product_rows``."""
    return (_entry(row, names) for row in product_rows(rows, clock, undated))


def event_entries(rows: RowFile, names: TopicNames, clock: Clock = now_ms) -> Iterator[Entry]:
    """A log's rows, each with a ``type``, as records of the shopper topics."""
    return (_entry(row, names) for row in event_rows(rows, clock))


def removals(item_ids: Iterable[str], names: TopicNames, clock: Clock = now_ms) -> Iterator[Entry]:
    """Tombstones of products."""
    for item_id in item_ids:
        yield Entry(clock(), Record(names.of(PRODUCTS), item_id.encode(), None))


def _entry(row: Row, names: TopicNames) -> Entry:
    return Entry(row.ts, Record(names.of(row.topic), row.key, row.value))


def replayed(
    speed: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Callable[[int], None]:
    """Waits until an entry of a ``ts`` is due: the log's own gaps, ``speed`` times as fast."""
    began: tuple[float, int] | None = None

    def wait(ts: int) -> None:
        nonlocal began
        if began is None:
            began = (clock(), ts)
        due = began[0] + (ts - began[1]) / 1000 / speed
        if (left := due - clock()) > 0:
            sleep(left)

    return wait


def at_rate(
    rate: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Callable[[int], None]:
    """Waits so that ``rate`` entries a second go out, whatever their ``ts``."""
    began: float | None = None
    count = 0

    def wait(_ts: int) -> None:
        nonlocal began, count
        began = clock() if began is None else began
        due = began + count / rate
        count += 1
        if (left := due - clock()) > 0:
            sleep(left)

    return wait


def require_topics(settings: Settings, *topics: str) -> None:
    """Creates what is missing only where one of ``topics`` is: a publisher may lack the right.

    Raises ``BrokerUnavailable``, ``MissingTopic``, ``UnequalPartitions``.
    """
    names = TopicNames(settings.topic_prefix, settings.group)
    if not {names.of(topic) for topic in topics} <= look(settings).counts.keys():
        ensure_topics(settings)


class Publisher:
    """An idempotent producer that counts deliveries; a full queue makes the caller wait.

    ``pace`` is called at least once every 256 records or 64 KiB, and returns when there is room
    for more: the embedded broker drops what its consumers are too slow for.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        pace: Callable[[], None] | None = None,
        queue: int = 10_000,
        timeout: float = 60.0,
    ) -> None:
        self.delivered = 0
        self._pace = pace
        self._timeout = timeout
        self._failure: KafkaError | None = None
        self._records = self._bytes = 0
        config = {
            **silenced(settings),
            "enable.idempotence": True,
            "partitioner": settings.partitioner,
            "linger.ms": 5,
            "queue.buffering.max.messages": queue,
            "message.timeout.ms": int(timeout * 1000),
        }
        self._producer = Producer(config)

    def publish(self, entries: Iterable[Entry], wait: Callable[[int], None] | None = None) -> int:
        """Produces all entries, in their order, each when ``wait`` returns; how many they were.

        Returns when the broker has every one. Raises ``BrokerUnavailable``.
        """
        count = 0
        try:
            for entry in entries:
                if wait is not None:
                    wait(entry.ts)
                self._produce(entry.record)
                count += 1
        finally:  # on Ctrl-C too: what was counted goes out
            left = 0 if self._failure else self._producer.flush(self._timeout + 5)
        self._check()
        if left:
            raise BrokerUnavailable(self._words(f"{left} records had no answer"))
        return count

    def _produce(self, record: Record) -> None:
        size = len(record.value or b"")
        if self._pace and (self._records >= _STRIDE or self._bytes + size > _STRIDE_BYTES):
            self._records = self._bytes = 0
            self._producer.flush(self._timeout)  # the lag must show them before it is asked for
            self._pace()
        self._records += 1
        self._bytes += size
        while True:
            self._check()
            try:
                self._producer.produce(
                    record.topic, record.value, record.key, on_delivery=self._on_delivery
                )
            except BufferError:  # backpressure, not failure
                self._producer.poll(0.1)
            except KafkaException as error:
                raise BrokerUnavailable(self._words(str(error))) from error
            else:
                self._producer.poll(0)
                return

    def _on_delivery(self, error: KafkaError | None, _message: Message) -> None:
        if error is None:
            self.delivered += 1
        elif self._failure is None:
            self._failure = error

    def _check(self) -> None:
        if self._failure is not None:
            raise BrokerUnavailable(self._words(self._failure.str()))

    def _words(self, reason: str) -> str:
        return (
            f"the broker stopped taking records after {self.delivered} ({reason}). Publish the "
            "file again when it is back: products and events with an event_id count once"
        )
