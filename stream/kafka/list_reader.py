"""Reads the recommendations topic as a shop's front end does: the newest record of a key counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from confluent_kafka import OFFSET_BEGINNING, Message

from models.errors import BadMessage
from stream.contracts.codec import PublishedList, decode_recommendation
from stream.contracts.partitioner import partition_of
from stream.contracts.topics import RECOMMENDATIONS
from stream.kafka.topic_reader import TopicReader
from stream.settings import Settings


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


class ListReader(TopicReader):
    """See ``TopicReader``. With ``user`` only the partition and the records of that shopper."""

    def __init__(self, settings: Settings, user: str | None = None) -> None:
        client = {
            "group.id": "weft-recs",
            "isolation.level": "read_committed",  # no list that a fenced worker left open
        }
        super().__init__(settings, RECOMMENDATIONS, client)
        self._key = None if user is None else user.encode()
        partitions = range(self.partitions)
        if self._key is not None:
            own = partition_of(self._key, self.partitions, settings.partitioner)
            partitions = range(own, own + 1)
        self.unreadable = 0
        self.begin(dict.fromkeys(partitions, OFFSET_BEGINNING))

    def kept(self, limit: int) -> list[Seen]:
        """The newest lists of at most ``limit`` shoppers on the topic now, the newest last."""
        newest = Newest(limit)
        for message in self.to_the_end():
            if found := self._seen(message):
                newest.put(*found)
        return newest.lists()

    def following(self) -> Iterator[Seen]:
        """What comes from now on, for ever; None of it is a removal."""
        while True:
            message = self._next()
            if message is not None and (found := self._seen(message)) and found[1]:
                yield found[1]

    def _seen(self, message: Message) -> tuple[bytes, Seen | None] | None:
        """A record, where it concerns us and can be read."""
        key, value = message.key(), message.value()
        if self._key is not None and key != self._key:
            return None
        try:
            shown = decode_recommendation(key, value)
        except BadMessage:
            self.unreadable += 1
            return None
        return key or b"", Seen(shown, value or b"") if shown else None
