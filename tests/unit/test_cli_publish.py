from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, TopicPartition

from models.errors import InvalidFile
from stream.cli import cli
from stream.contracts.topics import TopicNames
from stream.kafka.broker import EmbeddedBroker
from tests.terminal import on_a_terminal

NOW = 1_700_000_000_000


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as embedded:
        yield embedded


def weft(broker: EmbeddedBroker, *arguments: str, prefix: str = "") -> Result:
    environment = {"WEFT_KAFKA": broker.bootstrap, "WEFT_TOPIC_PREFIX": prefix}
    return CliRunner().invoke(cli, arguments, env=environment)


def on_topic(broker: EmbeddedBroker, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "count"})
    ends = [consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=120) for n in range(4)]
    consumer.close()
    return sum(end for _, end in ends)


def written(path: Path, rows: Sequence[object]) -> str:
    path.write_bytes(gzip.compress(b"\n".join(map(orjson.dumps, rows))))
    return str(path)


def products(count: int) -> list[dict[str, object]]:
    return [{"item_id": str(n), "title": f"Dress {n}", "ts": NOW} for n in range(count)]


def clicks(count: int) -> list[dict[str, object]]:
    base = {"type": "click", "item_id": "i"}
    return [base | {"user_id": f"u{n}", "ts": NOW + 1000 * n} for n in range(count)]


def test_a_catalogue_is_published_and_summed_up_in_one_line(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    rows = [*products(300), {"item_id": "x"}]
    result = weft(broker, "catalog", "publish", written(tmp_path / "c.jsonl.gz", rows))
    assert result.exit_code == 0
    assert result.stdout.startswith("300 products published in ")
    assert result.stdout.endswith("/s), 1 rows set aside\n")
    assert result.stderr == "  set aside: line 301: title is missing\n"
    assert on_topic(broker, "products") == 300


def test_strict_publishing_stops_at_the_row(broker: EmbeddedBroker, tmp_path: Path) -> None:
    file = written(tmp_path / "c.jsonl.gz", [*products(1), {"item_id": "x"}])
    result = weft(broker, "catalog", "publish", file, "--strict")
    assert isinstance(result.exception, InvalidFile)
    assert "line 2: title is missing" in str(result.exception)


def test_products_are_removed_by_id(broker: EmbeddedBroker) -> None:
    assert weft(broker, "catalog", "remove", "a", "b").stdout == "products removed: 2\n"
    assert on_topic(broker, "products") == 2
    assert weft(broker, "catalog", "remove", "x" * 257).exit_code == 2


def test_events_are_published_at_the_rate_or_speed_that_was_asked_for(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    file = written(tmp_path / "e.jsonl.gz", clicks(11))
    for option in (["--rate", "20"], ["--speed", "20"]):  # 10 gaps of 50 ms
        result = weft(broker, "events", "publish", file, *option)
        seconds = float(result.stdout.split(" in ")[1].split()[0])
        assert result.stdout.startswith("11 events published")
        assert 0.4 <= seconds < 5
    assert weft(broker, "events", "publish", file, "--rate", "1", "--speed", "1").exit_code == 2
    assert weft(broker, "events", "publish", file, "--rate", "0").exit_code == 2


def test_a_prefix_is_put_before_the_topics(broker: EmbeddedBroker, tmp_path: Path) -> None:
    file = written(tmp_path / "e.jsonl.gz", clicks(3))
    weft(broker, "events", "publish", file, prefix="shop-")
    assert on_topic(broker, TopicNames("shop-").of("clicks")) == 3


def test_a_terminal_gets_a_bar_that_leaves_the_summary(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    file = written(tmp_path / "c.jsonl.gz", products(2000))
    environment = {"WEFT_KAFKA": broker.bootstrap, "TERM": "xterm"}
    code, shown = on_a_terminal(["catalog", "publish", file], environment)
    assert code == 0
    assert "2,000 products published in" in shown
    assert "━" in shown
