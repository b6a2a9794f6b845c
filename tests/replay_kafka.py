"""A replay's stage behind a broker: a whole worker, fed and read by topics as a shop would.

Slower than the processors alone, and the same lists.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from models.errors import BrokerUnavailable
from stream.contracts.codec import decode_recommendation
from stream.contracts.topics import ERASURES, PRODUCTS, RECOMMENDATIONS, TopicNames
from stream.kafka.delivery import Record
from stream.replay.play.in_process import shown_of
from stream.replay.questions.answers import Shown
from stream.settings import Settings, kafka_config
from stream.worker import Worker

#: Seconds without any progress after which the broker or the worker is given up.
_PATIENCE: Final = 660.0
_POLL: Final = 0.2


class ThroughKafka:
    """A worker in this process on the broker of ``settings``, with one partition a topic; see
    ``stream.replay.play.in_process.Stage``.
    """

    def __init__(self, settings: Settings, index_folder: Path, rows: Mapping[str, int]) -> None:
        self._settings = replace(settings, deadline=600.0)
        self._names = TopicNames(settings.topic_prefix, settings.group)
        self._rows = rows
        self._worker = Worker(self._settings, index_folder=index_folder)
        self._lists: dict[bytes, Shown] = {}
        self._offsets: dict[bytes, dict[str, int]] = {}  # that each newest list knows of
        self._forgotten: set[bytes] = set()  # whose list was taken away in this batch
        config = kafka_config(self._settings)
        self._producer = Producer(
            {**config, "enable.idempotence": True, "linger.ms": 1,
             "partitioner": settings.partitioner}
        )  # fmt: skip
        self._consumer = Consumer(
            {**config, "group.id": "weft-replay", "enable.auto.commit": False,
             "auto.offset.reset": "earliest"}
        )  # fmt: skip

    async def start(self) -> None:
        """Returns when the worker is ready. Raises what kept it from that."""
        await self._worker.start()
        await self._worker.ready()
        topic = self._names.of(RECOMMENDATIONS)
        self._consumer.assign([TopicPartition(topic, 0, 0)])

    async def enter(self, products: Sequence[Record], ts: int) -> None:
        """See ``Stage``."""
        before = self._worker.feed.tally.records
        await asyncio.to_thread(self._produce, [(PRODUCTS, r) for r in products])
        end = time.monotonic() + _PATIENCE
        while self._worker.feed.tally.records < before + len(products):
            self._worker.check()
            if time.monotonic() > end:
                raise BrokerUnavailable("the worker took no product for long: see its log")
            await asyncio.sleep(0.01)

    async def apply(self, events: Sequence[tuple[int, Record]], ts: int) -> None:
        """See ``Stage``."""
        self._forgotten.clear()
        owed = await asyncio.to_thread(self._produce, [(r.topic, r) for _, r in events])
        end = time.monotonic() + _PATIENCE
        while owed:
            self._worker.check()
            for message in await asyncio.to_thread(self._consumer.consume, 256, _POLL):
                if self._take(message):
                    end = time.monotonic() + _PATIENCE
            owed = {key: want for key, want in owed.items() if not self._knows(key, want)}
            if time.monotonic() > end:
                raise BrokerUnavailable(f"{len(owed)} lists did not come: see the worker's log")

    def overlook(self, place: int, record: Record) -> None:
        """A worker has to be told of every event."""
        self._produce([(record.topic, record)])

    def newest(self, key: bytes) -> Shown | None:
        """See ``Stage``."""
        return self._lists.get(key)

    async def stop(self) -> None:
        """See ``Stage``."""
        self._consumer.close()
        await self._worker.stop()

    def _produce(self, records: Sequence[tuple[str, Record]]) -> dict[bytes, dict[str, int]]:
        """Returns when the broker has all: by key and topic, the last offset that a list owes."""
        owed: dict[bytes, dict[str, int]] = {}
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, message: Message, topic: str) -> None:
            if error is not None:
                failed.append(error)
            elif topic != PRODUCTS:
                owed.setdefault(message.key() or b"", {})[topic] = message.offset() or 0

        for topic, record in records:

            def heard(error: KafkaError | None, message: Message, topic: str = topic) -> None:
                delivered(error, message, topic)

            while True:
                try:
                    self._producer.produce(
                        self._names.of(topic), record.value, record.key, on_delivery=heard
                    )
                except BufferError:
                    self._producer.poll(0.1)
                else:
                    break
            self._producer.poll(0)
        if self._producer.flush(60) or failed:
            words = failed[0].str() if failed else "no answer"
            raise BrokerUnavailable(f"the broker stopped taking records: {words}")
        return owed

    def _take(self, message: Message) -> bool:
        if message.error() is not None:
            return False
        key, value = message.key() or b"", message.value()
        if value is None:
            self._lists.pop(key, None)
            self._forgotten.add(key)
            return True
        shown = decode_recommendation(key, value)
        assert shown is not None, "the value is there"
        self._lists[key] = shown_of(value, self._rows)
        self._offsets[key] = dict(shown.as_of.offsets)
        return True

    def _knows(self, key: bytes, want: Mapping[str, int]) -> bool:
        if ERASURES in want and key in self._forgotten:
            return True
        has = self._offsets.get(key, {})
        return all(has.get(topic, -1) >= offset for topic, offset in want.items())
