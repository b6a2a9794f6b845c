"""The query memory in lists and in the processor: who searched sees what others chose after it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest

from models.domain import History, Item, Recommendation
from models.ports import Deadline
from models.recommend.popularity import Popularity
from models.recommend.query_memory import RAISE, QueryMemory
from models.recommend.recommender import Recommender
from models.space.zero_shot import ZeroShotSpace
from stream import settings as weft_settings
from stream.contracts.partitioner import partition_of
from stream.shoppers.batch import Arrival
from stream.shoppers.processor import ShopperProcessor
from stream.shoppers.states import States
from testbed.stand_ins import HashEncoder, ManualClock, MemoryDelivery, MemoryIndex
from tests.read_states import read_states
from tests.unit.test_recommender import NOW, SHELF, clicked, searched

PARTITIONS = 2
ASKED = "linen midi dress"
HISTORIES = (clicked("d1"), clicked("s1", "s2", bought=["s2"]), searched(ASKED), History())


class Shop:
    """The shelf of tests/unit/test_recommender.py, with a memory or without."""

    def __init__(self, memory: QueryMemory | None = None, size: int = 4) -> None:
        self.encoder = HashEncoder()
        self.index = MemoryIndex()
        items = [Item(i, title, NOW - n) for n, (i, title) in enumerate(SHELF.items())]
        self.index.upsert(items, list(self.encoder.encode([item.text for item in items])))
        self.memory = memory
        self.recommender = Recommender(
            self.index, ZeroShotSpace(self.encoder), Popularity(7), None, 0.0, size, size, memory
        )

    def lists(self, *histories: History) -> list[Recommendation]:
        clock = ManualClock()
        return self.recommender.recommend(histories, Deadline.after(1.0, clock))


def remembering(item_id: str, times: int = 40, query: str = "midi linen dress") -> QueryMemory:
    made = QueryMemory(HashEncoder())
    for n in range(times):
        made.add(query, item_id, NOW, f"s{n}")
    return made


def ids(made: Recommendation) -> list[str]:
    return [line.item_id for line in made.items]


def test_without_queries_in_the_log_nothing_changes_at_all() -> None:
    plain = Shop().lists(*HISTORIES)
    assert Shop(QueryMemory(HashEncoder())).lists(*HISTORIES) == plain


def test_a_shopper_without_a_recent_search_sees_nothing_of_the_memory() -> None:
    late = searched(ASKED).steps + clicked("d1", "d2", "d3").steps
    histories = (*HISTORIES[:2], History(late))
    assert Shop(remembering("c1")).lists(*histories) == Shop().lists(*histories)


def test_what_a_like_search_led_to_joins_the_candidates_and_says_why() -> None:
    plain = Shop(size=1).lists(searched(ASKED))[0]
    other = {"d1": "d2", "d2": "d1"}[ids(plain)[0]]  # as near, but for the colour
    (made,) = Shop(remembering(other), size=1).lists(searched(ASKED))
    assert ids(made) == [other]
    assert made.items[0].source == "retrieval"
    [told] = remembering(other).recall([ASKED])[ASKED]
    assert made.items[0].reason == (
        f'{told.count}+ shoppers who searched for "linen midi dress" or the like chose this'
    )
    assert plain.items[0].reason == 'matches your search "linen midi dress"'


def test_an_item_is_raised_by_its_evidence_and_no_more() -> None:
    before = {line.item_id: line.score for line in Shop().lists(searched(ASKED))[0].items}
    memory = remembering("d4", query=ASKED)
    after = {line.item_id: line.score for line in Shop(memory).lists(searched(ASKED))[0].items}
    [told] = memory.recall([ASKED])[ASKED]
    assert after["d4"] - before["d4"] == pytest.approx(told.raised_by, abs=1e-6)
    assert 0 < told.raised_by < RAISE
    assert {i: s for i, s in after.items() if i != "d4"} == pytest.approx(
        {i: s for i, s in before.items() if i != "d4"}
    )


def test_what_is_far_from_the_shoppers_taste_is_looked_at_but_not_lifted_to_the_top() -> None:
    (made,) = Shop(remembering("c1")).lists(searched(ASKED))
    assert ids(made)[:3] == ids(Shop().lists(searched(ASKED))[0])[:3]


def test_the_rules_hold_for_what_is_remembered() -> None:
    shop = Shop(remembering("d4"))
    search = searched(ASKED).steps
    (bought,) = shop.lists(History(search, frozenset({"d4"})))
    assert "d4" not in ids(bought)
    (looked_at,) = shop.lists(History((*clicked("d4").steps, *search)))
    assert ids(looked_at)[0] != "d4"
    assert "shoppers" not in {line.item_id: line.reason for line in looked_at.items}.get("d4", "")
    shop.index.upsert([Item("d4", SHELF["d4"], NOW, in_stock=False)], [None])
    assert "d4" not in ids(shop.lists(searched(ASKED))[0])
    shop.index.delete(["d4"])
    assert "d4" not in ids(shop.lists(searched(ASKED))[0])


class Processor:
    """A shopper processor that learns; events come one a second."""

    def __init__(self, table: States | None = None) -> None:
        self.memory = QueryMemory(HashEncoder())
        self.table = table or States()
        shop = Shop(self.memory)
        self.processor = ShopperProcessor(
            weft_settings.load({}, data_dir=Path()), self.table, shop.recommender, Popularity(7),
            MemoryDelivery(), PARTITIONS, memory=self.memory,
        )  # fmt: skip
        self.offset = -1

    def send(self, user: str, topic: str, ts: int, **fields: object) -> Arrival:
        self.offset += 1
        value = orjson.dumps({"user_id": user, "ts": ts, **fields})
        key = user.encode()
        partition = partition_of(key, PARTITIONS, "murmur2_random")
        arrival = Arrival(topic, partition, self.offset, key, value, lambda: None)
        self.processor.take(arrival)
        return arrival

    def counts(self, query: str = ASKED) -> dict[str, int]:
        found = self.memory.recall([query]).get(query, [])
        return {each.item_id: each.count for each in found}


def two_who_search_and_click(events: Processor) -> None:
    for user in ("ines", "nora"):
        events.send(user, "searches", NOW, query=ASKED)
        events.send(user, "clicks", NOW + 1000, item_id="d4")
        events.send(user, "purchases", NOW + 2000, item_id="d2", query="linen midi dress")
        events.send(user, "clicks", NOW + 3_600_000 * 5, item_id="s1")  # hours later


def test_events_teach_what_a_search_led_to() -> None:
    events = Processor()
    two_who_search_and_click(events)
    assert events.counts() == {"d4": 2, "d2": 2}
    assert events.counts("wool coat") == {}


def test_a_record_that_comes_again_counts_once() -> None:
    events = Processor()
    two_who_search_and_click(events)
    events.send("vera", "searches", NOW, query=ASKED)
    again = events.send("vera", "clicks", NOW + 1000, item_id="d4")
    counted = events.counts()
    assert counted == {"d4": 3, "d2": 2}
    events.processor.take(again)
    assert events.counts() == counted


def test_a_click_from_before_the_search_is_not_led_by_it() -> None:
    events = Processor()
    for user in ("ines", "nora"):
        events.send(user, "searches", NOW, query=ASKED)
        events.send(user, "clicks", NOW - 1000, item_id="d4")  # late, and older than the search
    assert events.counts() == {}


def test_the_memory_is_rebuilt_from_the_recovered_table() -> None:
    events = Processor()
    two_who_search_and_click(events)

    async def served() -> None:
        await events.processor._insist(await events.processor._gather())

    async def recovered() -> None:
        await after.processor.recovered()

    asyncio.run(served())
    after = Processor(read_states(events.table, PARTITIONS))
    after.memory.add(ASKED, "stale", NOW, "ines")
    after.memory.add(ASKED, "stale", NOW, "nora")
    asyncio.run(recovered())
    assert after.counts() == events.counts() == {"d4": 2, "d2": 2}


def test_an_erasure_leaves_counts_which_name_nobody() -> None:
    events = Processor()
    two_who_search_and_click(events)
    events.send("ines", "erasures", NOW + 4000)
    assert events.counts() == {"d4": 2, "d2": 2}
    held = repr(events.memory._queries)
    assert "ines" not in held
    assert "nora" not in held


def test_steps_of_a_search_are_kept_apart_by_shopper() -> None:
    events = Processor()
    for _ in range(2):
        events.send("ines", "searches", NOW, query=ASKED)
        events.send("nora", "clicks", NOW + 1000, item_id="d4")
    assert events.counts() == {}
