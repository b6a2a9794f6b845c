"""Dead letters read, shown and sent back, on the embedded broker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, Producer, TopicPartition

from models.errors import BrokerUnavailable, InvalidField, WrongPartition
from stream.cli import cli
from stream.contracts.codec import attempts_in, dead_letter_headers
from stream.contracts.topics import TopicNames
from stream.dead_letters.read import Letter, Replayed, escaped, replay
from stream.kafka.broker import EmbeddedBroker
from testbed.stand_ins import MemoryDelivery
from tests.terminal import on_a_terminal

NAMES = TopicNames("shop-")
HOSTILE = b'{"title": "\x1b[2J\x00\xe2\x80\xae\xe2\x80\x8b \\u0041 \xff"}'


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as embedded:
        yield embedded


def letter(
    n: int, key: bytes | None = b"ana", topic: str = "shop-clicks", tried: int = 1
) -> Letter:
    headers = dead_letter_headers(topic, 0, n, InvalidField("ts is missing"), tried - 1)
    return Letter((0, n), n, key, b"value %d" % n, tuple(headers))


def put(broker: EmbeddedBroker, *letters: Letter) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "partitioner": "murmur2_random"})
    for each in letters:
        producer.produce("dead-letters", each.value, each.key, headers=list(each.headers))
        producer.poll(0)
    assert producer.flush(120) == 0


def dlq(broker: EmbeddedBroker, *arguments: str, typed: str | None = None) -> Result:
    environment = {"WEFT_KAFKA": broker.bootstrap}
    return CliRunner().invoke(cli, ["dlq", *arguments], env=environment, input=typed)


def arrived(broker: EmbeddedBroker, topic: str) -> list[tuple[bytes | None, bytes | None, int]]:
    """(key, value, attempts) of what lies on the topic, each partition's in its order."""
    config = {"bootstrap.servers": broker.bootstrap, "group.id": "t", "enable.partition.eof": True}
    consumer = Consumer(config)
    count = len(consumer.list_topics(topic, timeout=120).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(count)])
    found, ends = [], 0
    while ends < count:
        message = consumer.poll(120)
        assert message is not None
        if message.error():
            ends += 1
            continue
        headers: Any = message.headers()  # pairs, and not the dict of confluent-kafka's stubs
        found.append((message.key(), message.value(), attempts_in(headers)))
    consumer.close()
    return found


def test_replay_sends_the_sources_bytes_with_its_key_to_its_topic_and_counts_the_attempt() -> None:
    delivery = MemoryDelivery()
    done = replay([letter(7, tried=2)], delivery, NAMES, most=3)
    (record,) = delivery.records
    assert (record.topic, record.key, record.value) == ("shop-clicks", b"ana", b"value 7")
    assert record.partition == -1  # the partitioner's: what lay in the wrong one comes right
    assert attempts_in(record.headers) == 2
    assert done.sent == 1


def test_replay_keeps_the_order_of_each_key_over_many_batches() -> None:
    delivery = MemoryDelivery()
    letters = [letter(n, b"u%d" % (n % 7)) for n in range(1000)]
    replay(letters, delivery, NAMES, most=3)
    for user in {each.key for each in letters}:
        sent = [record.value for record in delivery.records if record.key == user]
        assert sent == [each.value for each in letters if each.key == user]


def test_what_was_tried_too_often_or_names_no_source_of_the_shop_stays() -> None:
    delivery = MemoryDelivery()
    strange = [letter(1, topic="other-clicks"), letter(2, topic="shop-recommendations")]
    bare = Letter((0, 3), 0, b"k", b"v")
    done = replay([letter(0, tried=3), *strange, bare], delivery, NAMES, most=3)
    assert done == Replayed(sent=0, worn_out=1, unknown=3)
    assert delivery.records == []


def test_a_replay_that_fails_half_way_has_counted_what_is_on_the_broker_for_certain() -> None:
    class Fails(MemoryDelivery):
        def deliver(self, records):  # type: ignore[no-untyped-def]
            self.failures = 1 if self.records else 0
            super().deliver(records)

    done = Replayed()
    with pytest.raises(BrokerUnavailable):
        replay([letter(n) for n in range(300)], Fails(), NAMES, 3, done)
    assert done.sent == 256


def test_what_speaks_to_a_terminal_is_shown_as_escapes_and_no_more_than_asked() -> None:
    shown = escaped(HOSTILE, 1000)
    assert shown.isprintable()
    assert "\\x1b[2J\\x00\\u202e\\u200b" in shown
    assert "\\\\u0041" in shown  # the data's own backslash is no escape of ours
    assert "\\xff" in shown
    assert escaped(b"x" * 100, 10) == "x" * 10 + " … and 90 bytes more"
    assert escaped(None, 10) == "(null)"


