"""A storm of bad messages, and an outside that is away: what each may cost, counted."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence

import pytest

from models.errors import BrokerUnavailable, InvalidField, MalformedMessage
from stream.catalogue.processor import CatalogueProcessor, Product
from stream.contracts.topics import TopicNames
from stream.dead_letters.make import Refusals
from stream.kafka.delivery import Record
from testbed.stand_ins import ManualClock, MemoryDelivery, MemoryIndex
from testbed.waiting import PATIENCE, wait_for
from tests.unit.test_shoppers import Shop, drive

BAD = b'{"user_id": "ana", "ts": '


class CountingDelivery(MemoryDelivery):
    """Counts its calls, failed ones included."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def deliver(self, records: Sequence[Record]) -> None:
        self.calls += 1
        super().deliver(records)


def test_a_storm_costs_one_delivery_a_batch_no_state_no_list_and_one_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    delivery = CountingDelivery()
    shop = Shop(delivery=delivery, batch_size=256)

    async def script() -> None:
        for n in range(10_240):
            await shop.processor.room()
            shop.arrive(b"u%d" % n, BAD, "clicks", n)
        await wait_for(lambda: len(shop.acked) == 10_240)

    drive(shop, script)
    assert len(delivery.newest("dead-letters")) == 10_240
    assert delivery.calls == 40
    assert shop.table == {}
    assert shop.processor.counters.lists == 0
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2  # the first, and what was left to say at the end
    assert "dead letters: 256 MalformedMessage" in told[0]
    assert f"dead letters: {10_240 - 256} MalformedMessage" in told[1]


def test_a_good_event_in_a_storm_has_its_list_with_the_batch_that_it_came_in() -> None:
    shop = Shop(batch_size=16)
    good = range(50, 2000, 100)

    async def script() -> None:
        for n in range(2000):
            await shop.processor.room()
            if n in good:
                shop.offset = n - 1
                shop.send(f"good{n}", item_id="i0")
            else:
                shop.arrive(b"bad", BAD, "clicks", n)
        await wait_for(lambda: len(shop.acked) == 2000)

    drive(shop, script)
    for n in good:
        key, before = b"good%d" % n, 0
        for record in shop.delivery.records:
            if record.topic == "recommendations" and record.key == key:
                break
            before += record.topic == "dead-letters"
        arrived_before = n - sum(other < n for other in good)
        assert before <= arrived_before + 16


def test_bad_messages_as_long_as_a_broker_takes_fill_no_memory() -> None:
    shop = Shop(batch_size=100_000)

    async def main() -> None:
        for n in range(8):
            await asyncio.wait_for(shop.processor.room(), PATIENCE)
            shop.arrive(b"ana", b"x" * (1 << 20), "clicks", n)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(shop.processor.room(), 0.05)

    asyncio.run(main())


def test_a_line_a_minute_tells_of_all_dead_letters_since_the_one_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    refusals = Refusals(TopicNames("shop-"), logging.getLogger("weft.test"), clock)
    for n in range(600):
        error = InvalidField("ts is missing") if n % 2 else MalformedMessage("not JSON")
        refusals.delivered([refusals.letter("clicks", (3, n), b"ana", b"secret", error)])
        clock.advance(1.0)
    refusals.tell()
    refusals.tell()  # nothing is left to say
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 11
    assert told[-1] == (
        "dead letters: 30 InvalidField, 29 MalformedMessage; the newest from shop-clicks, "
        "partition 3, offset 599: ts is missing (`weft dlq list`)"
    )


def test_the_end_of_a_storm_is_told_when_its_minute_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    refusals = Refusals(TopicNames(), logging.getLogger("weft.test"), clock)
    error = InvalidField("ts is missing")
    for n in range(100):
        refusals.delivered([refusals.letter("clicks", (0, n), b"ana", b"secret", error)])
    for _ in range(1000):
        clock.advance(0.5)
        refusals.tell_if_due()
    told = [record.getMessage() for record in caplog.records]
    assert [line.partition(";")[0] for line in told] == [
        "dead letters: 1 InvalidField",
        "dead letters: 99 InvalidField",
    ]


def test_a_storm_of_bad_products_is_one_line_of_the_log_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    delivery = CountingDelivery()
    space = Shop().processor._recommender._space  # type: ignore[attr-defined]
    catalogue = CatalogueProcessor(MemoryIndex(), space, delivery, TopicNames())
    for start in range(0, 5120, 512):
        tally = catalogue.process([Product(0, n, b"i", b"[") for n in range(start, start + 512)])
        assert tally.dead == 512
    assert delivery.calls == 10
    assert len(caplog.records) == 1


def test_dead_letters_that_cannot_be_written_stop_the_intake_and_drop_nothing() -> None:
    class NoDeadLetters(MemoryDelivery):
        """The topic ``dead-letters`` is away, the others are there."""

        away = True

        def deliver(self, records: Sequence[Record]) -> None:
            if self.away and any(record.topic == "dead-letters" for record in records):
                raise BrokerUnavailable("dead-letters has no leader")
            super().deliver(records)

    delivery = NoDeadLetters()
    shop = Shop(delivery=delivery, batch_size=2)

    async def script() -> None:
        shop.arrive(b"ana", BAD, "clicks", 0)
        await wait_for(lambda: shop.processor.waits_for)  # it is in hand now
        shop.offset = 0
        for _ in range(2):
            await asyncio.wait_for(shop.processor.room(), PATIENCE)
            shop.send("bo", item_id="i0")
        with pytest.raises(TimeoutError):  # no more is taken
            await asyncio.wait_for(shop.processor.room(), 0.5)
        assert shop.acked == []
        assert delivery.records == []
        delivery.away = False
        await wait_for(lambda: len(shop.acked) == 3)

    drive(shop, script)
    assert delivery.newest("dead-letters") == {b"ana": BAD}
    assert shop.acked == [("clicks", 0), ("clicks", 1), ("clicks", 2)]


def test_with_the_index_away_no_event_is_taken_nothing_spins_and_the_log_says_it_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shop = Shop(batch_size=1)
    shop.index.outage = 1_000_000

    async def script() -> None:
        shop.send("ana", item_id="i0")
        began = time.monotonic()
        await wait_for(lambda: shop.processor.waits_for)
        shop.send("bo", item_id="i1")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(shop.processor.room(), 1.0)
        # tries after 0, .2, .6, 1.4, ... seconds, whichever of them are over by now
        most = 1 + math.log2(1 + (time.monotonic() - began) / 0.2)
        assert 1_000_000 - shop.index.outage <= most
        assert shop.acked == []
        assert shop.delivery.records == []  # good events are no dead letters
        assert shop.processor.waits_for == "IndexUnavailable"
        assert shop.processor.busy() == 0.0  # it waits, and does not hang
        shop.index.outage = 0
        await wait_for(lambda: len(shop.acked) == 2)

    drive(shop, script)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert told[0].startswith("IndexUnavailable: ")
    assert told[1].startswith("going on after ")
    assert shop.processor.waits_for == ""
