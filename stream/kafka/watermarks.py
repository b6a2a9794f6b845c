"""Where a partition begins and ends now; one that was just made has a leader some ms later."""

from __future__ import annotations

import time
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

_NO_LEADER: Final = frozenset(
    {KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION}
)
_PAUSE: Final = 0.1


def bounds_of(consumer: Consumer, place: TopicPartition, timeout: float) -> tuple[int, int]:
    """The partition's first offset and its end, within ``timeout`` seconds.

    Blocks. Raises ``KafkaException`` where the broker does not answer, or no leader comes.
    """
    until = time.monotonic() + timeout
    while True:
        try:
            left = max(_PAUSE, until - time.monotonic())
            found = consumer.get_watermark_offsets(place, timeout=left)
        except KafkaException as error:
            if error.args[0].code() not in _NO_LEADER or time.monotonic() > until:
                raise
            time.sleep(_PAUSE)
        else:
            if found is None:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            return int(found[0]), int(found[1])
