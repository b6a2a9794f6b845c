from __future__ import annotations

from stream.shoppers.rerank_queue import RerankQueue
from testbed.stand_ins import ManualClock


def test_each_shopper_waits_once_and_the_oldest_is_served_first() -> None:
    backlog = RerankQueue()
    for key in (b"a", b"b", b"a"):
        backlog.add(key, 0)
    assert [backlog.next(), backlog.next(), backlog.next()] == [(b"a", 0), (b"b", 0), None]


def test_it_is_bounded_and_knows_that_some_were_left_out() -> None:
    backlog = RerankQueue(kept=2)
    for key in (b"a", b"b", b"c"):
        backlog.add(key, 0)
    assert len(backlog) == 2
    assert backlog.overflowed
    assert backlog.next() == (b"b", 0)


def test_put_off_it_rests_a_while() -> None:
    clock = ManualClock()
    backlog = RerankQueue(clock=clock)
    backlog.add(b"a", 3)
    backlog.put_off()
    assert backlog.next() is None
    clock.advance(backlog.rest())
    assert backlog.next() == (b"a", 3)


def test_a_served_shopper_leaves() -> None:
    backlog = RerankQueue()
    backlog.add(b"a", 0)
    backlog.drop(b"a")
    assert backlog.next() is None
