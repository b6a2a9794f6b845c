from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Consumer, TopicPartition

from models.errors import BrokerUnavailable
from stream.contracts.codec import decode_product, decode_shopper
from stream.contracts.partitioner import partition_of
from stream.contracts.topics import TopicNames
from stream.files.publish import (
    Entry,
    Publisher,
    at_rate,
    event_entries,
    product_entries,
    removals,
    replayed,
)
from stream.files.row_file import RowFile
from stream.kafka.broker import EmbeddedBroker
from stream.kafka.delivery import Record
from stream.settings import Settings

NOW = 1_700_000_000_000
NAMES = TopicNames()


@contextmanager
def broker() -> Iterator[Settings]:
    with EmbeddedBroker() as embedded:
        yield dataclasses.replace(Settings(), kafka=embedded.bootstrap)


def read(settings: Settings, topic: str, count: int) -> list[tuple[bytes, bytes | None, int]]:
    consumer = Consumer({"bootstrap.servers": settings.kafka, "group.id": "test"})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(4)])
    got: list[tuple[bytes, bytes | None, int]] = []
    while len(got) < count:
        message = consumer.poll(120)
        assert message is not None, f"{len(got)} of {count}"
        assert message.error() is None
        key, partition = message.key(), message.partition()
        assert key is not None
        assert partition is not None
        got.append((key, message.value(), partition))
    consumer.close()
    return got


def entries(tmp_path: Path, lines: list[object], events: bool) -> tuple[list[Entry], RowFile]:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps(line) for line in lines))
    with RowFile(path) as rows:
        read_rows = event_entries if events else product_entries
        return list(read_rows(rows, NAMES, lambda: NOW)), rows


def some(count: int, size: int = 2) -> list[Entry]:
    return [Entry(NOW, Record("clicks", f"u{n}".encode(), b"x" * size)) for n in range(count)]


def test_a_product_without_ts_gets_the_time_of_publishing(tmp_path: Path) -> None:
    row = {"item_id": "i", "title": "Dress", "category": None, "first_seen_ts": 1_537_747_200_000}
    (entry,), _ = entries(tmp_path, [row], events=False)
    assert entry.record.topic == "products"
    item = decode_product(entry.record.key, entry.record.value, NOW)
    assert (entry.ts, item.ts) == (NOW, NOW)  # type: ignore[union-attr]
    assert b"first_seen" not in (entry.record.value or b"")


def test_each_type_goes_to_its_topic_and_fav_and_cart_are_clicks(tmp_path: Path) -> None:
    base = {"user_id": "u", "item_id": "i", "query": "midi", "ts": NOW}
    types = ["click", "fav", "cart", "purchase", "search", "erasure"]
    got, rows = entries(tmp_path, [base | {"type": name} for name in types], events=True)
    topics = [entry.record.topic for entry in got]
    assert topics == ["clicks", "clicks", "clicks", "purchases", "searches", "erasures"]
    for entry in got:
        decode_shopper(entry.record.topic, entry.record.key, entry.record.value, NOW)
    assert rows.aside.count == 0


def test_rows_that_the_contract_refuses_are_set_aside(tmp_path: Path) -> None:
    good = {"type": "click", "user_id": "u", "item_id": "i", "ts": NOW}
    bad = [good | {"type": "view"}, good | {"ts": "x"}, good | {"user_id": ""}, {"type": "click"}]
    got, rows = entries(tmp_path, [good, *bad, good], events=True)
    assert (len(got), rows.aside.count) == (2, 4)
    assert rows.aside.first[0].startswith("line 2: type must be one of click, fav")
    assert rows.aside.first[1] == "line 3: ts must be a whole number, not text"


def test_a_csv_is_published_with_its_types(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("item_id,title,price,in_stock,ts\n007,Dress,12.5,no,\n008,Top,x,yes,\n")
    with RowFile(path) as rows:
        (entry,) = product_entries(rows, NAMES, lambda: NOW)
    item = decode_product(entry.record.key, entry.record.value, NOW)
    assert (item.item_id, item.price, item.in_stock, item.ts) == ("007", 12.5, False, NOW)  # type: ignore[union-attr]
    assert rows.aside.first == ["line 3: price must be a number, not text"]


def test_everything_arrives_in_the_partition_of_its_key() -> None:
    with broker() as settings:
        publisher = Publisher(settings)
        assert publisher.publish(some(1000)) == 1000
        assert publisher.delivered == 1000
        got = read(settings, "clicks", 1000)
        assert {key for key, _, _ in got} == {f"u{n}".encode() for n in range(1000)}
        assert all(place == partition_of(key, 4, settings.partitioner) for key, _, place in got)


def test_a_full_queue_makes_the_publisher_wait() -> None:
    with broker() as settings:
        publisher = Publisher(settings, queue=3)
        assert publisher.publish(some(500)) == 500
        assert len(read(settings, "clicks", 500)) == 500


def test_a_removal_is_a_null_value() -> None:
    with broker() as settings:
        Publisher(settings).publish(removals(["i1"], NAMES))
        assert read(settings, "products", 1)[0][:2] == (b"i1", None)


@pytest.mark.parametrize(("size", "most"), [(2, 256), (20_000, 3)])
def test_pace_is_asked_before_more_than_its_stride_is_on_the_broker(size: int, most: int) -> None:
    with broker() as settings:
        seen: list[int] = []
        publisher = Publisher(settings, pace=lambda: seen.append(publisher.delivered))
        publisher.publish(some(1000, size))
        steps = [after - before for before, after in zip([0, *seen], [*seen, 1000], strict=True)]
        assert max(steps) <= most
        assert sum(steps) == 1000


def test_a_broker_that_goes_away_ends_the_publishing_with_the_count() -> None:
    with broker() as settings:
        publisher = Publisher(
            settings, timeout=15.0
        )  # of which the first answer may take some, too
        publisher.publish(some(5))
    with pytest.raises(BrokerUnavailable, match=r"after 5 .*again"):
        publisher.publish(some(20_000))


class _Time:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_replay_keeps_the_logs_gaps_divided_by_the_speed() -> None:
    time = _Time()
    wait = replayed(10.0, time, time.sleep)
    at = []
    for ts in (NOW, NOW + 1000, NOW + 500, NOW + 6000):  # one of them late
        wait(ts)
        at.append(round(time.now - 100, 3))
    assert at == [0.0, 0.1, 0.1, 0.6]


def test_a_rate_counts_from_the_start_so_that_slow_ones_are_caught_up() -> None:
    time = _Time()
    wait = at_rate(4.0, time, time.sleep)
    at = []
    for n in range(4):
        wait(NOW)
        at.append(round(time.now - 100, 3))
        time.now += 0.6 if n == 0 else 0.0
    assert at == [0.0, 0.6, 0.6, 0.75]
