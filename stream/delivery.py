"""Sends records and returns only when the broker has every one of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from models.errors import BrokerUnavailable, Fatal

_log = logging.getLogger("weft.delivery")

#: librdkafka's own retries end after this long; then we are told, and decide.
_MESSAGE_TIMEOUT_MS: Final = 30_000


#: Trying again cannot help: a person has to look.
HOPELESS: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError._AUTHENTICATION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)


@dataclass(frozen=True, slots=True)
class Record:
    """One record to produce; ``value`` None is a tombstone, ``partition`` -1 the partitioner's."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int = -1
    headers: Sequence[tuple[str, bytes]] = ()


class Delivery(Protocol):
    """Where records go."""

    def deliver(self, records: Sequence[Record]) -> None:
        """Blocks until every record is on the broker, in the order given for each key.

        Raises ``BrokerUnavailable``; then some of the records may have arrived, and calling
        again with all of them is right. Raises ``Fatal`` where trying again cannot help.
        """

    def close(self) -> None:
        """Releases the connection."""


class KafkaDelivery:
    """Delivery by an idempotent confluent-kafka producer.

    ``timeout_ms`` without an answer make ``BrokerUnavailable``.
    """

    def __init__(
        self,
        config: Mapping[str, str | int | float | bool],
        partitioner: str,
        timeout_ms: int = _MESSAGE_TIMEOUT_MS,
    ) -> None:
        self._timeout = 2 * timeout_ms / 1000
        self._producer = Producer(
            {
                **config,
                "enable.idempotence": True,
                "partitioner": partitioner,
                "linger.ms": 2,
                "message.timeout.ms": timeout_ms,
                # a dead letter is as long as its source, and a topic takes 48 KiB over librdkafka's
                "message.max.bytes": 2_000_000,
                "queue.buffering.max.messages": 200_000,
                "logger": logging.getLogger("weft.librdkafka"),
            }
        )

    def deliver(self, records: Sequence[Record]) -> None:
        """See ``Delivery``."""
        failures: list[KafkaError] = []

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failures.append(error)

        for record in records:
            self._produce(record, delivered)
        end = time.monotonic() + self._timeout
        while self._producer.flush(1.0) and time.monotonic() < end:
            pass
        left = len(self._producer)
        if failures or left:
            raise _delivery_error(failures, left)

    def _produce(
        self, record: Record, delivered: Callable[[KafkaError | None, Message], None]
    ) -> None:
        while True:
            try:
                self._producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    record.partition,
                    on_delivery=delivered,
                    headers=list(record.headers) or None,
                )
            except BufferError:  # the local queue is full: wait for room
                self._producer.poll(0.1)
            except KafkaException as error:
                raise _delivery_error([error.args[0]], 0) from error
            else:
                self._producer.poll(0)
                return

    def close(self) -> None:
        """Gives what is left five seconds, and says what did not leave."""
        left = self._producer.flush(5.0)
        if left:
            _log.warning("%d records were not delivered before the stop; they come again", left)


def _delivery_error(failures: Sequence[KafkaError], left: int) -> BrokerUnavailable | Fatal:
    if not failures:
        return BrokerUnavailable(f"{left} records are still not on the broker")
    first = failures[0]
    words = f"{len(failures)} records were not delivered: {first.name()}: {first.str()}"
    if first.fatal() or first.code() in HOPELESS:
        return Fatal(f"{words}; check the broker's limits and this client's permissions")
    return BrokerUnavailable(words)
