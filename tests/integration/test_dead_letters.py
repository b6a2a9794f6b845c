"""A dead letter's whole way: the intake, the topic, replay, the intake again; and purge."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer

from models.recommend.popularity import Popularity
from models.recommend.query_memory import QueryMemory
from models.recommend.recommender import Recommender
from models.space.zero_shot import ZeroShotSpace
from stream.catalogue.followers import GroupFollower
from stream.catalogue.processor import CatalogueProcessor, Product
from stream.cli import cli
from stream.contracts.codec import ATTEMPTS
from stream.contracts.topics import TopicNames
from stream.dead_letters.read import Letter, LetterReader
from stream.kafka.broker import EmbeddedBroker, ensure_topics
from stream.kafka.delivery import KafkaDelivery
from stream.settings import Settings, kafka_config
from stream.shoppers.app import ShopperApp
from stream.shoppers.offset_check import KafkaGapReader
from stream.shoppers.processor import Recommends, ShopperProcessor
from testbed.kafka import RealKafka
from testbed.stand_ins import HashEncoder, MemoryDelivery, MemoryIndex
from testbed.waiting import PATIENCE, wait_for

BAD = b'{"user_id": "ana", "ts": '


def dlq(settings: Settings, *arguments: str) -> Result:
    environment = {"WEFT_KAFKA": settings.kafka, "WEFT_TOPIC_PREFIX": settings.topic_prefix}
    return CliRunner().invoke(cli, ["dlq", *arguments], env=environment)


def letters(settings: Settings) -> list[Letter]:
    with LetterReader(settings) as reader:
        return sorted(reader.letters(), key=lambda letter: letter.attempts)


def produce(
    settings: Settings, topic: str, key: bytes, *values: bytes, partition: int = -1
) -> None:
    config = {"bootstrap.servers": settings.kafka, "partitioner": settings.partitioner}
    producer = Producer(config)
    for value in values:
        producer.produce(settings.topic_prefix + topic, value, key, partition)
    assert producer.flush(120) == 0


@contextlib.asynccontextmanager
async def running(
    settings: Settings, models: Recommends | None = None, memory: QueryMemory | None = None
) -> AsyncIterator[ShopperProcessor]:
    """The shopper half of a worker, without ``models`` with fakes in their place."""
    async with running_app(settings, models, memory) as (_app, processor):
        yield processor


@contextlib.asynccontextmanager
async def running_app(
    settings: Settings, models: Recommends | None = None, memory: QueryMemory | None = None
) -> AsyncIterator[tuple[ShopperApp, ShopperProcessor]]:
    """The same, and what feeds it."""
    layout = await asyncio.to_thread(ensure_topics, settings)
    popularity, config = Popularity(7), kafka_config(settings)
    recommender = models or Recommender(
        MemoryIndex(), ZeroShotSpace(HashEncoder()), popularity, None, 0.0, 10, 20
    )
    app = ShopperApp(settings, layout.partitions, layout.embedded)
    delivery = KafkaDelivery(config, settings.partitioner)
    processor = ShopperProcessor(
        settings,
        app.table,
        recommender,
        popularity,
        delivery,
        layout.partitions,
        memory=memory,
    )
    app.attach(processor, KafkaGapReader(config), delivery)
    serving = asyncio.create_task(processor.run())
    await app.start()
    try:
        yield app, processor
    finally:
        await app.stop()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        processor.close()
        delivery.close()


async def until(condition: Callable[[], bool]) -> None:
    await wait_for(condition)


def dies_twice(settings: Settings) -> None:
    """A bad record dies, is sent back, dies again; a good one beside it lives."""

    async def main() -> None:
        async with running(settings) as processor:
            good = b'{"user_id": "ana", "ts": 1700000000000, "item_id": "i1"}'
            await asyncio.to_thread(produce, settings, "clicks", b"ana", BAD, good)
            await until(lambda: processor.counters.acked == 2)
            assert [letter.attempts for letter in await asyncio.to_thread(letters, settings)] == [1]
            done = await asyncio.to_thread(dlq, settings, "replay", "--yes")
            assert "1 dead letter sent back" in done.output
            await until(lambda: processor.counters.acked == 3)
            assert processor.counters.lists == 1

    asyncio.run(main())
    first, second = letters(settings)
    assert (first.attempts, second.attempts) == (1, 2)
    assert (first.key, first.value) == (second.key, second.value) == (b"ana", BAD)
    assert second.header("weft-offset") == "2"  # where it lay when it died again


def test_a_record_that_dies_again_after_replay_carries_one_attempt_more(tmp_path: Path) -> None:
    with EmbeddedBroker() as broker:
        dies_twice(Settings(kafka=broker.bootstrap, data_dir=tmp_path))


def test_a_product_that_was_sent_back_dies_with_one_attempt_more_too() -> None:
    with EmbeddedBroker() as broker:
        settings = Settings(kafka=broker.bootstrap)
        ensure_topics(settings)
        config = {"bootstrap.servers": settings.kafka, "partitioner": settings.partitioner}
        producer = Producer(config)
        producer.produce("products", b"[", b"i1", headers=[(ATTEMPTS, b"2")])
        assert producer.flush(120) == 0
        follower = GroupFollower(kafka_config(settings), "products", "weft-products")
        follower.open()
        found: list[Product] = []
        end = time.monotonic() + PATIENCE
        while not found and time.monotonic() < end:
            found += follower.read(10, 0.5).products
        follower.close()
    delivery, space = MemoryDelivery(), ZeroShotSpace(HashEncoder())
    CatalogueProcessor(MemoryIndex(), space, delivery, TopicNames()).process(found)
    (dead,) = delivery.records
    assert dict(dead.headers)[ATTEMPTS] == b"3"


@pytest.mark.kafka
def test_on_a_real_kafka_it_dies_again_too_and_purge_deletes_what_lies_before_a_place(
    kafka: RealKafka, tmp_path: Path
) -> None:
    settings = Settings(kafka=kafka.bootstrap, topic_prefix="dlq-", partitions=3, data_dir=tmp_path)
    dies_twice(settings)
    (partition,) = {letter.place[0] for letter in letters(settings)}
    assert "1 dead letter deleted" in dlq(settings, "purge", f"{partition}:1", "--yes").output
    assert [letter.attempts for letter in letters(settings)] == [2]
    assert "0 dead letters deleted" in dlq(settings, "purge", "--before", "1d", "--yes").output
    assert "1 dead letter deleted" in dlq(settings, "purge", "--all", "--yes").output
    assert letters(settings) == []
    assert "no dead letters" in dlq(settings, "list").output
