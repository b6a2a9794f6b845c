"""The newest state of every shopper, read back from the changelog when partitions arrive.

Faust's own recovery loses records when one rebalance overtakes another (docs/log.md), and a
state that goes back in time loses events for good. So the changelog is read here, by a consumer
of our own, from where it was left to its end, before the first event of the partition is taken.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from models.errors import BrokerUnavailable, Fatal, UnsafeChangelog
from stream.kafka.delivery import HOPELESS
from stream.kafka.watermarks import bounds_of

_log = logging.getLogger("weft.changelog")

_READ: Final = 5_000  # records a call
_TIMEOUT: Final = 30.0  # seconds without a record until the broker counts as gone


@dataclass(frozen=True, slots=True)
class Read:
    """What was read of each partition: the newest record of each key, and where reading ended."""

    states: Mapping[int, dict[bytes, bytes]]
    positions: Mapping[int, int]


@dataclass(slots=True)
class Changelog:
    """Reads the changelog of the partitions that are held; keeps the place in each.

    ``begins`` is the offset before which records may have been deleted; None: any may.
    """

    config: Mapping[str, str | int | float | bool]
    topic: str
    begins: int | None = 0
    positions: dict[int, int] = field(default_factory=dict)

    def check_whole(self, partitions: Collection[int], timeout: float = _TIMEOUT) -> None:
        """Raises ``UnsafeChangelog`` where records were deleted that were not read yet.

        Compaction never moves a partition's first offset: it is over 0 only where the broker was
        told to delete, which it does without a look at what is newest. Blocks; raises
        ``BrokerUnavailable``.
        """
        with self._consumer() as consumer:
            self._check_whole(consumer, partitions, timeout)

    def read(self, partitions: Collection[int]) -> Read:
        """Reads each of ``partitions`` from the place kept, else its start, to its end.

        Blocks. Raises ``BrokerUnavailable``, and ``UnsafeChangelog`` as ``check_whole``. Changes
        nothing here: see ``restored``.
        """
        with self._consumer() as consumer:
            self._check_whole(consumer, partitions, _TIMEOUT)
            places = [TopicPartition(self.topic, p, self.positions.get(p, 0)) for p in partitions]
            consumer.assign(places)
            return _to_the_end(consumer, {place.partition: place.offset for place in places})

    @contextlib.contextmanager
    def _consumer(self) -> Iterator[Consumer]:
        consumer = Consumer(
            {
                **self.config,
                "group.id": "weft-changelog-reader",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",  # compaction may have taken the place kept
                "enable.partition.eof": True,
                "isolation.level": "read_committed",  # nothing that a fenced worker left open
                "logger": logging.getLogger("weft.librdkafka"),
            }
        )
        try:
            yield consumer
        except KafkaException as error:
            if error.args[0].code() in HOPELESS:
                raise Fatal(f"the changelog {self.topic} cannot be read: {error}") from error
            raise BrokerUnavailable(f"cannot read the changelog {self.topic}: {error}") from error
        finally:
            consumer.close()

    def _check_whole(self, consumer: Consumer, partitions: Collection[int], timeout: float) -> None:
        if self.begins is None:
            return
        gone = {}
        for partition in partitions:
            start, _ = bounds_of(consumer, TopicPartition(self.topic, partition), timeout)
            if start > max(self.begins, self.positions.get(partition, 0)):
                gone[partition] = start
        if gone:
            told = ", ".join(f"{start} of partition {p}" for p, start in sorted(gone.items()))
            raise UnsafeChangelog(
                f"the first records of the changelog {self.topic} were deleted ({told}), and "
                "shoppers' states with them. Start with another WEFT_GROUP, which makes the states "
                "anew from the events that are still there, or set "
                f"WEFT_CHANGELOG_START={max(gone.values())} to go on without them"
            )

    def restored(self, read: Read) -> None:
        """The states of ``read`` are taken over: the next reading goes on behind them."""
        self.positions = dict(read.positions)


def _to_the_end(consumer: Consumer, positions: dict[int, int]) -> Read:
    states: dict[int, dict[bytes, bytes]] = {partition: {} for partition in positions}
    unread = set(positions)
    quiet_until = time.monotonic() + _TIMEOUT
    while unread:
        for message in consumer.consume(_READ, 0.2):
            partition, offset = message.partition(), message.offset()
            assert partition is not None
            assert offset is not None
            error = message.error()
            if error is None:
                key, value = message.key(), message.value()
                if isinstance(key, bytes) and isinstance(value, bytes):
                    states[partition][key] = value
                positions[partition] = offset + 1
                quiet_until = time.monotonic() + _TIMEOUT
            elif error.code() == KafkaError._PARTITION_EOF:
                positions[partition] = max(offset, positions[partition])
                unread.discard(partition)
            elif error.fatal() or not error.retriable():
                raise KafkaException(error)
        if time.monotonic() > quiet_until:
            raise BrokerUnavailable(f"the changelog's end did not come in {_TIMEOUT:.0f} s")
    return Read(states, positions)
