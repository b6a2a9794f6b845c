from __future__ import annotations

import pytest

from stream.contracts.partitioner import murmur2, partition_of


@pytest.mark.parametrize(
    ("text", "java"),
    [  # org.apache.kafka.common.utils.UtilsTest.testMurmur2
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_murmur2_is_that_of_kafkas_java_client(text: str, java: int) -> None:
    assert murmur2(text.encode()) == java % 2**32


def test_every_partition_is_in_range_and_used() -> None:
    for partitioner in ("murmur2_random", "consistent_random"):
        keys = [f"shopper-{n}".encode() for n in range(500)]
        assert {partition_of(key, 7, partitioner) for key in keys} == set(range(7))


def test_an_unknown_partitioner_is_refused() -> None:
    with pytest.raises(ValueError, match="random"):
        partition_of(b"a", 4, "random")
