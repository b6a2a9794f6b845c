"""A log of any order becomes records in time order, and what a replay keeps survives a kill."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import InvalidFile
from models.training.data.log import user_hash
from stream.contracts.codec import encode_row
from stream.contracts.topics import CLICKS, SEARCHES
from stream.files.publish import Entry
from stream.kafka.delivery import Record
from stream.replay.play.checkpoint import Store
from stream.replay.play.in_process import shown_of
from stream.replay.questions.answers import Shown
from stream.replay.questions.event_store import Spool, spooled
from tests.replay_shop import DAY, NOW, START


def entries(days: list[int]) -> list[Entry]:
    made = []
    for number, day in enumerate(days):
        topic = SEARCHES if number % 3 == 2 else CLICKS
        row = {"user_id": f"ü{number % 4}", "item_id": f"i{number}", "query": f"q {number}",
               "ts": START + day * DAY}  # fmt: skip
        _, key, value = encode_row(topic, row, NOW)
        made.append(Entry(row["ts"], Record(topic, key, value)))  # type: ignore[arg-type]
    return made


@settings(max_examples=40, deadline=None)
@given(days=st.lists(st.integers(0, 9), min_size=1, max_size=60), start=st.integers(0, 60))
def test_moments_hold_each_record_once_by_time_then_by_the_file(
    tmp_path_factory: pytest.TempPathFactory, days: list[int], start: int
) -> None:
    made = entries(days)
    spool = spooled(tmp_path_factory.mktemp("spool"), "key", lambda: made, print)
    moments = list(spool.moments())
    assert [moment[0] for moment in moments] == sorted({entry.ts for entry in made})
    order = [int(spool.order[at]) for _, a, b in moments for at in range(a, b)]
    assert order == sorted(range(len(made)), key=lambda n: (made[n].ts, n))
    assert [spool.record(n) for n in range(len(made))] == [entry.record for entry in made]
    rest = [moment for moment in moments if moment[1] >= start]
    if start in [moment[1] for moment in moments]:
        assert list(spool.moments(start)) == rest


def test_a_spool_knows_its_shoppers_as_a_training_log_does(tmp_path: Path) -> None:
    made = entries([3, 1, 2])
    spool = spooled(tmp_path, "key", lambda: made, print)
    assert spool.users.tolist() == [user_hash(f"ü{n}") for n in range(3)]


def test_a_spool_is_written_once_for_its_key(tmp_path: Path) -> None:
    spooled(tmp_path, "one", lambda: entries([1, 2]), print)
    assert len(spooled(tmp_path, "one", lambda: entries([1]), print)) == 2
    assert len(spooled(tmp_path, "other", lambda: entries([1]), print)) == 1
    assert len(Spool(tmp_path)) == 1


def test_a_log_without_an_event_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="no event"):
        spooled(tmp_path, "key", list, print)


def test_a_store_holds_what_the_last_checkpoint_held(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite")
    store.states[b"ana"] = b"1"
    store.lists[b"ana"] = b"list"
    store.checkpoint(place=b"7")
    store.states[b"ana"] = b"2"
    store.states[b"bea"] = b"1"
    del store.lists[b"ana"]
    assert (store.states[b"ana"], b"ana" in store.lists) == (b"2", False)
    store.close()
    again = Store(tmp_path / "store.sqlite")
    assert dict(again.states) == {b"ana": b"1"}
    assert dict(again.lists) == {b"ana": b"list"}
    assert (again.mark("place"), again.mark("other")) == (b"7", None)
    again.close()


def test_what_fills_a_list_up_keeps_the_order_that_it_is_shown_in() -> None:
    lines = [("a", 0.5, "retrieval"), ("b", 0.5, "retrieval"), ("c", 0.5, "popularity"),
             ("d", 0.5, "popularity"), ("gone", 0.0, "new")]  # fmt: skip
    value = b'{"reranked":true,"items":[%s]}' % b",".join(
        b'{"item_id":"%s","score":%f,"source":"%s"}' % (i.encode(), s, w.encode())
        for i, s, w in lines
    )
    shown = shown_of(value, {"a": 1, "b": 2, "c": 3, "d": 4}, 2.5)
    assert shown.rows.tolist() == [1, 2, 3, 4, 0]
    assert shown.places.tolist() == [0.5, 0.5, 2, 3, 4]
    back = Shown.from_bytes(shown.to_bytes())
    assert (back.rows.tolist(), back.places.tolist()) == (
        shown.rows.tolist(),
        shown.places.tolist(),
    )
    assert (back.reranked, back.ms) == (True, 2.5)