def test_the_list_has_the_newest_first_and_counts_by_source_and_error(
    broker: EmbeddedBroker,
) -> None:
    wrong = dead_letter_headers("products", 1, 5, WrongPartition("set the\x1b[2J partitioner"))
    put(broker, letter(1), letter(2), Letter((0, 0), 0, b"p", b"v", tuple(wrong)))
    rows = [line.split("\t") for line in dlq(broker, "list").stdout.splitlines()]
    assert [row[2:6] for row in sorted(rows, key=lambda row: row[3])] == [
        ["WrongPartition", "products/1:5", "1", "1"],
        ["InvalidField", "shop-clicks/0:1", "1", "7"],
        ["InvalidField", "shop-clicks/0:2", "1", "7"],
    ]
    assert [row[1] for row in rows] == sorted((row[1] for row in rows), reverse=True)
    assert "\x1b" not in dlq(broker, "list").stdout
    counts = [line.split("\t") for line in dlq(broker, "list", "--counts").stdout.splitlines()]
    assert [row[:3] for row in counts] == [
        ["2", "shop-clicks", "InvalidField"],
        ["1", "products", "WrongPartition"],
    ]
    chosen = dlq(broker, "list", "--error", "WrongPartition", "--since", "1h", "--limit", "5")
    assert len(chosen.stdout.splitlines()) == 1


def test_show_prints_headers_key_and_value_and_says_where_nothing_lies(
    broker: EmbeddedBroker,
) -> None:
    headers = tuple(dead_letter_headers("clicks", 2, 9, InvalidField("ts is missing")))
    put(broker, Letter((0, 0), 0, b"ana\x07", HOSTILE, headers))
    place = dlq(broker, "list").stdout.split("\t")[0]
    lines = dict(line.split(": ", 1) for line in dlq(broker, "show", place).stdout.splitlines())
    assert lines["weft-topic"] == "clicks"
    assert lines["weft-offset"] == "9"
    assert lines["key"] == "ana\\x07"
    assert lines["value"] == escaped(HOSTILE, 1000)
    short = dlq(broker, "show", place, "--bytes", "4").stdout
    assert f'value: {{"ti … and {len(HOSTILE) - 4} bytes more' in short
    nowhere = dlq(broker, "show", "3:99")
    assert nowhere.exit_code == 1
    assert "no dead letter lies there" in nowhere.output


def test_on_a_terminal_nothing_of_a_dead_letter_speaks_to_it(broker: EmbeddedBroker) -> None:
    evil = "\x1b[2J\x07\u202e\x9b[red]x"
    named = [(name, evil.encode()) for name in ("weft-topic", "weft-error", "weft-words", evil)]
    put(broker, Letter((0, 0), 0, evil.encode(), evil.encode(), tuple(named)))
    place = dlq(broker, "list").stdout.split("\t")[0]
    environment = {"WEFT_KAFKA": broker.bootstrap}
    for arguments in (["list"], ["list", "--counts"], ["show", place]):
        code, shown = on_a_terminal(["dlq", *arguments], environment)
        assert code == 0
        assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(shown)
        assert "[red]x" in shown  # text, not a style


def test_replay_asks_first_sends_what_was_chosen_and_reports(broker: EmbeddedBroker) -> None:
    headers = tuple(dead_letter_headers("searches", 0, 1, InvalidField("x")))
    put(broker, *(letter(n, topic="clicks") for n in range(3)))
    put(broker, Letter((0, 0), 0, b"bo", b"search", headers))
    refused = dlq(broker, "replay", "--topic", "clicks", typed="n\n")
    assert refused.exit_code == 1
    assert "Send 3 dead letters back?" in refused.output
    done = dlq(broker, "replay", "--topic", "clicks", "--yes")
    assert done.exit_code == 0
    assert "3 dead letters sent back" in done.output
    assert arrived(broker, "clicks") == [(b"ana", b"value %d" % n, 1) for n in range(3)]
    assert arrived(broker, "searches") == []


def test_one_letter_can_be_sent_back_by_its_place(broker: EmbeddedBroker) -> None:
    put(broker, letter(0, topic="clicks"), letter(1, topic="clicks"))
    places = sorted(line.split("\t")[0] for line in dlq(broker, "list").stdout.splitlines())
    assert "1 dead letter sent back" in dlq(broker, "replay", places[1], "--yes").output
    assert arrived(broker, "clicks") == [(b"ana", b"value 1", 1)]


def test_a_letter_tried_too_often_is_refused_with_a_word(broker: EmbeddedBroker) -> None:
    put(broker, letter(0, topic="clicks", tried=3))
    done = dlq(broker, "replay", "--yes")
    assert "1 stay: they were tried 3 times" in done.output
    assert "0 dead letters sent back" in done.output
    assert "1 dead letter sent back" in dlq(
        broker, "replay", "--max-attempts", "4", "--yes"
    ).output  # fmt: skip


def test_where_the_broker_cannot_delete_purge_says_that_retention_does(
    broker: EmbeddedBroker,
) -> None:
    put(broker, letter(0))
    done = dlq(broker, "purge", "--all", "--yes")
    assert done.exit_code != 0
    assert "retention deletes (14 days" in str(done.exception)


@pytest.mark.parametrize("words", [["0"], ["0:-1"], ["a:b"]])
def test_a_place_that_is_none_is_a_usage_error(words: list[str]) -> None:
    result = CliRunner().invoke(cli, ["dlq", "show", "--", *words])
    assert result.exit_code == 2
    assert "PARTITION:OFFSET" in result.output
