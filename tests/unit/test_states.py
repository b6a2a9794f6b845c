"""The states that a worker holds: never ahead of the changelog, checked once, parsed seldom."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from types import SimpleNamespace

import orjson
import pytest

from models.domain import Kind
from models.errors import UnreadableState
from stream.contracts.codec import ShopperEvent, encode_event
from stream.contracts.partitioner import partition_of
from stream.contracts.topics import topic_of
from stream.shoppers.batch import Arrival
from stream.shoppers.state import ShopperState, loads
from stream.shoppers.states import States
from testbed.waiting import wait_for
from tests.read_states import in_partitions, read_states
from tests.unit.test_shoppers import PARTITIONS, T0, Shop, drive, serve

CHANGELOG = "weft-shoppers-changelog"


def state(*items: str, due: bool = False) -> ShopperState:
    made = ShopperState(rerank_due=due)
    for offset, item in enumerate(items):
        made.apply("clicks", offset, ShopperEvent(Kind.CLICK, "u", T0 + offset, item))
    return made


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The records that were parsed, in their order."""
    seen: list[bytes] = []

    def loads_and_notes(data: bytes) -> object:
        seen.append(data)
        return orjson.loads(data)

    counting = SimpleNamespace(
        loads=loads_and_notes, dumps=orjson.dumps, JSONDecodeError=orjson.JSONDecodeError
    )
    monkeypatch.setattr("stream.shoppers.state.orjson", counting)
    return seen


def test_a_shopper_who_comes_again_and_again_is_parsed_once(parses: list[bytes]) -> None:
    shop = Shop()
    shop.send("ana", item_id="i0")
    serve(shop, lambda: bool(shop.acked))
    again = Shop(table=read_states(shop.table), offset=shop.offset)
    del parses[:]

    async def script() -> None:
        await again.processor.recovered()
        for number in range(20):
            again.send("ana", item_id="i1")
            await wait_for(lambda: len(again.acked) == number + 1)  # noqa: B023 - awaited here

    drive(again, script)
    assert len(parses) == 2  # when it was derived from, and for the first event
    assert len(loads(again.table[b"ana"]).rows) == 21


def test_what_an_event_asks_for_before_its_turn_is_derived_from_once(parses: list[bytes]) -> None:
    shop = Shop(table=read_states({b"ana": state("i3").dumps(), b"bo": state("i4").dumps()}))
    shop.offset = 9

    async def script() -> None:
        derived = shop.processor.recovered()
        shop.send("ana", item_id="i1")
        await derived
        await wait_for(lambda: bool(shop.acked))

    drive(shop, script)
    assert len(parses) == 2  # one each
    assert dict(shop.processor._aggregates.popularity.top(3)) == {"i1": 1, "i3": 1, "i4": 1}


def test_the_states_kept_as_objects_are_bounded_and_the_last_used_stay(
    parses: list[bytes],
) -> None:
    data = state("i0").dumps()
    states = States(live_bytes=3 * len(data))
    for key in (b"a", b"b", b"c"):
        states.put(0, key, loads(data), data)
    states.newest(0, b"a")
    states.put(0, b"d", loads(data), data)  # b goes
    del parses[:]
    kept = [states.newest(0, key) for key in (b"a", b"c", b"d")]
    assert parses == []
    assert states.newest(0, b"b") == kept[0]
    assert parses == [data]


def test_what_was_written_here_is_not_checked_again_and_what_was_read_is() -> None:
    unsound = orjson.dumps({"v": 1, "o": {"clicks": 0}, "s": [[T0, 0, 0, "click", 7, None]]})
    ours = States(live_bytes=0)
    ours.put(0, b"ana", state("i0"), unsound)
    assert ours.newest(0, b"ana").rows[0][4] == 7
    read = States()
    read.restored({0: {b"ana": unsound}})
    with pytest.raises(UnreadableState):
        read.admit(0, b"ana")
    with pytest.raises(UnreadableState):
        read.admit(0, b"ana")  # and it stays so


def test_a_partition_that_leaves_takes_its_shoppers_along_and_the_newer_records_count() -> None:
    states, old, new = States(), state("i0").dumps(), state("i0", "i1").dumps()
    states.restored({0: {b"gone": old}, 1: {b"looked at": old, b"newer": old}})
    states.admit(1, b"looked at")
    states.admit(1, b"newer")
    states.put(1, b"ours", state("i4"), state("i4").dumps())
    states.restored({1: {b"newer": new}, 2: {b"came": old}})
    assert dict(states) == {
        b"looked at": old, b"newer": new, b"ours": state("i4").dumps(), b"came": old,
    }  # fmt: skip
    assert states.holds(1, b"newer")
    assert not states.holds(0, b"gone")
    assert not states.holds(0, b"newer")
    admitted = [states.admit_any() for _ in range(5)]
    assert admitted.pop() is None
    assert {key for each in admitted if each for key in [each[1]]} == set(states)
    assert states.newest(1, b"newer") == state("i0", "i1")


def test_who_is_owed_a_list_is_known_without_a_look_at_all_records() -> None:
    states, due = States(), state("i0", due=True)
    states.restored({0: {b"read": due.dumps(), b"other": state("i0").dumps()}})
    while states.admit_any():
        pass
    states.put(1, b"put", due, due.dumps())
    assert states.owed == {b"read": 0, b"put": 1}
    states.put(0, b"read", state("i0"), state("i0").dumps())
    assert states.owed == {b"put": 1}


