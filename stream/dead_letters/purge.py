"""Deletes the beginning of the dead-letters topic's partitions, as Kafka can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from models.errors import BrokerUnavailable, Fatal
from stream.contracts.topics import DEAD_LETTERS, TOPICS, TopicNames
from stream.kafka.topic_reader import silenced
from stream.settings import Settings

_TIMEOUT: Final = 30.0
_AWAY: Final = (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN)


def purge(settings: Settings, upto: Mapping[int, int]) -> None:
    """Deletes, by partition, what lies before the offset.

    Raises ``BrokerUnavailable``, and ``Fatal`` where the broker cannot or may not delete.
    """
    topic = TopicNames(settings.topic_prefix).of(DEAD_LETTERS)
    admin = AdminClient(silenced(settings))
    asked = [TopicPartition(topic, partition, offset) for partition, offset in upto.items()]
    try:
        futures = admin.delete_records(
            asked, request_timeout=_TIMEOUT, operation_timeout=_TIMEOUT / 2
        )
        for future in futures.values():
            future.result(_TIMEOUT + 5)
    except KafkaException as error:
        reason = error.args[0]
        if reason.code() in _AWAY:
            raise BrokerUnavailable(f"the broker did not delete: {reason.str()}") from error
        days = int(TOPICS[DEAD_LETTERS].config["retention.ms"]) // 86_400_000
        raise Fatal(
            f"the broker deletes nothing of {topic}: {reason.str()}. It needs the right to delete "
            f"on the topic and cleanup.policy=delete; without, retention deletes ({days} days, if "
            "Weft has created the topic)"
        ) from error
