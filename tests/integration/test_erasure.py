"""A forgotten shopper: what Weft has written, kept and logged is searched for what was theirs."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Consumer, TopicPartition

from models.domain import Item
from models.encoder.cache import CachedEncoder
from models.recommend.popularity import Popularity
from models.recommend.query_memory import QueryMemory
from models.recommend.recommender import Recommender
from models.space.zero_shot import ZeroShotSpace
from stream.contracts.partitioner import partition_of
from stream.kafka.broker import EmbeddedBroker
from stream.settings import Settings
from stream.shoppers.processor import ShopperProcessor
from stream.shoppers.state import loads
from testbed.stand_ins import HashEncoder, MemoryIndex, OverlapReranker
from tests.integration.test_dead_letters import dlq, letters, produce, running, until

USER = b"shopper-quokka-417"
#: Nobody else has these: an id, an item that the catalogue lacks, words, an event's id.
THEIRS = (USER, b"item-axolotl-9", b"vermilion ukulele strap", b"event-narwhal-3")
T0 = 1_700_000_000_000
TITLES = ("linen midi dress", "linen mini dress", "wool coat", "leather boots", "silk midi dress")


def event(ts: int, user: bytes = USER, **fields: str) -> bytes:
    return orjson.dumps({"user_id": user.decode(), "ts": T0 + ts, **fields})


def newest(settings: Settings) -> dict[tuple[str, bytes | None], bytes | None]:
    """The newest value of each (topic, key) of all topics that Weft writes but dead-letters."""
    config = {"bootstrap.servers": settings.kafka, "group.id": "t", "enable.partition.eof": True}
    consumer = Consumer(config)
    sources = {"products", "clicks", "purchases", "searches", "erasures", "dead-letters"}
    found: dict[tuple[str, bytes | None], bytes | None] = {}
    places = [
        TopicPartition(topic, partition, 0)
        for topic, told in consumer.list_topics(timeout=120).topics.items()
        if topic not in sources and not topic.startswith("__")
        for partition in told.partitions
    ]
    consumer.assign(places)
    ends = 0
    while ends < len(places):
        message = consumer.poll(120)
        assert message is not None
        if message.error():
            ends += 1
        else:
            found[message.topic() or "", message.key()] = message.value()
    consumer.close()
    return found


def held(told: bytes) -> list[bytes]:
    """What of the shopper's the bytes hold."""
    return [theirs for theirs in THEIRS if theirs in told]


class Shop:
    """The models, with an encoder that keeps vectors on disk."""

    def __init__(self, folder: Path) -> None:
        encoder = HashEncoder(8)
        self.encoder = CachedEncoder(encoder, folder / "vectors.sqlite", print)
        index, space = MemoryIndex(), ZeroShotSpace(self.encoder)
        items = [Item(f"i{n}", title, T0) for n, title in enumerate(TITLES)]
        index.upsert(items, space.item_vectors(items))
        self.memory = QueryMemory(self.encoder)
        self.models = Recommender(
            index, space, Popularity(7), OverlapReranker(), 0.5, 3, 5, self.memory
        )


async def live_and_die(settings: Settings, processor: ShopperProcessor) -> None:
    """A rich past, a dead letter of it among them, and a bystander."""
    send = asyncio.to_thread
    wrong = (partition_of(USER, 4, settings.partitioner) + 1) % 4
    await send(produce, settings, "clicks", b"bo", event(0, b"bo", item_id="i2"))
    await send(produce, settings, "searches", USER, event(1, query="vermilion ukulele strap"))
    clicks = [
        event(2, item_id="i0", event_id="event-narwhal-3"),
        event(3, item_id="item-axolotl-9"),
    ]
    await send(produce, settings, "clicks", USER, *clicks)
    await send(produce, settings, "purchases", USER, event(4, item_id="item-axolotl-9"))
    await send(produce, settings, "clicks", USER, event(5, item_id="i1"), partition=wrong)
    await send(produce, settings, "clicks", USER, b"[" + event(6, item_id="item-axolotl-9"))
    await until(lambda: processor.counters.acked == 7)


def test_after_an_erasure_only_marker_and_dead_letters_hold_anything_of_the_shopper(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    shop = Shop(tmp_path)

    async def main(settings: Settings) -> None:
        async with running(settings, shop.models, shop.memory) as processor:
            await live_and_die(settings, processor)
            before = await asyncio.to_thread(newest, settings)
            assert held(b"".join(filter(None, before.values())))  # else the search finds nothing
            await asyncio.to_thread(produce, settings, "erasures", USER, event(100))
            await until(lambda: processor.counters.acked == 8)
            after = await asyncio.to_thread(newest, settings)
            marker = after["weft-shoppers-changelog", USER]
            assert loads(marker).is_marker
            assert set(orjson.loads(marker or b"")) == {"v", "o", "x"}
            assert after["recommendations", USER] is None
            assert after["recommendations", b"bo"]
            for (topic, key), value in after.items():
                assert not held(value or b""), topic
                assert key == USER or not held(key or b""), topic
            assert not held(b"".join(value for _, value in processor._table.items()))
            assert len(processor._backlog) == 0

    with EmbeddedBroker() as broker:
        settings = Settings(kafka=broker.bootstrap, data_dir=tmp_path)
        asyncio.run(main(settings))
        assert len(letters(settings)) == 2
    shop.encoder.close()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert tmp_path / "vectors.sqlite" in files
    for path in files:
        assert not held(path.read_bytes()), path
        assert not held(path.name.encode())
    assert caplog.records
    for record in caplog.records:
        assert not held(record.getMessage().encode()), record.name


def test_the_past_does_not_come_back_by_replay_and_a_later_event_starts_afresh(
    tmp_path: Path,
) -> None:
    shop = Shop(tmp_path)

    async def main(settings: Settings) -> None:
        async with running(settings, shop.models, shop.memory) as processor:
            await live_and_die(settings, processor)
            await asyncio.to_thread(produce, settings, "erasures", USER, event(100))
            await until(lambda: processor.counters.acked == 8)
            done = await asyncio.to_thread(dlq, settings, "replay", "--yes")
            assert "2 dead letters sent back" in done.output
            await until(lambda: processor.counters.acked == 10)
            after = await asyncio.to_thread(newest, settings)
            assert loads(after["weft-shoppers-changelog", USER]).is_marker
            assert after["recommendations", USER] is None
            await asyncio.to_thread(produce, settings, "clicks", USER, event(101, item_id="i3"))
            await until(lambda: processor.counters.acked == 11)
            after = await asyncio.to_thread(newest, settings)
            state = loads(after["weft-shoppers-changelog", USER])
            assert [row[4] for row in state.rows] == ["i3"]
            assert state.bought == []
            assert b"linen" not in (after["recommendations", USER] or b"linen")  # no old reason

    with EmbeddedBroker() as broker:
        asyncio.run(main(Settings(kafka=broker.bootstrap, data_dir=tmp_path)))
    shop.encoder.close()
