"""The catalogue on a real Apache Kafka: what the embedded broker cannot show."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from confluent_kafka import Producer

from models.domain import Item
from models.errors import BrokerUnavailable
from models.space.zero_shot import ZeroShotSpace
from stream.bundles.fill import GroupProgress
from stream.catalogue.feed import CatalogueFeed
from stream.catalogue.follower import Follower
from stream.catalogue.followers import GroupFollower, IndexFollower
from stream.catalogue.processor import CatalogueProcessor, Tally
from stream.contracts.codec import encode_product
from stream.contracts.topics import TopicNames
from stream.index.edge import EdgeIndex
from stream.kafka.delivery import KafkaDelivery
from testbed.kafka import RealKafka
from testbed.stand_ins import HashEncoder
from testbed.waiting import PATIENCE

NOW = 1_700_000_000_000
ITEMS = [Item(f"i{n}", f"shirt number{n}", NOW + n) for n in range(200)]

pytestmark = pytest.mark.kafka


@pytest.fixture
def names(kafka: RealKafka) -> TopicNames:
    names = TopicNames(f"shop-{uuid.uuid4().hex[:8]}-")
    kafka.create_topics(names.of("products"), names.of("dead-letters"), partitions=4)
    return names


def publish_transactions(kafka: RealKafka, topic: str) -> None:
    """Half aborted, half committed: the logs end with control markers, which no reader sees."""
    config = {"bootstrap.servers": kafka.bootstrap, "transactional.id": uuid.uuid4().hex}
    producer = Producer(config)
    producer.init_transactions(120)
    for wanted in (False, True):
        producer.begin_transaction()
        for item in ITEMS:
            key, value = encode_product(item)
            producer.produce(topic, value if wanted else b"never seen", key)
        if wanted:
            producer.commit_transaction(120)
        else:
            producer.flush(120)
            producer.abort_transaction(120)


@pytest.mark.parametrize("kind", ["own index", "shared index"])
def test_transactions_are_read_to_their_end_and_a_restart_goes_on_there(
    kafka: RealKafka, names: TopicNames, tmp_path: Path, kind: str
) -> None:
    config = {"bootstrap.servers": kafka.bootstrap}
    topic = names.of("products")
    publish_transactions(kafka, topic)

    def life(expected: Tally) -> None:
        encoder = HashEncoder()
        index = EdgeIndex(tmp_path / "index", encoder.name, encoder.dim)
        follower: Follower
        if kind == "own index":
            follower = IndexFollower(config, topic, index)
        else:
            follower = GroupFollower(config, topic, f"{names.prefix}catalogue")
        delivery = KafkaDelivery(config, "murmur2_random")
        processor = CatalogueProcessor(index, ZeroShotSpace(encoder), delivery, names)
        feed = CatalogueFeed(processor, follower)
        feed.start()
        assert feed.wait_until_caught_up(PATIENCE)
        assert feed.lag == 0
        feed.stop()
        assert feed.error is None
        assert feed.tally == expected
        assert index.count() == len(ITEMS)
        index.close()

    life(Tally(upserted=200, encoded=200))
    life(Tally())


def test_a_group_is_not_complete_with_a_topic_that_the_broker_does_not_know_just_now(
    kafka: RealKafka, names: TopicNames
) -> None:
    """Of no partition all is read: a second index would go live without an item."""
    progress = GroupProgress({"bootstrap.servers": kafka.bootstrap}, names.of("clicks"), "group")
    with pytest.raises(BrokerUnavailable, match="does not know"):
        progress.complete()
    progress.close()
