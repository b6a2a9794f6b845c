"""The intake: every record of a partition passes in the order of its offsets, or is accounted for.

A shopper's state keeps only the highest offset applied, which vouches for all before it. So a
gap between two offsets is never taken on trust: the records between are looked for with a
consumer of our own. One is there: the framework dropped it, and reading goes back to it. None
is there: compaction or a transaction's marker. The partition starts later: retention took
them, which is a loss, counted and said.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from models.errors import BrokerUnavailable

#: A partition of a topic: (topic, partition).
Partition = tuple[str, int]

#: After a rewind, records of the older fetch may still arrive; beyond this many seconds a record
#: that is not the one awaited means that the rewind was dropped as well.
_REWIND_PATIENCE: Final = 2.0


class Verdict(StrEnum):
    """What to do with a record that arrived."""

    TAKE = "take"
    SKIP = "skip"  # it comes again after the rewind
    CHECK = "check"  # records between the last one and this one are missing


@dataclass(frozen=True, slots=True)
class Gap:
    """What lies in a partition from ``first`` on, below the offset that arrived.

    ``record`` is the first offset that the framework dropped, None when none is there;
    ``lost`` counts offsets that retention took before they were read.
    """

    record: int | None
    lost: int


class GapReader(Protocol):
    """Looks for records that did not arrive."""

    def look(self, partition: Partition, first: int | None, before: int) -> Gap:
        """Reads the partition at ``first`` (None: at its start) up to ``before``. Blocks."""


class OffsetWatch:
    """Knows the next offset of each partition; pure but for the clock that it is given."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        #: Counts the beginnings and ends of assignments: equal before and after a wait, nothing
        #: moved meanwhile.
        self.starts = 0
        self._clock = clock
        self._next: dict[Partition, int | None] = {}
        self._rewound: dict[Partition, float] = {}

    def start(self, partition: Partition, offset: int | None) -> None:
        """Reading (re)starts at ``offset``; None: at the partition's start, wherever that is."""
        self.starts += 1
        self._next[partition] = offset
        self._rewound.pop(partition, None)

    def clear(self) -> None:
        """The partitions were revoked: whatever still arrives of them is skipped."""
        self.starts += 1
        self._next.clear()
        self._rewound.clear()

    def expected(self, partition: Partition) -> int | None:
        """The next offset; None: not known yet."""
        return self._next.get(partition)

    def see(self, partition: Partition, offset: int) -> Verdict:
        """Whether the record at ``offset`` follows on."""
        if partition not in self._next:
            return Verdict.SKIP  # of an assignment that ended
        expected = self._next[partition]
        if expected is not None and offset <= expected:
            if offset == expected:
                self._next[partition] = offset + 1
                self._rewound.pop(partition, None)
            return Verdict.TAKE
        if expected is None and offset == 0:
            self._next[partition] = 1
            return Verdict.TAKE
        rewound_at = self._rewound.get(partition)
        if rewound_at is not None and self._clock() - rewound_at < _REWIND_PATIENCE:
            return Verdict.SKIP
        return Verdict.CHECK

    def rewound(self, partition: Partition, offset: int) -> None:
        """Reading goes back to ``offset``; what comes before it arrives is skipped."""
        self._next[partition] = offset
        self._rewound[partition] = self._clock()

    def accept(self, partition: Partition, offset: int) -> None:
        """Nothing is missing before ``offset``, which is taken now."""
        self._next[partition] = offset + 1
        self._rewound.pop(partition, None)


class KafkaGapReader:
    """Looks for missing records with a consumer outside every group."""

    def __init__(self, config: dict[str, str | int | float | bool], timeout: float = 10.0) -> None:
        self._config = {
            **config,
            "group.id": "weft-gap-reader",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "isolation.level": "read_uncommitted",  # as Faust's consumer reads
        }
        self._timeout = timeout

    def look(self, partition: Partition, first: int | None, before: int) -> Gap:
        """See ``GapReader``. Raises ``BrokerUnavailable`` when the broker does not answer."""
        consumer = Consumer(self._config)
        try:
            low, _high = consumer.get_watermark_offsets(
                TopicPartition(*partition), timeout=self._timeout
            )
            start = low if first is None else max(first, low)
            lost = 0 if first is None else max(0, min(low, before) - first)
            if start >= before:
                return Gap(None, lost)
            consumer.assign([TopicPartition(*partition, start)])
            return Gap(self._first_record(consumer, before), lost)
        except KafkaException as error:
            raise BrokerUnavailable(f"cannot check a gap in {partition}: {error}") from error
        finally:
            consumer.close()

    def _first_record(self, consumer: Consumer, before: int) -> int | None:
        end = time.monotonic() + self._timeout
        while time.monotonic() < end:
            message = consumer.poll(0.2)
            if message is None:
                continue
            if (error := message.error()) is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    return None
                raise KafkaException(error)
            offset = message.offset()
            return offset if offset is not None and offset < before else None
        raise BrokerUnavailable("the broker did not answer in time while checking a gap")
