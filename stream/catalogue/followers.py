"""Two ways of following the products topic: each remembers its place where its index lives.

``IndexFollower`` is for an index of one's own (Edge): every partition, outside the group, the
place kept in the index's folder. ``GroupFollower`` is for a shared one (a server): the partitions
that the group assigns, the place committed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from models.errors import BrokerUnavailable, MissingTopic
from stream.catalogue.follower import EMBEDDED, TIMEOUT, Batch, Config, Follower
from stream.catalogue.processor import Product
from stream.index.points import Position
from stream.index.port import PositionKeeper
from stream.kafka.watermarks import bounds_of

__all__ = ["EMBEDDED", "Follower", "GroupFollower", "IndexFollower"]

_log = logging.getLogger("weft.catalogue")

# Keeping the place flushes the index, which holds the GIL for 20 to 100 ms: seldom for a trickle
# of products (what comes again after a crash is not encoded again), sooner in a bulk import.
_KEEP: Final = 30.0  # seconds
_KEEP_MANY: Final = 5.0  # seconds, where so many records were done:
_MANY: Final = 500
_LOOK: Final = 30.0  # seconds between looks for new partitions


class IndexFollower(Follower):
    """Reads every partition; the place is in ``index``, which mirrors one topic of one cluster.

    Another cluster's topic, or one that was deleted and made again, empties the index first.
    """

    def __init__(self, config: Config, topic: str, index: PositionKeeper) -> None:
        outside: Config = {"group.id": "weft-outside-any-group", "enable.auto.commit": False}
        super().__init__({**config, **outside}, topic)
        self._index = index
        self._source = ""
        self._kept: dict[int, int] = {}
        self._kept_at = self._look_at = 0.0

    def open(self) -> None:
        """Goes on where the index stands, or at the log's start where that is later."""
        cluster, partitions = self._partitions(TIMEOUT)
        self._source = f"{cluster}/{self._topic}"
        bounds = {partition: self._bounds(partition) for partition in partitions}
        kept = self._index.position()
        if kept is not None and not self._continues(kept, bounds):
            _log.warning("%s is another topic than the index holds: filling anew", self._topic)
            self._index.clear()
            kept = None
        offsets = kept.offsets if kept else {}
        for partition, (low, _) in bounds.items():
            if offsets.get(partition, low) < low:
                _log.warning("%s/%d now starts at %d", self._topic, partition, low)
        self._next = {p: max(offsets.get(p, 0), low) for p, (low, _) in bounds.items()}
        self._kept = {}
        self.settle(now=True)  # the source is known before the first item is in
        self._behind = set(partitions)
        self._consumer.assign(self._places(partitions))
        self._assigned = True
        self._look_at = time.monotonic() + _LOOK

    def settle(self, *, now: bool = False) -> None:
        """Keeps the place every few seconds, after the items; looks for new partitions."""
        if self._next != self._kept and (now or self._is_due()):
            self._index.keep_position(Position(self._source, dict(self._next)))
            self._kept = dict(self._next)
            self._kept_at = time.monotonic()
        if self._assigned and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK
            self._follow_new()

    def _is_due(self) -> bool:
        age = time.monotonic() - self._kept_at
        done = sum(place - self._kept.get(p, 0) for p, place in self._next.items())
        return age >= _KEEP or (age >= _KEEP_MANY and done >= _MANY)

    def _follow_new(self) -> None:
        try:
            _, partitions = self._partitions(1.0)
        except (BrokerUnavailable, MissingTopic):
            return  # looked for again; the records of the known ones come when they come
        if new := [partition for partition in partitions if partition not in self._next]:
            self._next.update(dict.fromkeys(new, 0))
            self._consumer.incremental_assign(self._places(new))

    def _places(self, partitions: Sequence[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, p, self._next[p]) for p in partitions]

    def _bounds(self, partition: int) -> tuple[int, int]:
        """The log's first offset and its end."""
        place = TopicPartition(self._topic, partition)
        try:
            return bounds_of(self._consumer, place, TIMEOUT)
        except KafkaException as error:
            raise self._unavailable() from error

    def _continues(self, kept: Position, bounds: Mapping[int, tuple[int, int]]) -> bool:
        ends = {partition: end for partition, (_, end) in bounds.items()}
        within = all(place <= ends.get(partition, -1) for partition, place in kept.offsets.items())
        return kept.source == self._source and within


class GroupFollower(Follower):
    """Reads the partitions that the consumer group assigns; commits what is done.

    ``config`` may say ``session.timeout.ms``: a dead worker's partitions move after that.
    """

    def __init__(self, config: Config, topic: str, group: str) -> None:
        # librdkafka commits the stored offsets every second, and when partitions move
        every: Config = {"enable.auto.commit": True, "auto.commit.interval.ms": 1000}
        super().__init__({**config, **every, "group.id": group}, topic)
        self._mine: set[int] = set()
        self._early: list[Message] = []  # came while resting

    def open(self) -> None:
        """Joins the group; the partitions come while reading."""
        self._partitions(TIMEOUT)
        self._consumer.subscribe([self._topic], on_assign=self._gained, on_revoke=self._lost)

    def read(self, limit: int, timeout: float) -> Batch:
        """See ``Follower.read``."""
        if not self._early:
            return super().read(limit, timeout)
        products: list[Product] = []
        ends: dict[int, int] = {}
        for message in self._early:
            self._sort(message, products, ends)
        self._early = []
        return Batch(products, ends)

    def done(self, batch: Batch) -> None:
        """Has what is done committed soon, of the partitions that are still this one's."""
        super().done(batch)
        # an end counts too: behind it there may be markers, which nobody reads
        reached = {product.partition for product in batch.products} | set(batch.ends or ())
        reached &= self._mine
        if reached:
            places = [TopicPartition(self._topic, p, self._next[p]) for p in reached]
            try:
                self._consumer.store_offsets(offsets=places)
            except KafkaException as error:  # a partition has just moved on
                _log.warning("not kept, some products come again: %s", error.args[0].str())

    def settle(self, *, now: bool = False) -> None:
        """Commits ``now``, before leaving the group; else librdkafka commits in time."""
        if not now or not self._next:
            return
        try:
            self._consumer.commit(asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._NO_OFFSET:  # nothing new is no failure
                _log.warning("not committed, some products come again: %s", error.args[0].str())

    def rest(self) -> None:
        """A poll within ``max.poll.interval.ms``, with everything paused."""
        assigned = self._consumer.assignment()
        self._consumer.pause(assigned)
        if (message := self._consumer.poll(0)) is not None:
            self._early.append(message)
        self._consumer.resume([p for p in assigned if p.partition in self._mine])

    def _follows(self, partition: int) -> bool:
        return partition in self._mine

    def _gained(self, _consumer: Any, places: list[TopicPartition]) -> None:
        gained = {place.partition for place in places}
        self._mine |= gained
        self._behind |= gained
        self._assigned = True

    def _lost(self, _consumer: Any, places: list[TopicPartition]) -> None:
        for place in places:
            self._mine.discard(place.partition)
            self._behind.discard(place.partition)
            self._next.pop(place.partition, None)
