"""More events than the LLM can order, and one shopper who sends most of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Semaphore

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
from stream.shoppers.rerank_queue import KEPT, RerankQueue
from stream.shoppers.state import loads
from stream.shoppers.states import States
from testbed.stand_ins import HashEncoder, ManualClock, MemoryDelivery, MemoryIndex, OverlapReranker
from testbed.waiting import PATIENCE

T0 = 1_700_000_000_000
PARTITIONS = 4
DEADLINE = 2.0
BATCH = 40


@dataclass
class Watched:
    """The recommender, and what it was asked: shoppers a call, and the seconds that it took.

    Where there is a ``gate``, each call waits for it: what comes meanwhile is the next batch.
    """

    inside: Recommender
    clock: ManualClock
    calls: list[tuple[int, float]] = field(default_factory=list)
    entered: int = 0
    gate: Semaphore | None = None

    @property
    def wants_rerank(self) -> bool:
        return self.inside.wants_rerank

    def recommend(self, histories: Sequence[History], deadline: Deadline) -> list[Recommendation]:
        self.entered += 1
        if self.gate is not None:
            self.gate.acquire()
        began = self.clock()
        made = self.inside.recommend(histories, deadline)
        self.calls.append((len(histories), self.clock() - began))
        return made


class Shop:
    """A processor on fakes: a rerank takes ``seconds`` of a clock that nothing else moves."""

    def __init__(self, seconds: float) -> None:
        self.clock = ManualClock()
        self.delivery = MemoryDelivery()
        self.table = States()
        self.acked = 0
        self.most_pending = 0
        self._offset = -1
        titles = ("linen midi dress", "linen mini dress", "wool coat", "silk midi dress")
        encoder, index = HashEncoder(), MemoryIndex()
        index.upsert([Item(f"i{n}", t, T0) for n, t in enumerate(titles)],
                     list(encoder.encode(titles)))  # fmt: skip
        popularity = Popularity(7)
        reranker = OverlapReranker(seconds, self.clock.advance)
        space = ZeroShotSpace(encoder)
        self.models = Watched(
            Recommender(index, space, popularity, reranker, 0.5, 3, 3), self.clock
        )
        settings = weft_settings.load(
            {}, data_dir=Path(), batch_size=BATCH, batch_wait=0.0, deadline=DEADLINE
        )
        self.processor = ShopperProcessor(
            settings, self.table, self.models, popularity, self.delivery, PARTITIONS,
            monotonic=self.clock,
        )  # fmt: skip

    async def send(self, user: str) -> None:
        """One click, as the app feeds it: when there is room."""
        await self.processor.room()
        self._offset += 1
        key = user.encode()
        value = orjson.dumps({"user_id": user, "ts": T0 + self._offset, "item_id": "i0"})
        right = partition_of(key, PARTITIONS, "murmur2_random")
        self.processor.take(Arrival("clicks", right, self._offset, key, value, self._ack))
        self.most_pending = max(self.most_pending, len(self.processor._pending.arrivals))

    def _ack(self) -> None:
        self.acked += 1

    async def caught_up(self, events: int) -> None:
        while self.acked < events:
            await asyncio.sleep(0)

    async def drained(self) -> None:
        while any(loads(value).rerank_due for value in self.table.values()):
            await asyncio.sleep(0.01)  # to spin here would keep the GIL from the models' thread
        async with self.processor._delivering:  # the flag falls before its list is out
            pass

    def fresh(self) -> bool:
        """Whether each shopper's newest list knows all of their events."""
        newest = self.delivery.newest("recommendations")
        for key, value in self.table.items():
            made = decode_recommendation(key, newest.get(key))
            if made is None or dict(made.as_of.offsets) != loads(value).offsets:
                return False
        return True

    def reranked(self, user: str) -> int:
        """How many of the shopper's lists the LLM had a say in."""
        values = [r.value for r in self.delivery.records
                  if r.topic == "recommendations" and r.key == user.encode()]  # fmt: skip
        lists = [decode_recommendation(user.encode(), value) for value in values]
        return sum(made.recommendation.reranked for made in lists if made)


async def playing(shop: Shop, script: object) -> None:
    serving = asyncio.create_task(shop.processor.run())
    try:
        await asyncio.wait_for(script, PATIENCE)  # type: ignore[arg-type]
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


def play(shop: Shop, script: object) -> None:
    asyncio.run(playing(shop, script))
    shop.processor.close()


