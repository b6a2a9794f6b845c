"""The broker: one inside the process, or a real one whose topics are created and checked."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from confluent_kafka import Producer


class EmbeddedBroker:
    """librdkafka's in-process cluster, at a loopback address that any Kafka client can use.

    A topic appears on first use, with 4 partitions. A partition keeps its newest 5 MB or 100,000
    records and drops older ones without a word, so publishers must wait for consumers. Nothing
    is compacted, nothing survives the process.
    """

    def __init__(self) -> None:
        self._producer: Producer | None = None
        self.bootstrap = ""

    def __enter__(self) -> Self:
        from confluent_kafka import Producer

        config = {"bootstrap.servers": "127.0.0.1:1", "test.mock.num.brokers": 1, "log_level": 0}
        self._producer = Producer(config)
        brokers = self._producer.list_topics(timeout=10).brokers.values()
        self.bootstrap = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._producer = None  # the cluster lives as long as this handle
        self.bootstrap = ""
