from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow
import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, TopicPartition
from pyarrow import parquet

from models.errors import InvalidFile, InvalidSettings
from stream.cli import cli
from stream.kafka.broker import EmbeddedBroker


def on_topic(broker: EmbeddedBroker, topic: str) -> list[tuple[bytes | None, bytes | None]]:
    """Key and value of each record of a topic."""
    config = {"bootstrap.servers": broker.bootstrap, "group.id": "columns"}
    consumer = Consumer({**config, "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(4)])
    found, ends = [], 0
    while ends < 4:
        message = consumer.poll(120)
        assert message is not None
        if message.error():
            ends += 1
        else:
            found.append((message.key(), message.value()))
    consumer.close()
    return found


def test_a_parquet_of_sales_is_published_by_its_own_names(tmp_path: Path) -> None:
    file = tmp_path / "sales.parquet"
    columns = {"customer": [7], "sku": ["007"], "day": [date(2020, 9, 22)]}
    parquet.write_table(pyarrow.table(columns), file)
    told = "user_id=customer,item_id=sku,ts=day:date,type==purchase"
    with EmbeddedBroker() as broker:
        arguments = ["events", "publish", str(file), "--columns", told]
        result = CliRunner().invoke(cli, arguments, env={"WEFT_KAFKA": broker.bootstrap})
        assert result.stdout.startswith("1 events published"), result.output
        assert on_topic(broker, "purchases") == [
            (b"7", b'{"user_id":"7","item_id":"007","ts":1600732800000}')
        ]


def test_a_csv_of_articles_is_published_by_its_own_names(tmp_path: Path) -> None:
    file = tmp_path / "articles.csv"
    file.write_text("article_id,prod_name,added\n007,Dress,1600732800\n")
    told = "item_id=article_id,title=prod_name,ts=added:s,brand==H&M"
    with EmbeddedBroker() as broker:
        arguments = ["catalog", "publish", str(file), "--columns", told]
        result = CliRunner().invoke(cli, arguments, env={"WEFT_KAFKA": broker.bootstrap})
        assert result.stdout.startswith("1 products published"), result.output
        assert on_topic(broker, "products") == [
            (b"007", b'{"item_id":"007","title":"Dress","ts":1600732800000,"brand":"H&M"}')
        ]


def test_train_takes_a_map_a_file_and_says_which_column_is_missing(tmp_path: Path) -> None:
    log, catalogue = tmp_path / "log.csv", tmp_path / "articles.csv"
    log.write_text("customer,sku,day\nu,007,2020-09-22\n")
    catalogue.write_text("article_id,prod_name\n007,Dress\n")
    files = ["--events", str(log), "--catalog", str(catalogue), "--out", str(tmp_path / "b")]
    maps = ["--columns", "user_id=customer,ts=day:date", "--catalog-columns", "item_id=sku"]
    result = CliRunner().invoke(cli, ["train", *files, "--no-llm", *maps])
    assert isinstance(result.exception, InvalidFile)
    assert "articles.csv has no column sku; it has article_id, prod_name" in str(result.exception)


@pytest.mark.parametrize(
    ("command", "words"),
    [("events", "no field of an event"), ("catalog", "no field of a product")],
)
def test_a_field_that_there_is_not_is_said(tmp_path: Path, command: str, words: str) -> None:
    file = tmp_path / "a.csv"
    file.write_text("a\nb\n")
    arguments = [command, "publish", str(file), "--columns", "shoe_size=a"]
    result = CliRunner().invoke(cli, arguments)
    assert isinstance(result.exception, InvalidSettings)
    assert words in str(result.exception)
