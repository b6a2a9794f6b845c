"""The shopper processor on working fakes: what it promises, without a broker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

from models.domain import History, Item, Recommendation
from models.ports import Deadline
from models.recommend.popularity import Popularity
from models.recommend.recommender import Recommender
from models.space.zero_shot import ZeroShotSpace
from stream import settings as weft_settings
from stream.contracts.codec import decode_recommendation
from stream.contracts.partitioner import partition_of
from stream.shoppers.batch import Arrival
from stream.shoppers.processor import ShopperProcessor
from stream.shoppers.state import ShopperState, loads
from stream.shoppers.states import States
from testbed.stand_ins import HashEncoder, MemoryDelivery, MemoryIndex, OverlapReranker
from testbed.waiting import wait_for
from tests.read_states import read_states

PARTITIONS = 4
T0 = 1_700_000_000_000
TITLES = ("linen midi dress", "linen mini dress", "wool coat", "leather boots", "silk midi dress")


@dataclass
class Shop:
    """A processor with everything around it, and the offsets of what was sent to it."""

    delivery: MemoryDelivery = field(default_factory=MemoryDelivery)
    table: States = field(default_factory=States)
    index: MemoryIndex = field(default_factory=MemoryIndex)
    reranker: OverlapReranker | None = None
    batch_size: int = 256
    acked: list[tuple[str, int]] = field(default_factory=list)
    offset: int = -1

    def __post_init__(self) -> None:
        self.encoder = HashEncoder()
        items = [Item(f"i{n}", title, T0) for n, title in enumerate(TITLES)]
        self.index.upsert(items, list(self.encoder.encode([i.text for i in items])))
        settings = weft_settings.load(
            {}, data_dir=Path(), batch_size=self.batch_size, deadline=60.0, batch_wait=0.001
        )
        popularity = Popularity(7)
        weight = 0.5 if self.reranker else 0.0
        space = ZeroShotSpace(self.encoder)
        recommender = Recommender(self.index, space, popularity, self.reranker, weight, 3, 5)
        self.processor = ShopperProcessor(
            settings, self.table, recommender, popularity, self.delivery, PARTITIONS
        )

    def send(self, user: str, topic: str = "clicks", **fields: object) -> Arrival:
        self.offset += 1
        value = orjson.dumps({"user_id": user, "ts": T0 + self.offset, **fields})
        return self.arrive(user.encode(), value, topic, self.offset)

    def arrive(
        self, key: bytes, value: bytes | None, topic: str, offset: int, partition: int | None = None
    ) -> Arrival:
        right = partition_of(key, PARTITIONS, "murmur2_random")
        arrival = Arrival(
            topic,
            right if partition is None else partition,
            offset,
            key,
            value,
            lambda: self.acked.append((topic, offset)),
        )
        self.processor.take(arrival)
        return arrival

    def list_of(self, user: str) -> list[str]:
        made = decode_recommendation(
            user.encode(), self.delivery.newest("recommendations")[user.encode()]
        )
        assert made is not None
        return [line.item_id for line in made.recommendation.items]


def serve(shop: Shop, until: Callable[[], bool]) -> None:
    """Runs the processor until ``until``."""
    drive(shop, lambda: wait_for(until))


def drive(shop: Shop, script: Callable[[], Coroutine[None, None, None]]) -> None:
    async def main() -> None:
        serving = asyncio.create_task(shop.processor.run())
        playing = asyncio.create_task(script())
        await asyncio.wait({serving, playing}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        serving.cancel()
        await playing
        await asyncio.gather(serving, return_exceptions=True)

    asyncio.run(main())
    shop.processor.close()


def test_an_event_becomes_a_state_on_the_changelog_and_a_list_of_what_is_like_it() -> None:
    shop = Shop()
    shop.send("ana", item_id="i0")
    serve(shop, lambda: bool(shop.acked))
    state = loads(shop.delivery.newest("weft-shoppers-changelog")[b"ana"])
    assert [row[4] for row in state.rows] == ["i0"]
    assert shop.list_of("ana")[0] in ("i1", "i4")  # the other dresses
    assert shop.acked == [("clicks", 0)]


def test_a_batch_sends_one_list_a_shopper_computed_from_all_events() -> None:
    shop = Shop()
    for item in ("i0", "i1", "i4"):
        shop.send("ana", item_id=item)
    serve(shop, lambda: len(shop.acked) == 3)
    lists = [r for r in shop.delivery.records if r.topic == "recommendations"]
    assert len(lists) == 1
    made = decode_recommendation(b"ana", lists[0].value)
    assert made is not None
    assert dict(made.as_of.offsets) == {"clicks": 2}


def test_nothing_is_acked_before_it_is_delivered_and_a_failed_delivery_is_made_again() -> None:
    shop = Shop()
    shop.delivery.failures = 1_000
    shop.send("ana", item_id="i0")

    async def script() -> None:
        await wait_for(lambda: shop.delivery.failures < 999)  # it was tried twice
        assert shop.acked == []
        shop.delivery.failures = 0
        await wait_for(lambda: bool(shop.acked))

    drive(shop, script)
    assert set(shop.delivery.newest("recommendations")) == {b"ana"}
    assert set(shop.delivery.newest("weft-shoppers-changelog")) == {b"ana"}


def test_events_are_acked_in_the_order_of_their_arrival() -> None:
    shop = Shop(batch_size=3)

    async def script() -> None:
        for number in range(20):
            await shop.processor.room()
            shop.send(f"u{number % 4}", item_id="i0")
            await asyncio.sleep(0)
        await wait_for(lambda: len(shop.acked) == 20)

    drive(shop, script)
    assert shop.acked == [("clicks", n) for n in range(20)]


def test_a_bad_message_is_a_dead_letter_and_the_rest_goes_on() -> None:
    shop = Shop()
    shop.arrive(b"ana", b'{"user_id": "ana", "ts": ', "clicks", 0)
    shop.arrive(b"\xff\xfe", b"{}", "clicks", 1)
    shop.arrive(b"ana", None, "clicks", 2)
    shop.offset = 2
    shop.send("ana", item_id="i0")
    serve(shop, lambda: len(shop.acked) == 4)
    dead = [r for r in shop.delivery.records if r.topic == "dead-letters"]
    assert [(r.key, r.value) for r in dead] == [
        (b"ana", b'{"user_id": "ana", "ts": '),
        (b"\xff\xfe", b"{}"),
        (b"ana", None),
    ]
    assert next(dict(r.headers)["weft-error"] for r in dead) == b"MalformedMessage"
    assert shop.list_of("ana")


def test_a_record_in_the_wrong_partition_is_a_dead_letter_that_names_the_setting() -> None:
    shop = Shop()
    wrong = (partition_of(b"ana", PARTITIONS, "murmur2_random") + 1) % PARTITIONS
    value = orjson.dumps({"user_id": "ana", "ts": T0, "item_id": "i0"})
    shop.arrive(b"ana", value, "clicks", 0, wrong)
    serve(shop, lambda: bool(shop.acked))
    (dead,) = shop.delivery.records
    headers = dict(dead.headers)
    assert headers["weft-error"] == b"WrongPartition"
    assert b"WEFT_PARTITIONER" in headers["weft-words"]
    assert shop.table == {}


def test_a_redelivered_event_changes_no_state_but_list_and_changelog_go_out_again() -> None:
    shop = Shop()

    async def script() -> None:
        arrival = shop.send("ana", item_id="i0")
        await wait_for(lambda: len(shop.acked) == 1)
        before = list(shop.delivery.records)
        shop.processor.take(arrival)
        await wait_for(lambda: len(shop.acked) == 2)
        again = shop.delivery.records[len(before) :]
        assert [r.topic for r in again] == ["recommendations", "weft-shoppers-changelog"]
        assert again[1].value == before[1].value

    drive(shop, script)
    assert shop.processor.counters.again == 1


def test_one_event_id_twice_counts_once() -> None:
    shop = Shop()
    shop.send("ana", item_id="i0", event_id="e1")
    shop.send("ana", item_id="i0", event_id="e1")
    serve(shop, lambda: len(shop.acked) == 2)
    assert len(loads(shop.table[b"ana"]).rows) == 1


def test_an_unknown_item_is_kept_by_id_and_used_once_the_product_arrives() -> None:
    shop = Shop()

    async def script() -> None:
        shop.send("ana", item_id="later")
        await wait_for(lambda: len(shop.acked) == 1)
        item = Item("later", "leather ankle boots", T0)
        shop.index.upsert([item], list(shop.encoder.encode([item.text])))
        shop.send("ana", "searches", query="boots")
        await wait_for(lambda: len(shop.acked) == 2)

    drive(shop, script)
    made = decode_recommendation(b"ana", shop.delivery.newest("recommendations")[b"ana"])
    assert made is not None
    assert any("leather ankle boots" in line.reason for line in made.recommendation.items)


def test_bought_items_are_not_recommended() -> None:
    shop = Shop()
    shop.send("ana", item_id="i0")
    shop.send("ana", "purchases", item_id="i1")
    serve(shop, lambda: len(shop.acked) == 2)
    assert "i1" not in shop.list_of("ana")


def test_an_erasure_tombstones_the_list_and_leaves_only_the_marker() -> None:
    shop = Shop()
    shop.send("ana", item_id="i0")
    shop.send("ana", "searches", query="secret wish")
    shop.send("ana", "erasures")
    serve(shop, lambda: len(shop.acked) == 3)
    assert shop.delivery.newest("recommendations")[b"ana"] is None
    kept = shop.delivery.newest("weft-shoppers-changelog")[b"ana"]
    assert kept is not None
    assert b"secret" not in kept
    assert loads(kept).is_marker


def test_a_list_without_time_for_the_llm_says_so_and_a_reranked_one_follows() -> None:
    shop = Shop(reranker=OverlapReranker())
    assert shop.reranker is not None
    shop.reranker.failures = 1  # as good as no time: the list goes out without it
    shop.send("ana", item_id="i0")

    serve(shop, lambda: shop.processor.counters.reranked == 1)
    lists = [r.value for r in shop.delivery.records if r.topic == "recommendations"]
    states = [r.value for r in shop.delivery.records if r.topic == "weft-shoppers-changelog"]
    first, second = (decode_recommendation(b"ana", value) for value in lists)
    assert first is not None
    assert second is not None
    assert (first.recommendation.reranked, first.trigger) == (False, "click")
    assert (second.recommendation.reranked, second.trigger) == (True, "rerank")
    assert [loads(state).rerank_due for state in states] == [True, False]


def test_the_index_away_for_a_while_loses_nothing() -> None:
    shop = Shop()
    shop.index.outage = 2
    shop.send("ana", item_id="i0")
    serve(shop, lambda: bool(shop.acked))
    assert shop.list_of("ana")


def test_revoked_partitions_deliver_and_ack_nothing_of_what_was_gathered() -> None:
    shop = Shop()

    async def main() -> None:
        shop.send("ana", item_id="i0")
        await shop.processor.revoked(patience=1.0)
        serving = asyncio.create_task(shop.processor.run())
        await asyncio.sleep(0.05)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    asyncio.run(main())
    assert shop.delivery.records == []
    assert shop.acked == []
    assert shop.table == {}


def test_a_revocation_waits_for_the_delivery_under_way() -> None:
    shop = Shop()
    shop.delivery.held.clear()
    shop.send("ana", item_id="i0")

    async def script() -> None:
        await wait_for(lambda: shop.processor._delivering.locked())
        revoked = asyncio.create_task(shop.processor.revoked(patience=60.0))
        await asyncio.sleep(0.05)
        assert not revoked.done()
        shop.delivery.held.set()
        await revoked
        assert shop.delivery.records

    drive(shop, script)


def test_what_is_derived_is_rebuilt_from_the_recovered_table() -> None:
    first = Shop(reranker=OverlapReranker())
    assert first.reranker is not None
    first.reranker.failures = 1_000
    first.send("ana", item_id="i3")
    serve(first, lambda: bool(first.acked))
    second = Shop(reranker=OverlapReranker(), table=read_states(first.table))

    async def script() -> None:
        await second.processor.recovered()
        await wait_for(lambda: second.processor.counters.reranked == 1)

    drive(second, script)
    assert second.processor._aggregates.popularity.top(1)[0][0] == "i3"


def test_one_shoppers_many_clicks_do_not_lead_everybodys_list() -> None:
    shop = Shop()
    for _ in range(100):
        shop.send("bot", item_id="i1")
    for user in ("ana", "bea"):
        shop.send(user, item_id="i2")
    assert shop.processor._aggregates.popularity.top(2) == [("i2", 2), ("i1", 1)]


def test_lists_do_not_wait_for_what_is_derived_and_no_event_is_counted_twice() -> None:
    first = Shop()
    for user in range(200):
        first.send(f"u{user}", item_id="i3")
    serve(first, lambda: len(first.acked) == 200)
    second = Shop(table=read_states(first.table))
    second.offset = first.offset

    async def script() -> None:
        derived = second.processor.recovered()
        second.send("u7", item_id="i1")
        await wait_for(lambda: bool(second.acked))
        assert second.processor._aggregates.popularity.top(2) == [("i3", 1), ("i1", 1)]  # hers
        await derived
        assert dict(second.processor._aggregates.popularity.top(2)) == {"i3": 200, "i1": 1}

    drive(second, script)


def test_deriving_ends_where_the_partitions_are_revoked() -> None:
    records = {f"u{n}".encode(): ShopperState().dumps() for n in range(1000)}
    places = (partition_of(key, PARTITIONS, "murmur2_random") for key in records)
    last = next(key for key, place in zip(records, places, strict=True) if place == PARTITIONS - 1)
    shop = Shop(table=read_states(records | {last: b"not a state"}))

    async def script() -> None:
        derived = asyncio.create_task(shop.processor.recovered())
        await asyncio.sleep(0)
        await shop.processor.revoked(patience=1.0)
        await derived  # the state that cannot be read is another worker's now

    drive(shop, script)


def test_the_gathered_batch_is_bounded() -> None:
    shop = Shop(batch_size=2)

    async def main() -> None:
        shop.send("ana", item_id="i0")
        shop.send("bo", item_id="i0")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(shop.processor.room(), 0.05)

    asyncio.run(main())


def test_a_batch_whose_models_end_after_the_revocation_leaves_nothing_behind() -> None:
    shop = Shop(reranker=OverlapReranker())
    assert shop.reranker is not None
    shop.reranker.failures = 1_000  # the list would be owed, and so queued
    began, may_end = threading.Event(), threading.Event()
    recommend = shop.processor._recommender.recommend

    class Slow:
        wants_rerank = True

        def recommend(
            self, histories: Sequence[History], deadline: Deadline
        ) -> list[Recommendation]:
            began.set()
            may_end.wait()
            return recommend(histories, deadline)

        def forget(self) -> None:
            """Nothing is kept."""

    shop.processor._recommender = Slow()
    shop.send("ana", item_id="i0")

    async def script() -> None:
        await asyncio.to_thread(began.wait)
        await shop.processor.revoked(patience=1.0)
        may_end.set()
        await asyncio.sleep(0.1)
        assert len(shop.processor._backlog) == 0
        assert shop.delivery.records == []

    drive(shop, script)
    assert shop.acked == []
