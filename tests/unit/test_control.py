"""The control topic: the newest desired and reports count, and nothing on it can break a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from models.errors import BrokerUnavailable
from stream.bundles.control_topic import (
    GONE_AFTER,
    ControlReader,
    Desired,
    Report,
    State,
    desired_record,
    farewell_record,
    report_record,
    worker_name,
)
from stream.kafka.broker import EmbeddedBroker
from stream.kafka.delivery import Record

TOPIC = "weft-bundle"
REPORT = Report("w1", "ab12", "beauty@ab12", State.EMBEDDING, "", 0, 7, "")


class Topic:
    """An embedded broker's, and a way to write to it."""

    def __init__(self, address: str) -> None:
        self.config = {"bootstrap.servers": address}
        self.producer = Producer({**self.config, "log_level": 0})
        self.producer.list_topics(TOPIC, timeout=120)  # which creates it

    def put(self, *records: Record) -> None:
        for record in records:
            self.producer.produce(record.topic, record.value, record.key, record.partition)
        assert self.producer.flush(120) == 0

    def read(self) -> ControlReader:
        with ControlReader(self.config, TOPIC) as reader:
            reader.to_the_end()
        return reader


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with EmbeddedBroker() as broker:
        yield broker.bootstrap


def test_the_newest_wish_and_each_workers_newest_report_are_known_at_the_end() -> None:
    with EmbeddedBroker() as broker:
        topic = Topic(broker.bootstrap)
        assert topic.read().desired is None
        first, second = Desired("ab12", "beauty", "/b"), Desired("", "none", "")
        later = Report("w1", "ab12", "beauty@ab12", State.FAILED, "", 0, 7, "damaged")
        topic.put(desired_record(TOPIC, first, 1), report_record(TOPIC, REPORT, 2))
        topic.put(report_record(TOPIC, later, 3), desired_record(TOPIC, second, 4))
        reader = topic.read()
        assert reader.desired == Desired("", "none", "", offset=3)
        assert reader.reports == {"w1": later}
        topic.put(farewell_record(TOPIC, "w1"))
        assert topic.read().reports == {}


def test_what_comes_later_is_followed() -> None:
    with EmbeddedBroker() as broker:
        topic = Topic(broker.bootstrap)
        with ControlReader(topic.config, TOPIC) as reader:
            reader.to_the_end()
            topic.put(desired_record(TOPIC, Desired("ab12", "beauty", "/b"), 1))
            reader.to_the_end()
            assert reader.desired is not None
            assert reader.desired.label == "beauty@ab12"


@pytest.mark.parametrize("value", [b"{", b"[]", b"{}", b"7", b'{"bundle": 1, "state": "odd"}'])
def test_a_record_that_is_none_of_ours_is_passed_over(broker: str, value: bytes) -> None:
    topic = Topic(broker)
    topic.put(Record(TOPIC, b"bundle", value, 0), Record(TOPIC, b"worker/w2", value, 0))
    topic.put(Record(TOPIC, None, value, 0), Record(TOPIC, b"other", b"{}", 0))
    topic.put(report_record(TOPIC, REPORT, 1))
    assert topic.read().reports == {"w1": REPORT}


def beats(worker: str, count: int) -> list[Record]:
    report = Report(worker, "ab12", "beauty@ab12", State.SERVING, "ab12", 0)
    return [report_record(TOPIC, report, 1, beat=True)] * count


def test_a_worker_that_is_silent_while_another_beats_is_gone() -> None:
    with EmbeddedBroker() as broker:
        topic = Topic(broker.bootstrap)
        topic.put(*beats("killed", 3), *beats("other", 1), *beats("me", GONE_AFTER - 1))
        with ControlReader(topic.config, TOPIC, "me") as reader:
            reader.to_the_end()
            assert reader.gone() == []  # not for long enough yet
            topic.put(*beats("other", 1), *beats("me", 1))
            reader.to_the_end()
            assert reader.gone() == ["killed"]
            assert {report.worker for report in reader.running()} == {"other", "me"}
            topic.put(*beats("killed", 1))  # it only stood still
            reader.to_the_end()
            assert reader.gone() == []
            assert len(reader.running()) == 3


def test_news_of_ones_own_are_no_beats_and_with_nobody_to_hear_nobody_is_gone() -> None:
    with EmbeddedBroker() as broker:
        topic = Topic(broker.bootstrap)
        report = Report("me", "ab12", "beauty@ab12", State.EMBEDDING, "", 0)
        topic.put(*beats("other", 1), *[report_record(TOPIC, report, 1)] * (2 * GONE_AFTER))
        for me in ("me", ""):
            with ControlReader(topic.config, TOPIC, me) as reader:
                reader.to_the_end()
                assert reader.gone() == []


def test_who_runs_is_heard_and_who_was_killed_is_not() -> None:
    with EmbeddedBroker() as broker:
        topic = Topic(broker.bootstrap)
        topic.put(*beats("killed", 2), *beats("runs", 1))
        with ControlReader(topic.config, TOPIC, "me") as reader:
            reader.to_the_end()
            topic.put(*beats("runs", 1))
            assert set(reader.heard(0.1)) == {"runs"}
            topic.put(*beats("runs", 1), farewell_record(TOPIC, "killed"))
            # there is no other to wait for: the limit of a test ends it long before this does
            assert set(reader.heard(100_000.0)) == {"runs"}


def test_without_a_broker_it_says_so() -> None:
    with (
        ControlReader({"bootstrap.servers": "127.0.0.1:9", "log_level": 0}, TOPIC) as reader,
        pytest.raises(BrokerUnavailable, match=TOPIC),
    ):
        reader.to_the_end(timeout=0.5)


def test_two_workers_of_one_machine_have_two_names(tmp_path: Path) -> None:
    names = {worker_name(tmp_path / name, lambda: "host") for name in "ab"}
    assert len(names) == 2
    assert all(name.startswith("host-") for name in names)
    assert worker_name(tmp_path / "a", lambda: "host") in names  # the same after a restart