def test_nothing_is_in_the_table_before_it_is_delivered() -> None:
    shop = Shop()
    shop.delivery.held.clear()
    shop.send("ana", item_id="i0")

    async def script() -> None:
        await wait_for(lambda: shop.processor._delivering.locked())
        shop.send("ana", item_id="i1")  # is made from what is being delivered
        assert dict(shop.table) == {}
        shop.delivery.held.set()
        await wait_for(lambda: len(shop.acked) == 2)

    drive(shop, script)
    assert dict(shop.table) == {b"ana": shop.delivery.newest(CHANGELOG)[b"ana"]}
    assert [row[4] for row in loads(shop.table[b"ana"]).rows] == ["i0", "i1"]


def test_a_batch_that_is_dropped_leaves_the_state_that_was_delivered() -> None:
    shop = Shop()

    async def script() -> None:
        shop.send("ana", item_id="i0")
        await wait_for(lambda: len(shop.acked) == 1)
        before = dict(shop.table)
        shop.delivery.failures = 1_000
        lost = [shop.send("ana", item_id="i1")]
        await wait_for(lambda: shop.delivery.failures < 1_000)
        lost.append(shop.send("ana", item_id="i2"))  # on top of what cannot be delivered
        await shop.processor.revoked(patience=1.0)
        shop.delivery.failures = 0
        assert dict(shop.table) == before
        partition = lost[0].partition
        assert shop.processor._newest(partition, b"ana") == loads(before[b"ana"])
        for arrival in lost:  # not acked, so they come again
            shop.processor.take(arrival)
        await wait_for(lambda: len(shop.acked) == 3)

    drive(shop, script)
    assert shop.processor.counters.again == 0
    assert [row[4] for row in loads(shop.table[b"ana"]).rows] == ["i0", "i1", "i2"]


def test_a_delivery_that_ends_after_the_partitions_came_back_overwrites_nothing() -> None:
    shop = Shop()
    shop.delivery.held.clear()
    newer = state("i0", "i1", "i2").dumps()
    shop.send("ana", item_id="i0")

    async def script() -> None:
        await wait_for(lambda: shop.processor._delivering.locked())
        await shop.processor.revoked(patience=0.01)
        shop.table.restored(in_partitions({b"ana": newer}))
        await shop.processor.recovered()
        shop.delivery.held.set()
        await wait_for(lambda: bool(shop.acked))
        assert dict(shop.table) == {b"ana": newer}

    drive(shop, script)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_dropped_each_record_is_once_in_the_state_and_on_the_changelog(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records come in order, and after a revocation again from the first that was not acked."""
    monkeypatch.setattr("stream.shoppers.processor._RETRY_FIRST", 0.001)
    rng, shop = random.Random(seed), Shop(batch_size=4)
    log = some_log(rng, 60)
    done = assignments = at = 0

    def acked(number: int, assignment: int) -> None:
        nonlocal done
        if assignment == assignments:  # the broker's client takes no ack of an earlier one
            assert number == done
            done = number + 1

    def feed(number: int) -> None:
        topic, offset, event = log[number]
        _, key, value = encode_event(event)
        ack = partial(acked, number, assignments)
        place = partition_of(key, PARTITIONS, "murmur2_random")
        shop.processor.take(Arrival(topic, place, offset, key, value, ack))

    def changelog() -> dict[bytes, bytes]:
        newest = shop.delivery.newest(CHANGELOG).items()
        return {key: value for key, value in newest if key is not None and value}

    async def script() -> None:
        nonlocal assignments, at
        deriving: asyncio.Task[None] | None = None
        fails, moves = 6, 6
        while done < len(log):
            if at < len(log) and not shop.processor._pending.is_full(4):
                feed(at)
                at += 1
            action = rng.random()
            if action < 0.1 and fails:
                shop.delivery.failures, fails = 1, fails - 1
            elif action < 0.2 and moves:
                moves -= 1
                await shop.processor.revoked(patience=1.0)
                assignments += 1
                shop.table.restored(in_partitions(changelog()))
                deriving = asyncio.create_task(shop.processor.recovered())
                at = done
            await asyncio.sleep(rng.choice([0, 0, 0.002]))
        if deriving is not None:
            await deriving

    drive(shop, script)
    exact = {event.user_id.encode(): ShopperState() for _, _, event in log}
    for topic, offset, event in log:
        exact[event.user_id.encode()].apply(topic, offset, event)
    assert {key: loads(data) for key, data in shop.table.items()} == exact
    assert dict(shop.table) == changelog()


def some_log(rng: random.Random, count: int) -> list[tuple[str, int, ShopperEvent]]:
    """(topic, offset, event) of three shoppers; times tie and go back."""
    log = []
    for number in range(count):
        kind = rng.choice([Kind.CLICK, Kind.PURCHASE, Kind.SEARCH])
        item, query = (None, "hat") if kind is Kind.SEARCH else (f"i{number % 5}", None)
        ts, user = T0 + rng.randrange(20) * 1000, rng.choice(["ana", "bo", "cleo"])
        log.append((topic_of(kind), number, ShopperEvent(kind, user, ts, item, query)))
    return log
