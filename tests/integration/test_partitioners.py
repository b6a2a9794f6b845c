from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, Message, Producer

from stream.contracts.partitioner import partition_of
from stream.kafka.broker import EmbeddedBroker


@pytest.mark.parametrize("partitioner", ["murmur2_random", "consistent_random"])
def test_a_producer_puts_each_key_where_we_say(partitioner: str) -> None:
    placed: dict[bytes, int] = {}

    def delivered(error: KafkaError | None, message: Message) -> None:
        assert error is None
        key, partition = message.key(), message.partition()
        assert key is not None
        assert partition is not None
        placed[key] = partition

    keys = ["u", "ab", "abc", "1a674938eb6b4f9b", "blåbær", "\x00", "😀" * 64]
    keys += [f"shopper-{n}" for n in range(300)]
    with EmbeddedBroker() as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap, "partitioner": partitioner})
        for key in keys:
            producer.produce("clicks", b"{}", key.encode(), on_delivery=delivered)
        assert producer.flush(120) == 0
    assert len(placed) == len(keys)
    assert placed == {key: partition_of(key, 4, partitioner) for key in placed}
