"""The broker: one inside the process, or a real one whose topics are created and checked."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from models.errors import (
    BrokerUnavailable,
    InvalidSettings,
    MissingTopic,
    UnequalPartitions,
    UnsafeChangelog,
)
from stream.contracts.topics import (
    ALL_TOPICS,
    CHANGELOG_CONFIG,
    CONTROL_CONFIG,
    RECOMMENDATIONS,
    SHOPPER_TOPICS,
    TABLE,
    TopicNames,
)
from stream.kafka.changelog import Changelog
from stream.settings import Settings, kafka_config

_log = logging.getLogger("weft.broker")


class EmbeddedBroker:
    """librdkafka's in-process cluster, at a loopback address.

    Clients of librdkafka, aiokafka, kafkajs and kafka-go can use it; Java's and franz-go cannot.
    A topic appears on first use, with 4 partitions. A partition keeps its newest 5 MB or 100,000
    records and drops older ones without a word, so publishers must wait for consumers. Nothing
    is compacted, nothing survives the process.
    """

    def __init__(self) -> None:
        self._producer: Producer | None = None
        self.bootstrap = ""

    def __enter__(self) -> Self:
        config = {"bootstrap.servers": "127.0.0.1:1", "test.mock.num.brokers": 1, "log_level": 0}
        self._producer = Producer(config)
        brokers = self._producer.list_topics(timeout=10).brokers.values()
        self.bootstrap = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
        return self

    def __exit__(self, *_: object) -> None:
        self._producer = None  # the cluster lives as long as this handle
        self.bootstrap = ""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a broker says it has: every topic's count of partitions, by the broker's name.

    ``id`` is the cluster's, "" of an embedded one, which has another at each start.
    """

    counts: Mapping[str, int]
    embedded: bool
    id: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """``partitions``: the one count of the shopper topics, changelog and recommendations.

    ``cluster`` is the broker's id, see ``Cluster``.
    """

    partitions: int
    embedded: bool
    cluster: str = ""


def look(settings: Settings, timeout: float = 10.0) -> Cluster:
    """The topics of the broker. Raises ``BrokerUnavailable``, ``InvalidSettings``."""
    return _look(_Admin(settings), timeout)


def ensure_topics(settings: Settings, timeout: float = 10.0) -> Layout:
    """Creates the topics that are missing and checks them all.

    Topics that must be alike take the count of those that are there already, else the setting's.
    Safe to run in several workers at once. Raises ``BrokerUnavailable``, ``MissingTopic`` where
    creation is not permitted, ``UnequalPartitions``, ``UnsafeChangelog``, ``InvalidSettings``.
    """
    admin = _Admin(settings)
    cluster = _look(admin, timeout)
    names = TopicNames(settings.topic_prefix, settings.group)
    wanted = _wanted(settings, names, cluster.counts)
    missing = [topic for topic in wanted if topic.topic not in cluster.counts]
    if cluster.embedded:
        counts = {topic.topic: _touched(admin, topic.topic, timeout) for topic in wanted}
        return Layout(check_topics(counts, names), embedded=True)
    if missing:
        _create(admin, missing, timeout)
        until = time.monotonic() + timeout
        while any(topic.topic not in cluster.counts for topic in missing):
            if time.monotonic() > until:
                break  # check_topics names what is still not there
            time.sleep(0.05)
            cluster = _look(admin, timeout)
    layout = Layout(check_topics(cluster.counts, names), embedded=False, cluster=cluster.id)
    if all(topic.topic != names.changelog for topic in missing):
        check_changelog(settings, cluster, timeout)
    return layout


def check_changelog(settings: Settings, cluster: Cluster, timeout: float = 10.0) -> None:
    """Whether the changelog has, and keeps, every shopper's state; not of an embedded broker.

    Raises ``UnsafeChangelog``, ``BrokerUnavailable``. Where the user may not see the topic's
    configuration, the log says that it was not checked.
    """
    if cluster.embedded:
        return
    name = TopicNames(settings.topic_prefix, settings.group).changelog
    changelog = Changelog(kafka_config(settings), name, settings.changelog_start)
    changelog.check_whole(range(cluster.counts[name]), timeout)
    if (policy := _policy(_Admin(settings), name, timeout)) != "compact":
        raise UnsafeChangelog(
            f"the changelog {name} has cleanup.policy={policy}, by which the broker deletes "
            "shoppers' states: set it with kafka-configs.sh --alter --entity-type topics "
            f"--entity-name {name} --add-config cleanup.policy=compact"
        )


