"""Working stand-ins for what is outside, for tests and experiments: no broker needed."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from models.errors import BrokerUnavailable
from stream.kafka.delivery import Record


class MemoryDelivery:
    """Delivery into a list. ``failures`` > 0 makes that many next calls raise, half done.

    While ``held`` is cleared, a delivery waits: as a slow broker would make it.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.failures = 0
        self.closed = False
        self.held = threading.Event()
        self.held.set()

    def deliver(self, records: Sequence[Record]) -> None:
        """See ``Delivery``; a failing call leaves the first half of the records."""
        self.held.wait()
        if self.failures > 0:
            self.failures -= 1
            self.records.extend(records[: len(records) // 2])
            raise BrokerUnavailable("the fake broker was told to fail")
        self.records.extend(records)

    def close(self) -> None:
        """Nothing is left to send."""
        self.closed = True

    def newest(self, topic: str) -> dict[bytes | None, bytes | None]:
        """The newest value of each key, as a subscriber of ``topic`` holds it."""
        return {record.key: record.value for record in self.records if record.topic == topic}
