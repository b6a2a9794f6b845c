"""The catalogue's worker is killed again and again while it imports; no product is missed."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from confluent_kafka import Producer

from models.domain import Item
from models.space.zero_shot import ZeroShotSpace
from stream.catalogue.feed import CatalogueFeed
from stream.catalogue.followers import IndexFollower
from stream.catalogue.processor import CatalogueProcessor
from stream.contracts.codec import encode_product
from stream.contracts.topics import TopicNames
from stream.index.edge import EdgeIndex
from stream.kafka.broker import EmbeddedBroker, ensure_topics
from stream.kafka.delivery import KafkaDelivery
from stream.settings import load
from testbed.stand_ins import HashEncoder
from testbed.waiting import PATIENCE

PRODUCTS = 4_000
NOW = 1_700_000_000_000


class UnhurriedEncoder(HashEncoder):
    """As slow as a real one, so that a kill finds a batch in hand."""

    def encode(self, texts):  # type: ignore[no-untyped-def]
        time.sleep(0.0005 * len(texts))
        print("encodes", flush=True)
        return super().encode(texts)


def feed_of(bootstrap: str, folder: Path) -> tuple[EdgeIndex, CatalogueFeed]:
    encoder = UnhurriedEncoder()
    index = EdgeIndex(folder, encoder.name, encoder.dim)
    config = {"bootstrap.servers": bootstrap}
    delivery = KafkaDelivery(config, "murmur2_random")
    processor = CatalogueProcessor(index, ZeroShotSpace(encoder), delivery, TopicNames())
    return index, CatalogueFeed(processor, IndexFollower(config, "products", index), batch=64)


def serve(bootstrap: str, folder: str) -> None:
    """What the child does until it is killed."""
    _, feed = feed_of(bootstrap, Path(folder))
    feed.start()
    time.sleep(3600)


def test_a_worker_killed_while_importing_has_every_product_in_the_end(tmp_path: Path) -> None:
    chosen = random.Random(11)
    with EmbeddedBroker() as broker:
        ensure_topics(load({}, kafka=broker.bootstrap))
        producer = Producer({"bootstrap.servers": broker.bootstrap})
        for n in range(PRODUCTS):
            key, value = encode_product(item(n))
            producer.produce("products", value, key)
        for n in range(0, PRODUCTS, 10):
            producer.produce("products", None, f"i{n}".encode())
        assert producer.flush(120) == 0
        code = f"from {__name__} import serve; serve({broker.bootstrap!r}, {str(tmp_path)!r})"
        for _ in range(4):
            child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
            assert child.stdout is not None
            for _ in range(chosen.randrange(1, 9)):  # batches
                assert child.stdout.readline() == b"encodes\n"
            time.sleep(chosen.uniform(0, 0.05))
            child.kill()
            child.wait()
            child.stdout.close()
        index, feed = feed_of(broker.bootstrap, tmp_path)
        again = feed.tally
        feed.start()
        assert feed.wait_until_caught_up(PATIENCE)
        feed.stop()
        assert feed.error is None
        assert again.encoded < PRODUCTS  # the earlier lives' work was kept
        kept = [n for n in range(PRODUCTS) if n % 10]
        held = index.get([f"i{n}" for n in range(PRODUCTS)])
        assert {item_id: stored.item for item_id, stored in held.items()} == {
            f"i{n}": item(n) for n in kept
        }
        assert all(stored.vector is not None for stored in held.values())
        index.close()


def item(n: int) -> Item:
    return Item(f"i{n}", f"shirt number{n}", NOW + n)
