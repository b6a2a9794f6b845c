"""The intake: every record of a partition passes in the order of its offsets, or is accounted for.

A shopper's state keeps only the highest offset applied, which vouches for all before it. So a
gap between two offsets is never taken on trust: the records between are looked for with a
consumer of our own. One is there: the framework dropped it, and reading goes back to it. None
is there: compaction or a transaction's marker. The partition starts later: retention took
them, which is a loss, counted and said. Behind the last record that arrived no gap shows:
``stream.shoppers.stalls`` looks there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from models.errors import BrokerUnavailable

#: A partition of a topic: (topic, partition).
Partition = tuple[str, int]

#: After a rewind, records of the older fetch may still arrive; beyond this many seconds a record
#: that is not the one awaited means that the rewind was dropped as well.
_REWIND_PATIENCE: Final = 2.0

#: Seconds to say where partitions end; it is asked again.
_ENDS_WITHIN: Final = 3.0


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
    """Looks for records that did not arrive. Both raise ``BrokerUnavailable``."""

    def look(self, partition: Partition, first: int, before: int) -> Gap:
        """Reads the partition at ``first`` up to ``before``. Blocks."""

    def ends(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """The offset after the last one of each partition whose leader answers. Blocks.

        Before a transaction that is still open, where there is one.
        """


class OffsetWatch:
    """Knows the next offset of each partition; pure but for the clock that it is given."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        #: Counts the beginnings and ends of assignments: equal before and after a wait, nothing
        #: moved meanwhile.
        self.starts = 0
        self._clock = clock
        self._next: dict[Partition, int] = {}
        self._rewound: dict[Partition, float] = {}

    def start(self, partition: Partition, offset: int) -> None:
        """Reading (re)starts at ``offset``."""
        self.starts += 1
        self._next[partition] = offset
        self._rewound.pop(partition, None)

    def clear(self) -> None:
        """The partitions were revoked: whatever still arrives of them is skipped."""
        self.starts += 1
        self._next.clear()
        self._rewound.clear()

    def held(self) -> dict[Partition, int]:
        """The next offset of each partition that is read."""
        return dict(self._next)

    def see(self, partition: Partition, offset: int) -> Verdict:
        """Whether the record at ``offset`` follows on."""
        if partition not in self._next:
            return Verdict.SKIP  # of an assignment that ended
        expected = self._next[partition]
        if offset <= expected:
            if offset == expected:
                self._next[partition] = offset + 1
                self._rewound.pop(partition, None)
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
        self._client: dict[str, Any] = {**config, "log_level": 0, "error_cb": _ignored}
        self._admin: AdminClient | None = None  # made when it is first asked
        self._config = {
            **config,
            "group.id": "weft-gap-reader",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "isolation.level": "read_committed",  # as the events are read
        }
        self._timeout = timeout

    def ends(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """See ``GapReader``."""
        if self._admin is None:
            self._admin = AdminClient(self._client)
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        wanted = {TopicPartition(*partition): latest for partition in partitions}
        try:
            asked = self._admin.list_offsets(
                wanted,
                isolation_level=IsolationLevel.READ_COMMITTED,  # as below
                request_timeout=_ENDS_WITHIN,
            )
        except KafkaException as error:
            raise BrokerUnavailable(f"cannot see where topics end: {error}") from error
        found: dict[Partition, int] = {}
        for place, answer in asked.items():
            with contextlib.suppress(KafkaException, TimeoutError):  # no leader for now
                found[place.topic, place.partition] = answer.result(2 * _ENDS_WITHIN).offset
        return found

    def look(self, partition: Partition, first: int, before: int) -> Gap:
        """See ``GapReader``."""
        consumer = Consumer(self._config)
        try:
            low, _high = consumer.get_watermark_offsets(
                TopicPartition(*partition), timeout=self._timeout
            )
            start = max(first, low)
            lost = max(0, min(low, before) - first)
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


def _ignored(_error: KafkaError) -> None:
    """Whoever needs the broker says that it is away."""
