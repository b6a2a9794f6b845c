"""The catalogue's whole path for a benchmark: embedded broker, real encoder, Qdrant Edge."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from confluent_kafka import Producer

from models.domain import Item
from models.encoder.cache import CachedEncoder
from models.encoder.choose import load_encoder
from models.ports import TitleEncoder
from models.space.zero_shot import ZeroShotSpace
from stream.catalogue.feed import CatalogueFeed
from stream.catalogue.followers import IndexFollower
from stream.catalogue.processor import CatalogueProcessor, OnIndexed
from stream.contracts.codec import encode_product
from stream.contracts.topics import PRODUCTS, TopicNames
from stream.index.edge import EdgeIndex
from stream.kafka.broker import EmbeddedBroker, ensure_topics
from stream.kafka.delivery import KafkaDelivery
from stream.settings import kafka_config, load

IN_FLIGHT = 8_192  # records; the embedded broker drops what is over 5 MB a partition


@dataclass
class Rig:
    """A running feed; ``encoder`` is the bare one, the feed's has a cache on disk before it."""

    producer: Producer
    feed: CatalogueFeed
    index: EdgeIndex
    encoder: TitleEncoder

    def produce(self, item: Item) -> None:
        """Sends one product at once."""
        key, value = encode_product(item)
        self.producer.produce(PRODUCTS, value, key)
        self.producer.poll(0)

    def publish(self, items: Sequence[Item]) -> None:
        """Sends all, no faster than they are indexed, and returns when all are."""
        start = self.feed.tally.records
        for number, item in enumerate(items):
            while number - (self.feed.tally.records - start) >= IN_FLIGHT:
                self.producer.poll(0.005)
                self.check()
            self.produce(item)
        while self.feed.tally.records - start < len(items):
            self.producer.poll(0.002)
            self.check()

    def check(self) -> None:
        """Raises what ended the feed, if something did."""
        if self.feed.error is not None:
            raise self.feed.error


@contextlib.contextmanager
def rig(on_indexed: OnIndexed | None = None) -> Iterator[Rig]:
    """A fresh broker and index; the weights are the ones of the data folder of the settings."""
    logging.getLogger("weft.librdkafka").setLevel(logging.CRITICAL)
    with EmbeddedBroker() as broker, TemporaryDirectory() as folder:
        settings = load(kafka=broker.bootstrap)
        ensure_topics(settings)
        config = kafka_config(settings)
        encoder = load_encoder("", settings.data_dir, settings.threads, print)
        cached = CachedEncoder(encoder, Path(folder) / "vectors.sqlite", print)
        index = EdgeIndex(Path(folder) / "index", encoder.name, encoder.dim)
        processor = CatalogueProcessor(
            index,
            ZeroShotSpace(cached),
            KafkaDelivery(config, settings.partitioner),
            TopicNames(),
            on_indexed=on_indexed,
        )
        feed = CatalogueFeed(processor, IndexFollower(config, PRODUCTS, index))
        feed.start()
        try:
            if not feed.wait_until_caught_up(30):
                raise feed.error or TimeoutError("the feed did not start")
            producer = Producer({**config, "partitioner": settings.partitioner, "linger.ms": 0})
            yield Rig(producer, feed, index, encoder)
        finally:
            feed.stop()
            index.close()
            cached.close()


def items_of(titles: Sequence[str], prefix: str) -> list[Item]:
    """One product a title."""
    now = time.time_ns() // 1_000_000
    return [
        Item(f"{prefix}{n}", title, now, category="dresses", brand="Weft", price=49.0, url="/p")
        for n, title in enumerate(titles)
    ]
