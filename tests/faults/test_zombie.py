"""A worker that lost its partitions without knowing it writes nothing more, on a real Kafka."""

from __future__ import annotations

import contextlib

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from models.errors import BrokerUnavailable, Fatal
from stream.kafka.changelog import Changelog
from stream.kafka.delivery import KafkaDelivery, Record
from testbed.kafka import RealKafka

pytestmark = pytest.mark.kafka


def delivery(kafka: RealKafka) -> KafkaDelivery:
    return KafkaDelivery({"bootstrap.servers": kafka.bootstrap}, "murmur2_random", 5_000)


def state(topic: str, value: bytes, partition: int = 0) -> Record:
    return Record(topic, b"nora", value, partition)


def newest(kafka: RealKafka, topic: str) -> bytes | None:
    """What recovery reads of the one shopper."""
    read = Changelog({"bootstrap.servers": kafka.bootstrap}, topic).read({0, 1})
    found = [states[b"nora"] for states in read.states.values() if b"nora" in states]
    return found[0] if found else None


def uncommitted(kafka: RealKafka, topic: str) -> list[bytes | None]:
    """Every record of partition 0, those of transactions that were given up included."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": "zombie-test",
            "enable.partition.eof": True,
            "isolation.level": "read_uncommitted",
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[bytes | None] = []
    while (message := consumer.poll(120)) is not None:
        if (error := message.error()) is not None:
            assert error.code() == KafkaError._PARTITION_EOF, error
            break
        found.append(message.value())
    consumer.close()
    return found


def test_without_a_fence_a_former_owner_overwrites_the_newer_state(kafka: RealKafka) -> None:
    kafka.create_topics("zombie-1", partitions=2)
    former, owner = delivery(kafka), delivery(kafka)
    owner.deliver([state("zombie-1", b"newer")])
    former.deliver([state("zombie-1", b"older")])
    assert newest(kafka, "zombie-1") == b"older"


def test_a_fenced_former_owner_overwrites_nothing_and_is_told_to_wait(kafka: RealKafka) -> None:
    kafka.create_topics("zombie-2", partitions=2)
    former, owner = delivery(kafka), delivery(kafka)
    former.own("zombie-2", [0, 1])
    former.deliver([state("zombie-2", b"first")])
    owner.own("zombie-2", [0])
    owner.deliver([state("zombie-2", b"newer")])
    for _ in range(3):
        with pytest.raises(BrokerUnavailable, match="another worker"):
            former.deliver([state("zombie-2", b"older")])
    owner.deliver([state("zombie-2", b"newest")])
    assert newest(kafka, "zombie-2") == b"newest"
    former.deliver([state("zombie-2", b"kept", partition=1)])  # that one is its own still


def test_what_a_former_owner_left_half_sent_is_not_read(kafka: RealKafka) -> None:
    kafka.create_topics("zombie-3", partitions=2)
    former, owner = delivery(kafka), delivery(kafka)
    former.own("zombie-3", [0])
    former.deliver([state("zombie-3", b"whole")])
    assert former._owned is not None
    producer = former._owned[0]._producer  # killed or stopped between sending and committing
    producer.begin_transaction()
    producer.produce("zombie-3", b"half", b"nora", 0)
    assert producer.flush(120) == 0
    owner.own("zombie-3", [0])
    assert newest(kafka, "zombie-3") == b"whole"
    assert uncommitted(kafka, "zombie-3") == [b"whole", b"half"]


def test_a_partition_that_comes_back_is_owned_anew(kafka: RealKafka) -> None:
    kafka.create_topics("zombie-4", partitions=2)
    one, other = delivery(kafka), delivery(kafka)
    for owner, value in ((one, b"1"), (other, b"2"), (one, b"3")):
        owner.own("zombie-4", [0])
        owner.deliver([state("zombie-4", value)])
    assert newest(kafka, "zombie-4") == b"3"


def insist(owner: KafkaDelivery, record: Record) -> None:
    """Tries again, as the processor does: librdkafka may need a new epoch first."""
    for _ in range(5):
        with contextlib.suppress(BrokerUnavailable):
            return owner.deliver([record])
    raise AssertionError("the record could not be delivered in five tries")


def test_a_record_that_the_broker_refuses_stops_the_worker_and_leaves_nothing_open(
    kafka: RealKafka,
) -> None:
    kafka.create_topics("zombie-5", partitions=2, config={"max.message.bytes": "1000"})
    owner = delivery(kafka)
    owner.own("zombie-5", [0])
    with pytest.raises(Fatal, match="MSG_SIZE_TOO_LARGE"):
        owner.deliver([state("zombie-5", b"x" * 5_000)])
    insist(owner, state("zombie-5", b"small"))
    assert newest(kafka, "zombie-5") == b"small"


def test_a_record_of_a_partition_that_is_not_owned_is_not_sent(kafka: RealKafka) -> None:
    kafka.create_topics("zombie-6", partitions=2)
    owner = delivery(kafka)
    owner.own("zombie-6", [0])
    with pytest.raises(BrokerUnavailable, match=r"\[1\] are not this worker's"):
        owner.deliver([state("zombie-6", b"x", partition=1)])
    assert newest(kafka, "zombie-6") is None
