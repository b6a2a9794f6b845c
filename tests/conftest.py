"""Fixtures that several folders share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kafka import RealKafka, real_kafka, why_missing


@pytest.fixture(scope="session")
def kafka() -> Iterator[RealKafka]:
    """A real Apache Kafka for the whole session; tests that use it are marked ``kafka``.

    Topics outlive a test: give each test's names a prefix of its own.
    """
    if missing := why_missing():
        pytest.skip(missing)
    with real_kafka() as broker:
        yield broker
