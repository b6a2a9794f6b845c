"""A changelog that lost its beginning, or would: refused before an event is taken."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from models.errors import UnsafeChangelog
from stream.contracts.topics import TopicNames
from stream.doctor import examine
from stream.findings import Status
from stream.kafka.broker import ensure_topics
from stream.kafka.changelog import Changelog
from stream.settings import Settings
from stream.shoppers.states import States
from testbed.kafka import RealKafka

pytestmark = pytest.mark.kafka


def started(kafka: RealKafka, prefix: str, folder: Path) -> tuple[Settings, str]:
    """The settings of a shop with its topics made, and its changelog with ten states."""
    settings = Settings(kafka=kafka.bootstrap, topic_prefix=prefix, data_dir=folder)
    ensure_topics(settings)
    changelog = TopicNames(prefix, settings.group).changelog
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for number in range(10):
        producer.produce(changelog, b"{}", b"u%d" % number, partition=1)
    assert producer.flush(120) == 0
    return settings, changelog


def delete_before(kafka: RealKafka, topic: str, offset: int) -> None:
    """What retention does by itself; the broker refuses it where a topic is only compacted."""
    set_policy(kafka, topic, "compact,delete")
    admin = kafka.admin()
    while True:
        (future,) = admin.delete_records([TopicPartition(topic, 1, offset)]).values()
        with contextlib.suppress(KafkaException):  # the log has its policy some ms after the topic
            future.result(120)
            break
    set_policy(kafka, topic, "compact")


def set_policy(kafka: RealKafka, topic: str, policy: str) -> None:
    """Returns when the broker says so itself: it hears of it some milliseconds later."""
    entry = ConfigEntry("cleanup.policy", policy, incremental_operation=AlterConfigOpType.SET)
    wanted = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = kafka.admin()
    (future,) = admin.incremental_alter_configs([wanted]).values()
    future.result(120)
    said = ""
    while said != policy:
        (told,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
        said = told.result(120)["cleanup.policy"].value


def told_by_doctor(settings: Settings) -> tuple[Status, str]:
    found = next(f for f in examine(settings) if f.part == "changelog")
    return found.status, found.words


def test_a_changelog_whose_beginning_was_deleted_is_refused_with_the_count(
    kafka: RealKafka, tmp_path: Path
) -> None:
    settings, changelog = started(kafka, "cut-", tmp_path)
    assert ensure_topics(settings).partitions == 4
    assert told_by_doctor(settings)[0] is Status.OK
    delete_before(kafka, changelog, 7)
    with pytest.raises(UnsafeChangelog, match=r"7 of partition 1.*WEFT_CHANGELOG_START=7"):
        ensure_topics(settings)
    assert told_by_doctor(settings)[0] is Status.MISSING
    knowing = dataclasses.replace(settings, changelog_start=7)
    assert ensure_topics(knowing).partitions == 4
    delete_before(kafka, changelog, 9)
    with pytest.raises(UnsafeChangelog, match="9 of partition 1"):  # that is more than was known
        ensure_topics(knowing)


def test_what_is_deleted_while_workers_run_is_refused_where_it_was_not_read(
    kafka: RealKafka, tmp_path: Path
) -> None:
    _, name = started(kafka, "running-", tmp_path)
    changelog = Changelog({"bootstrap.servers": kafka.bootstrap}, name)
    table = States()
    read = changelog.read({0, 1})
    table.restored(read.states)
    changelog.restored(read)
    assert len(table) == 10
    delete_before(kafka, name, 10)
    assert changelog.read({0, 1}).positions == {0: 0, 1: 10}  # the table has them
    other = Changelog({"bootstrap.servers": kafka.bootstrap}, name)
    with pytest.raises(UnsafeChangelog, match="10 of partition 1"):
        other.read({0, 1})
    assert other.read({0}).states == {0: {}}
    embedded = Changelog({"bootstrap.servers": kafka.bootstrap}, name, None)
    assert embedded.read({0, 1}).states == {0: {}, 1: {}}


@pytest.mark.parametrize("policy", ["delete", "compact,delete"])
def test_a_changelog_that_retention_deletes_from_is_refused(
    kafka: RealKafka, tmp_path: Path, policy: str
) -> None:
    settings, changelog = started(kafka, f"{policy.replace(',', '-')}-", tmp_path)
    set_policy(kafka, changelog, policy)
    with pytest.raises(UnsafeChangelog, match=rf"policy={policy},.*cleanup\.policy=compact"):
        ensure_topics(settings)
    status, words = told_by_doctor(settings)
    assert status is Status.MISSING
    assert "kafka-configs.sh" in words
    set_policy(kafka, changelog, "compact")
    assert ensure_topics(settings).partitions == 4
