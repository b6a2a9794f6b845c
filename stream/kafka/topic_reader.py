"""A topic read by one who is outside any group: takes nothing from anybody, commits nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, Self

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from models.errors import BrokerUnavailable, MissingTopic
from stream.contracts.topics import TopicNames
from stream.kafka.broker import look
from stream.settings import Settings, kafka_config

#: A broker that says nothing for so many seconds while it still owes records is away.
PATIENCE: Final = 30.0
_POLL: Final = 0.5


class TopicReader:
    """Reads one of Weft's topics, by its plain name. Use it as a context manager.

    ``partitions`` are how many it has; ``client`` has the consumer's further settings, its group's
    name among them. Raises ``BrokerUnavailable``, ``MissingTopic``.
    """

    def __init__(self, settings: Settings, topic: str, client: Mapping[str, Any]) -> None:
        self.topic = TopicNames(settings.topic_prefix).of(topic)
        count = look(settings).counts.get(self.topic)
        if count is None:
            raise MissingTopic(
                f"not on the broker: {self.topic}. `weft worker` creates it; is WEFT_TOPIC_PREFIX "
                "the worker's?"
            )
        self.partitions = count
        config = {
            **silenced(settings),
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            **client,
        }
        self._consumer = Consumer(config)
        self._unread: set[int] = set()
        self._heard_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def begin(self, starts: Mapping[int, int]) -> None:
        """The partitions to read, and where."""
        self._consumer.assign([TopicPartition(self.topic, p, o) for p, o in starts.items()])
        self._unread = set(starts)

    def to_the_end(self) -> Iterator[Message]:
        """What there is until each partition has come to its end."""
        self._heard_at = time.monotonic()
        while self._unread:
            if (message := self._next()) is not None:
                yield message
            elif time.monotonic() - self._heard_at > PATIENCE:
                raise self._unavailable("the broker stopped answering")

    def _next(self) -> Message | None:
        """The next record, if one comes in time."""
        message = self._consumer.poll(_POLL)
        if message is None:
            return None
        self._heard_at = time.monotonic()
        if (error := message.error()) is None:
            return message
        if error.code() != KafkaError._PARTITION_EOF:
            raise self._unavailable(error.str())
        self._unread.discard(message.partition() or 0)
        return None

    def _unavailable(self, reason: str) -> BrokerUnavailable:
        return BrokerUnavailable(f"cannot read {self.topic}: {reason}")


def silenced(settings: Settings) -> dict[str, Any]:
    """``kafka_config`` of a client whose user is told of an absent broker by what it asks for."""
    return {**kafka_config(settings), "log_level": 0, "error_cb": lambda _error: None}
