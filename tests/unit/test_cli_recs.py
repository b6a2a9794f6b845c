from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import orjson
import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer

from models.domain import Recommendation, RecommendedItem
from models.errors import MissingTopic
from stream.cli import cli
from stream.contracts.codec import AsOf, decode_recommendation, encode_recommendation
from stream.kafka.broker import EmbeddedBroker
from stream.kafka.list_reader import Newest, Seen
from testbed.waiting import PATIENCE
from tests.terminal import interruptible, on_a_terminal

NOW = 1_700_000_000_000


def made(user: str, ts: int, item: str = "i1", reason: str = "because") -> bytes:
    lines = tuple(RecommendedItem(f"{item}-{n}", 0.5, reason, "history") for n in range(2))
    shown = Recommendation(lines, True, "smollm2")
    return encode_recommendation(shown, user_id=user, trigger="click", as_of=AsOf(0, {}, ts), ts=ts)


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as embedded:
        yield embedded


def publish(broker: EmbeddedBroker, *records: tuple[str, bytes | None]) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "partitioner": "murmur2_random"})
    for user, value in records:
        producer.produce("recommendations", value, user.encode())
    assert producer.flush(120) == 0


def recs(broker: EmbeddedBroker, *arguments: str) -> Result:
    environment = {"WEFT_KAFKA": broker.bootstrap}
    return CliRunner().invoke(cli, ["recs", *arguments], env=environment)


def test_the_newest_list_of_each_shopper_is_shown_and_removed_ones_are_not(
    broker: EmbeddedBroker,
) -> None:
    publish(
        broker,
        ("a", made("a", NOW)),
        ("b", made("b", NOW + 1)),
        ("a", made("a", NOW + 2, "i2")),
        ("gone", made("gone", NOW)),
        ("gone", None),
    )
    rows = [line.split("\t") for line in recs(broker).stdout.splitlines()]
    assert [row[:4] for row in rows] == [
        ["b", "1", "i1-0", "0.5000"],
        ["b", "2", "i1-1", "0.5000"],
        ["a", "1", "i2-0", "0.5000"],
        ["a", "2", "i2-1", "0.5000"],
    ]
    assert rows[0][4:] == ["history", "because"]


def test_json_is_the_topics_own_bytes(broker: EmbeddedBroker) -> None:
    publish(broker, ("a", made("a", NOW)))
    assert recs(broker, "--json").stdout == made("a", NOW).decode() + "\n"


def test_one_shopper_can_be_asked_for(broker: EmbeddedBroker) -> None:
    publish(broker, *((f"u{n}", made(f"u{n}", NOW + n)) for n in range(40)))
    lines = recs(broker, "--user", "u7", "--json").stdout.splitlines()
    assert [orjson.loads(line)["user_id"] for line in lines] == ["u7"]


def test_one_shopper_is_found_behind_many_others_of_the_partition(broker: EmbeddedBroker) -> None:
    publish(broker, *((f"u{n}", made(f"u{n}", NOW + n)) for n in range(1_000)))
    lines = recs(broker, "--user", "u999", "--json").stdout.splitlines()
    assert [orjson.loads(line)["user_id"] for line in lines] == ["u999"]


def test_the_limit_keeps_the_newest(broker: EmbeddedBroker) -> None:
    publish(broker, *((f"u{n}", made(f"u{n}", NOW + n)) for n in range(40)))
    lines = recs(broker, "--limit", "3", "--json").stdout.splitlines()
    assert [orjson.loads(line)["user_id"] for line in lines] == ["u37", "u38", "u39"]


def test_memory_is_bounded_by_the_limit_and_the_newest_stay() -> None:
    newest = Newest(limit=2)
    for n in range(5000):
        key = f"u{n}".encode()
        shown = decode_recommendation(key, made(f"u{n}", NOW + n))
        assert shown is not None
        newest.put(key, Seen(shown, b""))
        assert len(newest._by_key) <= 1004
    assert [seen.shown.user_id for seen in newest.lists()] == ["u4998", "u4999"]


def test_records_that_are_no_lists_are_counted(broker: EmbeddedBroker) -> None:
    publish(broker, ("a", b"{}"), ("b", made("b", NOW)))
    result = recs(broker, "--json")
    assert len(result.stdout.splitlines()) == 1
    assert "1 records could not be read" in result.stderr


def test_an_empty_topic_says_what_may_be_missing(broker: EmbeddedBroker) -> None:
    publish(broker, ("a", None))
    assert "is `weft worker` running" in recs(broker).stderr


def test_a_missing_topic_names_the_prefix(broker: EmbeddedBroker) -> None:
    assert isinstance(recs(broker).exception, MissingTopic)


def test_following_shows_each_new_list_until_ctrl_c(broker: EmbeddedBroker) -> None:
    publish(broker, ("a", made("a", NOW)))
    environment = {"WEFT_KAFKA": broker.bootstrap}
    with interruptible(["recs", "--follow", "--json"], environment) as process:
        assert process.stdout is not None
        assert orjson.loads(process.stdout.readline())["user_id"] == "a"
        publish(broker, ("b", None), ("b", made("b", NOW + 1)))
        assert orjson.loads(process.stdout.readline())["user_id"] == "b"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


def test_a_terminal_gets_a_table_without_the_datas_control_characters(
    broker: EmbeddedBroker,
) -> None:
    evil = "\x1b]0;pwned\x07\u202egnirts\x9b31m [red]x"
    publish(broker, ("a", made("a", NOW, item="i\x1b[2J", reason=evil)))
    environment = {"WEFT_KAFKA": broker.bootstrap}
    table, as_json = (
        on_a_terminal(["recs", *arguments], environment) for arguments in ([], ["--json"])
    )
    for code, shown in (table, as_json):
        assert code == 0
        assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(shown)
        assert "[red]x" in shown  # text, not a style
    assert json.loads(as_json[1])["items"][0]["reason"] == evil