def test_ten_times_what_the_llm_can_order_keeps_lists_fresh_and_is_made_up_for_later() -> None:
    shop, shoppers = Shop(seconds=0.5), 400  # four in the deadline, forty in a batch

    async def script() -> None:
        for n in range(shoppers):
            await shop.send(f"u{n}")
        await shop.caught_up(shoppers)
        assert shop.fresh()
        first = shop.processor.counters.reranked
        assert 4 <= first < shoppers / 10 + 4  # nearly all went out without it
        assert sum(loads(v).rerank_due for v in shop.table.values()) >= shoppers - first - 8
        await shop.drained()  # nothing else comes

    play(shop, script())
    assert shop.fresh()
    assert all(shop.reranked(f"u{n}") for n in range(shoppers))
    assert shop.most_pending <= BATCH  # what waits for the models never grows
    assert max(count for count, _ in shop.models.calls) <= BATCH


def test_while_batches_come_full_no_list_waits_for_the_llm() -> None:
    shop = Shop(seconds=0.5)

    async def script() -> None:
        for n in range(10 * BATCH):
            await shop.send(f"u{n}")
        await shop.caught_up(10 * BATCH)

    play(shop, script())
    full = [seconds for count, seconds in shop.models.calls if count == BATCH]
    assert len(full) >= 5
    assert sum(seconds > 0 for seconds in full) <= 1  # the one that found out
    assert 0 < max(seconds for _, seconds in shop.models.calls) <= DEADLINE


def test_an_llm_that_keeps_up_orders_full_batches_too() -> None:
    shop = Shop(seconds=DEADLINE / BATCH / 2)

    async def script() -> None:
        for n in range(5 * BATCH):
            await shop.send(f"u{n}")
        await shop.caught_up(5 * BATCH)

    play(shop, script())
    assert shop.processor.counters.reranked == shop.processor.counters.lists == 5 * BATCH


def test_ten_thousand_events_of_one_shopper_cost_a_list_a_batch_and_delay_nobody_more() -> None:
    shop, others, storm = Shop(seconds=0.01), 20, 10_000

    async def script() -> None:
        for n in range(storm):
            await shop.send("hot")
            if n % (storm // others) == 0:
                await shop.send(f"u{n * others // storm}")
        await shop.caught_up(storm + others)

    play(shop, script())
    assert shop.fresh()
    assert all(shop.reranked(f"u{n}") for n in range(others))
    batches = len(shop.models.calls)
    assert batches <= 2 * storm // BATCH
    assert shop.processor.counters.lists <= batches + others
    assert len(loads(shop.table[b"hot"]).rows) == 50


@pytest.mark.parametrize("rest", [2, 5])
def test_one_shopper_in_every_batch_does_not_keep_the_llm_from_the_others(rest: int) -> None:
    """The LLM has time for one a batch, and the first to come is always the same."""
    shop = Shop(seconds=DEADLINE)
    gate = shop.models.gate = Semaphore(0)
    users = ["hot", *(f"u{n}" for n in range(rest))]
    rounds = 4 * len(users)

    async def script() -> None:
        for n in range(1, rounds + 1):
            for user in users:
                await shop.send(user)
            if n > 1:
                gate.release()  # for the round before; this one is there, so it is never idle
            while shop.models.entered < n:
                await asyncio.sleep(0)
        gate.release()
        await shop.caught_up(rounds * len(users))
        shares = [shop.reranked(user) for user in users]
        gate.release(1000)  # for what is made up for now
        assert sum(shares) == rounds
        assert set(shares) == {4}

    play(shop, script())


def test_whoever_waits_longest_comes_first_and_all_come_once() -> None:
    backlog = RerankQueue()
    for key in (b"a", b"b", b"c"):
        backlog.add(key, 0)
    assert backlog.longest_first({b"x": 0, b"c": 0, b"a": 0, b"y": 0}) == [b"a", b"c", b"x", b"y"]
    backlog.clear()
    assert backlog.longest_first([b"x", b"c"]) == [b"x", b"c"]


def test_a_million_who_are_owed_an_order_are_remembered_by_their_state_alone() -> None:
    backlog = RerankQueue()
    for n in range(1_000_000):
        backlog.add(n.to_bytes(4, "big"), 0)
    assert len(backlog) == KEPT
    assert backlog.overflowed
