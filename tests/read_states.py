"""Records as a worker holds them that has just read the changelog."""

from __future__ import annotations

from collections.abc import Mapping

from stream.contracts.partitioner import partition_of
from stream.shoppers.states import States


def in_partitions(records: Mapping[bytes, bytes], count: int = 4) -> dict[int, dict[bytes, bytes]]:
    """The records of each partition, as they are read of a changelog."""
    read: dict[int, dict[bytes, bytes]] = {partition: {} for partition in range(count)}
    for key, data in records.items():
        read[partition_of(key, count, "murmur2_random")][key] = data
    return read


def read_states(records: Mapping[bytes, bytes], partitions: int = 4) -> States:
    """All of them, each in its partition, none of them looked at yet."""
    states = States()
    states.restored(in_partitions(records, partitions))
    return states
