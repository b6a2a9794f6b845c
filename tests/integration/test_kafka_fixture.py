from __future__ import annotations

import time

import pytest
from confluent_kafka import Consumer, Producer

from testbed.kafka import RealKafka
from testbed.waiting import PATIENCE

pytestmark = pytest.mark.kafka


def _produce(kafka: RealKafka, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    producer.produce(topic, value)
    assert producer.flush(120) == 0


def _read(kafka: RealKafka, topic: str, count: int) -> list[bytes]:
    config = {"bootstrap.servers": kafka.bootstrap, "group.id": topic, "session.timeout.ms": 1000}
    consumer = Consumer(config | {"auto.offset.reset": "earliest", "heartbeat.interval.ms": 300})
    consumer.subscribe([topic])
    values: list[bytes] = []
    until = time.monotonic() + PATIENCE
    while len(values) < count and time.monotonic() < until:
        message = consumer.poll(1.0)
        if message is not None and message.error() is None:
            values.append(message.value() or b"")
    consumer.close()
    return values


def test_what_was_produced_before_a_restart_is_read_after_it(kafka: RealKafka) -> None:
    kafka.create_topics("fixture-restart", partitions=1)
    _produce(kafka, "fixture-restart", b"before")
    kafka.restart()
    _produce(kafka, "fixture-restart", b"after")
    assert _read(kafka, "fixture-restart", 2) == [b"before", b"after"]


def test_a_topic_is_not_created_by_asking_for_it(kafka: RealKafka) -> None:
    assert "never-created" not in kafka.admin().list_topics(timeout=120).topics
    assert kafka.admin().list_topics("never-created", timeout=120).topics["never-created"].error
