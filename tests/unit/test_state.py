from __future__ import annotations

import random

import pytest

from models.domain import Kind
from models.errors import UnreadableState
from stream.contracts.codec import ShopperEvent
from stream.shoppers.state import (
    BOUGHT_KEPT,
    EVENT_IDS_KEPT,
    STEPS_KEPT,
    Applied,
    ShopperState,
    loads,
)

T0 = 1_700_000_000_000


def event(kind: str, ts: int, item: str | None = None, event_id: str | None = None) -> ShopperEvent:
    query = "linen dress" if kind == "search" else None
    known = None if kind == "erasure" else Kind(kind)
    return ShopperEvent(known, "u", ts, item, query, event_id)


def log(seed: int, count: int) -> list[tuple[str, int, ShopperEvent]]:
    """A shopper's records on three topics; times tie and go back, as they do."""
    rng = random.Random(seed)
    kinds = {"clicks": "click", "purchases": "purchase", "searches": "search"}
    offsets = dict.fromkeys(kinds, -1)
    records = []
    for number in range(count):
        topic = rng.choice(list(kinds))
        offsets[topic] += rng.randint(1, 3)
        item = None if topic == "searches" else f"i{number}"
        ts = T0 + rng.randint(0, 40) * 1000
        records.append((topic, offsets[topic], event(kinds[topic], ts, item)))
    return records


def apply_all(records: list[tuple[str, int, ShopperEvent]]) -> ShopperState:
    state = ShopperState()
    for topic, offset, each in records:
        state.apply(topic, offset, each)
    return state


@pytest.mark.parametrize("seed", range(20))
def test_the_state_is_the_same_however_the_topics_interleave(seed: int) -> None:
    records = log(seed, 120)
    by_topic: dict[str, list[tuple[str, int, ShopperEvent]]] = {}
    for record in records:
        by_topic.setdefault(record[0], []).append(record)
    rng = random.Random(seed + 1)
    shuffled = []
    while any(by_topic.values()):
        queue = rng.choice([queue for queue in by_topic.values() if queue])
        shuffled.append(queue.pop(0))
    assert loads(apply_all(shuffled).dumps()) == loads(apply_all(records).dumps())


@pytest.mark.parametrize("seed", range(20))
def test_redelivery_from_any_point_changes_nothing(seed: int) -> None:
    records = log(seed, 60)
    once = apply_all(records).dumps()
    state = loads(once)
    for topic, offset, each in records[seed:]:
        assert state.apply(topic, offset, each) is Applied.AGAIN
    assert state.dumps() == once


def test_steps_are_ordered_by_time_then_topic_then_offset_and_the_newest_fifty_kept() -> None:
    records = log(3, 200)
    state = apply_all(records)
    ranks = {"clicks": 0, "purchases": 1, "searches": 2}
    expected = sorted((e.ts, ranks[t], o) for t, o, e in records)[-STEPS_KEPT:]
    assert [row[:3] for row in state.rows] == expected


def test_a_late_event_takes_its_place_by_time() -> None:
    state = ShopperState()
    state.apply("clicks", 0, event("click", T0 + 10, "b"))
    state.apply("clicks", 1, event("click", T0, "a"))
    assert [step.item_id for step in state.history().steps] == ["a", "b"]


def test_an_event_id_counts_once_within_the_last_two_hundred() -> None:
    state = ShopperState()
    assert state.apply("clicks", 0, event("click", T0, "a", "e0")) is Applied.NEW
    assert state.apply("clicks", 1, event("click", T0, "a", "e0")) is Applied.AGAIN
    for number in range(1, EVENT_IDS_KEPT + 1):
        state.apply("clicks", number + 1, event("click", T0, "a", f"e{number}"))
    assert len(state.event_ids) == EVENT_IDS_KEPT
    again = event("click", T0 + 1, "a", "e0")
    assert state.apply("clicks", 1000, again) is Applied.NEW


def test_bought_items_outlast_the_sequence_and_are_bounded() -> None:
    state = ShopperState()
    for number in range(BOUGHT_KEPT + 10):
        state.apply("purchases", number, event("purchase", T0 + number, f"i{number}"))
    history = state.history()
    assert len(history.steps) == STEPS_KEPT
    assert len(history.bought) == BOUGHT_KEPT
    assert "i10" in history.bought
    assert "i9" not in history.bought


def test_an_erasure_leaves_only_the_marker_and_older_events_stay_out() -> None:
    state = apply_all(log(1, 40))
    state.rerank_due = True
    erased = T0 + 100_000
    assert state.apply("erasures", 7, event("erasure", erased)) is Applied.ERASED
    assert state.is_marker
    assert set(loads(state.dumps()).offsets) == {"clicks", "purchases", "searches", "erasures"}
    assert b"i1" not in state.dumps()
    assert state.apply("clicks", 10_000, event("click", erased, "x")) is Applied.TOO_OLD
    assert state.is_marker
    assert state.apply("clicks", 10_001, event("click", erased + 1, "y")) is Applied.NEW
    assert [step.item_id for step in state.history().steps] == ["y"]


def test_an_erasure_spares_what_came_after_it() -> None:
    state = ShopperState()
    state.apply("clicks", 0, event("click", T0, "before"))
    state.apply("clicks", 1, event("click", T0 + 5, "after"))
    state.apply("erasures", 0, event("erasure", T0 + 1))
    assert [step.item_id for step in state.history().steps] == ["after"]


def test_bytes_hold_everything() -> None:
    state = apply_all(log(5, 30))
    state.rerank_due = True
    read = loads(state.dumps())
    assert read == state
    assert read.history().steps[0].kind in Kind


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"v":99,"o":{}}', b'{"v":1}', b"\xff"])
def test_bytes_that_are_no_state_of_ours_are_refused(data: bytes) -> None:
    with pytest.raises(UnreadableState):
        loads(data)
