"""A cold product, from its publishing to a list in which the tuned LLM has ranked it."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from models.domain import Item
from stream.bundles.library import SHIPPED
from stream.contracts.codec import PublishedList, decode_recommendation, encode_product
from stream.demo.sample import catalogue
from stream.kafka.broker import EmbeddedBroker
from stream.settings import Settings, load
from stream.worker import Worker
from testbed.waiting import PATIENCE, wait_for

CATALOGUE = 400


class Shop:
    """Publishes, and reads the lists as a front end does."""

    def __init__(self, settings: Settings) -> None:
        config = {"bootstrap.servers": settings.kafka, "log_level": 0}
        self.producer = Producer({**config, "partitioner": settings.partitioner, "linger.ms": 0})
        self._consumer = Consumer({**config, "group.id": "test", "fetch.wait.max.ms": 10})
        self._consumer.assign([TopicPartition("recommendations", p, 0) for p in range(4)])

    def publish(self, item: Item) -> None:
        key, value = encode_product(item)
        self.producer.produce("products", value, key)

    def click(self, user: str, item_id: str) -> None:
        told = {"user_id": user, "item_id": item_id, "ts": time.time_ns() // 1_000_000}
        self.producer.produce("clicks", json.dumps(told), user)
        self.producer.flush(120)

    def reranked_list(self, until: float) -> PublishedList:
        """The next list that the LLM took part in."""
        while time.monotonic() < until:
            message: Any = self._consumer.poll(0.1)
            if message is None or message.error() is not None:
                continue
            made = decode_recommendation(message.key(), message.value())
            if made is not None and made.recommendation.reranked:
                return made
        raise AssertionError("no list that the LLM took part in")

    def close(self) -> None:
        self._consumer.close()


@pytest.mark.long
def test_a_cold_product_is_retrievable_and_reranked_by_the_tuned_llm(
    weights_dir: Path, tmp_path: Path
) -> None:
    bundle = next(path for path in sorted(SHIPPED.iterdir()) if (path / "manifest.json").is_file())
    (weights_dir / "weights").mkdir(exist_ok=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "weights").symlink_to(weights_dir / "weights")
    with EmbeddedBroker() as broker:
        settings = load(
            {}, kafka=broker.bootstrap, data_dir=tmp_path / "data", bundle=str(bundle),
            rerank="always", rerank_weight=0.5, deadline=60.0, session_timeout=30.0,
        )  # fmt: skip
        asyncio.run(_from_publishing_to_the_list(settings))


async def _from_publishing_to_the_list(settings: Settings) -> None:
    known = [product.item for product in itertools.islice(catalogue.shop().products, CATALOGUE)]
    dresses = [item for item in known if "dress" in item.title.lower()][:3]
    # no trained ID, and words that the catalogue's titles have in another order
    cold = Item("cold-1", f"{dresses[-1].title} (new season)", time.time_ns() // 1_000_000)
    worker = Worker(settings)
    await worker.start()
    shop = Shop(settings)
    try:
        for item in known:
            shop.publish(item)
        shop.producer.flush(120)
        await worker.ready()
        await _until(lambda: worker.parts.index.count() == len(known), worker)

        shop.publish(cold)
        shop.producer.flush(120)
        await _until(lambda: bool(worker.parts.index.get(["cold-1"])), worker)
        vector = worker.parts.space.query_vectors([cold.title])[cold.title]
        (hits,) = worker.parts.index.search(vector[None], 3)
        assert "cold-1" in [hit.item.item_id for hit in hits], "published, and not retrievable"

        for dress in dresses:
            shop.click("ines", dress.item_id)
        made = await asyncio.to_thread(shop.reranked_list, time.monotonic() + PATIENCE)
        while made.as_of.offsets.get("clicks", -1) < len(dresses) - 1:  # it knows all clicks
            made = await asyncio.to_thread(shop.reranked_list, time.monotonic() + PATIENCE)
        assert made.user_id == "ines"
        assert "cold-1" in [line.item_id for line in made.recommendation.items]
        assert worker.parts.live.current.label in made.recommendation.model
        assert "smollm2" in made.recommendation.model.lower()
    finally:
        shop.close()
        await worker.stop()


async def _until(happened: Callable[[], bool], worker: Worker) -> None:
    def there() -> bool:
        worker.check()
        return happened()

    await wait_for(there)
