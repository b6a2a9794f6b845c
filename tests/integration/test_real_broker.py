from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka.admin import ConfigResource, ResourceType

from models.errors import MissingTopic, OversizedMessage, UnequalPartitions
from stream.contracts.codec import dead_letter_headers
from stream.files.publish import require_topics
from stream.kafka.broker import Layout, ensure_topics, look
from stream.kafka.delivery import KafkaDelivery, Record
from stream.settings import Settings, kafka_config
from testbed.kafka import RealKafka

pytestmark = pytest.mark.kafka


def _settings(kafka: RealKafka, prefix: str, **changes: object) -> Settings:
    base = Settings(kafka=kafka.bootstrap, topic_prefix=prefix, partitions=3)
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def _policy(kafka: RealKafka, topic: str, name: str) -> str:
    admin = kafka.admin()
    (future,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    value: str = future.result(120)[name].value
    return value


def test_two_workers_at_once_create_every_topic_once(kafka: RealKafka) -> None:
    settings = _settings(kafka, "twice-")
    with ThreadPoolExecutor(2) as pool:
        layouts = list(pool.map(ensure_topics, [settings, settings]))
    cluster = kafka.admin().list_topics(timeout=20).cluster_id
    assert cluster is not None
    assert layouts == [Layout(partitions=3, embedded=False, cluster=cluster)] * 2
    compacted = ("twice-products", "twice-recommendations", "weft-twice-shoppers-changelog")
    assert [_policy(kafka, name, "cleanup.policy") for name in compacted] == ["compact"] * 3
    assert _policy(kafka, "twice-clicks", "cleanup.policy") == "delete"
    assert int(_policy(kafka, "twice-dead-letters", "retention.bytes")) > 0


def test_new_topics_take_the_count_of_the_shops_own(kafka: RealKafka) -> None:
    kafka.create_topics("own-clicks", "own-purchases", partitions=5)
    assert ensure_topics(_settings(kafka, "own-")).partitions == 5
    assert look(_settings(kafka, "own-")).counts["own-recommendations"] == 5
    assert look(_settings(kafka, "own-")).counts["own-products"] == 3


def test_unequal_counts_stop_the_start(kafka: RealKafka) -> None:
    kafka.create_topics("unequal-clicks", partitions=2)
    kafka.create_topics("unequal-searches", partitions=4)
    with pytest.raises(UnequalPartitions, match=r"unequal-clicks has 2.*unequal-searches has 4"):
        ensure_topics(_settings(kafka, "unequal-"))


def test_a_topic_that_may_not_be_created_stops_the_start(kafka: RealKafka) -> None:
    with pytest.raises(MissingTopic, match="could not be created"):
        ensure_topics(_settings(kafka, "refused-", replicas=3))  # one broker


def test_a_publisher_creates_topics_only_where_its_own_are_missing(kafka: RealKafka) -> None:
    kafka.create_topics("publisher-products")
    settings = _settings(kafka, "publisher-")
    require_topics(settings, "products")
    assert "publisher-clicks" not in look(settings).counts
    require_topics(settings, "clicks")
    assert look(settings).counts["publisher-clicks"] == 3


def test_the_longest_record_that_a_topic_takes_fits_into_dead_letters(kafka: RealKafka) -> None:
    settings = _settings(kafka, "long-")
    ensure_topics(settings)
    longest = b"x" * (1_048_588 - 200)  # Kafka's default limit is of the batch with its header
    headers = dead_letter_headers("long-clicks", 0, 1, OversizedMessage("w" * 5000))
    delivery = KafkaDelivery(kafka_config(settings), settings.partitioner)
    delivery.deliver([Record("long-clicks", b"u", longest)])
    delivery.deliver([Record("long-dead-letters", b"u", longest, headers=headers)])
    delivery.close()
