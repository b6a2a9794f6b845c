from __future__ import annotations

import dataclasses

import pytest

from models.errors import BrokerUnavailable, InvalidSettings, MissingTopic, UnequalPartitions
from stream.contracts.topics import ALL_TOPICS, TopicNames
from stream.kafka.broker import EmbeddedBroker, Layout, check_topics, ensure_topics, look
from stream.settings import Settings

NAMES = TopicNames("shop-", "g")
ALIKE = dict.fromkeys([*map(NAMES.of, ALL_TOPICS), NAMES.changelog, NAMES.control], 6)


def test_the_common_count_is_the_answer_and_products_may_differ() -> None:
    assert check_topics(ALIKE | {"shop-products": 1, "shop-dead-letters": 2}, NAMES) == 6


def test_a_missing_topic_is_named() -> None:
    counts = {name: count for name, count in ALIKE.items() if name != "shop-searches"}
    with pytest.raises(MissingTopic, match="shop-searches"):
        check_topics(counts, NAMES)


@pytest.mark.parametrize("name", ["shop-clicks", "shop-recommendations", NAMES.changelog])
def test_unequal_counts_are_refused_with_the_counts(name: str) -> None:
    with pytest.raises(UnequalPartitions, match=f"{name} has 3"):
        check_topics(ALIKE | {name: 3}, NAMES)


def test_the_embedded_broker_gets_all_topics_and_is_recognised() -> None:
    with EmbeddedBroker() as broker:
        settings = dataclasses.replace(Settings(), kafka=broker.bootstrap)
        assert ensure_topics(settings) == Layout(partitions=4, embedded=True)
        assert set(look(settings).counts) >= set(ALL_TOPICS)


def test_no_broker_is_said_without_noise(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:9 .*WEFT_KAFKA"):
        ensure_topics(dataclasses.replace(Settings(), kafka="127.0.0.1:9"), timeout=1)
    assert capfd.readouterr().err == ""


def test_a_certificate_that_is_not_there_is_a_wrong_setting() -> None:
    wrong = dataclasses.replace(Settings(), security_protocol="ssl", ssl_ca="/no/such/ca.pem")
    with pytest.raises(InvalidSettings, match=r"ssl\.ca\.location"):
        look(wrong, timeout=1)