def _policy(admin: _Admin, name: str, timeout: float) -> str:
    """The topic's cleanup.policy; where the user may not see it, what it should be."""
    topic = ConfigResource(ResourceType.TOPIC, name)
    (future,) = admin.client.describe_configs([topic], request_timeout=timeout).values()
    try:
        return str(future.result()["cleanup.policy"].value)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise admin.unavailable() from error
    _log.warning("cannot see whether %s is compacted: let this user describe its configs", name)
    return "compact"


def check_topics(counts: Mapping[str, int], names: TopicNames) -> int:
    """The one count of the topics that must be partitioned alike.

    ``counts`` are the broker's. Raises ``MissingTopic``, ``UnequalPartitions``.
    """
    wanted = [*(names.of(topic) for topic in ALL_TOPICS), names.changelog, names.control]
    if missing := [name for name in wanted if name not in counts]:
        raise MissingTopic(
            f"not on the broker: {', '.join(missing)}. Start `weft worker` with a user who may "
            "create topics, or create them (`weft schema --format asyncapi` describes them)"
        )
    alike = {name: counts[name] for name in _alike(names)}
    if len(set(alike.values())) > 1:
        words = ", ".join(f"{name} has {count}" for name, count in alike.items())
        raise UnequalPartitions(
            f"these topics need one count of partitions: {words}. Raise the lower counts with "
            "kafka-topics.sh --alter before any events are in, or start with another "
            "WEFT_TOPIC_PREFIX"
        )
    return next(iter(alike.values()))


def _alike(names: TopicNames) -> list[str]:
    return [*map(names.of, SHOPPER_TOPICS), names.of(RECOMMENDATIONS), names.changelog]


def _wanted(settings: Settings, names: TopicNames, counts: Mapping[str, int]) -> list[NewTopic]:
    """All topics as Weft would create them."""
    alike = _alike(names)
    common = next((counts[name] for name in alike if name in counts), settings.partitions)
    configs = {names.of(topic.name): topic.config for topic in TABLE}
    configs |= {names.changelog: CHANGELOG_CONFIG, names.control: CONTROL_CONFIG}
    counts_of = {**dict.fromkeys(alike, common), names.control: 1}
    return [
        NewTopic(
            name,
            counts_of.get(name, settings.partitions),
            settings.replicas,
            config={key: str(value) for key, value in config.items()},
        )
        for name, config in configs.items()
    ]


def _create(admin: _Admin, topics: list[NewTopic], timeout: float) -> None:
    futures = admin.client.create_topics(
        topics, operation_timeout=timeout, request_timeout=timeout + 5
    )
    for name, future in futures.items():
        try:
            future.result(timeout + 10)
        except KafkaException as error:
            reason = error.args[0]
            if reason.code() == KafkaError.TOPIC_ALREADY_EXISTS:
                continue  # another worker was quicker
            if reason.code() in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT):
                raise admin.unavailable() from error
            raise MissingTopic(
                f"{name} is not on the broker and could not be created: {reason.str()}. "
                "Create it yourself, or let the user of WEFT_SASL_USERNAME create topics"
            ) from error


def _touched(admin: _Admin, name: str, timeout: float) -> int:
    """The embedded broker creates a topic when its metadata are asked for."""
    return len(admin.client.list_topics(name, timeout=timeout).topics[name].partitions)


def _look(admin: _Admin, timeout: float) -> Cluster:
    try:
        metadata = admin.client.list_topics(timeout=timeout)
    except KafkaException as error:
        raise admin.unavailable() from error
    counts = {name: len(topic.partitions) for name, topic in metadata.topics.items()}
    name = str(metadata.cluster_id or "")
    embedded = name.startswith("mockCluster")
    return Cluster(counts, embedded, "" if embedded else name)


class _Admin:
    """An admin client that keeps librdkafka's complaints to itself, the last one to be told."""

    def __init__(self, settings: Settings) -> None:
        self._address = settings.kafka
        self._complaint = ""
        quiet: dict[str, Any] = {"log_level": 0, "error_cb": self._complain}
        try:
            self.client = AdminClient({**kafka_config(settings), **quiet})
        except KafkaException as error:
            raise InvalidSettings(f"Kafka's client refuses its settings: {error}") from error

    def _complain(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # says less than the one before it
            # without librdkafka's own bookkeeping around it: "…/bootstrap: … (after 0ms in …)"
            self._complaint = error.str().partition(" (after ")[0].split("/bootstrap: ")[-1]

    def unavailable(self) -> BrokerUnavailable:
        """The error to raise when a call had no answer."""
        self.client.poll(0)  # the complaints are told from here
        why = f" ({self._complaint})" if self._complaint else ""
        return BrokerUnavailable(
            f"no broker answers at {self._address}{why}. Is it running, and are WEFT_KAFKA and "
            "the security settings right? `weft demo` needs no broker"
        )
