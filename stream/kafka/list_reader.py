"""Reads the recommendations topic as a shop's front end does: the newest record of a key counts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from models.errors import BadMessage, BrokerUnavailable, MissingTopic
from stream.contracts.codec import PublishedList, decode_recommendation
from stream.contracts.partitioner import partition_of
from stream.contracts.topics import RECOMMENDATIONS, TopicNames
from stream.kafka.broker import look
from stream.settings import Settings, kafka_config

_POLL: Final = 0.5
#: A broker that says nothing for so long while it still owes records is away.
_PATIENCE: Final = 30.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A list and the bytes that it came as."""

    shown: PublishedList
    raw: bytes


@dataclass(slots=True)
class Newest:
    """The newest list of each of the ``limit`` shoppers whose lists are newest."""

    limit: int
    _by_key: dict[bytes, Seen] = field(default_factory=dict)

    def put(self, key: bytes, seen: Seen | None) -> None:
        """A shopper's next record; None forgets the shopper's list."""
        self._by_key.pop(key, None)
        if seen is not None:
            self._by_key[key] = seen
        if len(self._by_key) > 2 * self.limit + 1000:  # memory is bounded, sorting is rare
            self._by_key = {seen.shown.user_id.encode(): seen for seen in self.lists()}

    def lists(self) -> list[Seen]:
        """The newest last."""
        ordered = sorted(self._by_key.values(), key=lambda seen: seen.shown.ts)
        return ordered[max(0, len(ordered) - self.limit) :]


class ListReader:
    """Reads outside any group, so that it takes nothing from anybody and commits nothing.

    With ``user`` only the partition and the records of that shopper. Raises
    ``BrokerUnavailable``, ``MissingTopic``.
    """

    def __init__(self, settings: Settings, user: str | None = None) -> None:
        self._topic = TopicNames(settings.topic_prefix).of(RECOMMENDATIONS)
        count = look(settings).counts.get(self._topic)
        if count is None:
            raise MissingTopic(
                f"not on the broker: {self._topic}. `weft worker` creates it; is WEFT_TOPIC_PREFIX "
                "the worker's?"
            )
        self._key = None if user is None else user.encode()
        partitions = range(count)
        if self._key is not None:
            own = partition_of(self._key, count, settings.partitioner)
            partitions = range(own, own + 1)
        self.unreadable = 0
        self._open = set(partitions)
        self._heard_at = 0.0
        self._consumer = Consumer(
            {
                **kafka_config(settings),
                "group.id": "weft-recs",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",  # no list that a fenced worker left open
                "auto.offset.reset": "earliest",
                "log_level": 0,
                "error_cb": _ignored,
            }
        )
        self._consumer.assign(
            [TopicPartition(self._topic, p, OFFSET_BEGINNING) for p in partitions]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def kept(self, limit: int) -> list[Seen]:
        """The newest lists of at most ``limit`` shoppers on the topic now, the newest last."""
        newest = Newest(limit)
        self._heard_at = time.monotonic()
        while self._open:
            if found := self._next():
                newest.put(*found)
            elif time.monotonic() - self._heard_at > _PATIENCE:
                raise BrokerUnavailable(f"the broker stopped answering for {self._topic}")
        return newest.lists()

    def following(self) -> Iterator[Seen]:
        """What comes from now on, for ever; None of it is a removal."""
        while True:
            found = self._next()
            if found and found[1]:
                yield found[1]

    def _next(self) -> tuple[bytes, Seen | None] | None:
        """The next record that concerns us, if one comes in time."""
        message = self._consumer.poll(_POLL)
        if message is None:
            return None
        self._heard_at = time.monotonic()  # also where the record is not one of ours
        if (error := message.error()) is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self._open.discard(message.partition() or 0)
            else:
                raise BrokerUnavailable(f"cannot read {self._topic}: {error.str()}")
            return None
        key, value = message.key(), message.value()
        if self._key is not None and key != self._key:
            return None
        try:
            shown = decode_recommendation(key, value)
        except BadMessage:
            self.unreadable += 1
            return None
        return key or b"", Seen(shown, value or b"") if shown else None


def _ignored(_error: KafkaError) -> None:
    """The broker's absence is told by ``kept``; while following, it is waited for."""
