"""Following a topic: reading it, knowing its ends, and what the errors mean.

``stream.catalogue.followers`` says where the place in it is kept.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from models.errors import BrokerUnavailable, Fatal, InvalidSettings, MissingTopic
from stream.catalogue.processor import Product
from stream.contracts.codec import attempts_in

Config = Mapping[str, str | int | float | bool]

TIMEOUT: Final = 3.0  # seconds for a question to the broker; then it is asked again
_GATHER: Final = 0.002  # seconds for more records after the first one
_CONSUMER: Final = {
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",
    "enable.partition.eof": True,  # says that a partition's end is reached, markers included
    "fetch.wait.max.ms": 500,  # a broker answers as soon as it has something
    "fetch.error.backoff.ms": 50,
    "queued.max.messages.kbytes": 16_384,
}
#: For the embedded broker, which answers only when that time is over.
EMBEDDED: Final[Mapping[str, int]] = {"fetch.wait.max.ms": 10}
_HOPELESS: Final = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError._AUTHENTICATION,
)


@dataclass(frozen=True, slots=True)
class Batch:
    """Records as they came, and the partitions whose end they reach, with its offset."""

    products: Sequence[Product] = ()
    ends: Mapping[int, int] | None = None


class Follower(ABC):
    """What both ways share. For one thread."""

    def __init__(self, config: Config, topic: str) -> None:
        self._topic = topic
        self._config = config
        self._complaint = ""
        self._consumer = self._connected()
        self._next: dict[int, int] = {}  # by partition the first offset that is not done
        self._behind: set[int] = set()  # partitions whose end was not reached since the start
        self._assigned = False

    @abstractmethod
    def open(self) -> None:
        """Finds the place to go on from. Raises ``BrokerUnavailable``, ``MissingTopic``."""

    def read(self, limit: int, timeout: float) -> Batch:
        """The records that are there, at most ``limit``; waits ``timeout`` seconds for one."""
        first = self._consumer.poll(timeout)
        if first is None:
            return Batch()
        products: list[Product] = []
        ends: dict[int, int] = {}
        for message in (first, *self._consumer.consume(max(limit - 1, 1), _GATHER)):
            self._sort(message, products, ends)
        return Batch(products, ends)

    def done(self, batch: Batch) -> None:
        """The index holds these."""
        reached = {product.partition: product.offset + 1 for product in batch.products}
        for partition, offset in [*reached.items(), *(batch.ends or {}).items()]:
            if self._follows(partition):
                self._next[partition] = max(offset, self._next.get(partition, 0))
        self._behind.difference_update(batch.ends or ())

    def settle(self, *, now: bool = False) -> None:  # noqa: B027 - a group commits by itself
        """Keeps the place if that is due, or ``now``."""

    def rest(self) -> None:  # noqa: B027 - only a group must be shown that one is alive
        """Between two tries of the same batch: shows the group that this one is alive."""

    def close(self) -> None:
        """Leaves the topic."""
        self._consumer.close()

    @property
    def caught_up(self) -> bool:
        """Whether every partition followed has been read to its end since the start."""
        return self._assigned and not self._behind

    def lag(self) -> int:
        """Records still to be read of the partitions followed, as far as is known here."""
        total = 0
        for partition, place in self._next.items():
            known = TopicPartition(self._topic, partition)
            _, end = self._consumer.get_watermark_offsets(known, cached=True)
            total += max(0, end - place)
        return total

    def _follows(self, partition: int) -> bool:  # noqa: ARG002 - a group's follower looks
        return True

    def _sort(self, message: Message, products: list[Product], ends: dict[int, int]) -> None:
        partition, offset, error = message.partition(), message.offset(), message.error()
        if partition is None or offset is None:  # an error of the client, not of a partition
            partition, offset = -1, -1
        if error is None:
            headers: Any = message.headers()
            tried = attempts_in(headers)
            products.append(Product(partition, offset, message.key(), message.value(), tried))
            ends.pop(partition, None)
        elif error.code() == KafkaError._PARTITION_EOF:
            ends[partition] = offset
        elif error.fatal() or error.code() in _HOPELESS:
            raise Fatal(f"reading {self._topic} failed: {error.str()}")
        # anything else librdkafka tries again by itself

    def _partitions(self, timeout: float) -> tuple[str, list[int]]:
        """The cluster's id and the topic's partitions."""
        try:
            metadata = self._consumer.list_topics(self._topic, timeout=timeout)
        except KafkaException as error:
            raise self._unavailable() from error
        topic = metadata.topics.get(self._topic)
        if topic is None or not topic.partitions:
            raise MissingTopic(
                f"the topic {self._topic} is not on the broker: create it, or let a worker that "
                "may create topics start once; `weft doctor` names all that is missing"
            )
        cluster = str(metadata.cluster_id)
        if cluster.startswith("mockCluster") and self._config.keys().isdisjoint(EMBEDDED):
            self._config = {**self._config, **EMBEDDED}
            self._consumer.close()
            self._consumer = self._connected()
        return cluster, sorted(topic.partitions)

    def _connected(self) -> Consumer:
        callbacks: dict[str, Any] = {
            "logger": logging.getLogger("weft.librdkafka"),
            "error_cb": self._complain,
        }
        try:
            return Consumer({**_CONSUMER, **self._config, **callbacks})
        except KafkaException as error:
            raise InvalidSettings(f"Kafka's client refuses its settings: {error}") from error

    def _complain(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # says less than the one before it
            self._complaint = error.str()

    def _unavailable(self) -> BrokerUnavailable:
        why = f" ({self._complaint})" if self._complaint else ""
        return BrokerUnavailable(f"no broker answers about {self._topic}{why}: check WEFT_KAFKA")
