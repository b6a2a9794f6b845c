"""When a partition stands still, on looks that the test makes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from models.errors import BrokerUnavailable
from stream.shoppers.offset_check import Gap, Partition
from stream.shoppers.stalls import PATIENCE, Stalls, StallWatch

P: Partition = ("clicks", 0)
Q: Partition = ("clicks", 1)


def looks(made: Stalls, count: int, following: int, end: int) -> list[bool]:
    return [made.due(P, following, end) for _ in range(count)]


def test_a_partition_that_stands_still_is_due_again_and_again_at_a_bounded_rate() -> None:
    found = looks(Stalls(patience=3), 9, following=5, end=6)
    assert found == [False, False, True] * 3


def test_one_that_goes_on_is_not_due() -> None:
    made = Stalls(patience=3)
    assert not any(made.due(P, following, 20) for following in range(10))
    assert looks(made, 3, 10, 20) == [False, False, True]


def test_one_that_was_read_to_its_end_is_not_due_and_its_looks_are_forgotten() -> None:
    made = Stalls(patience=3)
    looks(made, 2, 5, 6)
    assert not any(looks(made, 5, 6, 6))
    assert looks(made, 3, 6, 7) == [False, False, True]


def test_one_whose_record_is_on_its_way_starts_anew() -> None:
    made = Stalls(patience=3)
    looks(made, 2, 5, 6)
    made.moving(P)
    assert looks(made, 3, 5, 6) == [False, False, True]


def test_where_no_record_is_left_it_is_due_only_once_the_end_moves() -> None:
    made = Stalls(patience=3)
    assert any(looks(made, 3, 5, 6))
    made.empty(P, 5, 6)
    assert not any(looks(made, 9, 5, 6))
    assert looks(made, 3, 5, 8) == [False, False, True]


def test_what_was_empty_says_nothing_of_what_lies_before_it() -> None:
    made = Stalls(patience=3)
    made.empty(P, 5, 6)
    assert looks(made, 3, 3, 6) == [False, False, True]  # after a rebalance, from the commit on


class Ends:
    """Two partitions, both with one record more than was taken."""

    away = False
    asked = 0

    def ends(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        self.asked += 1
        if self.away:
            raise BrokerUnavailable("gone")
        return dict.fromkeys(partitions, 6)

    def look(self, partition: Partition, first: int, before: int) -> Gap:
        raise AssertionError("the reading looks")


class Reading:
    """What a test says of the intake."""

    def __init__(self) -> None:
        self.next: dict[Partition, int] = {P: 5, Q: 5}
        self.coming: set[Partition] = set()
        self.stuck = False
        self.empty = False
        self.gone_back: list[Partition] = []

    def held(self) -> dict[Partition, int]:
        return self.next

    def on_its_way(self, partition: Partition) -> bool:
        return partition in self.coming

    def held_up(self) -> bool:
        return self.stuck

    async def go_back(self, partition: Partition, end: int) -> bool:
        self.gone_back.append(partition)
        return not self.empty


def watch(ends: Ends, reading: Reading, count: int) -> None:
    async def main() -> None:
        made = StallWatch(ends, reading, every=0.0)
        for _ in range(count):
            await made.look()

    asyncio.run(main())


def test_the_watch_goes_back_for_those_alone_that_have_nothing_on_their_way() -> None:
    reading = Reading()
    reading.coming = {Q}
    watch(Ends(), reading, 2 * PATIENCE)
    assert reading.gone_back == [P, P]


def test_looks_do_not_count_while_what_was_read_waits_or_the_broker_is_away() -> None:
    reading, ends = Reading(), Ends()
    reading.stuck = True
    watch(ends, reading, 2 * PATIENCE)
    assert not ends.asked
    reading.stuck, ends.away = False, True
    watch(ends, reading, 2 * PATIENCE)
    assert ends.asked
    assert not reading.gone_back


def test_what_is_empty_to_its_end_is_gone_back_for_once() -> None:
    reading = Reading()
    reading.empty = True
    watch(Ends(), reading, 5 * PATIENCE)
    assert sorted(reading.gone_back) == [P, Q]


def test_nothing_is_asked_while_nothing_is_held() -> None:
    reading, ends = Reading(), Ends()
    reading.next = {}
    watch(ends, reading, 3)
    assert not ends.asked
