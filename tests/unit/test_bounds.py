"""A partition's bounds, of one that has no leader yet as well."""

from __future__ import annotations

from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from stream.kafka.watermarks import bounds_of

PLACE = TopicPartition("weft-bundle", 0)


class Answers:
    """A consumer whose broker answers one after the other: bounds, or an error's code."""

    def __init__(self, *answers: tuple[int, int] | int | None) -> None:
        self.answers = list(answers)

    def get_watermark_offsets(self, _place: TopicPartition, timeout: float) -> object:
        assert timeout > 0
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, int):
            raise KafkaException(KafkaError(answer))
        return answer


def asked(*answers: tuple[int, int] | int | None, timeout: float = 5.0) -> tuple[int, int]:
    return bounds_of(cast(Consumer, Answers(*answers)), PLACE, timeout)


def test_a_new_partition_is_waited_for_until_it_has_a_leader() -> None:
    no_leader = KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE
    assert asked(*no_leader, (3, 8)) == (3, 8)


def test_what_waiting_cannot_mend_is_raised_at_once() -> None:
    with pytest.raises(KafkaException):
        asked(KafkaError.TOPIC_AUTHORIZATION_FAILED, (0, 0))


def test_a_leader_that_does_not_come_and_a_silent_broker_are_errors() -> None:
    with pytest.raises(KafkaException):
        asked(KafkaError.LEADER_NOT_AVAILABLE, timeout=0.3)
    with pytest.raises(KafkaException):
        asked(None)
