"""An index being filled from ``products``, and when it holds what the topic holds.

With an index of one's own that is when the own feed has reached the topic's end. A server's index
is filled by the whole group, so there the group's committed offsets say it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from models.errors import BrokerUnavailable
from stream.catalogue.feed import CatalogueFeed
from stream.catalogue.follower import TIMEOUT, Config, Follower
from stream.catalogue.followers import GroupFollower, IndexFollower
from stream.catalogue.processor import CatalogueProcessor, OnIndexed
from stream.contracts.topics import PRODUCTS, TopicNames
from stream.index.port import OwnIndex, SharedIndex
from stream.kafka.delivery import Delivery, Record
from stream.kafka.watermarks import bounds_of
from stream.serving import Serving
from stream.settings import Settings, kafka_config

#: Seconds that the ends which a group has reached may be old, else it is asked anew.
_FRESH: Final = 15.0


class Filling:
    """A serving's feed. Until ``heard`` its dead letters go nowhere, nor is ``on_indexed`` told.

    So a second index that is filled beside the live one repeats nothing that the first has said.
    """

    def __init__(
        self,
        settings: Settings,
        serving: Serving,
        delivery: Delivery,
        *,
        heard: bool,
        on_indexed: OnIndexed | None = None,
        on_error: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.serving = serving
        self.heard = heard
        self._delivery = delivery
        self._on_indexed = on_indexed
        self._on_error = on_error
        names = TopicNames(settings.topic_prefix, settings.group)
        config, topic = kafka_config(settings), names.of(PRODUCTS)
        self._group: GroupProgress | None = None
        follower: Follower
        index = serving.index
        if isinstance(index, OwnIndex):
            follower = IndexFollower(config, topic, index)
        elif isinstance(index, SharedIndex):
            group = f"{names.member}-{index.identity}"
            self._group = GroupProgress(config, topic, group)
            timeout = {"session.timeout.ms": int(settings.session_timeout * 1000)}
            follower = GroupFollower({**config, **timeout}, topic, group)
        else:
            raise TypeError(f"{type(index).__name__} is neither an own nor a shared index")
        processor = CatalogueProcessor(index, serving.space, self, names, on_indexed=self._indexed)
        self.feed = CatalogueFeed(processor, follower, on_error=self._failed)

    def complete(self) -> bool:
        """Whether the index holds the topic as it stood a few seconds ago; may ask the broker.

        Raises ``BrokerUnavailable``.
        """
        return self.feed.caught_up if self._group is None else self._group.complete()

    def stop(self) -> None:
        """Ends the feed, with its place kept; the index stays open."""
        self.feed.stop()
        if self._group is not None:
            self._group.close()

    def deliver(self, records: Sequence[Record]) -> None:
        """The processor's dead letters, see ``Delivery``."""
        if self.heard:
            self._delivery.deliver(records)

    def close(self) -> None:
        """The delivery is the worker's: it stays open."""

    def _indexed(self, item_ids: Sequence[str], seconds: float) -> None:
        if self.heard and self._on_indexed is not None:
            self._on_indexed(item_ids, seconds)

    def _failed(self, error: BaseException) -> None:
        if self.heard and self._on_error is not None:
            self._on_error(error)


class GroupProgress:
    """How far a consumer group has come, seen from outside it. For one thread at a time."""

    def __init__(self, config: Config, topic: str, group: str) -> None:
        self._topic = topic
        quiet = {"logger": logging.getLogger("weft.librdkafka")}
        self._consumer = Consumer({**config, **quiet, "group.id": group})
        self._ends: dict[int, int] = {}
        self._asked_at = 0.0

    def complete(self) -> bool:
        """Whether the group has committed all that the topic held, at most 15 s ago.

        Raises ``BrokerUnavailable``.
        """
        try:
            if not self._ends:
                self._ask()
            if not self._reached():
                return False
            if time.monotonic() - self._asked_at <= _FRESH:
                return True
            self._ask()
        except KafkaException as error:
            raise BrokerUnavailable(f"no broker answers about {self._topic}: {error}") from error
        return self._reached()

    def close(self) -> None:
        """Releases the connection."""
        self._consumer.close()

    def _ask(self) -> None:
        """The partitions' ends as they are now."""
        metadata = self._consumer.list_topics(self._topic, timeout=TIMEOUT)
        ends = {}
        topic = metadata.topics.get(self._topic)
        if topic is None or not topic.partitions:  # of no partition nothing is left to read
            raise BrokerUnavailable(f"the broker does not know {self._topic} just now")
        for partition in topic.partitions:
            place = TopicPartition(self._topic, partition)
            _, ends[partition] = bounds_of(self._consumer, place, TIMEOUT)
        self._ends, self._asked_at = ends, time.monotonic()

    def _reached(self) -> bool:
        places = [TopicPartition(self._topic, partition) for partition in self._ends]
        done = self._consumer.committed(places, timeout=TIMEOUT)
        # (a partition that never held anything may have nothing committed: -1001)
        return all(max(place.offset, 0) >= self._ends[place.partition] for place in done)
